#!/usr/bin/env python3
"""The gate on the recorded exchanges of sections 5.x: golden.py GATE_CLI GOLDEN.jsonl COMPARE.py [-v]

Statements go through gate_cli and DuckDB; names, rows and whether there is an error must be those of the recording, judged by
compare.py's own rules. Time ranges of the requests and the writing of answers are not the gate's: steps about them are left out."""
import importlib.util
import json
import sys

import gate


def main():
    program, golden, compare, verbose = sys.argv[1], sys.argv[2], sys.argv[3], "-v" in sys.argv
    spec = importlib.util.spec_from_file_location("compare", compare)
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    g = gate.Gate(program, gate.app_tables(golden))
    good = bad = 0
    for line in open(golden):
        step = json.loads(line)
        body = step["request"].get("body")
        if not step["section"].startswith("5.") or not step["request"]["path"].startswith("/api/v1/query") or not isinstance(body, dict):
            continue
        sql = body.get("query")
        if not isinstance(sql, str) or step["id"].startswith(("query-missing", "time-", "context-")) or "/query/" in step["request"]["path"]:
            continue
        path = step["request"]["path"]
        wants = [step["response"]] + step.get("accept", [])
        if step.get("upstream_bug"):
            wants = step.get("accept") or [{"status": 200}, {"status": 400}]
        wants = [w for w in wants]
        try:
            names, rows, out = g.run(sql)
            null = (body.get("sendNull") or "sendNull=true" in path) and "streaming" not in path  # a stream has no nulls
            records = [{n: v for n, v in zip(names, r) if v is not None or null} for r in rows]
            got = {"status": 200, "body": records}
            if "fields=true" in path and "sendNull=1" not in path:
                got["body"] = {"fields": names, "records": records}
            if "streaming=true" in path:
                got["body"] = {"lines": ([{"fields": names}] if "fields=true" in path else []) + ([records] if records else [])} if records or "fields" in path else None
        except Exception as e:
            got = {"status": 400, "body": str(e)}
        difference = None
        for w in wants:
            difference = None
            if w["status"] != got["status"]:
                difference = "status %s, want %s: %s" % (got["status"], w["status"], str(got["body"])[:300])
            elif got["status"] == 200 and "body" in w:
                difference = rules.Comparer(step).difference(w["body"], got["body"])
            if not difference:
                break
        good += not difference
        bad += bool(difference)
        if difference:
            print("FAIL %s: %s\n     %s" % (step["id"], sql, difference))
            if verbose:
                print("     %s" % (g.ask(sql).get("sql")))
    print("%d of %d recorded statements agree" % (good, good + bad))
    return bad != 0


sys.exit(main())
