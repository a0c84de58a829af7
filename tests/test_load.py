"""Load: every shape of logs ingested while ten clients query; counts exact, no error, memory flat.

The long form (SLUICE_SOAK=1) takes 2 M rows of each shape, the short one 50,000; LOAD_ROWS says otherwise.
"""
import collections
import http.client
import json
import os
import subprocess
import sys
import threading
import time

import conftest

ROWS = int(os.environ.get("LOAD_ROWS") or (2000000 if conftest.SOAK else 50000))
SHAPES = ("s1", "s2", "s3", "s4", "s5")
BATCH = 2000
CLIENTS = 10


class Progress:
    def __init__(self):
        self.acked, self.sent = collections.Counter(), collections.Counter()
        self.faults, self.queries, self.memory = [], 0, []
        self.over = threading.Event()


def batches(shape, rows):
    """Bodies as gen.py prints them, a JSON array each."""
    generator = subprocess.Popen([sys.executable, str(conftest.shared("data/gen.py")), shape, str(rows)], stdout=subprocess.PIPE)
    with generator:
        lines = []
        for line in generator.stdout:
            lines.append(line.rstrip(b"\n"))
            if len(lines) == BATCH:
                yield len(lines), b"[" + b",".join(lines) + b"]"
                lines = []
        if lines:
            yield len(lines), b"[" + b",".join(lines) + b"]"
    assert generator.returncode == 0


def fill(server, shape, p):
    try:
        with server.client() as client:
            for rows, body in batches(shape, ROWS):
                p.sent[shape] += rows
                while True:
                    answer = client.request("POST", "/api/v1/ingest", body, {"X-P-Stream": shape, "Content-Type": "application/json"})
                    if answer.status not in (429, 503):
                        break
                    time.sleep(float(answer.headers.get("Retry-After", 1)))  # as a collector does
                assert answer.status == 200, answer
                p.acked[shape] += rows
    except Exception as e:  # noqa: BLE001 - shown by the test
        p.faults.append("%s: %r" % (shape, e))


QUERIES = {
    "count": 'SELECT count(*) AS n FROM "%s"',
    "newest": 'SELECT * FROM "%s" ORDER BY p_timestamp DESC LIMIT 100',
    "group": 'SELECT p_src_ip, count(*) AS n FROM "%s" GROUP BY p_src_ip',
    "minutes": "SELECT date_trunc('minute', p_timestamp) AS m, count(*) AS n FROM \"%s\" GROUP BY m ORDER BY m",
}


def ask(server, number, p):
    """Every count lies between what was acknowledged before and what was sent after it."""
    kinds = list(QUERIES)
    turn = number
    try:
        with server.client() as client:
            while not p.over.is_set():
                shape, kind = SHAPES[turn % len(SHAPES)], kinds[turn // len(SHAPES) % len(kinds)]
                turn += 1
                least = p.acked[shape]
                if not least:
                    time.sleep(0.05)
                    continue
                body = {"query": QUERIES[kind] % shape, "startTime": "1d", "endTime": "now"}
                answer = client.request("POST", "/api/v1/query", json.dumps(body), {"Content-Type": "application/json"})
                most = p.sent[shape]
                if answer.status in (429, 503):
                    continue
                assert answer.status == 200, (kind, answer)
                rows = answer.json()
                n = len(rows) if kind == "newest" else sum(r["n"] for r in rows)
                least, most = (100, 100) if kind == "newest" else (least, most)
                assert least <= n <= most, "%s of %s: %d, not within %d and %d" % (kind, shape, n, least, most)
                p.queries += 1
    except (OSError, http.client.HTTPException, AssertionError, ValueError, KeyError) as e:
        p.faults.append("client %d: %r" % (number, e))


def test_all_shapes_while_ten_clients_query(start_server):
    server = start_server()
    api, p = server.api, Progress()
    writers = [threading.Thread(target=fill, args=(server, shape, p)) for shape in SHAPES]
    readers = [threading.Thread(target=ask, args=(server, i, p)) for i in range(CLIENTS)]
    for t in writers + readers:
        t.start()
    while any(t.is_alive() for t in writers):
        p.memory.append((sum(p.acked.values()), server.rss()))
        time.sleep(0.5)
        assert server.process.poll() is None, "the server ended"
    p.over.set()
    for t in writers + readers:
        t.join()
    assert not p.faults, p.faults
    assert p.queries > 0

    api.flushed()
    for shape in SHAPES:
        assert p.acked[shape] >= ROWS
        assert api.count(shape) == api.stats(shape)["ingestion"]["count"] == p.acked[shape], shape
    check_memory(p)
    exact = api.sql("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM s1")[0]
    assert exact["n"] == ROWS and exact["d"] > 0.99 * ROWS
    server.restart(clean=False)
    for shape in SHAPES:
        assert api.count(shape) == p.acked[shape], shape


def check_memory(p):
    """Flat over time: once warm, the last third takes no more than the middle one, but for what caches may still learn."""
    third = len(p.memory) // 3
    if third < 5:
        return
    middle = max(rss for _, rss in p.memory[third:2 * third])
    last = max(rss for _, rss in p.memory[2 * third:])
    print("RSS: middle %d MiB, last %d MiB" % (middle >> 20, last >> 20))
    assert last < middle * 1.25 + (128 << 20), "memory grows: %s" % [(n, rss >> 20) for n, rss in p.memory[::max(1, len(p.memory) // 40)]]


def test_many_small_requests(start_server):
    """One row a request on ten connections: each is there, once."""
    server, per_client, faults = start_server(), 20000 if conftest.SOAK else 400, []

    def fill_small(number):
        try:
            with server.client() as client:
                for i in range(per_client):
                    server.api.put("small", '{"id":"%d-%d"}' % (number, i), client=client)
        except Exception as e:  # noqa: BLE001
            faults.append(repr(e))

    threads = [threading.Thread(target=fill_small, args=(n,)) for n in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults, faults
    assert server.api.sql("SELECT count(*) AS n, count(DISTINCT id) AS d FROM small") == [{"n": 10 * per_client, "d": 10 * per_client}]


def test_many_streams(start_server):
    """A row into each of many streams, flushed, restarted: every one has its row."""
    count = 10000 if conftest.SOAK else 300
    server = start_server()
    api = server.api
    with server.client() as client:
        for turn in range(2):
            for i in range(count):
                api.put("many-%d" % i, {"turn": turn, "i": i}, client=client)
    assert len([s for s in api.streams() if s.startswith("many-")]) == count
    server.restart()
    with server.client() as client:
        for i in range(0, count, max(1, count // 100)):
            assert api.sql('SELECT count(*) AS n, sum(i) AS s FROM "many-%d"' % i, client=client) == [{"n": 2, "s": 2.0 * i}]
    assert sum(v for k, v in api.metrics().items() if k.startswith('parseable_events_ingested{stream="many-')) == 2 * count
