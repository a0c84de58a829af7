"""A server whose files lie in an S3 bucket: nothing durable on the node but its WAL, a bucket that falters, goes away, is read by several
servers, and is left clean."""
import collections
import http.client
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time

import pytest

import conftest
import s3

FAST = ("--flush-age", "50ms", "--flush-idle", "50ms", "--fold-interval", "200ms")
TIDY = FAST + ("--gc-interval", "300ms", "--compact-interval", "300ms")


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3.bucket(s3_server)


class Switch:
    """A fault that can be changed while the proxy runs."""

    def __init__(self):
        self.fault = lambda *_: None

    def __call__(self, *request):
        return self.fault(*request)


@pytest.fixture(scope="module")
def between(s3_server, bucket):
    switch = Switch()
    with s3.proxy(s3_server.port, switch) as p:
        p.switch = switch
        yield p


@pytest.fixture
def on_bucket(request, between, start_server):
    """start(options...) of servers on one prefix of the bucket, a new one for each test; each call is a node with a disk of its own."""
    between.switch.fault = lambda *_: None
    prefix = "s3://logs/" + request.node.name[:60].replace("[", "-").replace("]", "")
    env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": between.url}

    def start(*options, env=env, start=True):
        return start_server("--store", prefix, *options, env=env, start=start)
    start.prefix = prefix[len("s3://logs/"):] + "/"
    yield start
    between.switch.fault = lambda *_: None


def keys(bucket, prefix):
    return [o.key[len(prefix):] for o in bucket.objects.filter(Prefix=prefix)]


def data_files(bucket, prefix, stream=""):
    return [k for k in keys(bucket, prefix) if k.endswith(".parquet") and k.startswith(stream)]


def put(server, stream, start, count, size=20):
    for at in range(start, start + count, size):
        server.api.put(stream, [{"i": i, "m": "message %d" % (i % 97)} for i in range(at, min(at + size, start + count))])


def check(server, stream, count):
    assert server.api.sql("SELECT count(*) AS n, count(DISTINCT i) AS d, coalesce(sum(i), 0) AS s FROM " + stream) == [
        {"n": count, "d": count, "s": count * (count - 1) // 2}]


def test_a_lost_disk_loses_nothing_that_was_flushed(on_bucket, bucket):
    first = on_bucket(*FAST)
    put(first, "app", 0, 200)
    first.api.flushed()
    first.kill()
    shutil.rmtree(first.data)
    second = on_bucket(*FAST)  # another machine, an empty disk
    assert "app" in second.api.streams()
    check(second, "app", 200)
    put(second, "app", 200, 100)
    check(second, "app", 300)
    assert second.stop() == 0
    done = subprocess.run([conftest.binary(), "catalog", "verify", "--store", "s3://logs/" + on_bucket.prefix[:-1], "--s3-endpoint",
                           second.env["SLUICE_S3_ENDPOINT"]], env=second.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and '"damaged": []' in done.stdout, done
    assert not [p for p in (second.data / "tmp").rglob("*") if p.is_file()]


def test_a_bucket_that_falters(on_bucket, between):
    """A fifth of the requests fail or lose their answer, through kills: nothing is lost, nothing comes twice."""
    server = on_bucket(*TIDY)
    rng = random.Random(11)
    between.switch.fault = lambda *_: rng.choice(["503", "500", "429", "409", "lose", "reset", "truncate"]) if rng.random() < 0.2 else None
    count = 0
    for round in range(3):
        put(server, "app", count, 60, size=10)
        count += 60
        server.kill()
        server.start()
        check(server, "app", count)
    between.switch.fault = lambda *_: None
    server.api.flushed()
    check(server, "app", count)
    assert between.done["lose"] and between.done["503"]


def test_a_stop_waits_for_a_slow_bucket(on_bucket, between):
    """A request that asked for its rows to be in the bucket has its 200 although a stop came before the flush had ended."""
    server = on_bucket("--flush-age", "1h", "--flush-idle", "1h")
    put(server, "app", 0, 10)
    between.switch.fault = lambda *_: "stall"
    answers = []

    def late(i):
        with server.client() as client:
            answers.append(client.request("POST", "/api/v1/ingest", [{"i": i}], {"X-P-Stream": "app", "X-P-Ack": "object"}))
    asking = [threading.Thread(target=late, args=(10 + i,)) for i in range(100)]
    for a in asking:
        a.start()
    assert server.api.wait(lambda: server.api.metrics()["sluice_stage_rows"] == 110)
    assert server.stop() == 0
    for a in asking:
        a.join(conftest.HTTP_S)
    assert [a.status for a in answers] == [200] * 100, answers


@pytest.mark.parametrize("fault", ["503", "refuse"])  # an answer that says so, and none
def test_a_bucket_that_goes_away(on_bucket, between, fault):
    """Ingest goes on while the WAL has room; what is staged is in answers; afterwards all of it reaches the bucket."""
    server = on_bucket(*FAST, "--s3-retry", "1s")
    put(server, "app", 0, 100)
    server.api.flushed()
    between.switch.fault = lambda *_: fault
    put(server, "app", 100, 100)
    assert server.api.sql("SELECT count(*) AS n FROM app") == [{"n": 200}]  # the bucket is not needed for that
    answer = server.api.query("SELECT sum(i) AS s FROM app WHERE m LIKE '%message 4%'")
    assert answer.status == 503 and answer.headers["Retry-After"] and b"rows" not in answer.body, answer
    assert server.api.metrics()["sluice_stage_rows"] == 100
    between.switch.fault = lambda *_: None
    server.api.flushed()
    check(server, "app", 200)


def test_ingest_beside_requests_that_wait_for_the_bucket(on_bucket, between):
    """Bodies too large for a network thread have workers, as metrics and readiness do, which nothing that waits for the store may take."""
    server = on_bucket(*FAST, "--s3-retry", "1s")
    put(server, "app", 0, 100)
    server.api.flushed()
    let_go, held = threading.Event(), threading.Event()

    def hold(*_):  # this request, and those that come after it
        held.set()
        let_go.wait(conftest.HTTP_S)

    between.switch.fault = hold
    answers, large = [], [{"i": i, "m": "x" * 200} for i in range(1000)]

    def ask(method, path, body):
        with server.client() as client:
            answers.append(server.api.call(method, path, body, client=client))

    retention = [{"description": "", "action": "delete", "duration": "9d"}]
    calls = [("GET", "/api/v1/cluster/storage", None), ("PUT", "/api/v1/logstream/app/retention", retention), ("PUT", "/api/v1/logstream/new%d", None)] * 4
    threads = [threading.Thread(target=ask, args=(m, p % i if "%d" in p else p, b)) for i, (m, p, b) in enumerate(calls)]
    try:
        for t in threads:
            t.start()
        assert held.wait(conftest.HTTP_S)
        for _ in range(10):
            server.api.put("app", large)
            assert server.api.get("readiness", auth=False).status == 200 and server.api.metrics()["sluice_stage_rows"]
        assert not answers
    finally:
        let_go.set()
        between.switch.fault = lambda *_: None
        for t in threads:
            t.join()
    server.api.flushed()
    assert server.api.count("app") == 10100


def test_a_tail_outlives_a_bucket_that_goes_away(on_bucket, between):
    """What passes by itself ends no tail: its client comes back and goes on."""
    server = on_bucket(*FAST, "--s3-retry", "1s")
    put(server, "app", 0, 100)
    server.api.flushed()
    between.switch.fault = lambda *_: "refuse"
    before = between.done["refuse"]
    tail = subprocess.Popen([conftest.binary(), "tail", "app", "--after", "0", "--count", "100", "--server", server.url],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert server.api.wait(lambda: between.done["refuse"] > before + 20)
        between.switch.fault = lambda *_: None
        rows, said = tail.communicate(timeout=conftest.HTTP_S)
    finally:
        tail.kill()
    assert tail.returncode == 0 and sorted(json.loads(r)["i"] for r in rows.splitlines()) == list(range(100)), said


def test_compaction_reads_and_writes_the_bucket(on_bucket, bucket):
    server = on_bucket(*FAST, "--compact-interval", "1h", "--gc-interval", "300ms")
    for i in range(70):
        server.api.put("app", [{"i": i, "m": "message"}], {"X-P-Ack": "object"})
    assert server.stop() == 0
    assert len(data_files(bucket, on_bucket.prefix, "app/")) > 64
    server.args += ["--compact-interval", "300ms"]
    server.start()
    assert server.api.wait(lambda: server.api.metrics().get("sluice_compaction_outputs_total", 0) > 0), server.api.metrics()
    check(server, "app", 70)
    assert server.stop() == 0
    assert not [p for p in (server.data / "tmp").rglob("*") if p.is_file()]
    server.start()
    check(server, "app", 70)


@pytest.mark.parametrize("held", ["scrub", "flush"])
def test_rows_of_another_server_wait_for_nothing_but_a_fold(on_bucket, between, held):
    """One server's scrub, or its flush, gets no answer from the bucket; what the other one commits shows there all the same."""
    a = on_bucket(*FAST)
    a.api.put("app", [{"i": 0, "m": "message"}], {"X-P-Ack": "object"})
    b = on_bucket(*FAST, "--scrub-interval", "1h" if held == "flush" else "300ms", start=False)
    method, what = {"scrub": ("GET", "/app/"), "flush": ("PUT", "/own/")}[held]
    between.release.clear()
    between.done.clear()
    between.switch.fault = lambda m, path, *_: "hold" if m == method and what in path and ".parquet" in path else None
    try:
        b.start()
        if held == "flush":
            b.api.put("own", [{"i": 0}])
        assert b.api.wait(lambda: between.done["hold"] > 0)
        for i in range(1, 6):  # a round that had begun may show the first
            a.api.put("app", [{"i": i, "m": "message"}], {"X-P-Ack": "object"})
            assert b.api.wait(lambda: b.api.stats("app")["ingestion"]["count"] == i + 1), b.api.stats("app")
            assert between.done["hold"] < 3, "it came when the server had given that request up"
    finally:
        between.switch.fault = lambda *_: None
        between.release.set()
    check(b, "app", 6)


def report_is_true(server, bucket, prefix, clean=False):
    """What the server says about the bucket is what boto3 finds there; `clean`: and none of it is garbage, limbo or unknown, but for the head that
    says that a stream is deleted."""
    def both():
        listed = [(o.key[len(prefix):], o.size) for o in bucket.objects.filter(Prefix=prefix)]
        with server.client(timeout=900) as c:  # it reads every head that is kept, some thousands
            report = server.api.get("/api/v1/cluster/storage", client=c).json()
        if clean and any(i[c]["objects"] > (c == "garbage" and i["state"] == "dead") for i in report["incarnations"] for c in ("limbo", "garbage", "unknown")):
            return False
        told = {i["prefix"]: tuple(sum(i[c][what] for c in ("live", "retained", "limbo", "garbage", "unknown")) for what in ("objects", "bytes"))
                for i in report["incarnations"]}
        found = {p: (sum(k.startswith(p) for k, _ in listed), sum(n for k, n in listed if k.startswith(p))) for p in told}
        return told == found and sum(not k.startswith((".sluice/", *told)) for k, _ in listed) == 0 and (told, found)
    assert server.api.wait(both, (1800 if conftest.SOAK else 120) if clean else 30), server.api.get("/api/v1/cluster/storage").text  # a listing and a report are not of one instant


def test_deleted_streams_leave_nothing(on_bucket, bucket):
    """Not for the server that filled it, nor for one that never knew it and was down meanwhile; but for the head that says so, kept for 7 days."""
    first, second = on_bucket(*TIDY), on_bucket(*TIDY)
    assert second.stop() == 0  # one that was killed is waited for (T_fence)
    put(first, "app", 0, 60)
    put(first, "kept", 0, 60)
    first.api.flushed()
    assert data_files(bucket, on_bucket.prefix, "app/")
    assert first.api.delete("app").status == 200
    left = lambda: [k for k in keys(bucket, on_bucket.prefix) if k.startswith("app/")]  # noqa: E731
    assert first.api.wait(lambda: len(left()) == 1), left()
    assert "/_head/" in left()[0]
    second.start()
    assert "app" not in second.api.streams()
    check(second, "kept", 60)
    check(first, "kept", 60)
    report_is_true(first, bucket, on_bucket.prefix)


def test_servers_share_a_bucket(on_bucket):
    """Rows of one are seen by the others once they are flushed, whoever created the stream, and none is lost when one is killed."""
    servers = [on_bucket(*FAST) for _ in range(3)]
    threads = [threading.Thread(target=put, args=(s, "app", n * 100, 100)) for n, s in enumerate(servers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    servers[1].kill()
    servers[1].start()
    for s in servers:
        s.api.flushed()
    for s in servers:
        assert s.api.wait(lambda: s.api.count("app") == 300), s.api.count("app")
        check(s, "app", 300)


def test_columns_of_another_server(on_bucket):
    """A column that one server's rows bring is in the answers of another that looked at the stream before, and took no row of it."""
    first, second = on_bucket(*FAST), on_bucket(*FAST)
    first.api.put("app", [{"i": 1}], {"X-P-Ack": "object"})
    assert second.api.wait(lambda: "app" in second.api.streams() and second.api.count("app") == 1)
    first.api.put("app", [{"i": 2, "j": 5}], {"X-P-Ack": "object"})
    assert second.api.wait(lambda: second.api.count("app") == 2)
    second.api.put("app", [{"i": 3, "k": "x"}])
    assert second.api.sql("SELECT i, j, k FROM app ORDER BY i") == [{"i": 1}, {"i": 2, "j": 5}, {"i": 3, "k": "x"}]  # NULL is left out
    assert {"i", "j", "k"} <= {f["name"] for f in second.api.get("/api/v1/logstream/app/schema").json()["fields"]}
    second.api.flushed()
    for server in (first, second):
        assert server.api.wait(lambda: server.api.count("app") == 3)
        assert server.api.sql("SELECT i, j, k FROM app WHERE k = 'x' OR j = 5 ORDER BY i") == [{"i": 2, "j": 5}, {"i": 3, "k": "x"}]


def test_requests_and_their_cost(on_bucket, between):
    """What the metrics and GET cluster/storage count is what the server of the bucket gets, queries' ranges too."""
    seen, prices = collections.Counter(), {"put": 5e-6, "list": 5e-6, "get": 4e-7, "delete": 0}

    def note(method, path, headers, number):
        listing = method == "GET" and "list-type" in path or path.endswith("?location=")
        seen["list" if listing else {"HEAD": "get", "POST": "delete"}.get(method, method.lower())] += 1
        engine[0] += "duckdb" in headers.get("User-Agent", "")
    engine = [0]
    between.switch.fault = note
    server = on_bucket(*FAST, "--fold-interval", "1h", "--gc-interval", "1h", "--compact-interval", "1h", "--scrub-interval", "1h", "--retention-interval", "1h")
    put(server, "app", 0, 100)
    server.api.flushed()
    check(server, "app", 100)
    assert engine[0] > 0

    def told():
        metrics = server.api.metrics()
        by = lambda **labels: sum(v for k, v in metrics.items() if k.startswith("sluice_store_requests_total{") and
                                  all('%s="%s"' % label in k for label in labels.items()))
        return {op: by(operation=op) for op in prices}, by(by="queries"), metrics
    assert server.api.wait(lambda: told()[0] == {op: seen[op] for op in prices}), (told()[0], seen)  # some are on their way now and then
    assert told()[1] == engine[0]
    requests = server.api.get("/api/v1/cluster/storage").json()["requests"]
    counts, _, metrics = told()
    assert requests["put"] == counts["put"] > 0 and requests["get"] >= engine[0] and 0 < requests["list"] <= counts["list"]
    assert requests["sentBytes"] > 0 and requests["receivedBytes"] > 0
    assert requests["dollars"] == pytest.approx(sum(prices[op] * requests[op] for op in prices), abs=1e-6)
    spent = sum(v for k, v in metrics.items() if k.startswith("sluice_store_cost_dollars_total"))
    assert spent == pytest.approx(sum(prices[op] * counts[op] for op in prices), rel=0.01)


def test_a_fold_reads_the_heads_that_moved(on_bucket, between):
    """Rows for one of many streams cost the other servers a look at this one's heads, not at those of all."""
    first, second = on_bucket(*FAST), on_bucket(*FAST)
    for n in range(40):
        first.api.put("s%d" % n, [{"i": 0}])
    first.api.flushed()
    assert second.api.wait(lambda: all("s%d" % n in second.api.streams() and second.api.count("s%d" % n) == 1 for n in range(40)))
    looks = collections.Counter()

    def note(method, path, headers, number):
        heads = re.search("(s[0-9]+)%2F[0-9a-z]{26}%2F_head%2F", path)
        if method == "GET" and "list-type" in path and heads:
            looks[heads.group(1)] += 1
    time.sleep(2)
    between.switch.fault = note
    for i in range(1, 4):
        first.api.put("s7", [{"i": i}], {"X-P-Ack": "object"})
        assert second.api.wait(lambda: second.api.count("s7") == i + 1)
    time.sleep(2)
    assert looks["s7"] > 0 and len(looks) < 5, looks


def test_settings_of_another_server(on_bucket):
    """What one server was told of a stream holds at the others too, where nothing else happens, and what they are told changes nothing else."""
    first, second = on_bucket(*FAST), on_bucket(*FAST)
    keep = [{"description": "", "action": "delete", "duration": "9d"}]
    first.api.put("app", [{"i": 1, "region": "eu"}], {"X-P-Ack": "object"})
    assert second.api.wait(lambda: "app" in second.api.streams() and second.api.count("app") == 1)
    assert first.api.call("PUT", "/api/v1/logstream/app/retention", keep).status == 200
    limit = {"X-P-Update-Stream": "true", "X-P-Time-Partition-Limit": "30d"}
    assert second.api.call("PUT", "/api/v1/logstream/app", None, limit).status == 200
    assert second.api.get("/api/v1/logstream/app/retention").json() == keep
    assert first.api.wait(lambda: first.api.get("/api/v1/logstream/app/info").json().get("timePartitionLimit") == "30"), \
        first.api.get("/api/v1/logstream/app/info").json()
    assert first.api.get("/api/v1/logstream/app/retention").json() == keep
    part = {"X-P-Update-Stream": "true", "X-P-Custom-Partition": "region"}
    assert first.api.call("PUT", "/api/v1/logstream/app", None, part).status == 200
    assert second.api.wait(lambda: second.api.ingest("app", [{"i": 2}]).status == 400)  # no region
    second.api.put("app", [{"i": 2, "region": "us"}])


def nodes_in_chaos(on_bucket, between, bucket, seconds, seed):
    """Three nodes take rows into shared streams and one of their own each; streams are made, deleted and made again, by any node; all compact;
    nodes are killed; requests fail. (A delete waits a minute for the other nodes: short runs do without.) At the end every acknowledged row
    is there once, whichever node is asked, and the bucket holds nothing that no longer belongs to anything."""
    rng = random.Random(seed)
    faults = s3.random_faults(seed)
    between.switch.fault = faults
    short = seconds <= 60
    options = FAST[:-1] + ("500ms", "--gc-interval", "2s", "--compact-interval", "1s") if short else \
        ("--flush-age", "1s", "--flush-idle", "1s", "--fold-interval", "3s", "--gc-interval", "20s", "--compact-interval", "5s")
    nodes = [on_bucket(*options) for _ in range(3)]
    acked, lock, end = {}, threading.Lock(), time.monotonic() + seconds
    unknown = {}

    def ingest(n):
        count = 0
        while time.monotonic() < end:
            stream = rng.choice(["one", "two", "own%d" % n])
            rows = [{"r": "%d-%d" % (n, count), "k": k, "c%d" % (count % 30): k} for k in range(rng.randrange(1, 40))]
            count += 1
            with lock:
                unknown.setdefault(stream, {})[rows[0]["r"]] = len(rows)
            try:
                status = nodes[n].api.ingest(stream, rows).status
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
                continue
            if status == 200:
                with lock:
                    acked.setdefault(stream, {})[rows[0]["r"]] = unknown[stream].pop(rows[0]["r"])
            else:
                assert status in (503, 500, 404), status
                time.sleep(0.02)

    def churn():
        turn = 0
        while time.monotonic() < end:
            name = "churn%d" % (turn % 3)
            turn += 1
            try:
                for n in rng.sample(range(3), 2):
                    nodes[n].api.ingest(name, [{"x": turn}])
                nodes[rng.randrange(3)].api.delete(name)
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)

    def kill():
        while time.monotonic() < end - 5:
            time.sleep(rng.uniform(2, 6))
            victim = rng.choice(nodes[1:])
            victim.kill()
            victim.start()

    failures = []

    def run(fn, *args):
        try:
            fn(*args)
        except BaseException as e:  # noqa: B902: told below
            failures.append(e)
    others = (kill,) if short else (churn, kill)
    threads = [threading.Thread(target=run, args=(ingest, n)) for n in range(3)] + [threading.Thread(target=run, args=(f,)) for f in others]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures
    between.switch.fault = lambda *_: None
    for node in nodes:
        node.api.flushed()
    for node in nodes:
        for stream, requests in acked.items():
            def right():
                answer = node.api.query('SELECT r, count(*) AS n, count(DISTINCT k) AS d FROM "%s" GROUP BY r' % stream)
                found = {row["r"]: (row["n"], row["d"]) for row in answer.json()} if answer.status == 200 else {}
                wrong = [] if answer.status == 200 else [answer]
                wrong += [(r, n, found.get(r)) for r, n in requests.items() if found.get(r) != (n, n)]
                wrong += [(r, None, f) for r, f in found.items() if r not in requests and f != (unknown[stream].get(r),) * 2]
                return wrong or None
            assert node.api.wait(lambda: right() is None, 60 if short else 600), (stream, (right() or [])[:10], len(requests))
    report_is_true(nodes[0], bucket, on_bucket.prefix, clean=True)
    return sum(len(a) for a in acked.values())


def test_nodes_in_chaos(on_bucket, between, bucket):
    assert nodes_in_chaos(on_bucket, between, bucket, float(os.environ.get("CHAOS_S") or (1800 if conftest.SOAK else 12)), int(os.environ.get("SEED") or 5)) > 20


def test_keys_are_nowhere(on_bucket):
    server = on_bucket(*FAST)
    put(server, "app", 0, 20)
    server.api.flushed()
    check(server, "app", 20)
    secret = s3.KEYS["AWS_SECRET_ACCESS_KEY"]
    for sql in ("SELECT * FROM duckdb_secrets()", "SELECT current_setting('s3_secret_access_key')", "SELECT getenv('AWS_SECRET_ACCESS_KEY')"):
        answer = server.api.query(sql)
        assert answer.status != 200 and secret not in answer.text, answer
    assert secret not in server.log() + server.api.get("/api/v1/metrics").text + server.api.get("/api/v1/about").text


@pytest.mark.skipif(conftest.S3 == "minio", reason="MinIO refuses what the proxy changes; moto looks at no signature")
def test_a_store_that_overwrites_is_refused(on_bucket, between):
    between.switch.fault = lambda *_: "overwrite"
    server = on_bucket(start=False)
    server.spawn()
    assert server.process.wait(conftest.START_S) == 1
    assert "sluice store check" in server.log() and "second create" in server.log(), server.log()


def test_https_with_a_certificate_of_ones_own(certificate, start_server):
    """Both who speak to the bucket, the store's client and the engine's, trust what store-ca-cert says and nothing less, by its older name too."""
    cert, key, _ = certificate
    moto = s3.Moto(tls=(cert, key))
    try:
        s3.bucket(moto, verify=str(cert))
        env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": moto.url}
        server = start_server("--store", "s3://logs/tls", "--s3-ca-cert", str(cert), *FAST, env=env)
        put(server, "app", 0, 40)
        server.api.flushed()
        assert server.api.metrics()["sluice_stage_rows"] == 0
        check(server, "app", 40)
        stranger = start_server("--store", "s3://logs/tls", "--s3-retry", "1s", env=env, start=False).spawn()
        assert stranger.process.wait(conftest.START_S) == 1
        assert "certificate" in stranger.log().lower(), stranger.log()
    finally:
        moto.close()


def run_gc(server, on_bucket, *options, code=0):
    done = subprocess.run([conftest.binary(), "catalog", "gc", "--store", "s3://logs/" + on_bucket.prefix[:-1], "--data", server.data, "-o", "json",
                           "--s3-endpoint", server.env["SLUICE_S3_ENDPOINT"], *options], env=server.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done
    if code:
        return done.stderr
    told = json.loads(done.stdout)
    items = [i for f in told["folders"] for i in f["garbage"]]
    assert all(i["key"].startswith(f["folder"]) for f in told["folders"] for i in f["garbage"])
    assert told["total"] == {"objects": len(items), "bytes": sum(i["bytes"] for i in items)}
    return {i["key"]: (i["why"], i["bytes"]) for i in items}


def sizes(bucket, prefix):
    return {o.key[len(prefix):]: o.size for o in bucket.objects.filter(Prefix=prefix)}


def test_gc_tells_before_it_deletes(on_bucket, bucket, between):
    """What a dry run lists is what the next round deletes, in the bucket's own listing, and nothing else; files go in one request."""
    server = on_bucket(*FAST, "--gc-interval", "1h")
    put(server, "stays", 0, 40)
    put(server, "goes", 0, 60)
    server.api.flushed()
    server.api.delete("goes")
    assert server.stop() == 0
    at = next(k for k in keys(bucket, on_bucket.prefix) if k.startswith("stays/") and k.endswith(".parquet"))
    orphans = [at[: at.rindex("/")] + "/c00000000000000000000-00000000-%d.parquet" % n for n in range(3)]
    for key in orphans:
        bucket.put_object(Key=on_bucket.prefix + key, Body=b"of a compaction that lost")
    before = sizes(bucket, on_bucket.prefix)
    would = run_gc(server, on_bucket, "--dry-run")
    assert sizes(bucket, on_bucket.prefix) == before
    assert {why for why, _ in would.values()} == {"unlisted data file", "dead incarnation"}
    assert [would[k] for k in orphans] == [("unlisted data file", 25)] * 3
    between.switch.fault = lambda method, path, headers, number: "keep" if path.endswith("?delete=") else None
    assert "some/key: AccessDenied" in run_gc(server, on_bucket, code=1)
    sent = []
    between.switch.fault = lambda method, path, headers, number: sent.append((method, path))
    assert run_gc(server, on_bucket) == would
    after = sizes(bucket, on_bucket.prefix)
    assert {k: size for k, size in before.items() if k not in after} == {k: size for k, (_, size) in would.items()}
    assert not [path for method, path in sent if method == "DELETE" and "/c0" in path]
    assert [path for method, path in sent if method == "POST" and path.endswith("?delete=")]
    assert run_gc(server, on_bucket, "--dry-run") == {}


@pytest.mark.skipif(conftest.S3 == "minio", reason="uploads that are old at once: moto says of each that it began in 2010")
def test_unfinished_uploads_are_aborted(on_bucket, bucket, between):
    """Ours, when they are old: of a data file, in an incarnation that this store names."""
    server = on_bucket(*FAST)
    put(server, "app", 0, 20)
    server.api.flushed()
    assert server.stop() == 0
    file = next(k for k in keys(bucket, on_bucket.prefix) if k.startswith("app/") and k.endswith(".parquet"))
    ours = file[: file.rindex("/")] + "/c00000000000000000003-00000000-0.parquet"
    sid = file.split("/")[1]
    others = [ours.replace(sid, "01zzzzzzzzzzzzzzzzzzzzzzzz"), "app/" + sid + "/notes.parquet", "elsewhere/of-somebody", ".sluice/nodes/x"]
    client = bucket.meta.client
    for key in [on_bucket.prefix + k for k in [ours, *others]] + ["another-prefix/" + ours]:
        client.create_multipart_upload(Bucket=bucket.name, Key=key)

    def unfinished():
        return sorted(u["Key"] for u in client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []))
    all_of_them = unfinished()
    between.switch.fault = lambda *_: "young"  # 20 hours
    assert run_gc(server, on_bucket, "--dry-run").get(ours) is None
    assert run_gc(server, on_bucket).get(ours) is None and unfinished() == all_of_them
    between.switch.fault = lambda *_: None
    assert run_gc(server, on_bucket, "--dry-run")[ours] == ("unfinished upload", 0) and unfinished() == all_of_them
    assert run_gc(server, on_bucket)[ours] == ("unfinished upload", 0)
    assert unfinished() == sorted(k for k in all_of_them if k != on_bucket.prefix + ours)


@pytest.mark.parametrize("name, fault, ends", [("one", "503", False), ("race-0", "400", True)])
def test_a_probe_that_ends_early_leaves_nothing(on_bucket, bucket, between, name, fault, ends):
    """A second create without an answer: it is tried again, under other names. A winner that cannot be read: no start."""
    seen = []

    def second(method, path, headers, number):
        if path.endswith("-" + name) and method == ("GET" if ends else "PUT"):
            seen.append(path)
            return fault if ends or len(seen) == 2 else None
        return None
    between.switch.fault = second
    server = on_bucket(*FAST, start=False).spawn() if ends else on_bucket(*FAST)
    assert (server.process.wait(conftest.START_S) if ends else server.stop()) == ends
    assert seen and not [k for k in keys(bucket, on_bucket.prefix) if k.startswith(".sluice/probe/")]


def test_what_a_probe_found_is_kept(on_bucket, between):
    between.switch.fault = lambda *_: "is SeaweedFS 30GB 4.18"
    server = on_bucket(*FAST)
    told = server.api.get("/api/v1/cluster/store").json()
    assert told["store"] == "s3://logs/" + on_bucket.prefix[:-1] and told["type"] == "S3 bucket"
    assert told["probe"]["exclusive"] is True and told["probe"]["product"] == "SeaweedFS 30GB 4.18"
    assert abs(told["probe"]["at"] / 1e6 - time.time()) < 60 and told["probe"]["clock_offset"] == 0
    server.restart()
    assert server.api.get("/api/v1/cluster/store").json() == told
    assert server.stop() == 0
