"""queries: the suite, against stock DuckDB on the same Parquet files; every answer is compared before its time counts."""
import datetime
import json
import math
import os
import time

import duckdb
import world
from table import exponent, median

# Name, SQL in the users' dialect, and for the stock engine where it is written otherwise. {trace}, {from}, {to} come from the data.
WIDE = "level, service, path, status, duration_ms, message"
SUITE = [
    ("needle by trace_id", "SELECT ts, service, span_id, message FROM {s} WHERE trace_id = '{trace}' ORDER BY span_id", None),
    ("count by level", "SELECT level, count(*) AS n FROM {s} GROUP BY level ORDER BY level", None),
    ("histogram per minute", "SELECT date_trunc('minute', ts) AS m, count(*) AS n FROM {s} GROUP BY m ORDER BY m",
     "SELECT date_trunc('minute', make_timestamp(epoch_us(ts))) AS m, count(*) AS n FROM {s} GROUP BY m ORDER BY m"),
    ("top 10 of path", "SELECT path, count(*) AS n FROM {s} GROUP BY path ORDER BY n DESC, path LIMIT 10", None),
    ("p99 of duration_ms by service", "SELECT service, quantile_cont(duration_ms, 0.99) AS p FROM {s} GROUP BY service ORDER BY service", None),
    ("substring in message, common", "SELECT count(*) AS n FROM {s} WHERE message LIKE '%session%'", None),
    ("substring in message, rare", "SELECT count(*) AS n FROM {s} WHERE message LIKE '%0 milliseconds nobody wrote%'", None),
    ("group by trace_id", "SELECT trace_id, count(*) AS n FROM {s} GROUP BY trace_id ORDER BY n DESC, trace_id LIMIT 10", None),
    ("one-minute window with level", "SELECT service, count(*) AS n FROM {s} WHERE ts >= '{from}' AND ts < '{to}' AND level = 'error' GROUP BY service ORDER BY service",
     "SELECT service, count(*) AS n FROM {s} WHERE ts >= TIMESTAMPTZ '{from}' AND ts < TIMESTAMPTZ '{to}' AND level = 'error' GROUP BY service ORDER BY service"),
    ("wide scan with two filters", f"SELECT {WIDE} FROM {{s}} WHERE status = 500 AND duration_ms > 300 ORDER BY span_id", None),
    ("join of the traces of fatal rows", "SELECT a.service, count(*) AS n FROM {s} a JOIN (SELECT DISTINCT trace_id FROM {s} WHERE level = 'fatal') f"
     " ON a.trace_id = f.trace_id GROUP BY a.service ORDER BY a.service", None),
]
NEWEST = "SELECT * FROM {s} WHERE service = 'svc-3' ORDER BY p_timestamp DESC LIMIT 100"


def value(x):
    """One value as both sides can be compared: instants to milliseconds, numbers to 12 digits."""
    if isinstance(x, datetime.datetime):
        if x.tzinfo:
            x = x.astimezone(datetime.timezone.utc)
        return x.strftime("%Y-%m-%dT%H:%M:%S.") + f"{x.microsecond // 1000:03d}"
    if isinstance(x, str) and len(x) >= 19 and x[4] == x[7] == "-" and x[10] == "T" and x[13] == ":":
        return (x.rstrip("Z") + ("" if "." in x else ".000"))[:23]
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return 0.0 if x == 0 else round(float(x), 11 - math.floor(math.log10(abs(x))))
    return x


def rows_of(text):
    return [{k: value(v) for k, v in row.items() if v is not None} for row in json.loads(text)]


class Stock:
    """DuckDB in this process: CPU time of it is CPU time of ours while nothing else runs here."""

    def __init__(self, files):
        self.con = duckdb.connect()
        self.con.execute("SET TimeZone = 'UTC'")
        self.view("s", files)

    def view(self, name, files):
        self.con.execute(f"CREATE VIEW {name} AS SELECT * EXCLUDE (_row_id) FROM read_parquet({list(files)}, hive_partitioning = false)")

    def timed(self, sql):
        cpu = time.process_time()
        table = self.con.execute(sql).to_arrow_table()
        cpu = time.process_time() - cpu
        return cpu, [{k: value(v) for k, v in row.items() if v is not None} for row in table.to_pylist()]


class Queries:
    def __init__(self, bench):
        self.b, self.t = bench, bench.table
        self.sizes = [100_000] if bench.quick else [1_000_000, 10_000_000]
        self.rounds = 3 if bench.quick else 5

    def suite(self):
        server, cpu = self.b.server(fresh=True), {}
        try:
            for rows in self.sizes:
                self.one_size(server, f"s{rows}", rows, cpu)
            if len(self.sizes) > 1:
                for name, points in cpu.items():
                    most = 0.1 if name.startswith("newest") else None
                    self.t.add(f"{name}: CPU over rows x10", exponent(points), "exponent", most=most)
        finally:
            server.stop()

    def load(self, server, stream, rows):
        paths = world.chunks("s1", rows)
        cpu, begin = server.cpu(), time.monotonic()
        count, size = server.ingest_all(stream, world.bodies(paths))
        server.drain()
        self.t.add(f"{rows:,} rows of S1 ingested", size / 1e6 / (server.cpu() - cpu), "MB/CPU-s", note=f"{time.monotonic() - begin:.0f} s by the clock")
        got = rows_of(server.query(f"SELECT count(*) AS n FROM {stream}"))[0]["n"]
        if got != count:
            raise RuntimeError(f"{count} rows sent, {got} counted")
        return paths

    def one_size(self, server, stream, rows, cpu):
        paths = self.load(server, stream, rows)
        files = server.live_files(stream)
        stock = Stock(files)
        if stock.timed("SELECT count(*) AS n FROM s")[1][0]["n"] != rows:
            raise RuntimeError("the files hold another number of rows")
        self.bytes_on_disk(stock, paths, files, rows)
        middle = stock.con.execute("SELECT trace_id, date_trunc('minute', make_timestamp(epoch_us(ts))) FROM s WHERE level = 'fatal' ORDER BY ts LIMIT 1 OFFSET 50").fetchone()
        terms = {"trace": middle[0], "from": middle[1].strftime("%Y-%m-%dT%H:%M:%SZ"), "to": (middle[1] + datetime.timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        sums = [0.0, 0.0]
        for name, sql, stock_sql in SUITE:
            try:
                ours, theirs = self.pair(server, stock, sql.format(s=stream, **terms), (stock_sql or sql).format(s="s", **terms))
            except Exception as e:
                self.t.failed(f"{rows:,} rows: {name}", str(e))
                continue
            sums[0] += ours
            sums[1] += theirs
            cpu.setdefault(name, []).append((rows, ours))
            self.t.add(f"{rows:,} rows: {name}", ours * 1e3, "CPU-ms", most=max(1.1 * theirs, theirs + 0.002) * 1e3, target="<= 1.1x or + 2 ms",
                       note=f"stock {theirs * 1e3:.2f} ms, {ours / theirs:.2f}x")
        if sums[1]:
            self.t.add(f"{rows:,} rows: the suite in sum", sums[0] * 1e3, "CPU-ms", note=f"stock {sums[1] * 1e3:.1f} ms, {sums[0] / sums[1]:.2f}x")
        self.newest(server, stream, rows, paths, cpu)

    def pair(self, server, stock, sql, stock_sql):
        ours, theirs = [], []
        conn = server.connect()
        for i in range(self.rounds + 1):
            cpu = server.cpu()
            text = server.query(sql, conn)
            mine = server.cpu() - cpu
            yours, want = stock.timed(stock_sql)
            conn.close()  # opens again by itself: the server ends connections that are idle while the stock engine works
            if i == 0:  # warms up, and is compared
                got = rows_of(text)
                if got != want:
                    at = next((k for k, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
                    raise RuntimeError(f"answers differ at row {at} of {len(got)} and {len(want)}: {got[at:at + 1]} {want[at:at + 1]}")
                continue
            ours.append(mine)
            theirs.append(yours)
        conn.close()
        return median(ours), median(theirs)

    def newest(self, server, stream, rows, paths, cpu):
        """Rows with one time stand in any order, so the answer is checked by what it must hold. The newest file is made here, of the same rows at each
        size: where a flush cut the last one of those before says nothing about how many there are."""
        more = world.bodies(paths[:1], limit=5 * world.BODY_BYTES)
        server.ingest_all(stream, ((n, body.replace(b'"span_id":"', b'"span_id":"new-')) for n, body in more), connections=1)
        server.drain()
        files = server.live_files(stream)
        stock = Stock(files)
        newest = stock.con.execute(f"SELECT filename FROM read_parquet({files}, filename = true) GROUP BY filename ORDER BY max(p_timestamp) DESC, count(*) DESC LIMIT 1").fetchone()
        one = Stock(newest)
        ours, theirs, conn = [], [], server.connect()
        for i in range(self.rounds + 1):
            begin = server.cpu()
            text = server.query(NEWEST.format(s=stream), conn)
            mine = server.cpu() - begin
            yours, want = one.timed(NEWEST.format(s="s"))
            if i:
                ours.append(mine)
                theirs.append(yours)
                continue
            got = rows_of(text)
            _, want = stock.timed(NEWEST.format(s="s"))
            spans = ",".join(f"'{r['span_id']}'" for r in got)
            _, found = stock.timed(f"SELECT * FROM s WHERE span_id IN ({spans}) AND service = 'svc-3' AND p_timestamp >= (SELECT max(p_timestamp) - INTERVAL 1 DAY FROM s)")
            key = lambda r: r["span_id"]
            if [r["p_timestamp"] for r in got] != [r["p_timestamp"] for r in want] or sorted(got, key=key) != sorted(found, key=key):
                self.t.failed(f"{rows:,} rows: newest 100 of one service", "the answers differ")
                return
        conn.close()
        mine, yours = median(ours), median(theirs)
        cpu.setdefault("newest 100", []).append((rows, mine))
        self.t.add(f"{rows:,} rows: newest 100 of one service, all columns", mine * 1e3, "CPU-ms", most=1.3 * yours * 1e3, target="<= 1.3x newest file",
                   note=f"stock on the newest file {yours * 1e3:.2f} ms, {mine / yours:.2f}x")

    def bytes_on_disk(self, stock, paths, files, rows):
        if rows > 1_000_000:
            return
        out = os.path.join(self.b.work, "stock-size.parquet")
        stock.con.execute(f"COPY (SELECT * FROM read_json({paths})) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
        mb = sum(os.path.getsize(f) for f in files) / 1e6
        scale = rows / 1e6
        self.t.add(f"bytes on disk, {rows:,} rows", mb, "MB", most=0.95 * 54 * scale, target=f"<= {0.95 * 54 * scale:.3g} MB",
                   note=f"{len(files)} files; stock zstd-1 in one file {os.path.getsize(out) / 1e6:.1f} MB; 0.95 x VictoriaLogs' 54 MB a million")
