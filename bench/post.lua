-- wrk script: one-row POSTs. Arguments after `--`: ACK, file of rows (one object a line).
local requests, at = {}, 0

function init(args)
   local headers = {
      ["Authorization"] = "Basic YWRtaW46YWRtaW4=",
      ["Content-Type"] = "application/json",
      ["X-P-Stream"] = "rows_" .. args[1],
      ["X-P-Ack"] = args[1],
   }
   for line in io.lines(args[2]) do
      requests[#requests + 1] = wrk.format("POST", "/api/v1/ingest", headers, line)
      if #requests == 2000 then break end
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end
