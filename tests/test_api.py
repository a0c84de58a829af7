"""Our own routes and the transport: live tail, running queries, streamed answers, TLS, CORS, compression, keep-alive, metrics, pmeta."""
import gzip
import http.client
import io
import json
import re
import shutil
import signal
import socket
import ssl
import threading
import time
import zlib

import pytest

import conftest

JSON = {"Content-Type": "application/json"}


# ---- live tail

class Tail:
    """A follower on a connection of its own."""

    def __init__(self, server, stream, where=None, after=None, timeout=60):
        path = "/api/v1/logstream/%s/tail" % stream
        if where:
            import urllib.parse
            path += "?where=" + urllib.parse.quote(where)
        self.client = server.client(timeout=timeout)
        self.response = self.client.open("GET", path, headers={"Last-Event-ID": str(after)} if after is not None else {})
        self.last = after
        if self.response.status == 200:
            assert self.response.headers["Content-Type"].startswith("text/event-stream")
            assert self.response.readline().startswith(b":")  # it is open: rows from now on are seen

    def events(self, count):
        """The next ones: [(id, row)]"""
        out, event, end = [], {}, time.monotonic() + 60
        while len(out) < count:
            assert time.monotonic() < end, "%d of %d events came: %s" % (len(out), count, out[-1:])
            line = self.response.readline()
            assert line, "the stream ended after %d of %d events" % (len(out), count)
            line = line.decode().rstrip("\n")
            if line.startswith(":"):
                continue
            if line:
                key, _, value = line.partition(": ")
                event[key] = value
            elif event:
                assert event.get("event") != "error", event
                out.append((int(event["id"]), json.loads(event["data"])))
                self.last = int(event["id"])
                event = {}
        return out

    def close(self):
        self.client.close()


def test_tail_shows_rows_as_they_come(server, api):
    api.put("tail", {"n": -1})
    tail = Tail(server, "tail")
    for n in range(5):
        api.put("tail", [{"n": n, "t": "line\nbreak"}])
        (_, row), = tail.events(1)
        assert row["n"] == float(n) and row["t"] == "line\nbreak" and row["p_timestamp"]
    tail.close()


def test_tail_ids_grow_and_order_is_that_of_acceptance(server, api):
    api.put("tail-order", {"n": -1})
    tail = Tail(server, "tail-order")
    for n in range(20):
        api.put("tail-order", [{"n": n * 10 + i} for i in range(10)])
    events = tail.events(200)
    assert [row["n"] for _, row in events] == [float(n) for n in range(200)]
    ids = [i for i, _ in events]
    assert ids == sorted(set(ids))
    tail.close()


def test_tail_where(server, api):
    api.put("tail-where", {"level": "info", "n": 0})
    tail = Tail(server, "tail-where", "level = 'error' AND n > 2")
    api.put("tail-where", [{"level": "error" if n % 2 else "info", "n": n} for n in range(10)])
    assert [row["n"] for _, row in tail.events(4)] == [3.0, 5.0, 7.0, 9.0]
    tail.close()
    bad = Tail(server, "tail-where", "nope === 1")
    assert bad.response.status == 400 and bad.response.read()
    hostile = Tail(server, "tail-where", "1=1) UNION SELECT * FROM read_text('/etc/passwd') --")
    assert hostile.response.status == 400
    assert Tail(server, "nobody").response.status == 404


def test_tail_resumes_over_flush_and_restart(start_server):
    """Last-Event-ID continues after it without gap or repeat, wherever the rows are meanwhile."""
    server = start_server()
    api = server.api
    api.put("app", {"n": 0})
    tail = Tail(server, "app")
    api.put("app", [{"n": n} for n in range(1, 11)])
    seen = [row["n"] for _, row in tail.events(7)]
    last = tail.last
    tail.close()
    api.put("app", [{"n": n} for n in range(11, 16)], {"X-P-Ack": "object"})  # flushed
    for clean in (True, False):
        server.restart(clean)
        start = int(seen[-1]) + 1
        top = 16 if clean else 30
        if not clean:
            api.put("app", [{"n": n} for n in range(16, 30)])
        tail = Tail(server, "app", after=last)
        events = tail.events(min(5, top - start)) if clean else tail.events(top - start)
        seen += [row["n"] for _, row in events]
        last = tail.last
        tail.close()
    assert seen == [float(n) for n in range(1, 30)]


def test_tail_resumes_on_every_event(server, api):
    """A follower that breaks off after each event misses and repeats nothing, while rows are flushed under it."""
    api.put("tail-steps", {"n": -1})
    first = Tail(server, "tail-steps")
    api.put("tail-steps", [{"n": 0}])
    first.events(1)
    last = first.last
    first.close()
    done = threading.Event()

    def fill():
        for n in range(1, 31):
            api.put("tail-steps", [{"n": n}], {"X-P-Ack": "object"} if n % 7 == 0 else None)
        done.set()

    thread = threading.Thread(target=fill)
    thread.start()
    seen = []
    while len(seen) < 30:
        tail = Tail(server, "tail-steps", after=last)
        seen += [row["n"] for _, row in tail.events(1)]
        last = tail.last
        tail.close()
    thread.join()
    assert seen == [float(n) for n in range(1, 31)]


def test_tail_bad_cursor(server, api):
    api.put("tail-cursor", {"n": 1})
    for cursor in ("x", "-1", "99999999999999999999999", str(2**64 - 1)):  # the last: no row comes after it, so a follower would never sleep
        assert Tail(server, "tail-cursor", after=cursor).response.status == 400


def test_tail_of_a_deleted_stream_ends(server, api):
    api.put("tail-gone", {"n": 1})
    tail = Tail(server, "tail-gone")
    assert api.delete("tail-gone").status == 200
    end = time.monotonic() + 60
    while tail.response.readline():
        assert time.monotonic() < end, "the tail of a deleted stream goes on"
    tail.close()


def test_many_followers(server, api):
    api.put("tail-many", {"n": -1})
    tails = [Tail(server, "tail-many") for _ in range(20)]
    api.put("tail-many", [{"n": n} for n in range(50)])
    for tail in tails:
        assert [row["n"] for _, row in tail.events(50)] == [float(n) for n in range(50)]
        tail.close()
    assert api.get("/api/v1/liveness").status == 200


def test_stop_with_followers(start_server):
    server = start_server()
    server.api.put("app", {"n": 1})
    tails = [Tail(server, "app") for _ in range(3)]
    assert server.stop(60) == 0
    for tail in tails:
        tail.close()


# ---- running queries

SLOW = "SELECT count(*) AS n FROM slow a, slow b, slow c WHERE a.n + b.n * c.n < 0"


@pytest.fixture
def slow(api):
    if "slow" not in api.streams():
        api.put("slow", [{"n": i} for i in range(20000)])
    return api


def running(api):
    return {q["id"]: q for q in api.get("/api/v1/queries").json()}


def test_query_id(api):
    api.put("ids", {"a": 1})
    answer = api.query("SELECT a FROM ids", headers={"X-Query-Id": "mine-1"})
    assert answer.headers["X-Query-Id"] == "mine-1"
    made = {api.query("SELECT a FROM ids").headers["X-Query-Id"] for _ in range(3)}
    assert len(made) == 3


def test_list_and_cancel(slow, server):
    api, answers = slow, []
    thread = threading.Thread(target=lambda: answers.append(api.query(SLOW, headers={"X-Query-Id": "slow-1"})))
    thread.start()
    assert api.wait(lambda: "slow-1" in running(api), 30)
    shown = running(api)["slow-1"]
    assert shown["query"] == SLOW and shown["user"] == "admin" and shown["startedAt"]
    assert shown["progress"] is None or 0 <= shown["progress"] <= 1  # null: not known yet
    assert api.call("DELETE", "/api/v1/queries/slow-1").status == 200
    thread.join(60)
    assert not thread.is_alive()
    assert answers[0].status >= 400 and answers[0].body, answers
    assert "slow-1" not in running(api)
    assert api.call("DELETE", "/api/v1/queries/slow-1").status == 404


def test_client_that_leaves_cancels(slow, server):
    client = server.client()
    body = json.dumps({"query": SLOW, "startTime": "1h", "endTime": "now"})
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/api/v1/query", body, {**JSON, "Authorization": conftest.basic(), "X-Query-Id": "leaver"})
    assert slow.wait(lambda: "leaver" in running(slow), 30)
    connection.close()
    assert slow.wait(lambda: "leaver" not in running(slow), 30)
    client.close()


def test_counts_of_a_client_that_leaves(slow, server):
    """They wait for an engine here, with an id like any query."""
    held = ["slow-%d" % n for n in range(4)]
    threads = [threading.Thread(target=slow.query, args=(SLOW,), kwargs={"headers": {"X-Query-Id": i}}) for i in held]
    for t in threads:
        t.start()
    assert slow.wait(lambda: set(held) <= set(running(slow)), 30)
    body = json.dumps({"stream": "slow", "startTime": "1h", "endTime": "now", "numBins": 3, "conditions": {
        "conditions": {"operator": "and", "conditionConfig": [{"column": "n", "operator": ">", "value": "5", "type": "number"}]}, "groupBy": ["n"]}})
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/api/v1/counts", body, {**JSON, "Authorization": conftest.basic(), "X-Query-Id": "counter"})
    assert slow.wait(lambda: "counter" in running(slow), 30)
    assert running(slow)["counter"]["user"] == "admin"
    connection.close()
    assert slow.wait(lambda: "counter" not in running(slow), 30)
    for i in held:
        slow.call("DELETE", "/api/v1/queries/" + i)
    for t in threads:
        t.join(60)


def half_closed(port, sql, path="/api/v1/query"):
    """The whole answer for a client that says at once that it has no more to send, as `nc -N` does."""
    body = json.dumps({"query": sql, "startTime": "1h", "endTime": "now"}).encode()
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % (path.encode(), conftest.basic().encode(), len(body)) + body)
        s.shutdown(socket.SHUT_WR)
        data = b""
        while got := s.recv(65536):
            data += got
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    return data.replace(interim, b"", 1) if data.startswith(interim) else data, data.startswith(interim)


def test_half_closed_clients_get_their_answer(slow, server, start_server):
    """A FIN is not a client that left: a fast answer, a streamed one, and one that takes longer than it takes to look whether the client left."""
    data, _ = half_closed(server.port, "SELECT count(*) AS n FROM slow")
    assert data.startswith(b"HTTP/1.1 200") and data.endswith(b'[{"n":20000}]'), data
    data, _ = half_closed(server.port, "SELECT n FROM slow", "/api/v1/query?streaming=true")
    rows = re.sub(rb"\r\n[0-9a-fA-F]+\r\n", b"", data)  # chunks end anywhere
    assert data.startswith(b"HTTP/1.1 200") and rows.count(b'{"n":') == 20000 and data.endswith(b"0\r\n\r\n"), data[-300:]
    other = start_server(env={"SLUICE_QUERY_TIMEOUT": "1s"})
    other.api.put("slow", [{"n": i} for i in range(20000)])
    data, asked = half_closed(other.port, SLOW)
    assert asked and data.startswith(b"HTTP/1.1 500") and b"Execution Error" in data and b"left" not in data, data


def test_timeout_of_queries(start_server):
    server = start_server(env={"SLUICE_QUERY_TIMEOUT": "1s"})
    server.api.put("slow", [{"n": i} for i in range(20000)])
    answer = server.api.query(SLOW)
    assert answer.status == 500 and answer.text.startswith("Execution Error"), answer
    assert server.api.count("slow") == 20000


# ---- forms of answers

@pytest.fixture
def rows(api):
    if "forms" not in api.streams():
        api.put("forms", [{"n": i, "t": "text %d" % i, "b": i % 2 == 0, "u": None if i % 3 else i} for i in range(5000)])
    return api


ORDERED = "SELECT n, t, b, u FROM forms ORDER BY n"


def expected(i):
    row = {"n": float(i), "t": "text %d" % i, "b": i % 2 == 0}
    if i % 3 == 0:
        row["u"] = float(i)
    return row


def test_json(rows):
    answer = rows.query(ORDERED)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == [expected(i) for i in range(5000)]
    assert rows.query(ORDERED + " LIMIT 2", sendNull=True).json()[1] == {**expected(1), "u": None}
    both = rows.query(ORDERED + " LIMIT 2", params="?fields=true").json()
    assert both == {"fields": ["n", "t", "b", "u"], "records": [expected(0), expected(1)]}


def test_streaming_of_the_contract(rows):
    """One array of rows a line."""
    answer = rows.query(ORDERED, params="?streaming=true&fields=true")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[0] == {"fields": ["n", "t", "b", "u"]}
    assert [row for line in lines[1:] for row in line] == [expected(i) for i in range(5000)]
    assert rows.query("SELECT n FROM forms WHERE n < 0", params="?streaming=true").body == b""


def test_ndjson(rows):
    answer = rows.query(ORDERED, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in answer.body.splitlines()] == [expected(i) for i in range(5000)]


def test_csv(rows):
    import csv
    answer = rows.query("SELECT n, t || ',\"' AS q FROM forms ORDER BY n LIMIT 3", headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert [row[1] for row in csv.reader(io.StringIO(answer.text))] == ["q", 'text 0,"', 'text 1,"', 'text 2,"']


def test_arrow(rows):
    pyarrow = pytest.importorskip("pyarrow")
    answer = rows.query(ORDERED, headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert answer.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    table = pyarrow.ipc.open_stream(answer.body).read_all()
    assert table.column_names == ["n", "t", "b", "u"]
    assert table.to_pylist() == [{"u": None, **expected(i)} for i in range(5000)]


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/vnd.apache.arrow.stream", "text/csv"])
def test_large_answers_are_streamed_whole(api, server, accept):
    """More than the server holds back or would like to hold in memory."""
    if "large" not in api.streams():
        for part in range(10):
            api.put("large", [{"n": part * 20000 + i, "pad": "%0100d" % i} for i in range(20000)])
    before = server.rss()
    answer = api.query("SELECT * FROM large", headers={"Accept": accept})
    assert answer.status == 200 and answer.headers["Transfer-Encoding"] == "chunked"
    if accept == "application/x-ndjson":
        assert sorted(json.loads(line)["n"] for line in answer.body.splitlines()) == [float(i) for i in range(200000)]
    elif accept == "text/csv":
        assert answer.body.count(b"\n") == 200001
    else:
        pyarrow = pytest.importorskip("pyarrow")
        assert pyarrow.ipc.open_stream(answer.body).read_all().num_rows == 200000
    assert server.rss() < before + (400 << 20)


def test_answer_that_fails_half_way_is_cut(api):
    """An error after the first rows ends the connection without the last chunk: nobody takes it for whole."""
    if "half" not in api.streams():
        for part in range(10):
            api.put("half", [{"t": "1" if part < 9 or i < 19000 else "no number", "pad": "x" * 100} for i in range(20000)])
    answer = None
    with pytest.raises((http.client.IncompleteRead, http.client.HTTPException, ConnectionError)):
        answer = api.query("SELECT CAST(t AS DOUBLE) AS v, pad FROM half ORDER BY p_timestamp", params="?streaming=true")
        assert answer.status >= 400, "ended as if whole"
        raise http.client.IncompleteRead(b"")  # it failed before its first row: as good


def test_slow_reader_does_not_stop_others(api, server):
    if "large" not in api.streams():
        api.put("large", [{"n": i, "pad": "%0100d" % i} for i in range(100000)])
    slow = server.client()
    response = slow.open("POST", "/api/v1/query?streaming=true", {"query": "SELECT * FROM large", "startTime": "1h", "endTime": "now"})
    response.read(1000)
    api.put("quick", {"a": 1})
    assert api.count("quick") == 1
    rest = response.read()
    assert rest
    slow.close()


# ---- transport

def test_keep_alive_and_many_requests_on_one_connection(server, api):
    with server.client() as c:
        api.put("alive", {"n": 0}, client=c)
        first = c.connection.sock
        for n in range(50):
            api.put("alive", {"n": n}, client=c)
            assert c.request("GET", "/api/v1/liveness").status == 200
            assert c.request("GET", "/api/v1/nope").status == 404
            assert api.ingest("alive", "{", client=c).status == 400
        assert c.connection.sock is first
    assert api.count("alive") == 51


def test_pipelining(server, api):
    """Answers come in the order of the requests."""
    one = ("POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: piped\r\nContent-Length: 7\r\n\r\n"
           '{"a":1}GET /api/v1/nope HTTP/1.1\r\nHost: x\r\n\r\n' % conftest.basic())
    last = "GET /api/v1/liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall((one * 20 + last).encode())
        data = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            data += piece
    statuses = [line.split()[1] for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"200", b"404"] * 20 + [b"200"]
    assert api.count("piped") == 20


@pytest.mark.parametrize("path, allowed", [("liveness", "GET, HEAD"), ("about", "GET"), ("ingest", "POST"), ("logstream", "GET"), ("logstream/x", "DELETE, POST, PUT"),
                                           ("logstream/x/info", "GET"), ("logstream/x/retention", "GET, PUT"), ("logstream/x/tail", "GET"), ("query", "POST"),
                                           ("queries", "GET"), ("queries/x", "DELETE")])
def test_wrong_method(api, path, allowed):
    answer = api.call("PATCH", "/api/v1/" + path)
    assert answer.status == 405 and not answer.body
    assert sorted(answer.headers["Allow"].split(", ")) == allowed.split(", ")


def test_head(api):
    for path in ("liveness", "readiness"):
        answer = api.call("HEAD", "/api/v1/" + path, auth=False)
        assert answer.status == 200 and answer.body == b""
    assert api.call("HEAD", "/api/v1/about").status == 405


CODINGS = {"gzip": gzip.decompress, "deflate": zlib.decompress, "br": None, "zstd": None}


def undo(coding, data):
    if CODINGS[coding]:
        return CODINGS[coding](data)
    pyarrow = pytest.importorskip("pyarrow")
    stream = pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "brotli" if coding == "br" else coding)
    return stream.read()


@pytest.mark.parametrize("coding", CODINGS)
def test_compression_both_ways(api, rows, coding):
    pyarrow = pytest.importorskip("pyarrow")
    body = json.dumps([{"n": n} for n in range(1000)]).encode()
    packed = {"gzip": lambda: gzip.compress(body), "deflate": lambda: zlib.compress(body)}.get(
        coding, lambda: pyarrow.compress(body, codec={"br": "brotli"}.get(coding, coding), asbytes=True))()
    stream = "packed-" + coding
    api.put(stream, packed, {"Content-Encoding": coding})
    assert api.count(stream) == 1000
    for params in ("", "?streaming=true"):
        plain = rows.query(ORDERED, params=params)
        answer = rows.query(ORDERED, params=params, headers={"Accept-Encoding": coding})
        assert answer.headers["Content-Encoding"] == coding
        assert len(answer.body) < len(plain.body) / 2
        assert undo(coding, answer.body) == plain.body


def test_compression_is_negotiated(rows):
    for accept, coding in [("identity", None), ("gzip;q=0, deflate", "deflate"), ("nope", None), ("*;q=0", None), ("zstd;q=0.2, gzip;q=0.9", "gzip"), ("", None)]:
        assert rows.query(ORDERED, headers={"Accept-Encoding": accept}).headers.get("Content-Encoding") == coding, accept


def test_unknown_content_encoding_is_ignored(api):
    api.put("coding", {"a": 1}, {"Content-Encoding": "rot13"})
    assert api.count("coding") == 1


def test_tls(start_server, certificate):
    cert, key, context = certificate
    server = start_server("--tls-cert", str(cert), "--tls-key", str(key), start=False)
    server.tls = context
    server.start()
    api = server.api
    api.put("app", [{"n": n} for n in range(100)])
    assert api.count("app") == 100
    answer = api.query("SELECT n FROM app ORDER BY n", headers={"Accept": "application/x-ndjson"})
    assert len(answer.body.splitlines()) == 100
    with socket.create_connection(("127.0.0.1", server.port), 30) as s:  # plain HTTP to it
        s.sendall(b"GET /api/v1/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert not s.recv(4096).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            pass
    tail = Tail(server, "app")
    api.put("app", {"n": 1000})
    assert tail.events(1)[0][1]["n"] == 1000.0
    tail.close()
    server.restart()
    assert api.count("app") == 101


def test_certificate_is_replaced_while_the_server_runs(start_server, certificate, tmp_path):
    """SIGHUP reads the files again: handshakes get the new certificate, connections stay; files that do not fit change nothing."""
    cert, key, context = certificate
    mine = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    for source, target in zip((cert, key), mine):
        shutil.copy(source, target)
    server = start_server("--tls-cert", str(mine[0]), "--tls-key", str(mine[1]), start=False)
    server.tls = context
    server.start()

    def served():
        with socket.create_connection(("127.0.0.1", server.port), 30) as s, context_of_any.wrap_socket(s) as t:
            return ssl.DER_cert_to_PEM_cert(t.getpeercert(True)).strip()

    context_of_any = ssl._create_unverified_context()
    before = cert.read_text().strip()
    assert served() == before
    with server.client() as old:
        old.request("GET", "/api/v1/liveness")
        mine[1].write_text("hello\n")
        server.process.send_signal(signal.SIGHUP)
        assert server.api.wait(lambda: "certificate of before" in server.log(), 30) and served() == before
        conftest.make_certificate(*mine)
        server.process.send_signal(signal.SIGHUP)
        assert server.api.wait(lambda: served() == mine[0].read_text().strip(), 30), "the old certificate is served on"
        assert old.request("GET", "/api/v1/liveness").status == 200
    server.tls = ssl.create_default_context(cafile=str(mine[0]))
    server.api.put("renewed", {"a": 1})
    assert server.api.count("renewed") == 1
    assert server.stop() == 0


def test_cors_allows_no_origin_by_default(api):
    preflight = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    answer = api.call("OPTIONS", "/api/v1/query", headers=preflight, auth=False)
    assert answer.status == 400 and answer.text == "Origin is not allowed to make this request"
    answer = api.get("/api/v1/logstream", headers={"Origin": "http://elsewhere"})
    assert answer.status == 200 and not [k for k in answer.headers if k.lower().startswith("access-control")]


def test_cors_off_echoes_any_origin(start_server):
    api = start_server(env={"P_CORS": "false"}).api
    preflight = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-p-stream"}
    h = api.call("OPTIONS", "/api/v1/query", headers=preflight, auth=False).headers
    assert (h["Access-Control-Allow-Origin"], h["Access-Control-Allow-Credentials"], h["Access-Control-Max-Age"]) == ("http://elsewhere", "true", "3600")
    assert "POST" in h["Access-Control-Allow-Methods"] and "x-p-stream" in h["Access-Control-Allow-Headers"]
    answer = api.get("/api/v1/logstream", headers={"Origin": "http://elsewhere"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://elsewhere"
    assert "content-type" in answer.headers["Access-Control-Expose-Headers"]


# ---- self-observation

FAMILIES = """parseable_events_ingested parseable_events_ingested_size parseable_lifetime_events_ingested parseable_lifetime_events_ingested_size
parseable_events_deleted parseable_events_deleted_size parseable_storage_size parseable_lifetime_events_storage_size
parseable_deleted_events_storage_size parseable_events_ingested_date parseable_events_ingested_size_date parseable_events_storage_size_date
parseable_total_events_ingested_by_date parseable_total_query_calls_by_date parseable_staging_files parseable_query_execute_time parseable_incoming_requests
parseable_response_code parseable_response_time sluice_stage_rows sluice_stage_bytes sluice_wal_live_bytes sluice_wal_syncs_total
sluice_ingest_rows_total sluice_flush_total process_resident_memory_bytes process_open_fds""".split()


def test_metrics_names_and_form(api):
    import re
    api.put("metered", {"a": 1})
    api.sql("SELECT * FROM metered")
    text = api.get("/api/v1/metrics").text
    typed = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    assert not [name for name in FAMILIES if name not in typed]
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    form = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="([^"\\\n]|\\["\\n])*",?)*\})? [-+0-9.eEInfNa]+')
    assert not [line for line in lines if not form.fullmatch(line)]
    series = [line.rpartition(" ")[0] for line in lines]
    assert len(series) == len(set(series)), "a series is printed twice"
    order = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(order) == len(set(order)), "a family is printed twice"


def test_stage_rows(start_server):
    server = start_server(env={"SLUICE_FLUSH_IDLE": "1h", "SLUICE_FLUSH_AGE": "1h"})
    api = server.api
    assert api.metrics()["sluice_stage_rows"] == 0
    api.put("app", [{"n": n} for n in range(7)])
    assert api.metrics()["sluice_stage_rows"] == 7
    server.restart(clean=False)
    assert api.metrics()["sluice_stage_rows"] == 7
    api.put("app", [{"n": 7}], {"X-P-Ack": "object"})
    assert api.metrics()["sluice_stage_rows"] == 0
    assert api.count("app") == 8
    assert api.metrics()['parseable_events_ingested{stream="app",format="json",tenant_id="DEFAULT_TENANT"}'] == 8


def test_pmeta_tells_of_rejections(start_server):
    api = start_server().api
    api.put("app", {"a": 1})
    assert api.ingest("app", '{"a":NaN}').status == 400
    assert api.ingest("app", {"c%d" % i: 1 for i in range(1100)}).status == 400
    found = api.wait(lambda: "pmeta" in api.streams() and [r for r in api.sql("SELECT * FROM pmeta WHERE kind = 'rejected'") if r["stream"] == "app"])
    assert found and all(r["p_timestamp"] for r in found), found
    assert any(k.startswith("sluice_events_total") and "rejected" in k and v >= 2 for k, v in api.metrics().items())
    info = api.get("/api/v1/logstream/pmeta/info").json()
    assert info["streamType"] == "Internal"


def test_about(api):
    about = api.get("/api/v1/about").json()
    assert about["version"] == "v2.9.5" and about["mode"] == "Standalone" and len(about["deploymentId"]) == 26


def test_log_is_json(server, api):
    for line in server.log().splitlines():
        if not line.startswith("---") and line.startswith("{"):
            assert {"ts", "level", "msg"} <= set(json.loads(line))


def test_draining_server_says_so(start_server):
    """While it stops, requests on open connections hear 503 or find the door closed; nothing acknowledged is lost."""
    server = start_server()
    api, acked, stop = server.api, [0], threading.Event()

    def fill():
        with server.client() as c:
            while not stop.is_set():
                try:
                    answer = api.ingest("app", {"n": 1}, client=c)
                except (OSError, http.client.HTTPException):
                    return
                if answer.status == 200:
                    acked[0] += 1
                else:
                    assert answer.status == 503, answer
                    return

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for t in threads:
        t.start()
    time.sleep(1)
    assert server.stop(60) == 0
    stop.set()
    for t in threads:
        t.join()
    server.start()
    assert api.count("app") >= acked[0] > 0


def test_settings_that_change_at_the_same_time(server, api):
    """Each request changes its own setting; none puts back what another has just changed."""
    api.create("settings-race")
    with server.client() as a, server.client() as b:
        for days in range(1, 40):
            update = threading.Thread(target=api.call, args=("PUT", "/api/v1/logstream/settings-race"), kwargs={
                "headers": {"X-P-Update-Stream": "true", "X-P-Time-Partition-Limit": "%dd" % days}, "client": a})
            update.start()
            task = [{"description": "", "action": "delete", "duration": "%dd" % days}]
            assert api.call("PUT", "/api/v1/logstream/settings-race/retention", task, client=b).status == 200
            update.join()
            assert api.get("/api/v1/logstream/settings-race/info").json()["timePartitionLimit"] == str(days)
            assert api.get("/api/v1/logstream/settings-race/retention").json() == task


def test_an_acknowledgement_that_nobody_knows(api):
    """A misspelled `object` must not get less than was asked for, in silence."""
    answer = api.ingest("acks", [{"a": 1}], {"X-P-Ack": "objekt"})
    assert answer.status == 400 and "wal, relaxed or object" in answer.text
    for ack in ("wal", "Relaxed", "object", ""):
        assert api.ingest("acks", [{"a": 1}], {"X-P-Ack": ack}).status == 200, ack
    assert api.count("acks") == 4


def test_two_queries_of_one_id(start_server):
    """The second gets an id of its own: one client that leaves, or cancels, ends no other's query."""
    server = start_server()
    api = server.api
    api.put("app", [{"n": i, "t": "%060d" % i} for i in range(20000)])
    long = "SELECT count(*) FROM app a, app b WHERE a.t || b.t LIKE '%77777%'"
    body = json.dumps({"query": long, "startTime": "1d", "endTime": "now"})
    with server.client() as one, server.client() as two:
        for client in (one, two):
            client.connection = client._connect()
            client.connection.request("POST", "/api/v1/query", body,
                                      {"Authorization": conftest.basic(), "Content-Type": "application/json", "X-Query-Id": "mine"})
        assert api.wait(lambda: len(api.get("/api/v1/queries").json()) == 2)
        ids = {q["id"] for q in api.get("/api/v1/queries").json()}
        assert "mine" in ids and len(ids) == 2
        assert api.call("DELETE", "/api/v1/queries/mine").status == 200
        assert api.wait(lambda: len(api.get("/api/v1/queries").json()) == 1)
        (other,) = ids - {"mine"}
        assert [q["id"] for q in api.get("/api/v1/queries").json()] == [other]
        assert api.call("DELETE", "/api/v1/queries/" + other).status == 200
