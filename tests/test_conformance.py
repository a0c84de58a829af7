"""The exchanges that were recorded from the reference, replayed: ../shared/conformance/compare.py on parseable-golden.jsonl.

One case per recorded step of the sections that this server has. Steps of what it does not have yet are left out by EXCLUDED, each with its
reason. A step whose answer differs on purpose stands in docs/deviations.md; a step that stands there and passes is an error too, so
that the list stays true.
"""
import json
import os
import re
import subprocess
import sys

import pytest

import conftest

SECTIONS = r"(1|2|3\.[1-9]|4\.1|5|9|10)(\.\d+)*"

# (what is left out: a pattern of the step's method and path, headers as JSON, or id; why)
EXCLUDED = [
    ("path", r"/api/v1/(user|users|role|roles)\b", "users and roles"),
    ("path", r"/api/(v1|prism/v1)/(o/|home|apikeys|datasets|services)", "sessions, keys, the console's aggregates"),
    ("path", r"/api/v1/(alerts|targets|alert-target-policy|dashboards|filters|correlation)", "alerts, dashboards, filters, correlations"),
    ("path", r"/api/v1/(llm|demodata)", "LLM and demo data"),
    ("path", r"POST /v1/", "OTLP"),
    ("path", r"/api/v1/query/context", "log context"),
    ("path", r"/api/prism/v1/dataset_stats", "field statistics"),
    ("headers", r"\{\{basic:", "needs users that only the routes of users can make"),
    ("headers", r"\{\{(session|api_key\d*)\}\}", "sessions and keys"),
    ("headers", r"kinesis|Firehose", "Firehose"),
    ("headers", r'"X-P-Log-Source": "\w+_(log|Log|access|server_logs)"', "text formats", r"POST"),
    ("id", r"(?!otlp-unknown)(fmt|otlp|omet|otel|kinesis|pstats)-.*|(stored|schema|info)-(fmt|otlp|kinesis|otel).*", "reads what such a step would have stored"),
    ("id", r"json-(path-)?into-(otlp-logs|otel-after|metrics|traces)", "needs a stream of OTLP data"),
]
# Steps left out above that later steps count on, sent by the root user instead.
AS_ROOT = ("rbac-editor1-create", "rbac-admin1-create")


def reason_of(step):
    request = step["request"]
    subjects = {"path": request["method"] + " " + request["path"], "headers": json.dumps(request.get("headers", {})), "id": step["id"]}
    for kind, pattern, reason, *methods in EXCLUDED:
        found = re.fullmatch(pattern, subjects[kind]) if kind == "id" else re.search(pattern, subjects[kind])
        if found and (not methods or request["method"] in methods):
            return reason
    return None


def adapted(step):
    """The reference has no stream of its own at first; ours, made by verdicts(), is in every list (docs/deviations.md). It kept its files in a
    folder."""
    body = step["response"]["body"]
    if conftest.S3 and isinstance(body, dict) and "type" in body.get("store", ()):
        body["store"]["type"] = "S3 bucket"
    if step["request"]["method"] == "GET" and step["request"]["path"] == "/api/v1/logstream" and isinstance(body, list):
        body.extend(s for s in [{"name": "pmeta"}] if s not in body)
    return step


def golden():
    path = conftest.shared("data/parseable-golden.jsonl")
    with open(path, encoding="utf-8") as f:
        return [adapted(json.loads(line)) for line in f if line.strip()]


def deviations():
    """Ids in the first column of the tables of docs/deviations.md."""
    text = (conftest.ROOT / "docs" / "deviations.md").read_text()
    return {step for line in text.splitlines() if line.startswith("| `") for step in re.findall(r"`([^`]+)`", line.split("|")[1])}


def plan():
    """(steps to send, ids to judge)"""
    send, judge = [], []
    for step in golden():
        if step["id"] in AS_ROOT:
            step["request"]["headers"]["Authorization"] = "{{root}}"
            send.append(step)
        elif reason_of(step) is None and step["request"]["method"] != "HOOK":
            send.append(step)
            if re.fullmatch(SECTIONS, step["section"]):
                judge.append(step["id"])
    return send, judge


try:
    SEND, JUDGE = plan()
except (pytest.skip.Exception, pytest.fail.Exception) as missing:
    SEND, JUDGE, MISSING = [], [], missing
else:
    MISSING = None


def test_golden_file_is_there():
    if MISSING:
        raise MISSING
    assert len(JUDGE) > 600


@pytest.fixture(scope="module")
def verdicts(server, api, tmp_path_factory):
    """{id: None or the first difference}"""
    assert api.ingest("a-rejection", "{").status == 400 and api.delete("a-rejection").status == 200
    assert api.wait(lambda: api.streams() == ["pmeta"])
    known = deviations()
    path = tmp_path_factory.mktemp("golden") / "steps.jsonl"
    with open(path, "w", encoding="utf-8") as f:
        for step in SEND:
            if step["id"] in known:
                step.pop("after", None)  # it will not match: do not wait for it
            f.write(json.dumps(step) + "\n")
    run = subprocess.run([sys.executable, str(conftest.shared("conformance/compare.py")), server.url, "admin", "admin", str(path),
                          "--wait", os.environ.get("CONFORMANCE_WAIT", "100")], capture_output=True, text=True)
    out = {}
    for line in run.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        if verdict == "ok":
            out[rest.strip()] = None
        elif verdict == "FAIL":
            step, _, difference = rest.partition(" (section ")
            out[step] = difference.partition("): ")[2]
    assert out, run.stdout + run.stderr
    return out


@pytest.mark.parametrize("step", JUDGE)
def test_step(verdicts, step):
    known = deviations()
    difference = verdicts[step]
    if step in known:
        assert difference is not None, "%s passes: take it out of docs/deviations.md" % step
    elif difference is not None:
        pytest.fail(difference, pytrace=False)


def test_deviations_are_steps_that_run():
    assert deviations() <= set(JUDGE)


def test_the_server_lived(server, verdicts):
    assert server.process.poll() is None
    assert "ERROR: AddressSanitizer" not in server.log()
