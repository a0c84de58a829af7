"""world: what the figures are taken from: generated rows (kept in a cache outside the tree), a server of ours, clients, stock DuckDB."""
import base64
import http.client
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sluice", "bench")
BODY_BYTES = 4 << 20
AUTH = "Basic " + base64.b64encode(b"admin:admin").decode()
CHUNK_ROWS = 1_000_000
START_MS, GAP_MS = 1763800000000, 3


# ---- rows

def generator():
    """gen.py lies beside the project (../shared/data), or where SLUICE_BENCH_GEN says."""
    if os.environ.get("SLUICE_BENCH_GEN"):
        return os.environ["SLUICE_BENCH_GEN"]
    at = ROOT
    while at != "/":
        at = os.path.dirname(at)
        if os.path.exists(path := os.path.join(at, "shared/data/gen.py")):
            return path
    sys.exit("bench: ../shared/data/gen.py is not there: say where it is with SLUICE_BENCH_GEN=/path/gen.py")


def chunks(shape, rows):
    """Paths of NDJSON files that hold `rows` rows together, following one another in time; made when they are missing."""
    os.makedirs(CACHE, exist_ok=True)
    out, running = [], []
    for seed in range(7, 7 + (rows + CHUNK_ROWS - 1) // CHUNK_ROWS):
        n = min(rows - (seed - 7) * CHUNK_ROWS, CHUNK_ROWS)
        path = os.path.join(CACHE, f"{shape}-{n}-{seed}.ndjson")
        out.append(path)
        if os.path.exists(path):
            continue
        print(f"bench: generating {path} (once; kept)", file=sys.stderr, flush=True)
        temp = open(f"{path}.{os.getpid()}.tmp", "wb")
        start = START_MS + (seed - 7) * CHUNK_ROWS * GAP_MS
        running.append((subprocess.Popen([sys.executable, generator(), shape, str(n), "--seed", str(seed), "--start-ms", str(start)], stdout=temp),
                        temp.name, path))
        if len(running) == (os.cpu_count() or 1):
            finish(running.pop(0))
    for r in running:
        finish(r)
    return out


def finish(running):
    process, temp, path = running
    if process.wait() != 0:
        sys.exit(f"bench: gen.py failed for {path}")
    os.rename(temp, path)


def bodies(paths, body_bytes=BODY_BYTES, limit=None):
    """JSON arrays of about `body_bytes`, as (rows, bytes); all of the rows, or until `limit` bytes are passed."""
    batch, size, total = [], 0, 0
    for path in paths:
        with open(path, "rb") as f:
            for line in f:
                batch.append(line[:-1])
                size += len(line)
                if size >= body_bytes:
                    yield len(batch), b"[" + b",".join(batch) + b"]"
                    total += size
                    batch, size = [], 0
                    if limit and total >= limit:
                        return
    if batch:
        yield len(batch), b"[" + b",".join(batch) + b"]"


# ---- our server

class Server:
    def __init__(self, binary, work, *args):
        self.dir = tempfile.mkdtemp(prefix="server.", dir=work)
        self.binary, self.args, self.streams = binary, args, 0
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.binary, "serve", "--data", os.path.join(self.dir, "data"), "--addr", f"127.0.0.1:{self.port}", *self.args],
                                        stdout=self.log, stderr=self.log, env={**os.environ, "SLUICE_COMPACT_INTERVAL": "1d", "SLUICE_INDEX_INTERVAL": "1d"})
        self.clock = (~self.process.pid << 3) | 2  # the kernel's per-process CPU clock (clock_getcpuclockid(3))
        until = time.monotonic() + 30
        while True:
            try:
                if self.request("GET", "/api/v1/readiness")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server does not start: {open(self.log.name, errors='replace').read()[-2000:]}")
            time.sleep(0.02)

    def stop_process(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self):
        self.stop_process()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def cpu(self):
        return time.clock_gettime(self.clock)

    def rss_mb(self, peak=False):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:" if peak else "VmRSS:")) * 1024e-6

    def rss_reset(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=1800)  # a drain of 10,000 new streams takes minutes

    def request(self, method, path, body=None, headers=(), conn=None):
        c = conn or self.connect()
        c.request(method, path, body, {"Authorization": AUTH, **({"Content-Type": "application/json"} if body is not None else {}), **dict(headers)})
        r = c.getresponse()
        out = r.status, r.read()
        if not conn:
            c.close()
        return out

    def stream(self):
        self.streams += 1
        return f"bench{self.streams}"

    def ingest(self, stream, body, ack="relaxed", conn=None):
        while True:
            status, text = self.request("POST", "/api/v1/ingest", body, {"X-P-Stream": stream, "X-P-Ack": ack}, conn)
            if status == 200:
                return
            if status != 503:
                raise RuntimeError(f"ingest: {status} {text[:300]}")
            time.sleep(0.02)  # back-pressure

    def ingest_all(self, stream, source, ack="relaxed", connections=4):
        """Sends what `source` yields over some connections; rows and bytes."""
        lock, totals, failures = threading.Lock(), [0, 0], []
        source = iter(source)

        def run():
            conn = self.connect()
            try:
                while not failures:
                    with lock:
                        item = next(source, None)
                    if item is None:
                        return
                    self.ingest(stream, item[1], ack, conn)
                    with lock:
                        totals[0] += item[0]
                        totals[1] += len(item[1])
            except Exception as e:
                failures.append(e)
            finally:
                conn.close()

        threads = [threading.Thread(target=run) for _ in range(connections)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            raise failures[0]
        return totals

    def drain(self):
        """Returns when every row sent so far is in a file: an object acknowledgement flushes all streams."""
        self.ingest("bench_drain", b'{"a":1}', "object")

    def query(self, sql, conn=None):
        body = json.dumps({"query": sql, "startTime": "2000-01-01T00:00:00Z", "endTime": "2100-01-01T00:00:00Z"})
        status, text = self.request("POST", "/api/v1/query", body, conn=conn)
        if status != 200:
            raise RuntimeError(f"query: {status} {text[:500].decode(errors='replace')} for {sql}")
        return text

    def live_files(self, stream):
        """The stream's Parquet files: all there are, as nothing is compacted while the figures are taken."""
        found = []
        for folder, _, names in os.walk(os.path.join(self.dir, "data")):
            if f"/{stream}/" in folder + "/" and "/date=" in folder:
                found += [os.path.join(folder, n) for n in names if n.endswith(".parquet")]
        return sorted(found)


def head_of(stream, ack, length):
    return (f"POST /api/v1/ingest HTTP/1.1\r\nHost: localhost\r\nAuthorization: {AUTH}\r\nContent-Type: application/json\r\n"
            f"X-P-Stream: {stream}\r\nX-P-Ack: {ack}\r\nContent-Length: {length}\r\n\r\n").encode()


def pipelined(port, requests, connections=64):
    """Sends whole requests, each connection its share without waiting for answers; every one must be answered with 200."""
    selector = selectors.DefaultSelector()
    left = 0
    for i in range(min(connections, len(requests))):
        share = requests[i::connections]
        s = socket.create_connection(("127.0.0.1", port))
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE, {"out": memoryview(b"".join(share)), "in": b"", "want": len(share)})
        left += len(share)
    while left:
        for key, events in selector.select(60) or [(None, 0)]:
            if key is None:
                raise RuntimeError(f"{left} requests are not answered")
            s, c = key.fileobj, key.data
            if events & selectors.EVENT_WRITE:
                try:
                    c["out"] = c["out"][s.send(c["out"][:65536]):]
                except BlockingIOError:
                    pass
                if not c["out"]:
                    selector.modify(s, selectors.EVENT_READ, c)
            if events & selectors.EVENT_READ:
                got = s.recv(1 << 16)
                if not got:
                    raise RuntimeError("the server closed a connection")
                text = c["in"] + got
                at = 0
                while (end := text.find(b"\r\n\r\n", at)) >= 0:
                    if not text.startswith(b"HTTP/1.1 200", at):
                        raise RuntimeError(f"answer: {text[at:at + 300]}")
                    at = end + 4
                    c["want"] -= 1
                    left -= 1
                c["in"] = text[at:]
                if c["want"] == 0:
                    selector.unregister(s)
                    s.close()
    selector.close()


# ---- the yardstick

def duckdb_ingest(duckdb, ndjson, out):
    """CPU-seconds of the stock command line from JSON to Parquet with our compression, start of the process included."""
    pid = os.spawnv(os.P_NOWAIT, duckdb, [duckdb, "-c", f"COPY (SELECT * FROM read_json('{ndjson}')) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"])
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError("duckdb failed")
    return usage.ru_utime + usage.ru_stime
