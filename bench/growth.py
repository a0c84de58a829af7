"""growth: what ten times as much costs, as an exponent: 1 is linear, 0 is constant."""
import json
import time

import world
from table import exponent


class Growth:
    def __init__(self, bench):
        self.b, self.t = bench, bench.table

    def cpu_of(self, server, fill):
        server.drain()
        cpu = server.cpu()
        fill()
        server.drain()
        return server.cpu() - cpu

    def rows(self):
        server, points = self.b.server(), []
        for rows in (10_000, 100_000) if self.b.quick else (10_000, 100_000, 1_000_000):
            source = list(world.bodies(world.chunks("s1", 100_000 if self.b.quick else 1_000_000), limit=rows * 423))
            count = sum(n for n, _ in source)
            points.append((count, self.cpu_of(server, lambda: server.ingest_all(server.stream(), source))))
        self.t.add("ingest over rows x10 x100", exponent(points), "exponent", note=self.list(points, lambda n, s: f"{n:,} rows {s / n * 1e6:.2f} us/row"))

    def columns(self):
        server, points = self.b.server(), []
        with open(world.chunks("s1", 100_000 if self.b.quick else 1_000_000)[0]) as f:
            sample = [json.loads(next(f)) for _ in range(20_000)]
        for columns in (15, 150, 990):  # with p_* below 1,000
            rows = 300_000 // columns
            batch = []
            for i, row in enumerate(sample[:rows]):
                row = {**row, **{f"label_{k:03d}": f"v{(i * 7 + k) % 23}-{k % 7}" for k in range(columns - 15)}}
                batch.append(json.dumps(row, separators=(",", ":")).encode())
            size = max(1, len(batch) // 8)
            source = [(len(part), b"[" + b",".join(part) + b"]") for part in (batch[i:i + size] for i in range(0, len(batch), size))]
            source *= 2 if self.b.quick else 6
            cpu = self.cpu_of(server, lambda: server.ingest_all(server.stream(), source))
            points.append((columns, cpu / sum(n for n, _ in source)))
        self.t.add("ingest a row over columns 15/150/990", exponent(points), "exponent", most=1.05,
                   note=self.list(points, lambda n, s: f"{n} columns {s * 1e6 / n:.2f} us/value"))

    def streams(self):
        """Every stream gets one row each second."""
        points = []
        seconds = 2 if self.b.quick else 60  # as long as rows may wait for a flush of small files
        for streams in (10, 100, 1000) if self.b.quick else (100, 1000, 10_000):
            server = self.b.server(fresh=True)
            try:
                with open(world.chunks("s1", 100_000 if self.b.quick else 1_000_000)[0], "rb") as f:
                    lines = [next(f)[:-1] for _ in range(streams)]
                requests = [world.head_of(f"s{i}", "wal", len(line)) + line for i, line in enumerate(lines)]
                cpu, begin = server.cpu(), time.monotonic()
                world.pipelined(server.port, requests)
                created = server.cpu() - cpu
                self.t.add(f"{streams:,} streams: create and first row", created / streams * 1e3, "CPU-ms", note=f"{time.monotonic() - begin:.1f} s by the clock")
                server.drain()
                cpu, start, late = server.cpu(), time.monotonic(), 0.0
                for second in range(seconds):
                    world.pipelined(server.port, requests)
                    late = max(late, time.monotonic() - start - second - 1)
                    time.sleep(max(0, start + second + 1 - time.monotonic()))
                acked, begin = server.cpu() - cpu, time.monotonic()
                server.drain()
                spent, drained = server.cpu() - cpu, time.monotonic() - begin
                points.append((streams * seconds, spent))
                self.t.add(f"{streams:,} streams, one row a second each", spent / seconds, "CPU-s/s",
                           note=f"{acked / seconds:.3f} without files; {spent / streams / seconds * 1e6:.0f} us/row; RSS {server.rss_mb():.0f} MB; "
                                f"{f'{late:.1f} s late' if late > 0 else 'all in their second'}, flushed in {drained:.1f} s")
            finally:
                server.stop()
        self.t.add("ingest over streams x10 x100", exponent(points), "exponent", most=1.05)

    def files(self):
        lines = [line.split() for line in self.b.run_c("plan", self.b.work).splitlines()[1:]]
        for line in lines:
            self.t.add(f"plan, {int(line[0]):,} files", max(float(line[1]), float(line[2])), "CPU-ms", most=5,
                       note=f"window {line[1]}, needle {line[2]}, all files with their keys {line[3]}, {float(line[3]) / int(line[0]) * 1e3:.2f} us a file (reading one is 100-250)")
        self.t.add("plan over files 10/1k/100k", exponent([(int(l[0]), max(float(l[1]), float(l[2]))) for l in lines]), "exponent")

    @staticmethod
    def list(points, text):
        return "; ".join(text(n, s) for n, s in points)
