"""What the tests of the dialect share: tables, the gate as a process, its SQL run by DuckDB, answers in one form."""
import datetime
import decimal
import json
import math
import subprocess

import duckdb
import pyarrow as pa

NOW_US = 1780000000 * 1000000
UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1)

TYPES = {"bool": pa.bool_(), "int64": pa.int64(), "uint64": pa.uint64(), "float64": pa.float64(), "utf8": pa.string(),
         "timestamp": pa.timestamp("ms"), "date32": pa.date32(), "list:int64": pa.list_(pa.int64()), "list:utf8": pa.list_(pa.string()),
         "list:float64": pa.list_(pa.float64())}


def stamp(text):
    t = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return t.astimezone(UTC).replace(tzinfo=None) if t.tzinfo else t


class Table:
    """A stream: columns in the order of their names, as DataFusion sees them (Arrow) and as the binding gives them to DuckDB."""

    def __init__(self, name, columns, rows):
        self.name, self.columns = name, sorted(columns)
        arrays = []
        for column, kind in self.columns:
            values = [r.get(column) for r in rows]
            if kind == "timestamp":
                values = [stamp(v) if isinstance(v, str) else v for v in values]
            if kind == "date32":
                values = [datetime.date.fromisoformat(v) if isinstance(v, str) else v for v in values]
            arrays.append(pa.array(values, TYPES[kind]))
        self.arrow = pa.Table.from_arrays(arrays, names=[c for c, _ in self.columns])

    def bound(self, bounds):
        """The table under its bound names, timestamps as instants."""
        arrays, names = [], []
        for name, bound in bounds:
            a = self.arrow.column(name)
            arrays.append(a.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(a.type) else a)
            names.append(bound)
        if not arrays:  # SELECT count(*): some column
            arrays, names = [pa.array([0] * self.arrow.num_rows)], ["none"]
        return pa.Table.from_arrays(arrays, names=names)


class Gate:
    def __init__(self, program, tables):
        self.tables = {t.name: t for t in tables}
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask({"streams": {t.name: t.columns for t in tables}, "now_us": NOW_US}, answer=False)
        self.engine = duckdb.connect()
        self.engine.execute("SET TimeZone='UTC'; SET threads=1; SET preserve_insertion_order=true")

    def ask(self, value, answer=True):
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()) if answer else None

    def run(self, sql):
        """(names, rows, output) or an exception; rows are lists of plain JSON values."""
        out = self.ask(sql)
        if "error" in out:
            raise ValueError(out["error"])
        for s in out["streams"]:
            self.engine.register(s["alias"], self.tables[s["name"]].bound(s["used"]))
        prefix = "EXPLAIN " if out["explain"] else ""
        result = self.engine.execute(prefix + out["sql"])
        if len(out["names"]) != len(result.description):
            raise AssertionError("%d names for %d columns: %s" % (len(out["names"]), len(result.description), out["sql"]))
        rows = arrow_rows(result.fetch_arrow_table())
        rows = [[plain(v, out["shows"][i]) for i, v in enumerate(r)] for r in rows]
        return out["names"], rows, out


def arrow_rows(table):
    """Rows of an Arrow table; timestamps and durations without pandas, whatever their unit."""
    columns = []
    for c in table.columns:
        if pa.types.is_timestamp(c.type):
            c = c.cast(pa.timestamp("us", c.type.tz), safe=False).cast(pa.timestamp("us"), safe=False)
        elif pa.types.is_duration(c.type):
            c = c.cast(pa.duration("us"), safe=False)
        elif pa.types.is_time(c.type):
            c = c.cast(pa.time64("us"), safe=False)
        columns.append(c.to_pylist())
    return [list(r) for r in zip(*columns)]


def fraction(us):
    return "" if us == 0 else ".%03d" % (us // 1000) if us % 1000 == 0 else ".%06d" % us


def interval_text(months, days, us):
    """As Arrow prints an Interval(MonthDayNano)."""
    parts = []
    for n, unit in ((months, "mons"), (days, "days")):
        if n:
            parts.append("%d %s" % (n, unit))
    if us:
        sign, us = ("-" if us < 0 else ""), abs(us)
        h, m, s = us // 3600000000, us // 60000000 % 60, us % 60000000
        if h:
            parts.append("%s%d hours" % (sign, h))
        if m:
            parts.append("%s%d mins" % (sign, m))
        if s:
            parts.append("%s%d%s secs" % (sign, s // 1000000, (".%09d" % (s % 1000000 * 1000)) if s % 1000000 else ".000000000"))
    return " ".join(parts) if parts else "0 secs"


def duration_text(us):
    """As Arrow's JSON writer prints a Duration: ISO 8601 in seconds."""
    sign, us = ("-" if us < 0 else ""), abs(us)
    if us == 0:
        return "P0D"
    s = "%d" % (us // 1000000)
    if us % 1000000:
        s += (".%06d" % (us % 1000000)).rstrip("0")
    return "%sPT%sS" % (sign, s)


def plain(v, show=0):
    if v is None or isinstance(v, (bool, int, str)):
        return v
    if isinstance(v, float):
        return None if math.isnan(v) or math.isinf(v) else v
    if isinstance(v, decimal.Decimal):
        return float(v)
    if isinstance(v, datetime.datetime):
        if v.tzinfo:
            v = v.astimezone(UTC).replace(tzinfo=None)
        return v.strftime("%Y-%m-%dT%H:%M:%S") + fraction(v.microsecond)
    if isinstance(v, datetime.date):
        return v.isoformat()
    if isinstance(v, datetime.time):
        return v.strftime("%H:%M:%S") + fraction(v.microsecond)
    if isinstance(v, datetime.timedelta):
        return duration_text(v // datetime.timedelta(microseconds=1))
    if isinstance(v, pa.MonthDayNano):
        return duration_text(v.days * 86400000000 + v.nanoseconds // 1000) if show == 1 else interval_text(v.months, v.days, v.nanoseconds // 1000)
    if isinstance(v, (bytes, bytearray)):
        return bytes(v).hex()
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    return str(v)


def app_tables(golden):
    """The tables of the recorded exchanges, from the requests that filled them."""
    tables = []
    kinds = {"app": {"event_time": "timestamp"}, "hosts": {}}
    for line in open(golden):
        step = json.loads(line)
        headers = step["request"].get("headers") or {}
        name = headers.get("X-P-Stream")
        if step["id"] in ("app-fill", "hosts-fill", "ingest-unicode"):
            rows = step["request"]["body"]
            rows = [rows] if isinstance(rows, dict) else rows
            columns = {"p_timestamp": "timestamp", "p_src_ip": "utf8", "p_user_agent": "utf8"}
            for r in rows:
                r.update({"p_timestamp": "2026-05-28T00:00:00.549Z", "p_src_ip": "127.0.0.1", "p_user_agent": "conformance"})
                for k, v in r.items():
                    columns.setdefault(k, kinds.get(name, {}).get(k) or
                                       ("bool" if isinstance(v, bool) else "float64" if isinstance(v, (int, float)) else "utf8"))
            rows = [{k: float(v) if columns[k] == "float64" and v is not None else v for k, v in r.items()} for r in rows]
            tables.append(Table(name, list(columns.items()), rows[::-1]))
    tables.append(Table("auto", [("a", "float64"), ("p_timestamp", "timestamp")],
                        [{"a": 2.0, "p_timestamp": "2026-05-28T00:00:00Z"}, {"a": 1.0, "p_timestamp": "2026-05-27T00:00:00Z"}]))
    tables.append(Table("pstats", [("dataset_name", "utf8"), ("p_timestamp", "timestamp")],
                        [{"dataset_name": "app", "p_timestamp": "2026-05-28T00:00:00Z"}]))
    return tables
