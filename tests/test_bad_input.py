"""What bad input gets: one test or more for each line of the design's section 6, and what hostile clients and disks do besides."""
import gzip
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import time
import zlib

import pytest

import conftest

JSON = {"Content-Type": "application/json"}


def refused(answer, status=400):
    assert answer.status == status, answer
    assert answer.body, "a refusal says why"
    return answer.text


# ---- malformed bodies

MALFORMED = {
    "scalar": b"1", "string": b'"a"', "null": b"null", "empty": b"", "cut": b'{"a":1', "trailing": b'{"a":1}}', "array of scalars": b"[1]",
    "nested null": b"[null]", "duplicate": b'{"a":1,"a":2}', "duplicate below": b'{"o":{"a":1,"a":2}}', "bad utf-8": b'{"a":"\xff"}',
    "overlong utf-8": b'{"a":"\xc0\xaf"}', "surrogate": b'{"a":"\\ud800"}', "NaN": b'{"a":NaN}', "huge number": b'{"a":1e999}', "BOM": b'\xef\xbb\xbf{"a":1}',
    "two documents": b'{"a":1}\n{"a":2}', "single quotes": b"{'a':1}", "control character": b'{"a":"\n"}', "comment": b'{"a":1/*x*/}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_is_refused_whole(api, body):
    refused(api.ingest("malformed", body))
    assert "malformed" not in api.streams() or api.sql("SELECT count(*) AS n FROM malformed") == [{"n": 0}]


def test_message_names_row_and_offset(api):
    body = b'[{"a":1},{"a":2},{"a":"\xff"}]'
    text = refused(api.ingest("offsets", body))
    assert "row 3" in text and str(body.index(b"\xff")) in text, text


def test_one_bad_row_refuses_the_request(api):
    api.put("whole", {"a": 1})
    refused(api.ingest("whole", '[{"a":2},{"a":3},{"a":NaN}]'))
    refused(api.ingest("whole", '[{"a":2},{"a":3},{"p_timestamp":"2026-01-01T00:00:00Z"}]'))
    assert api.count("whole") == 1


@pytest.mark.parametrize("depth", [200, 100000])
def test_too_deep(api, depth):
    refused(api.ingest("deep", b'{"a":' * depth + b"1" + b"}" * depth))
    refused(api.ingest("deep", b'{"a":' + b"[" * depth + b"]" * depth + b"}"))


def test_columns_limit(api):
    """In a new stream, and in one that would grow beyond it; a request at the limit passes."""
    refused(api.ingest("wide-new", {"c%d" % i: i for i in range(1001)}))
    api.put("wide", {"c%d" % i: i for i in range(990)})
    refused(api.ingest("wide", {"d%d" % i: i for i in range(20)}))
    api.put("wide", {"c1": 5})
    assert api.count("wide") == 2


# ---- sizes

LIMIT = 10485760


def test_body_over_the_limit(api):
    refused(api.ingest("big", b'{"a":"' + b"x" * LIMIT + b'"}'), 413)
    exact = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(exact) == LIMIT
    api.put("big", exact)
    assert api.sql("SELECT length(a) AS n FROM big") == [{"n": LIMIT - 8}]


def test_line_of_20_megabytes(api):
    refused(api.ingest("line", b'{"log":"' + b"y" * (20 << 20) + b'"}'), 413)


def test_refused_before_the_body_is_read(server):
    """A declared length is enough: the answer comes without the body."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as s:
        s.sendall(b"POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: s\r\n"
                  b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n" % conftest.basic().encode())
        assert b" 413 " in s.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br"])
def test_bomb(api, server, coding):
    """A quarter of a gigabyte of spaces in a small body."""
    bombs = {"gzip": lambda: gzip.compress(b" " * (1 << 28), 1), "deflate": lambda: zlib.compress(b" " * (1 << 28), 1)}
    if coding in bombs:
        body = bombs[coding]()
    else:
        pyarrow = pytest.importorskip("pyarrow")
        body = pyarrow.compress(b" " * (1 << 28), codec={"br": "brotli"}.get(coding, coding), asbytes=True)
    before = server.rss()
    for _ in range(3):
        refused(api.ingest("bomb", body, {"Content-Encoding": coding}), 413)
    assert server.rss() < before + (300 << 20)


def test_bomb_of_the_query_route(api):
    answer = api.call("POST", "/api/v1/query", gzip.compress(b" " * (256 << 20), 1), {**JSON, "Content-Encoding": "gzip"})
    refused(answer, 413)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br"])
def test_corrupt_compression(api, coding):
    refused(api.ingest("corrupt", b"this is not compressed at all", {"Content-Encoding": coding}))
    refused(api.ingest("corrupt", gzip.compress(b'{"a":1}' * 1000)[:-20], {"Content-Encoding": "gzip"}))


def test_explosion_of_arrays(api, server):
    """100 KB that mean 10^8 rows."""
    before = server.rss()
    row = json.dumps({"a": list(range(500)), "b": list(range(500)), "c": list(range(400))})
    text = refused(api.ingest("explosion", "[%s]" % ",".join([row])), 413)
    assert "row 1" in text, text
    text = refused(api.ingest("explosion", '[{"x":1},%s]' % json.dumps({"t": "z" * 50000, "a": list(range(50000))})), 413)
    assert "row 2" in text, text
    assert server.rss() < before + (500 << 20)
    assert "explosion" not in api.streams() or api.sql("SELECT count(*) AS n FROM explosion") == [{"n": 0}]


# ---- values

def test_integers_beyond_2_53(api):
    def counted():
        return sum(v for k, v in api.metrics().items() if k.startswith("sluice_events_total") and "inexact" in k)

    before = counted()
    api.put("inexact", '[{"n":9007199254740993},{"n":18446744073709551615},{"n":123456789012345678901234567890},{"n":7}]')
    assert [r["n"] for r in api.sql("SELECT n FROM inexact ORDER BY n")] == [7.0, 9007199254740992.0, 18446744073709551616.0, 1.2345678901234568e29]
    assert counted() > before


def test_type_conflict_keeps_the_row(api):
    api.put("conflict", {"v": 1, "id": "a"})
    api.put("conflict", {"v": "text", "id": "b"})
    api.put("conflict", {"v": True, "id": "c"})
    assert api.sql("SELECT v, v_utf8, v_bool FROM conflict ORDER BY id") == [{"v": 1.0}, {"v_utf8": "text"}, {"v_bool": True}]


def test_static_schema_names_field_and_row(api):
    fields = {"fields": [{"name": "a", "data_type": "int"}, {"name": "b", "data_type": "string"}]}
    assert api.create("static", fields, {"X-P-Static-Schema-Flag": "true"}).status == 200
    for bad in ({"a": "x"}, {"a": 1, "zz": 2}, {"b": 5}):
        text = refused(api.ingest("static", [{"a": 1}, bad]))
        assert "2" in text and any(name in text for name in bad), text
    api.put("static", [{"a": 1, "b": "x"}, {}])
    assert api.count("static") == 2


def test_custom_partition_names_field(api):
    assert api.create("parted", headers={"X-P-Custom-Partition": "level"}).status == 200
    for bad in ({"x": 1}, {"level": None}, {"level": ""}, {"level": "a.b"}, {"level": 1.5}):
        assert "level" in refused(api.ingest("parted", [{"level": "ok"}, bad]))
    for good in ("a/b", "//", "é", "a b", "%2e%2e", "a=b", "~", "x" * 300):
        api.put("parted", {"level": good})
        api.put("parted", {"level": good}, {"X-P-Ack": "object"})
        assert api.sql("SELECT count(*) AS n FROM parted WHERE level = '%s'" % good) == [{"n": 2}], good


# ---- names

@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc", "a b", "a.b", "select", "x" * 300, "a\tb", "a'b", 'a"b', "%2e%2e", ""])
def test_bad_names(api, name):
    quoted = name.replace("%", "%25").replace("/", "%2F").replace(" ", "%20").replace("\t", "%09").replace('"', "%22") or "%20"
    refused(api.create(quoted))
    refused(api.ingest(name.replace("\t", "%09"), {"a": 1}))


@pytest.mark.parametrize("path", ["/api/v1/logstream/../../../etc/passwd", "/api/v1/logstream/%2e%2e%2f%2e%2e/schema", "/api/v1/logstream/..%00/info"])
def test_paths_that_climb(api, path):
    assert api.get(path).status in (400, 404)


def test_unknown_and_internal_streams(api):
    for what in ("info", "schema", "stats", "retention"):
        refused(api.get("/api/v1/logstream/nobody/" + what), 404)
    refused(api.delete("nobody"), 404)
    refused(api.call("POST", "/api/v1/logstream/nobody", {"a": 1}), 404)
    refused(api.ingest("pmeta", {"a": 1}))
    refused(api.query("SELECT * FROM nobody"), 400)


def test_names_that_differ_only_in_case(api):
    """Quoted is exact, unquoted is lower case; neither streams nor columns ever swap, staged or in files."""
    for ack in ("object", "wal"):
        for stream in ("Case", "case", "CASE"):
            api.put(stream, {"level": stream + " lower", "Level": stream + " capital", "LEVEL": stream + " upper"}, {"X-P-Ack": ack})
        for stream in ("Case", "case", "CASE"):
            rows = api.sql('SELECT level, "Level", "LEVEL" FROM "%s"' % stream)
            assert rows == [{"level": stream + " lower", "Level": stream + " capital", "LEVEL": stream + " upper"}] * len(rows)
            assert len(rows) == (1 if ack == "object" else 2)
            star = api.sql('SELECT * FROM "%s" LIMIT 1' % stream)[0]
            assert (star["level"], star["Level"], star["LEVEL"]) == (stream + " lower", stream + " capital", stream + " upper")
        assert {r["l"] for r in api.sql("SELECT LEVEL AS l FROM CASE_ UNION ALL SELECT Level AS l FROM \"case\"".replace("CASE_", '"case"'))} == {"case lower"}
    assert api.sql('SELECT "Level" AS x FROM "Case" WHERE "LEVEL" = \'Case upper\' LIMIT 1') == [{"x": "Case capital"}]
    assert api.delete("Case").status == 200
    assert api.count("case") == api.count("CASE") == 2


# ---- SQL

HOSTILE = [
    "COPY app TO '/tmp/x.csv'", "CREATE TABLE t (a INT)", "DROP TABLE app", "INSERT INTO app VALUES (1)", "UPDATE app SET a = 1", "DELETE FROM app",
    "ATTACH '/tmp/x.db'", "PRAGMA version", "SET memory_limit = '1GB'", "INSTALL httpfs", "LOAD httpfs", "CALL pragma_version()",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_parquet('/**/*.parquet')", "SELECT * FROM glob('/*')",
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM duckdb_settings()", "SELECT * FROM information_schema.tables", "SELECT * FROM sqlite_master",
    "SELECT getenv('HOME') FROM app", "SELECT current_setting('threads') FROM app", "SELECT 1 FROM app; SELECT 2 FROM app",
    "SELECT (SELECT content FROM read_text('/etc/passwd')) FROM app", "WITH x AS (SELECT * FROM read_csv('/etc/passwd')) SELECT * FROM app, x",
    "EXPLAIN COPY app TO '/tmp/x'", "SELECT * FROM query('SELECT 1')", "SELECT query_table('app')", "EXPLAIN ANALYZE DELETE FROM app", "CHECKPOINT", "EXPORT DATABASE '/tmp/x'",
    "SELECT * FROM main.app", "SELECT * FROM pg_catalog.pg_tables", "SELECT * FROM duckdb_logs", "VACUUM", "BEGIN",
    "SELECT repeat('x', 1000000000) FROM app", "SELECT lpad('x', 2000000000, 'y') FROM app", "SELECT * FROM range(1000000000000)",
    "SELECT * FROM app WHERE a = (SELECT count(*) FROM generate_series(1, 100000000000))",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql(api, server, sql):
    if "app" not in api.streams():
        api.put("app", {"a": 1})
    refused(api.query(sql))
    assert api.count("app") == 1
    assert not os.path.exists("/tmp/x.csv")


@pytest.mark.parametrize("sql", ["SELECT", "", " ", "((((" * 5000, "SELECT " + "(" * 3000 + "1" + ")" * 3000 + " FROM app", "SELECT a FROM app WHERE " + "a=1 OR " * 20000 + "a=2",
                                 "SELECT '\x00' FROM app", "SELECT \"a FROM app", "SELECT * FROM app -- \n; --", "sElEcT nope FROM app", "\ufeffSELECT 1 FROM app x y z"],
                         ids=range(11))
def test_odd_sql(api, server, sql):
    if "app" not in api.streams():
        api.put("app", {"a": 1})
    answer = api.query(sql)
    assert answer.status in (200, 400), answer
    assert api.count("app") == 1


def test_query_that_needs_100_gigabytes(start_server):
    """Refused by its limits with an error; others are served meanwhile and afterwards."""
    server = start_server(env={"SLUICE_QUERY_MEMORY": "256MiB", "SLUICE_QUERY_SPILL": "64MiB", "SLUICE_QUERY_TIMEOUT": "20s"})
    api = server.api
    api.put("app", [{"n": i, "t": "%060d" % i} for i in range(20000)])
    before = server.rss()
    sql = "SELECT a.t || b.t || c.n AS k, count(*) FROM app a, app b, app c GROUP BY k ORDER BY k"
    answer = api.query(sql)
    assert answer.status in (400, 500, 503) and answer.body, answer
    assert api.count("app") == 20000
    assert server.rss() < before + (1500 << 20)
    left = [f for _, _, files in os.walk(server.data) for f in files if "duckdb_temp" in f]
    assert not left, "spill files stay behind: %s" % left


# ---- connections

def test_10000_silent_connections(start_server):
    """They say nothing and stay; the server goes on to answer others."""
    count = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip("the limit of open files is %d here" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = start_server(env={"SLUICE_KEEP_ALIVE": "60s"})
    server.api.put("app", {"n": 1})
    before = server.rss()
    silent = []
    try:
        for i in range(count):
            s = socket.socket()
            s.bind(("127.0.0.%d" % (2 + i % 8), 0))  # more addresses have more ports
            s.settimeout(30)
            s.connect(("127.0.0.1", server.port))
            silent.append(s)
        for turn in range(20):
            server.api.put("app", {"n": turn})
        assert server.api.count("app") == 21
        assert server.rss() < before + (1 << 30)
    finally:
        for s in silent:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.api.count("app") == 21


def test_silent_connections_are_closed(start_server):
    server = start_server(env={"SLUICE_KEEP_ALIVE": "1s"})
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        assert s.recv(100) == b""  # closed by the server
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(b"POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\n")  # headers that do not end
        assert s.recv(100) in (b"", None) or True


def test_body_that_stops_half_way(start_server):
    server = start_server(env={"SLUICE_KEEP_ALIVE": "1s"})
    head = ("POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: half\r\nContent-Length: 100000\r\n\r\n"
            % conftest.basic()).encode()
    stuck = []
    for cut in (0, 1, 50, 5000):
        s = socket.create_connection(("127.0.0.1", server.port), 60)
        s.sendall(head + b'[{"a":1},' + b'{"a":2},' * cut)
        stuck.append(s)
    stuck[0].close()  # one leaves, the others stay silent
    for s in stuck[1:]:
        data = s.recv(4096)
        assert data == b"" or b" 408 " in data.split(b"\r\n")[0], data
        s.close()
    assert "half" not in server.api.streams() or server.api.sql("SELECT count(*) AS n FROM half") == [{"n": 0}]
    server.api.put("half", {"a": 1})
    assert server.api.count("half") == 1
    assert server.stop() == 0


def test_more_bodies_at_once_than_memory(start_server):
    """All may begin, as none has sent anything; those beyond the budget hear 503, and when the others are gone there is room again."""
    server = start_server(env={"SLUICE_KEEP_ALIVE": "60s"})
    length, count = 10_000_000, 80  # of 512 MiB
    head = ("POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: many\r\nContent-Length: %d\r\n\r\n"
            % (conftest.basic(), length)).encode()
    many = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(count)]
    try:
        for s in many:
            s.sendall(head)
        time.sleep(0.5)  # heads are read before bodies
        for s in many:
            s.sendall(b"[")
        time.sleep(0.5)
        many[-1].sendall(b" " * (length - 2) + b"]")
        assert many[-1].recv(4096).startswith(b"HTTP/1.1 503 ")
    finally:
        for s in many:
            s.close()
    assert server.api.wait(lambda: server.api.ingest("many", {"a": 1}).status == 200)
    assert server.api.count("many") == 1


def test_compressed_bodies_count_as_what_they_become(start_server):
    """Thousands of small bodies may wait for a worker, and each become 10 MB that is kept until its rows are acknowledged."""
    server = start_server(env={"SLUICE_INFLIGHT_MAX": "4MiB"})
    body = gzip.compress(b'[{"a":1}' + b" " * 8_000_000 + b"]")
    headers = {**JSON, "X-P-Stream": "grown", "Content-Encoding": "gzip"}
    answer = server.api.call("POST", "/api/v1/ingest", body, headers)
    assert refused(answer, 503) and answer.headers["Retry-After"]
    for _ in range(3):  # what was refused is given back
        assert server.api.call("POST", "/api/v1/ingest", gzip.compress(b'[{"a":1}' + b" " * 1_000_000 + b"]"), headers).status == 200
    assert server.api.count("grown") == 3


@pytest.mark.parametrize("header", [("X-Forwarded-For", b"10.0.0.\xff"), ("Forwarded", b"for=\xc3("), ("User-Agent", b"\xf0\x28"),
                                    ("X-P-Tag", b"a\xfe"), ("X-Forwarded-For", "é".encode() * 60)])
def test_headers_that_are_no_text(server, header):
    """Header values become columns: what is no UTF-8 must not get into a file, where it would stop every flush and query."""
    name, value = header
    body = b'{"a":1}'
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(("POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: heads\r\nContent-Length: %d\r\n%s: "
                   % (conftest.basic(), len(body), name)).encode() + value + b"\r\n\r\n" + body)
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
    for row in server.api.sql("SELECT * FROM heads"):
        assert row["a"] == 1
        assert "\ufffd" not in json.dumps(row, ensure_ascii=False)


def test_names_with_nul_and_settings_that_are_no_text(start_server):
    """What JSON escapes and what headers carry ends in the catalog's slots: each must be read again at the next start."""
    server = start_server()
    api = server.api
    rows = [{"a\0b": 1, "c\0": "d\0e", "\u001b[31m": 2}]
    api.put("nul", rows, {"X-P-Ack": "object"})
    api.put("whole", {"a": 1}, {"X-P-Ack": "object"})
    bad = {"X-P-Custom-Partition": b"a\xff"}
    assert "UTF-8" in refused(api.call("PUT", "/api/v1/logstream/half", headers=bad))
    assert "UTF-8" in refused(api.call("PUT", "/api/v1/logstream/whole", headers={**bad, "X-P-Update-Stream": "true"}))
    assert "half" not in api.streams()
    assert api.call("PUT", "/api/v1/logstream/half").status == 200  # nothing of the refused one is left
    for clean in (True, False):
        server.restart(clean)
        assert [{k: v for k, v in r.items() if not k.startswith("p_")} for r in api.sql("SELECT * FROM nul")] == rows
        assert api.count("whole") == 1 and api.count("half") == 0
    api.put("nul", rows)
    assert api.count("nul") == 2


def raw(port, head, body=b"", auth=True):
    """All that comes back until the server closes, or has been silent for a second; and whether it closed."""
    lines = [head, b"Host: x"] if b"Host:" not in head else [head]
    if auth:
        lines.append(b"Authorization: " + conftest.basic().encode())
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        s.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        s.settimeout(1)
        data = b""
        try:
            while got := s.recv(65536):
                data += got
            return data, True
        except TimeoutError:
            return data, False
        except ConnectionError:
            return data, True


INGEST = b"POST /api/v1/ingest HTTP/1.1\r\nContent-Type: application/json\r\nX-P-Stream: smuggled\r\n"
HIDDEN = b'{"a":1}GET /api/v1/about HTTP/1.1\r\nHost: x\r\n\r\n'


@pytest.mark.parametrize("framing", [b"Content-Length: 7\r\nContent-Length: 44", b"Content-Length: 44\r\nTransfer-Encoding: chunked",
                                     b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: xchunked",
                                     b"Transfer-Encoding: gzip, chunked", b"Content-Length : 7", b"Host: a\r\nHost: b\r\nContent-Length: 7"])
def test_no_request_hides_in_a_body(server, framing):
    """Where a proxy may see another end of a request than this server does (RFC 9112, 11.2), nothing of it is taken, nor what follows."""
    data, closed = raw(server.port, INGEST + framing, HIDDEN)
    assert data.startswith(b"HTTP/1.1 400 ") and closed and data.count(b"HTTP/1.1 ") == 1, data
    assert "smuggled" not in server.api.streams()


def test_bodies_where_none_is_expected_are_ignored(server, api):
    """Clients send {} with everything; what follows on the connection is the next request."""
    api.put("bodies", {"a": 1})
    next_one = b"{}GET /api/v1/liveness HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (b"GET /api/v1/logstream/bodies/stats", b"GET /api/v1/liveness", b"DELETE /api/v1/logstream/bodies"):
        data, _ = raw(server.port, head + b" HTTP/1.1\r\nContent-Length: 2", next_one)
        assert data.count(b"HTTP/1.1 200 ") == 2, data
    assert "bodies" not in api.streams()


def test_answers_are_text_whatever_the_request(server):
    """Names come back in messages: no control characters for the reader's terminal, and UTF-8 as the content type says."""
    data, _ = raw(server.port, b"GET /api/v1/logstream/%1b%5b31m%ff%c3/info HTTP/1.1")
    body = data.split(b"\r\n\r\n", 1)[1]
    assert data.startswith(b"HTTP/1.1 404 ") and body.decode().isprintable(), body
    data, _ = raw(server.port, b"GET /api/v1/logstream/" + "é".encode() * 2000 + b"/info HTTP/1.1")  # cut between characters
    assert data.startswith(b"HTTP/1.1 404 ") and data.split(b"\r\n\r\n", 1)[1].decode().isprintable()


def test_chunked_body_that_stops(server):
    head = ("POST /api/v1/ingest HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nX-P-Stream: chunks\r\n"
            "Transfer-Encoding: chunked\r\n\r\n" % conftest.basic()).encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(head + b'8\r\n{"a":1},\r\n5\r\n{"a"')
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(head + b'zz\r\n{"a":1}\r\n0\r\n\r\n')
        assert b" 400 " in s.recv(4096).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(head + b'7\r\n{"a":1}\r\n0\r\n\r\n')
        assert b" 200 " in s.recv(4096).split(b"\r\n")[0]
    assert server.api.count("chunks") == 1


@pytest.mark.parametrize("bytes_", [b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100000,
                                    b"POST /api/v1/ingest HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"POST /api/v1/ingest HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"],
                         ids=range(7))
def test_garbage_on_the_wire(server, bytes_):
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        try:
            s.sendall(bytes_)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError:
            pass
    assert server.api.get("/api/v1/liveness").status == 200


# ---- a damaged disk

# Nothing moves by itself meanwhile.
QUIET = {"SLUICE_FLUSH_IDLE": "1h", "SLUICE_FLUSH_AGE": "1h", "SLUICE_COMPACT_INTERVAL": "1h", "SLUICE_INDEX_INTERVAL": "1h", "SLUICE_WAL_SEGMENT": "1MiB"}


def copy(source, target):
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)


def damage(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x55]))


def places(size, count):
    """Offsets in every region: the first and last bytes, and evenly between."""
    edge = [0, 1, 4, 5, 8, 12, 16, 20, 24, 32]
    found = {o for o in edge + [size - 1 - e for e in edge] + [i * size // count for i in range(count)] if 0 <= o < size}
    return sorted(found)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A data directory with data files, manifests, slots and a WAL that holds rows of its own; and what SQL answered."""
    server = conftest.Server(env=QUIET)
    try:
        server.start()
        for turn in range(300):  # more files than a head holds by itself
            server.api.put("app", [{"turn": turn, "i": i} for i in range(3)], {"X-P-Ack": "object"})
        assert server.api.wait(lambda: kinds_of(server.data)["manifest"]), "the fold wrote no manifest"
        for turn in range(300, 310):
            server.api.put("app", [{"turn": turn, "i": i} for i in range(3)])
        right = server.api.sql(SUMS)
        assert right == [{"n": 930, "s": 3.0 * sum(range(310)), "i": 930.0}]
        server.kill()
        folder = tmp_path_factory.mktemp("disk") / "data"
        copy(server.data, folder)
        yield folder, right
    finally:
        server.done()


SUMS = "SELECT count(*) AS n, sum(turn) AS s, sum(i) AS i FROM app"


def kinds_of(folder):
    files = {"data": [], "manifest": [], "head": [], "slot": [], "wal": []}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            kind = ("wal" if "/wal" in where and name not in ("lock",) and not name.startswith("spare") else "data" if name.endswith(".parquet") else "manifest" if name.endswith(".slm")
                    else "head" if "/_head" in where else "slot" if ".sluice/" in where and "/nodes" not in where else None)
            if kind:
                files[kind].append(path)
    return {k: sorted(v) for k, v in files.items()}


@pytest.mark.parametrize("kind", ["data", "manifest", "head", "slot", "wal"])
@pytest.mark.local_store
def test_flipped_byte(start_server, disk, tmp_path, kind):
    """Never a wrong answer without an error: what is not right is refused with a reason, or (the cut end of a WAL) reported."""
    folder, right = disk
    paths = kinds_of(folder)[kind]
    assert paths, "nothing of this kind in the store"
    per_file = 64 if conftest.SOAK else 6
    chosen = paths if conftest.SOAK else [paths[0], paths[len(paths) // 2], paths[-1]]
    seen = {"right": 0, "error": 0, "refused to start": 0, "reported loss": 0}
    cases = [(path, offset) for path in dict.fromkeys(chosen) for offset in places(min(os.path.getsize(path), 65536 if kind == "wal" else 1 << 40), per_file)]
    if not conftest.SOAK:
        cases = cases[:: max(1, len(cases) // 14)]
    for number, (path, offset) in enumerate(cases):
        data = tmp_path / str(number)
        copy(folder, data)
        damage(data / os.path.relpath(path, folder), offset)
        server = start_server(start=False, data=data, env=QUIET)
        where = "%s at %d" % (os.path.relpath(path, folder), offset)
        try:
            server.start()
        except AssertionError:
            assert server.process.poll() not in (None, 0) and server.process.returncode > 0, "%s: %s" % (where, server.log()[-3000:])
            said = server.log().partition("\n")[2]
            assert kind in ("wal", "slot") or os.path.basename(path) in said, (where, said)
            assert said, where
            seen["refused to start"] += 1
        else:
            for _ in range(2):
                answer = server.api.query(SUMS)
                if answer.status != 200:
                    assert answer.body, where
                    seen["error"] += 1
                elif answer.json() == right:
                    seen["right"] += 1
                else:
                    assert kind == "wal" and '"level":"warn"' in server.log() or '"level":"error"' in server.log(), (where, answer)
                    if kind == "manifest":  # all that it names is out of reach, and said to be
                        assert answer.headers["X-Sluice-Skipped-Files"], (where, answer)
                    else:
                        assert answer.json()[0]["n"] >= 900, (where, answer)
                    seen["reported loss"] += 1
        finally:
            if server.process.poll() is None:
                server.kill()
            shutil.rmtree(data)
    print(kind, len(cases), seen)
    if kind == "data":
        assert seen["error"] > 0, seen


TOTALS = "SELECT count(*) AS n, sum(a) AS a, count(DISTINCT t) AS d, min(t) AS low, max(t) AS high FROM rows"


@pytest.mark.local_store
def test_flipped_byte_of_one_file(start_server):
    """Wherever it is, in numbers and texts that would still decode too: the first query names the file, those after it say what they leave out."""
    server = start_server(env=QUIET)
    api = server.api
    api.put("rows", [{"a": i * 7 % 1000, "t": "text %d" % (i * 31 % 977)} for i in range(3000)], {"X-P-Ack": "object"})
    right = api.sql(TOTALS)
    server.stop()
    path = next(p for p in (server.data / "store").rglob("*.parquet"))
    size, steps = path.stat().st_size, 400 if conftest.SOAK else 16
    for step in range(steps):
        offset = step * (size - 1) // (steps - 1)
        damage(path, offset)
        server.start()
        answer = api.query(TOTALS)
        assert answer.status == 500 and path.name in answer.text, (offset, answer)
        server.kill()
        damage(path, offset)  # whole again
    server.start()
    assert api.sql(TOTALS) == right


def test_two_servers_do_not_share_a_port(start_server, tmp_path):
    """With folders of their own: half of the rows would go to each."""
    first = start_server()
    run = subprocess.run([conftest.binary(), "serve", "--data", str(tmp_path / "other"), "--addr", "127.0.0.1:%d" % first.port],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "another server" in run.stderr, run
    first.api.put("s", {"n": 1})
    first.kill()
    assert first.process.returncode and first.start().api.count("s") == 1


@pytest.mark.local_store
def test_compaction_goes_round_damage(start_server):
    """A damaged file is not merged into one whose checksum is right, costs its neighbours and other streams nothing, and is told once."""
    server = start_server(env=QUIET)
    api = server.api
    for turn in range(70):
        for stream in ("rows", "other"):
            api.put(stream, [{"a": turn * 100 + i, "t": "text %d" % i} for i in range(100)], {"X-P-Ack": "object"})
    server.stop()
    files = sorted((server.data / "store/rows").rglob("*.parquet"))
    victim, gone = files[30], files[40]
    damage(victim, 300)  # in the values of the first columns, which decode all the same
    gone.rename(server.folder / "gone")
    server.env = {**QUIET, "SLUICE_COMPACT_INTERVAL": "500ms"}
    server.start()
    assert api.wait(lambda: api.metrics().get("sluice_compaction_inputs_total", 0) >= 68 + 70), "the others are merged"
    rounds = 'sluice_maintenance_total{duty="compact"}'
    before = api.metrics()[rounds]
    assert api.wait(lambda: api.metrics()[rounds] >= before + 3)
    assert not any(k.startswith("sluice_maintenance_errors_total") for k in api.metrics())
    assert server.log().count(victim.name) == 1 and server.log().count(gone.name) == 1
    answer = api.query(TOTALS)
    assert answer.status == 500 and victim.name in answer.text, answer
    damage(victim, 300)  # whole again
    (server.folder / "gone").rename(gone)
    assert api.wait(lambda: api.query(TOTALS).status == 200)
    assert api.count("rows") == 7000


@pytest.mark.local_store
def test_damaged_file_is_named_and_others_are_answered(start_server, disk, tmp_path):
    folder, _ = disk
    data = tmp_path / "data"
    copy(folder, data)
    server = start_server(data=data, env=QUIET)
    api = server.api
    api.put("sound", [{"a": 1}] * 3, {"X-P-Ack": "object"})
    server.stop()
    path = kinds_of(data)["data"]
    victim = next(p for p in path if "/app/" in p)
    damage(victim, os.path.getsize(victim) // 2)
    server.start()
    answer = api.query(SUMS)
    assert answer.status == 500 and os.path.basename(victim) in answer.text, answer
    assert api.count("sound") == 3
    assert api.wait(lambda: "pmeta" in api.streams() and
                    api.sql("SELECT count(*) AS n FROM pmeta WHERE kind = 'quarantine'")[0]["n"] > 0), "no row in pmeta"


@pytest.mark.local_store
def test_foreign_objects_in_the_store(start_server):
    server = start_server()
    api = server.api
    api.put("app", [{"a": i} for i in range(10)], {"X-P-Ack": "object"})
    server.stop()
    store = server.data / "store"
    some = next(p for p in store.rglob("*.parquet"))
    shutil.copy(some, some.with_name("a-stranger.parquet"))
    (store / "README.txt").write_text("not ours")
    (store / "app" / "notes").mkdir()
    (store / "app" / "notes" / "x").write_text("y")
    (store / ".sluice" / "names" / "zz").write_text("?")
    server.start()
    assert api.count("app") == 10
    api.put("app", [{"a": i} for i in range(10)], {"X-P-Ack": "object"})
    server.restart(clean=False)
    assert api.count("app") == 20
    assert (store / "README.txt").read_text() == "not ours"


def test_two_servers_on_one_directory(start_server):
    first = start_server()
    first.api.put("app", {"a": 1})
    second = start_server(start=False, data=first.data)
    second.spawn()
    assert second.process.wait(60) > 0
    assert str(first.data) in second.log() or "another" in second.log(), second.log()
    assert first.api.count("app") == 1
    first.restart(clean=False)
    assert first.api.count("app") == 1


def test_the_data_directory_of_another_store(start_server, tmp_path):
    """Rows that wait in its WAL are not for this store: refused, and nothing is lost by the try."""
    first = start_server("--store", str(tmp_path / "one"))
    first.api.put("app", [{"a": i} for i in range(5)])
    first.kill()
    second = start_server("--store", str(tmp_path / "two"), data=first.data, start=False)
    second.spawn()
    assert second.process.wait(60) == 1
    assert "belongs to another store" in second.log() and "data directory of its own" in second.log(), second.log()
    first.start()
    assert first.api.count("app") == 5


# ---- the disk is full

def test_full_disk_answers_503_and_recovers(start_server, tmp_path):
    """A small file system of its own, filled up: 503 with Retry-After, nothing acknowledged is lost, and it goes on when there is room."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    try:
        server = start_server(data=mount / "data", env={"SLUICE_WAL_SEGMENT": "4MiB", "SLUICE_DISK_RESERVE": "16MiB"})
        api, acked, full = server.api, 0, None
        ballast = mount / "ballast"
        with open(ballast, "wb") as f:
            try:
                while True:
                    f.write(b"\0" * (1 << 20))
                    f.flush()
            except OSError:
                pass
        for i in range(400):
            answer = api.ingest("app", [{"i": i, "pad": os.urandom(200).hex()} for _ in range(200)])
            if answer.status == 200:
                acked += 200
            else:
                full = answer
                break
        assert full is not None and full.status == 503 and full.headers.get("Retry-After"), full
        assert api.count("app") == acked if acked else True
        ballast.unlink()
        assert api.wait(lambda: api.ingest("app", [{"i": -1, "pad": "x"}]).status == 200, 60), "no ingest after there is room again"
        assert api.count("app", "i >= 0") == acked if acked else True
        server.restart(clean=False)
        assert api.count("app", "i >= 0") == acked if acked else True
        server.kill()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
