"""Forms of an answer: every kind of value byte by byte as JSON (contract 5.1), the same rows read back from NDJSON, CSV and Arrow."""
import csv
import datetime
import decimal
import io
import json
import random
import string

import pyarrow
import pytest

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def one(api):
    api.put("one", {"n": 1, "t": "x"})
    return api


@pytest.mark.parametrize("sql, text", [
    ("1", "1"), ("1.5", "1.5"), ("n", "1.0"), ("n / 4", "0.25"), ("true", "true"), ("'x'", '"x"'),
    ("count(*)", "1"), ("sum(n)", "1.0"), ("avg(n)", "1.0"), ("count(n) / 2", "0"),
    ("0.1", "0.1"), ("1e15", "1000000000000000.0"), ("1e16", "1e16"), ("0.00001", "0.00001"), ("1e-6", "1e-6"), ("1.5e300", "1.5e300"),
    ("-0.0 * n", "-0.0"), ("123456789.1234568", "123456789.1234568"),
    ("CAST('NaN' AS DOUBLE)", "null"), ("power(10.0, 300) * power(10.0, 300)", "null"),
    ("CAST(9223372036854775807 AS BIGINT)", "9223372036854775807"),
    ("CAST(12.5 AS DECIMAL(10, 2))", "12.50"),
    ("DATE '2026-01-02'", '"2026-01-02"'),
    ("TIMESTAMP '2026-01-02 03:04:05'", '"2026-01-02T03:04:05"'),
    ("TIMESTAMP '2026-01-02 03:04:05.678'", '"2026-01-02T03:04:05.678"'),
    ("TIMESTAMP '2026-01-02 03:04:05.000001'", '"2026-01-02T03:04:05.000001"'),
    ("TIMESTAMP '1969-12-31 23:59:59.9'", '"1969-12-31T23:59:59.900"'),
    ("INTERVAL '90 minutes'", '"1 hours 30 mins"'),
    ("INTERVAL '1 month 3 days 4 seconds'", '"1 mons 3 days 4.000000000 secs"'),
    ("TIMESTAMP '2026-01-01 00:15:30.25' - TIMESTAMP '2026-01-01 00:00:00'", '"PT930.25S"'),
    ("TIMESTAMP '2026-01-01 00:00:00' - TIMESTAMP '2026-01-01 00:00:00.25'", '"-PT0.25S"'),
    ("make_array(1, NULL, 3)", "[1,null,3]"), ("make_array('a', 'b')", '["a","b"]'), ("make_array(make_array(1.5))", "[[1.5]]"), ("make_array()", "[]"),
    ("named_struct('a', 1, 'b', 'x')", '{"a":1,"b":"x"}'),
    ("chr(9) || chr(10) || chr(34) || chr(92) || chr(8) || chr(12) || chr(13) || chr(1)", '"\\t\\n\\"\\\\\\b\\f\\r\\u0001"'),
    ("chr(8232) || '/' || chr(127)", '"\u2028/\x7f"'),
])
def test_value(one, sql, text):
    answer = one.query("SELECT %s AS v FROM one" % sql)
    assert answer.status == 200, answer
    assert answer.text == '[{"v":%s}]' % text


def test_nulls(one):
    sql = "SELECT n, NULL AS u, CASE WHEN n > 5 THEN t END AS w FROM one"
    assert one.query(sql).text == '[{"n":1.0}]'
    assert one.query(sql, sendNull=True).text == '[{"n":1.0,"u":null,"w":null}]'
    assert one.query(sql, params="?sendNull=true&fields=true").text == '{"fields":["n","u","w"],"records":[{"n":1.0,"u":null,"w":null}]}'
    assert one.query("SELECT NULL AS u FROM one").text == "[{}]"


def test_nothing(one):
    sql = "SELECT n, t FROM one WHERE n > 5"
    assert one.query(sql).text == "[]"
    assert one.query(sql, params="?fields=true").text == '{"fields":["n","t"],"records":[]}'
    assert one.query(sql, headers={"Accept": "application/x-ndjson"}).body == b""
    assert one.query(sql, headers={"Accept": "text/csv"}).body == b"n,t\r\n"
    table = pyarrow.ipc.open_stream(one.query(sql, headers={"Accept": ARROW}).body).read_all()
    assert table.num_rows == 0 and table.schema.names == ["n", "t"]


def test_two_columns_of_one_name(api):
    """Two entries of `fields`, one member of a row: of the last that has a value."""
    api.put("left", [{"id": 1, "v": "l1"}, {"id": 2, "v": "l2"}])
    api.put("right", [{"id": 1, "v": "r1"}, {"id": 2}])
    answer = api.query('SELECT a.v, b.v FROM "left" a JOIN "right" b ON a.id = b.id ORDER BY a.id', params="?fields=true")
    assert answer.json() == {"fields": ["v", "v"], "records": [{"v": "r1"}, {"v": "l2"}]}


# ---- the same rows in every format

def text(rng):
    alphabet = string.ascii_letters + '",\\\n\r\t\x00\x01é😀\u2028 '
    return "".join(rng.choice(alphabet) for _ in range(rng.choice((0, 1, 3, 7, 8, 12, 13, 40))))


def make(rng, i):
    row = {"i": float(i)}
    if rng.random() < 0.8:
        row["f"] = rng.choice((rng.random(), rng.uniform(-1e9, 1e9), float(rng.randrange(-1000, 1000)), 10.0 ** rng.randrange(-30, 30)))
    if rng.random() < 0.8:
        row["t"] = text(rng)
    if rng.random() < 0.8:
        row["b"] = rng.random() < 0.5
    if rng.random() < 0.8:
        row["l"] = [rng.choice((None, "", "x", text(rng))) for _ in range(rng.randrange(4))] + ["last"]
    if rng.random() < 0.8:
        row["event_time"] = (datetime.datetime(2026, 1, 1) + datetime.timedelta(milliseconds=rng.randrange(10 ** 11))).isoformat(timespec="milliseconds") + "Z"
    return row


@pytest.fixture(scope="module")
def many(api):
    rng = random.Random(7)
    rows = [make(rng, i) for i in range(6000)]
    for k in range(0, 6000, 1500):
        api.put("many", [sent(row) for row in rows[k:k + 1500]])
    return api, rows


SELECT = "SELECT i, f, t, b, l, event_time AS at FROM many ORDER BY i"
NAMES = ["i", "f", "t", "b", "l", "at"]


def deep(levels):
    return {"d": deep(levels - 1)} if levels else 1


def sent(row):
    """As a client sends it: with a member that nests too deep for arrays to become rows, they become list columns."""
    return {**row, "deep": deep(12)}


def instant(s):
    return datetime.datetime.fromisoformat(s.rstrip("Z"))


def parsed(row):
    return {"at" if k == "event_time" else k: instant(v) if k in ("at", "event_time") else v for k, v in row.items()}


def test_many_json(many):
    api, rows = many
    got = api.query(SELECT).json()
    assert [parsed(r) for r in got] == [parsed(r) for r in rows]
    assert api.query(SELECT, params="?fields=true").json() == {"fields": NAMES, "records": got}
    filled = api.query(SELECT, sendNull=True).json()
    assert filled == [{name: row.get(name) for name in NAMES} for row in got]


def test_many_ndjson(many):
    api, rows = many
    got = [parsed(json.loads(line)) for line in api.query(SELECT, headers={"Accept": "application/x-ndjson"}).body.split(b"\n")[:-1]]
    assert got == [parsed(r) for r in rows]
    lines = [json.loads(line) for line in api.query(SELECT, params="?streaming=true").body.split(b"\n")[:-1]]
    assert all(isinstance(line, list) and line for line in lines)
    assert [parsed(row) for line in lines for row in line] == got


def test_many_csv(many):
    api, rows = many
    answer = api.query(SELECT, headers={"Accept": "text/csv"})
    body = answer.body.decode()
    assert body.count("\r\n") >= 6001 and body.endswith("\r\n")
    lines = list(csv.reader(io.StringIO(body.replace("\x00", "\ue000"), newline="")))  # Python 3.11's reader knows no NUL
    assert lines[0] == NAMES and len(lines) == 6001
    for row, line in zip(rows, lines[1:]):
        assert float(line[0]) == row["i"]
        assert (float(line[1]) if line[1] else None) == row.get("f")
        assert line[2].replace("\ue000", "\x00") == row.get("t", "")
        assert line[3] == {None: "", True: "true", False: "false"}[row.get("b")]
        assert (json.loads(line[4]) if line[4] else None) == row.get("l")
        assert (instant(line[5]) if line[5] else None) == parsed(row).get("at")


def test_csv_tells_null_from_empty(api):
    api.put("empties", [{"n": 1, "t": ""}, {"n": 2}])
    assert api.query("SELECT n, t FROM empties ORDER BY n", headers={"Accept": "text/csv"}).body == b'n,t\r\n1.0,""\r\n2.0,\r\n'
    assert api.query("SELECT t FROM empties ORDER BY n", headers={"Accept": "text/csv"}).body == b't\r\n""\r\n""\r\n'  # a row does not vanish


def test_many_arrow(many):
    api, rows = many
    table = pyarrow.ipc.open_stream(api.query(SELECT, headers={"Accept": ARROW}).body).read_all()
    table.validate(full=True)
    assert table.schema == pyarrow.schema([("i", pyarrow.float64()), ("f", pyarrow.float64()), ("t", pyarrow.string()), ("b", pyarrow.bool_()),
                                           ("l", pyarrow.list_(pyarrow.field("item", pyarrow.string()))), ("at", pyarrow.timestamp("us"))])
    assert table.to_pylist() == [{name: parsed(row).get(name) for name in NAMES} for row in rows]
    for name in NAMES:
        assert table[name].null_count == sum(name not in parsed(row) for row in rows)


@pytest.mark.parametrize("sql, kind, value", [
    ("1", pyarrow.int64(), 1),
    ("count(*)", pyarrow.int64(), 1),
    ("n", pyarrow.float64(), 1.0),
    ("CAST('NaN' AS DOUBLE)", pyarrow.float64(), None),
    ("CAST(-12.5 AS DECIMAL(10, 2))", pyarrow.decimal128(10, 2), decimal.Decimal("-12.50")),
    ("CAST(7 AS INT)", pyarrow.int32(), 7),
    ("true", pyarrow.bool_(), True),
    ("'text'", pyarrow.string(), "text"),
    ("DATE '2026-01-02'", pyarrow.date32(), datetime.date(2026, 1, 2)),
    ("TIMESTAMP '2026-01-02 03:04:05.678'", pyarrow.timestamp("us"), datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)),
    ("INTERVAL '1 month 3 days 4 seconds'", pyarrow.month_day_nano_interval(), pyarrow.MonthDayNano((1, 3, 4000000000))),
    ("TIMESTAMP '2026-01-01 00:15:30.25' - TIMESTAMP '2026-01-01 00:00:00'", pyarrow.duration("us"), datetime.timedelta(seconds=930.25)),
    ("make_array(1, NULL, 3)", pyarrow.list_(pyarrow.field("item", pyarrow.int64())), [1, None, 3]),
    ("named_struct('a', 1, 'b', 'x')", pyarrow.struct([("a", pyarrow.int64()), ("b", pyarrow.string())]), {"a": 1, "b": "x"}),
])
def test_arrow_type(one, sql, kind, value):
    answer = one.query("SELECT %s AS v FROM one" % sql, headers={"Accept": ARROW})
    assert answer.status == 200, answer
    table = pyarrow.ipc.open_stream(answer.body).read_all()
    table.validate(full=True)
    assert table.schema.field("v").type == kind
    got = table["v"].to_pylist()[0]
    assert got == value or (value is None and got != got)  # Arrow keeps NaN


def test_arrow_is_aligned(many):
    """Messages begin and bodies lie at multiples of 64 bytes of the stream, as readers that map it like to have it."""
    api, _ = many
    body = api.query(SELECT, headers={"Accept": ARROW}).body
    assert body.endswith(b"\xff\xff\xff\xff\0\0\0\0") and len(body) % 64 == 8
    reader = pyarrow.ipc.open_stream(body)
    batches = list(reader)
    assert sum(b.num_rows for b in batches) == 6000 and len(batches) > 1


def test_file_and_stage_print_alike(start_server):
    """Rows read back from Parquet have the forms that they had in the stage."""
    server = start_server()
    rng = random.Random(11)
    rows = [make(rng, i) for i in range(500)]
    server.api.put("many", [sent(row) for row in rows])
    before = server.api.query(SELECT).text
    server.restart()
    server.api.flushed()
    assert server.api.query(SELECT).text == before
    assert [parsed(r) for r in json.loads(before)] == [parsed(r) for r in rows]
