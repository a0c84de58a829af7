"""Streamed answers: one that fails half way is cut and never ends as if whole, a slow client slows its own query and nothing else, and
neither it nor one that leaves costs the server memory, an engine or a worker for good."""
import json
import socket
import struct
import threading
import time

import pytest

import conftest

ROWS = 60000
PAD = "%0999d"
WIDE = "SELECT n, pad AS a, pad AS b, pad AS c FROM wide"  # ~180 MB as JSON
FORMATS = {
    "json": ("", ""), "batches": ("?streaming=true", ""), "ndjson": ("", "application/x-ndjson"), "csv": ("", "text/csv"),
    "arrow": ("", "application/vnd.apache.arrow.stream"),
}


def fill(api, rows=ROWS):
    for at in range(0, rows, 5000):
        api.put("wide", [{"n": i, "pad": PAD % i} for i in range(at, at + 5000)])


@pytest.fixture(scope="module")
def wide(server):
    fill(server.api)
    return server


class Raw:
    """An answer as its bytes on the wire, read as slowly as one likes."""

    def __init__(self, server, sql, form="ndjson", headers="", window=None):
        params, accept = FORMATS[form]
        self.socket = socket.socket()
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(conftest.HTTP_S)
        self.socket.connect(("127.0.0.1", server.port))
        body = json.dumps({"query": sql, "startTime": "1d", "endTime": "now"})
        head = "POST /api/v1/query%s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s%s\r\n" % (
            params, conftest.basic(), len(body), "Accept: %s\r\n" % accept if accept else "", headers)
        self.socket.sendall((head + body).encode())
        self.bytes = bytearray()

    def read(self, at_least):
        """Until so many more bytes have come, or the end."""
        want = len(self.bytes) + at_least
        while len(self.bytes) < want:
            part = self.socket.recv(1 << 16)
            if not part:
                break
            self.bytes += part

    def read_all(self):
        """To the end of the connection (an answer that is cut) or of the answer; true: it ended as a whole one."""
        while not self.whole():
            try:
                part = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return False
            if not part:
                return False
            self.bytes += part
        return True

    def whole(self):
        return self.bytes.endswith(b"\r\n0\r\n\r\n")

    @property
    def status(self):
        return int(self.bytes.split(b" ", 2)[1])

    def close(self):
        self.socket.close()


def idle(api):
    """No query runs any more."""
    return api.wait(lambda: not api.get("/api/v1/queries").json())


# ---- an answer that fails half way

@pytest.mark.parametrize("headers", ["", "Accept-Encoding: gzip\r\n"], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMATS)
def test_cancelled_half_way_is_cut(wide, form, headers):
    name = "half-%s-%d" % (form, len(headers))
    raw = Raw(wide, WIDE, form, headers + "X-Query-Id: %s\r\n" % name, window=1 << 16)
    raw.read(2000)
    assert raw.status == 200 and b"chunked" in raw.bytes
    assert wide.api.call("DELETE", "/api/v1/queries/" + name).status == 200
    assert not raw.read_all(), "ended as if whole"
    raw.close()
    assert idle(wide.api)


@pytest.mark.parametrize("form", FORMATS)
def test_fault_of_a_late_row_is_cut(wide, form):
    """The first row that was sent is the last that is answered, and it is no number."""
    if "late" not in wide.api.streams():
        wide.api.put("late", [{"t": "no number", "pad": PAD % 0}])
        for at in range(0, 40000, 5000):
            wide.api.put("late", [{"t": "1", "pad": PAD % i} for i in range(at, at + 5000)])
    raw = Raw(wide, "SELECT CAST(t AS DOUBLE) AS v, pad FROM late", form)
    raw.read(2000)
    if raw.status == 200:
        assert not raw.read_all(), "ended as if whole"
    else:
        assert raw.status in (400, 500)  # it failed before its first row: as good
    raw.close()


def test_cancel_reaches_a_query_that_waits_for_its_client(wide):
    """Its client reads nothing: the engine is free at once all the same, and what comes then is cut."""
    raw = Raw(wide, WIDE, "ndjson", "X-Query-Id: waits\r\n", window=1 << 16)
    raw.read(2000)
    time.sleep(1)
    assert [q["id"] for q in wide.api.get("/api/v1/queries").json()] == ["waits"]
    assert wide.api.call("DELETE", "/api/v1/queries/waits").status == 200
    assert wide.api.wait(lambda: not wide.api.get("/api/v1/queries").json(), 30)
    assert not raw.read_all(), "ended as if whole"
    raw.close()


def test_timeout_half_way_is_cut(start_server):
    server = start_server(env={"SLUICE_QUERY_TIMEOUT": "5s"})
    fill(server.api, 30000)
    raw = Raw(server, WIDE, window=1 << 16)
    raw.read(2000)
    assert raw.status == 200
    end = time.monotonic() + 8
    while time.monotonic() < end:  # slow, but not silent
        raw.read(2000)
        time.sleep(0.2)
    assert not raw.read_all(), "ended as if whole"


# ---- slow clients

def test_slow_clients_do_not_keep_others_out(start_server):
    """Whoever takes nothing of an answer gives up its engine soon once others wait for one; while nobody does, it is let be."""
    server = start_server(env={"SLUICE_QUERY_ENGINES": "2"})
    fill(server.api, 30000)
    slow = [Raw(server, WIDE, window=1 << 16) for _ in range(2)]
    for raw in slow:
        raw.read(2000)
    assert server.api.wait(lambda: server.api.metrics()["sluice_query_active"] == 2)
    with server.client(timeout=90) as patient:  # those who read nothing are let be for two minutes otherwise
        assert server.api.query("SELECT count(*) AS n FROM wide WHERE n >= 0", client=patient).status == 200
    assert [raw.read_all() for raw in slow].count(False) >= 1
    raw = Raw(server, WIDE, window=1 << 16)
    raw.read(2000)
    time.sleep(1)
    assert raw.read_all()


def read_slowly(raw, seconds):
    """Faster than nothing and slower than the server for so long, then to the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raw.read(200000)
        time.sleep(0.01)
    return raw.read_all()


@pytest.mark.parametrize("form", ["ndjson", "arrow"])
def test_slow_client_costs_no_memory(wide, form):
    """What waits for the client is bounded, however long the answer: the query waits, its rows are not piled up.

    The bound leaves room for the engine's own buffers, some 75 MiB more in one run than in another; rows that pile up are more."""
    sql = " UNION ALL ".join([WIDE] * 3)
    for _ in range(2):  # what the engine and the allocator keep is there before
        fast = Raw(wide, sql, form)
        assert fast.read_all()
        size = len(fast.bytes)
    del fast
    assert size > 450 << 20
    before, peak = wide.rss(), [0]
    raw = Raw(wide, sql, form, window=1 << 16)
    over = threading.Event()

    def watch():
        while not over.wait(0.02):
            peak[0] = max(peak[0], wide.rss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert read_slowly(raw, 4)
    finally:
        over.set()
        watcher.join()
        raw.close()
    assert len(raw.bytes) > 450 << 20
    assert peak[0] < before + (150 << 20), "%d MiB more" % ((peak[0] - before) >> 20)


def test_pause_is_no_reason_to_cut(wide):
    """A client that stops reading for longer than idle connections are kept gets the rest."""
    raw = Raw(wide, WIDE, window=1 << 16)
    raw.read(2000)
    time.sleep(8)
    assert raw.read_all()
    raw.close()


def test_one_row_of_many_megabytes(wide):
    """Rows so long that a chunk of the engine's is hundreds of megabytes: the answer leaves in smaller pieces."""
    for i in range(40):
        wide.api.put("fat", {"n": i, "t": "%d" % (i % 10) * (6 << 20)})
    assert wide.api.count("fat") == 40
    for form in ("ndjson", "arrow"):
        fast = Raw(wide, "SELECT n, t FROM fat", form)
        assert fast.read_all()
        assert len(fast.bytes) > 240 << 20
        fast.close()
        del fast
    wide.api.delete("fat")


def test_clients_that_leave(wide):
    """Whatever the state of their answers, their engines and workers are free afterwards."""
    for k in range(40):
        raw = Raw(wide, WIDE, list(FORMATS)[k % len(FORMATS)], window=1 << 16)
        if k % 3:
            raw.read(2000)
        if k % 2:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
        raw.close()
    assert idle(wide.api)
    assert wide.api.count("wide") == ROWS


def test_clients_that_leave_before_their_answer_begins(start_server):
    """What was ready for them goes with them: the build with a leak checker ends with an error otherwise."""
    server = start_server()
    server.api.put("app", {"a": 1})
    for k in range(60):
        with socket.create_connection(("127.0.0.1", server.port), 60) as s:
            s.sendall(("GET /api/v1/logstream/app/tail HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % conftest.basic()).encode())
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
    assert server.api.count("app") == 1
    assert server.stop() == 0, server.log()[-4000:]


def test_stop_with_a_stalled_client(start_server):
    """A client that reads nothing does not keep the server from stopping, and does not take the answer for whole."""
    server = start_server()
    fill(server.api, 30000)
    raw = Raw(server, WIDE, window=1 << 16)
    raw.read(2000)
    assert server.stop() == 0
    assert not raw.read_all(), "ended as if whole"
    raw.close()


def test_stop_cancels_queries(start_server):
    """A query that would take minutes: its client hears 503, as it may ask another server."""
    server = start_server()
    server.api.put("slow", [{"n": i} for i in range(20000)])
    answers = []
    asker = threading.Thread(target=lambda: answers.append(server.api.query(
        "SELECT count(*) AS c FROM slow a JOIN slow b ON a.n <> b.n JOIN slow c ON b.n <> c.n WHERE a.n * b.n * c.n = 7.5")))
    asker.start()
    assert server.api.wait(lambda: server.api.get("/api/v1/queries").json())
    assert server.stop() == 0
    asker.join()
    assert answers[0].status == 503 and int(answers[0].headers["Retry-After"]) >= 1, answers


@pytest.mark.skipif(not conftest.SOAK, reason="takes minutes")
def test_stalled_clients_lose_their_engines(wide):
    """As many clients that never read on as there are workers: after a while all are cut, and queries run again."""
    stalled = [Raw(wide, WIDE, window=1 << 16) for _ in range(20)]
    time.sleep(200)
    assert wide.api.query("SELECT max(n) AS m FROM wide").json() == [{"m": ROWS - 1.0}]
    for raw in stalled:
        raw.close()
