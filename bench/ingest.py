"""ingest: from the client's bytes to Parquet, and its parts."""
import itertools
import os
import re
import subprocess
import time

import world
from table import median


class Ingest:
    def __init__(self, bench):
        self.b, self.t = bench, bench.table
        self.encode = self.wal_p99 = None  # MB/CPU-s, ms; from parts()
        self.mb = 24 if bench.quick else 100
        self.rounds = 3 if bench.quick else 5
        rows = 100_000 if bench.quick else 1_000_000
        paths = world.chunks("s1", rows)
        self.bodies = list(world.bodies(paths, limit=self.mb * 1_000_000))
        self.bytes = sum(len(b) for _, b in self.bodies)
        self.ndjson = os.path.join(bench.work, "s1.ndjson")  # the same rows for the yardstick and the parts
        if not os.path.exists(self.ndjson):
            with open(self.ndjson, "wb") as f:
                for _, body in self.bodies:
                    f.write(body[1:-1].replace(b"},{\"ts\"", b"}\n{\"ts\"") + b"\n")

    def parts(self):
        """Decode, WAL and encode apart, MB of JSON per CPU-second."""
        out = self.b.run_c("decode", self.ndjson).splitlines()[1].split(" MB ")[1].split()
        self.t.add("decode alone", float(out[2]), "MB/CPU-s", note=f"reader {out[0]}, jansson's tree {out[3]}")
        wal = {m[0].strip(): m[1].split() for m in re.findall(r"^(.{20}) (.*)$", self.b.run_c("wal", self.b.work, "1" if self.b.quick else "3"), re.M)}
        big, small = wal["4 MiB x8, relaxed"], wal["500 B x64, sync"]
        self.t.add("WAL alone, 4 MiB records", float(big[1]), "MB/CPU-s", note=f"{big[2]} MB/s by the clock")
        self.wal_p99 = small[5]
        self.t.add("WAL alone, 500 B records", float(small[0]), "CPU-us", note=f"synced, {small[3]}/s by the clock, {small[6]} a sync, p99 {small[5]} ms")
        segment = [line.split() for line in self.b.run_c("segment", self.ndjson).splitlines()]
        self.encode = float(segment[1][2])
        self.t.add("encode alone, 32 MiB a file", self.encode, "MB/CPU-s", note=f"{int(segment[1][4]) / int(segment[1][5]):.1f}:1")
        self.t.add("encode alone, one row", float(segment[2][3]), "CPU-ms")

    def whole(self):
        """HTTP -> WAL (relaxed) -> Parquet -> catalog, against the stock engine."""
        ours, stock, wall = [], [], []
        server = self.b.server()
        server.ingest_all(server.stream(), self.bodies[:2])  # opens the engine
        server.drain()
        for _ in range(self.rounds):
            cpu, begin = server.cpu(), time.monotonic()
            server.ingest_all(server.stream(), self.bodies)
            wall.append(time.monotonic() - begin)
            server.drain()
            ours.append(server.cpu() - cpu)
            stock.append(world.duckdb_ingest(self.b.duckdb, self.ndjson, os.path.join(self.b.work, "stock.parquet")))
        mb = self.bytes / 1e6
        self.t.add("ingest, 4 MiB batches, HTTP to Parquet", mb / median(ours), "MB/CPU-s", least=150, note=f"{mb / median(wall):.0f} MB/s acknowledged by the clock")
        if self.encode and median(ours) > mb / self.encode:
            self.t.add("  of it the encoder, which is DuckDB's COPY", mb / self.encode / median(ours) * 100, "%",
                       note=f"by what it takes alone; the rest makes {mb / (median(ours) - mb / self.encode):.0f} MB/CPU-s")
        self.t.add("  stock DuckDB read_json to Parquet", mb / median(stock), "MB/CPU-s")
        self.t.add("  ratio", median(stock) / median(ours), "x", least=0.95)

    def memory(self):
        server = self.b.server(fresh=True)
        try:
            idle = server.rss_mb()
            source = itertools.chain.from_iterable(itertools.repeat(self.bodies, 2 if self.b.quick else 8))
            begin = time.monotonic()
            _, size = server.ingest_all("memory", source, connections=8)
            rate = size / 1e6 / (time.monotonic() - begin)
            peak = server.rss_mb(peak=True)
            self.t.add("peak RSS at full rate, 8 connections", peak - idle, "MB", most=rate + 64, note=f"above {idle:.0f} MB idle, at {rate:.0f} MB/s; engines included")
        finally:
            server.stop()

    def acks(self):
        """Waiting for the disk against not waiting, same batches, four clients."""
        server, rate = self.b.server(), {"wal": [], "relaxed": []}
        for _ in range(self.rounds):
            for ack in rate:
                begin = time.monotonic()
                server.ingest_all(server.stream(), self.bodies, ack)
                rate[ack].append(self.bytes / 1e6 / (time.monotonic() - begin))
                server.drain()
        wal, relaxed = median(rate["wal"]), median(rate["relaxed"])
        self.t.add("ack=wal against ack=relaxed, 4 MiB batches", wal / relaxed, "x", least=0.9, note=f"{wal:.0f} and {relaxed:.0f} MB/s by the clock")

    def wrk(self, server, ack, connections, seconds):
        """Requests, CPU-seconds until they are in files, p99 in ms."""
        cpu = server.cpu()
        text = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", os.path.join(world.ROOT, "bench/post.lua"),
                               f"http://127.0.0.1:{server.port}", "--", ack, self.ndjson], check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in text or "Socket errors" in text:
            raise RuntimeError(text)
        count = int(re.search(r"(\d+) requests in", text)[1])
        acked = server.cpu() - cpu
        server.drain()
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
        return count, acked, server.cpu() - cpu, float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], count / float(re.search(r"in ([\d.]+)s", text)[1])

    def rows(self):
        server, seconds = self.b.server(), 1 if self.b.quick else 3
        self.wrk(server, "relaxed", 64, 1)
        runs = {"wal": [], "relaxed": []}
        for _ in range(self.rounds):
            for ack in runs:
                runs[ack].append(self.wrk(server, ack, 64, seconds))
        for ack, r in runs.items():
            self.t.add(f"one-row POSTs, keep-alive, ack={ack}", median(n / cpu for n, _, cpu, _, _ in r), "/CPU-s", least=20000,
                       note=f"{median(n / a for n, a, _, _, _ in r):,.0f} until acknowledged; {median(x[4] for x in r):,.0f}/s by the clock, 64 connections")
        self.t.add("ack p99, one-row POSTs, 64 connections, ack=wal", median(x[3] for x in runs["wal"]), "ms", most=10, note=f"relaxed {median(x[3] for x in runs['relaxed']):.2f} ms" + (f"; the WAL alone, 64 in flight: {self.wal_p99} ms" if self.wal_p99 else ""))

    def visible(self):
        server, late, waits = self.b.server(), 0, []
        conn, n = server.connect(), 20 if self.b.quick else 100
        for i in range(n):
            server.ingest("visible", b'{"id":%d}' % i, "wal", conn)
            begin = time.monotonic()
            late += server.query(f"SELECT count(*) AS n FROM visible WHERE id = {i}", conn) != b'[{"n":1}]'
            waits.append(time.monotonic() - begin)
        conn.close()
        self.t.add("acknowledged rows missing from the next query", late, f"of {n}", most=0, target="0", note=f"query p50 {median(waits) * 1e3:.1f} ms by the clock")
