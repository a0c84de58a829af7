"""Acknowledged means durable and visible: kill -9 at random moments under mixed load, and what lives on through flush and restart.

The long form (SLUICE_SOAK=1) kills 1,000 times, the short one 15 times; KILLS says otherwise, SEED repeats a run's choices (not its timing).
"""
import http.client
import json
import os
import random
import subprocess
import threading
import time
import urllib.parse

import conftest

KILLS = int(os.environ.get("KILLS") or (1000 if conftest.SOAK else 15))
SEED = int(os.environ.get("SEED") or time.time_ns() % 1000000)
GONE = (OSError, http.client.HTTPException)


class Rows:
    """What one stream must hold: requests by number, each with as many rows as its answer promised, whole or not at all."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acked, self.unknown, self.sent = {}, {}, 0  # request -> rows

    def sending(self, request, rows):
        with self.lock:
            self.unknown[request] = rows
            self.sent += rows

    def acknowledged(self, request):
        with self.lock:
            self.acked[request] = self.unknown.pop(request)

    def refused(self, request):
        with self.lock:
            self.sent -= self.unknown.pop(request)

    def acked_rows(self):
        with self.lock:
            return sum(self.acked.values())

    def check(self, api, stream):
        """Every acknowledged request once and whole, no other but those that were cut off; these count from now on if they are there."""
        if not self.acked and api.count(stream) == 0:  # perhaps without a column yet
            self.unknown.clear()
            self.sent = 0
            return
        answer = api.query('SELECT r, count(*) AS n, count(DISTINCT i) AS d FROM "%s" GROUP BY r' % stream)
        assert answer.status == 200, (stream, answer)
        found = {row["r"]: (row["n"], row["d"]) for row in answer.json()}
        for request, rows in self.acked.items():
            assert found.get(request) == (rows, rows), "%s: request %s of %d rows: found %s" % (stream, request, rows, found.get(request))
        for request, (n, d) in found.items():
            if request not in self.acked:
                assert request in self.unknown, "%s: request %s was never sent, or was not there after an earlier restart" % (stream, request)
                assert n == d == self.unknown[request], "%s: request %s was cut off, and is there in part: %d of %d" % (
                    stream, request, n, self.unknown[request])
                self.acked[request] = n
        self.unknown.clear()
        self.sent = sum(self.acked.values())
        assert api.count(stream) == self.sent


class Fault(Exception):
    pass


class Load:
    """One round of mixed load; ends when the server goes away. What went wrong is in `faults`."""

    def __init__(self, world, server, seed):
        self.world, self.server, self.faults = world, server, []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(target, random.Random(seed * 100 + i)), daemon=True)
                        for i, target in enumerate([self.ingest, self.ingest, self.ingest_large, self.churn, self.churn, self.query])]
        self.numbers = {t: i for i, t in enumerate(self.threads)}

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def join(self):
        self.over.set()
        for t in self.threads:
            t.join(conftest.HTTP_S)
            assert not t.is_alive(), "a client hangs"
        assert not self.faults, self.faults

    def run(self, target, rng):
        try:
            with self.server.client() as client:
                while not self.over.is_set():
                    target(client, rng)
        except GONE:
            pass  # killed
        except Exception as e:  # noqa: BLE001 - shown by join()
            self.faults.append(repr(e))

    def send(self, client, path, rows, stream, request, count, headers):
        rows.sending(request, count)
        body = [{"r": request, "i": i, "text": "x" * (i % 50)} for i in range(count)]
        answer = client.request("POST", path, body, headers)
        if answer.status == 200:
            rows.acknowledged(request)
        elif answer.status == 503:
            if headers.get("X-P-Ack") != "object":  # whose rows may be in the WAL: a stop does not wait for ever
                rows.refused(request)
            time.sleep(0.05)
        else:
            raise Fault("ingest into %s: %s" % (stream, answer))

    def ingest(self, client, rng, most=20):
        stream = rng.choice(self.world.streams)
        headers = {"X-P-Stream": stream, "X-P-Ack": rng.choices(["wal", "relaxed", "object"], [20, 10, 0.3])[0]}
        self.send(client, "/api/v1/ingest", self.world.rows[stream], stream, self.world.next_request(), rng.randint(1, most), headers)

    def ingest_large(self, client, rng):
        self.ingest(client, rng, 3000)

    def query(self, client, rng):
        stream = rng.choice(self.world.streams)
        rows = self.world.rows[stream]
        least = rows.acked_rows()
        body = {"query": 'SELECT count(*) AS n, count(DISTINCT r) AS r FROM "%s"' % stream, "startTime": "10d", "endTime": "now"}
        answer = client.request("POST", "/api/v1/query", body)
        if answer.status == 503 or (answer.status == 400 and least == 0):
            return
        if answer.status != 200:
            raise Fault("query: %s" % answer)
        n = answer.json()[0]["n"]
        with rows.lock:
            most = rows.sent
        if not least <= n <= most:
            raise Fault("%s: %d rows, %d were acknowledged before and %d sent" % (stream, n, least, most))

    def churn(self, client, rng):
        """Creates, fills, deletes; each thread has streams of its own, so that the order of events is known."""
        number = self.numbers[threading.current_thread()]
        name = "churn%d-%d" % (number, rng.randrange(3))
        c = self.world.churn.setdefault(name, Churn())
        path = "/api/v1/logstream/" + name
        if not c.exists:
            c.pending = "create"
            self.expect(client.request("PUT", path), name)
            c.created()
        elif rng.random() < 0.1:
            c.pending = "delete"
            self.expect(client.request("DELETE", path), name)
            c.deleted()
        else:
            c.pending = "ingest"
            self.send(client, path, c.rows, name, self.world.next_request(), rng.randint(1, 10), {"Content-Type": "application/json"})
            c.pending = None

    @staticmethod
    def expect(answer, name):
        if answer.status == 503:
            raise ConnectionError("it stops")
        if answer.status != 200:
            raise Fault("%s: %s" % (name, answer))


class Churn:
    def __init__(self):
        self.exists, self.rows, self.pending = False, Rows(), None

    def created(self):
        self.exists, self.rows, self.pending = True, Rows(), None

    def deleted(self):
        self.exists, self.rows, self.pending = False, Rows(), None

    def check(self, api, name, names):
        there = name in names
        if self.pending in ("create", "delete") and there != self.exists:
            self.created() if there else self.deleted()  # it happened, its answer did not arrive
        assert there == self.exists, "%s: exists %s, should %s" % (name, there, self.exists)
        self.pending = None
        if there and self.rows.sent == 0:
            assert api.count(name) == 0
        elif there:
            self.rows.check(api, name)


class World:
    def __init__(self, tag):
        self.tag, self.churn, self.lock, self.number = tag, {}, threading.Lock(), 0
        self.fresh_streams()

    def fresh_streams(self):
        """New ones now and then, so that a long run does not spend its time on counting."""
        self.streams = ["kept%d-%d" % (self.number, i) for i in range(3)]
        self.rows = {s: Rows() for s in self.streams}

    def next_request(self):
        with self.lock:
            self.number += 1
            return "%s-%d" % (self.tag, self.number)

    def check(self, api):
        names = set(api.streams())
        for stream, rows in self.rows.items():
            if stream in names:
                if rows.sent or rows.acked:
                    rows.check(api, stream)
            else:
                assert not rows.acked, "%s is gone" % stream
                rows.unknown.clear()
                rows.sent = 0
        for name, c in self.churn.items():
            c.check(api, name, names)


def test_kills(start_server):
    print("SEED=%d" % SEED)
    rng = random.Random(SEED)
    server = start_server()
    world = World("s%d" % SEED)
    for kill in range(KILLS):
        load = Load(world, server, SEED + kill).start()
        time.sleep(rng.uniform(0, 1.5) ** 2)
        ending = rng.random()
        if ending < 0.1:
            assert server.stop() == 0
        elif ending < 0.2:
            server.process.terminate()
            time.sleep(rng.uniform(0, 0.3))
        server.kill()
        load.join()
        while rng.random() < 0.3:  # and again while it recovers
            server.spawn()
            time.sleep(rng.uniform(0, 0.5))
            server.kill()
        server.start()
        world.check(server.api)
        if kill % 40 == 39 and kill + 1 < KILLS:
            for stream in world.streams:
                server.api.delete(stream)
            world.fresh_streams()
    server.restart()
    world.check(server.api)
    assert server.api.get("/api/v1/logstream/%s/stats" % world.streams[0]).json()["ingestion"]["count"] == world.rows[world.streams[0]].sent


def test_clean_stop_leaves_nothing_staged(start_server):
    server = start_server()
    server.api.put("app", [{"n": i} for i in range(1000)])
    server.restart()
    assert server.api.metrics()["sluice_stage_rows"] == 0
    assert server.api.count("app") == 1000
    assert server.api.sql("SELECT sum(n) AS s FROM app") == [{"s": 499500.0}]


def test_counts_over_many_restarts(start_server):
    server = start_server()
    for turn in range(6):
        server.api.put("app", [{"turn": turn, "i": i} for i in range(100)], {"X-P-Ack": "object"} if turn % 2 else None)
        server.restart(clean=turn % 3 == 0)
        assert server.api.count("app") == 100 * (turn + 1)
        assert server.api.stats("app")["ingestion"]["count"] == 100 * (turn + 1)
    assert server.api.sql("SELECT turn, count(*) AS n FROM app GROUP BY turn ORDER BY turn") == [{"turn": float(t), "n": 100} for t in range(6)]


def test_deleted_stream_stays_deleted(start_server):
    """Rows of a stream that is deleted and made again, staged and in files, do not come back with a crash."""
    server = start_server()
    api = server.api
    for ack in ("object", "wal"):
        api.put("app", [{"old": True}] * 10, {"X-P-Ack": ack})
    assert api.delete("app").status == 200
    assert api.query("SELECT * FROM app").status == 400
    server.restart(clean=False)
    assert "app" not in api.streams()
    assert api.get("/api/v1/logstream/app/info").status == 404
    api.put("app", {"new": 1})
    server.restart(clean=False)
    assert api.sql("SELECT * FROM app WHERE \"new\" = 1", end="now")[0]["new"] == 1.0
    assert api.count("app") == 1
    assert [f["name"] for f in api.get("/api/v1/logstream/app/schema").json()["fields"] if f["name"] in ("old", "new")] == ["new"]


def test_compaction_keeps_answers(start_server):
    """Many small files become few; counts, sums and the ids of rows stay."""
    server = start_server(env={"SLUICE_COMPACT_INTERVAL": "1s"})
    api = server.api
    for turn in range(70):  # a running hour is merged when it has more than 64 files
        api.put("app", [{"turn": turn, "i": i, "s": "v%d" % (i % 7)} for i in range(50)], {"X-P-Ack": "object"})
    before = api.sql("SELECT s, count(*) AS n, sum(i) AS i, sum(turn) AS t FROM app GROUP BY s ORDER BY s")
    assert sum(r["n"] for r in before) == 3500
    assert api.wait(lambda: api.metrics().get("sluice_compaction_outputs_total", 0) > 0), "nothing was compacted"
    for clean in (True, False):
        server.restart(clean)
        assert api.sql("SELECT s, count(*) AS n, sum(i) AS i, sum(turn) AS t FROM app GROUP BY s ORDER BY s") == before
        assert api.stats("app")["ingestion"]["count"] == 3500


SHIFT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <sys/time.h>
int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (id == CLOCK_REALTIME)
        ts->tv_sec += atol(getenv("SHIFT_S"));
    return rc;
}
"""


def test_retention_is_enforced(start_server, tmp_path):
    """A server whose clock stands three days back writes rows; one of today drops them, and keeps those of today."""
    (tmp_path / "shift.c").write_text(SHIFT)
    library = tmp_path / "shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "shift.c"), "-ldl"], check=True)
    server = start_server(env={"LD_PRELOAD": str(library), "SHIFT_S": str(-3 * 86400)})
    api = server.api
    for stream in ("short", "long"):
        api.put(stream, [{"age": "old"}] * 20)
    assert server.stop() == 0
    server.env = {"SLUICE_RETENTION_INTERVAL": "1s"}
    server.start()
    for stream in ("short", "long"):
        api.put(stream, [{"age": "new"}] * 5)
        assert api.sql("SELECT count(*) AS n FROM %s" % stream, "10d") == [{"n": 25}]
    task = [{"description": "keep a day", "action": "delete", "duration": "1d"}]
    assert api.call("PUT", "/api/v1/logstream/short/retention", task).status == 200
    assert api.get("/api/v1/logstream/short/retention").json() == task
    assert api.wait(lambda: api.sql("SELECT count(*) AS n FROM short", "10d") == [{"n": 5}]), "old rows are still there"
    stats = api.stats("short")["ingestion"]
    assert (stats["count"], stats["deleted_count"], stats["lifetime_count"]) == (5, 20, 25)
    assert api.sql("SELECT count(*) AS n FROM long", "10d") == [{"n": 25}]
    server.restart(clean=False)
    assert api.sql("SELECT count(*) AS n FROM short", "10d") == [{"n": 5}]


def test_retention_under_a_running_query(start_server, tmp_path):
    """Files that expire while a query reads them: its answer is the one of its snapshot, whole; the next query does not see them."""
    (tmp_path / "shift.c").write_text(SHIFT)
    library = tmp_path / "shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "shift.c"), "-ldl"], check=True)
    server = start_server(env={"LD_PRELOAD": str(library), "SHIFT_S": str(-3 * 86400)})
    api = server.api
    for first in range(0, 40000, 4000):  # ten files, and an answer larger than what the way to the client holds
        api.put("app", [{"i": i, "s": "%0400d" % i} for i in range(first, first + 4000)], {"X-P-Ack": "object"})
    assert server.stop() == 0
    server.env = {"SLUICE_RETENTION_INTERVAL": "1s", "SLUICE_GC_INTERVAL": "1s"}
    server.start()
    api.put("app", {"i": -1, "s": "new"}, {"X-P-Ack": "object"})
    with server.client() as c:
        response = c.open("POST", "/api/v1/query", {"query": "SELECT i, s FROM app", "startTime": "10d", "endTime": "now"},
                          {"Accept": "application/x-ndjson"})
        assert response.status == 200
        begin = response.read(1000)
        task = [{"description": "keep a day", "action": "delete", "duration": "1d"}]
        assert api.call("PUT", "/api/v1/logstream/app/retention", task).status == 200
        assert api.wait(lambda: api.sql("SELECT i FROM app", "10d") == [{"i": -1}], 30), "old rows are still there"
        assert [q["query"] for q in api.get("/api/v1/queries").json()] == ["SELECT i, s FROM app"], "it ended before its files expired"
        rows = [json.loads(line) for line in (begin + response.read()).splitlines()]
    assert sorted(r["i"] for r in rows) == list(range(-1, 40000))
    assert all(r["s"] == "%0400d" % r["i"] for r in rows if r["i"] >= 0)
    assert api.sql("SELECT count(*) AS n FROM app", "10d") == [{"n": 1}]


def test_stats_agree_with_sql(start_server):
    server = start_server()
    api = server.api
    sizes = 0
    for n in (1, 10, 100):
        body = b"[" + b",".join(b'{"n":%d}' % i for i in range(n)) + b"]"
        sizes += len(body)
        api.put("app", body, {"X-P-Ack": "object" if n == 10 else "wal"})
    for when in ("staged", "flushed", "restarted"):
        if when == "flushed":
            api.put("other", {"x": 1}, {"X-P-Ack": "object"})
            api.flushed()
        if when == "restarted":
            server.restart(clean=False)
        stats = api.stats("app")
        assert stats["ingestion"]["count"] == stats["ingestion"]["lifetime_count"] == api.count("app") == 111
        assert stats["ingestion"]["size"] == sizes
        day = api.get("/api/v1/logstream/app/stats?date=" + urllib.parse.quote(time.strftime("%Y-%m-%d", time.gmtime()))).json()
        assert day["events"] in (111, api.count("app", "p_timestamp >= date_trunc('day', now())"))
    assert stats["storage"]["size"] > 0
    assert stats["storage"]["size"] == stats["storage"]["lifetime_size"]


HOLD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
int flock(int fd, int how)
{
    static int calls;
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    if (++calls == 2) /* of the write-ahead log; the first is of the data folder */
        while (access(getenv("HOLD"), F_OK) != 0)
            usleep(1000);
    return real(fd, how);
}
"""


def test_a_server_that_starts_says_so(start_server, tmp_path):
    """It listens before it has read its log: alive, not ready, and 503 with Retry-After for all else; a second one on its folder is told as ever."""
    (tmp_path / "hold.c").write_text(HOLD)
    library = tmp_path / "hold.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "hold.c"), "-ldl"], check=True)
    server = start_server()
    api = server.api
    api.put("s", {"n": 1})
    server.kill()
    go = tmp_path / "go"
    server.env = {"LD_PRELOAD": str(library), "HOLD": str(go)}
    server.spawn()

    def alive():
        try:
            return api.get("/api/v1/liveness", auth=False).status == 200
        except OSError:
            return False

    assert api.wait(alive)
    for method, path, body in [("GET", "/api/v1/readiness", None), ("GET", "/api/v1/metrics", None), ("GET", "/api/v1/logstream", None),
                               ("POST", "/api/v1/query", {"query": "SELECT 1"}), ("POST", "/api/v1/ingest", [{"n": 2}] * 10000),
                               ("GET", "/", None), ("PUT", "/api/v1/logstream/x", None)]:
        answer = api.call(method, path, body)
        assert answer.status == 503 and answer.headers["Retry-After"] and "starting" in answer.text, (path, answer)
    assert "ready" not in server.log().rpartition("---")[2]
    second = start_server(start=False, data=server.data).spawn()
    assert second.process.wait(60) != 0 and "another sluice server uses" in second.log()
    go.touch()
    assert api.wait(lambda: api.get("/api/v1/readiness").status == 200)
    api.put("s", {"n": 2})
    assert api.count("s") == 2
