"""The command line as a user meets it: settings, ingest, query, tail, stream, catalog."""
import gzip
import json
import os
import re
import signal
import subprocess
import time

import pytest

from conftest import ROOT, binary


def run(*args, stdin=None, env=None, timeout=120):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "P_"))}
    environment.update({"HOME": "/nonexistent", **(env or {})})
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out = subprocess.run([binary(), *map(str, args)], input=data if data is not None else b"", capture_output=True, env=environment, timeout=timeout)
    out.text, out.said = out.stdout.decode(errors="replace"), out.stderr.decode()
    return out


@pytest.fixture
def cli(server):
    def call(*args, code=0, **k):
        out = run(*args, "--server", server.url, **k)
        assert out.returncode == code, (args, out)
        return out
    return call


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- help and settings


def test_docs_are_what_the_program_says():
    assert run("config", "check", "--docs").text == (ROOT / "docs/configuration.md").read_text()
    assert run("help", "--docs").text == (ROOT / "docs/cli.md").read_text()


def test_version():
    assert re.match(r"sluice \d+\.\d+\.\d+ \(commit \S+, DuckDB v\d+\.\d+\.\d+\)\n$", run("--version").text)
    assert set(json.loads(run("version", "-o", "json").text)) == {"version", "commit", "engine"}


@pytest.mark.parametrize("args, says", [
    (["qury"], "did you mean query?"),
    (["stream", "lst"], "did you mean ls?"),
    (["serve", "--dta", "x"], "did you mean --data?"),
    (["serve", "--query-memory", "much"], "--query-memory: 'much' is no size"),
    (["serve", "--addr"], "--addr needs a value"),
    (["serve", "extra"], "one argument too many"),
    (["query", "-o", "tabel", "SELECT 1"], "did you mean table?"),
    (["tail"], "STREAM is missing"),
    (["ingest", "-"], "say --stream NAME"),
    (["stream", "rm", "x"], "say --yes"),
    (["config", "check", "--addr", "8000"], "--addr: address '8000': write host:port"),
    (["config", "check", "--addr", "127.0.0.1:99999"], "write host:port"),
    (["config", "check", "--store", "http://minio/logs"], "--store: 'http://minio/logs' is no address of a bucket"),
    (["config", "check", "--store", "s3:/logs"], "write s3://bucket/prefix"),
    (["config", "check", "--cors=maybe"], "--cors: 'maybe' is neither true nor false"),
    (["config", "check", "--cors", "maybe"], "'maybe' is one argument too many"),
    (["config", "check", "--config", "/no/such/file"], "/no/such/file"),
    (["config", "check", "--config", "/tmp"], "--config: /tmp: "),
    ([], "usage: sluice COMMAND"),
])
def test_wrong_usage_exits_2_and_says_what_to_do(args, says):
    out = run(*args)
    assert out.returncode == 2 and says in out.said, out
    assert out.text == ""


@pytest.mark.parametrize("words, value", [
    ([], "true"), (["--s3-path-style"], "true"), (["--s3-path-style", "--cors"], "true"), (["--s3-path-style", "false"], "false"),
    (["--s3-path-style=false"], "false"), (["--s3-path-style", "Off", "--cors"], "Off"), (["--s3-path-style", "1"], "1"),
])
def test_truth_on_the_command_line(words, value):
    out = run("config", "check", *words, "-o", "json")
    assert out.returncode == 0, out
    assert json.loads(out.text)["s3-path-style"]["value"] == value


def test_config_check_shows_the_strongest_source_and_no_secret(tmp_path):
    file = tmp_path / "sluice.yaml"
    file.write_text("addr: 1.1.1.1:1\nquery:\n  memory: 1GiB\n  engines: 3\nflush_age: 2s\n")
    env = {"P_ADDR": "2.2.2.2:2", "P_FS_DIR": "/srv/store", "SLUICE_QUERY_ENGINES": "4", "P_PASSWORD": "hunter2", "P_KAFKA_TOPICS": "b"}
    out = run("config", "check", "--config", file, "--query-engines", "5", "-o", "json", env=env)
    assert out.returncode == 0
    got = json.loads(out.text)
    assert got["addr"] == {"value": "2.2.2.2:2", "source": "P_ADDR"}
    assert got["store"] == {"value": "/srv/store", "source": "P_FS_DIR"}
    assert got["query-engines"] == {"value": "5", "source": "--query-engines"}
    assert got["query-memory"]["source"].endswith("sluice.yaml:3: query_memory")
    assert got["password"] == {"value": "********", "source": "P_PASSWORD"}
    assert "hunter2" not in out.text + out.said
    assert "P_KAFKA_TOPICS" in out.said
    file.write_text("adr: x\n")
    bad = run("config", "check", "--config", file)
    assert bad.returncode == 2 and "sluice.yaml:1: adr is no setting: did you mean addr?" in bad.said


# ---- a server


def test_second_server_on_a_data_folder_is_refused(server):
    out = run("serve", "--data", server.data, "--addr", "127.0.0.1:0")
    assert out.returncode == 1 and "another sluice server uses" in out.said


def test_root_user_of_the_contract_and_password_file(start_server, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("tree house\n")
    # readiness needs no user: the fixture can start it
    server = start_server(env={"P_USERNAME": "root", "SLUICE_PASSWORD_FILE": str(secret)})
    assert run("stream", "ls", "--server", server.url).returncode == 1
    assert "SLUICE_USERNAME" in run("stream", "ls", "--server", server.url).said
    assert run("stream", "ls", "--server", server.url, "--username", "root", "--password-file", secret).returncode == 0
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine other login a password b\nmachine 127.0.0.1\n  login root\n  password tree\n")
    assert run("stream", "ls", "--server", server.url, env={"HOME": str(home)}).returncode == 1
    (home / ".netrc").write_text("machine other login a password b\nmachine 127.0.0.1 login root password treehouse\n")
    secret.write_text("treehouse\n")
    assert server.stop() == 0
    server.start()
    assert run("stream", "ls", "--server", server.url, env={"HOME": str(home)}).returncode == 0
    assert "treehouse" not in server.log() and "tree house" not in server.log()


def test_admin_on_every_address_is_warned_of(start_server):
    server = start_server("--addr", "0.0.0.0:0", start=False)
    server.spawn()
    try:
        assert server.api.wait(lambda: "ready" in server.log(), 60)
        assert "log in as admin/admin" in server.log()
    finally:
        assert server.stop() == 0


def test_no_server():
    out = run("query", "SELECT 1", "--server", "http://127.0.0.1:1")
    assert out.returncode == 1 and "nothing answers at http://127.0.0.1:1" in out.said


# ---- ingest and query


def test_ingest_reads_every_form(cli, api, tmp_path):
    rows = [{"i": i, "text": "line %d\n\"{[" % i} for i in range(3000)]
    lines = "\n".join(json.dumps(r) for r in rows)
    forms = {
        "lines.ndjson": lines.encode(),
        "crlf.ndjson": lines.replace("\n", "\r\n\r\n").encode(),
        "array.json": json.dumps(rows).encode(),
        "pretty.json": json.dumps(rows, indent=2).encode(),
        "arrays.json": b"\n".join(json.dumps(rows[i:i + 100]).encode() for i in range(0, 3000, 100)),
        "spread.json": "\n".join(json.dumps(r, indent=1) for r in rows).encode(),
        "bom.ndjson": b"\xef\xbb\xbf" + lines.encode(),
        "packed.ndjson.gz": gzip.compress(lines[:5000].encode()) + gzip.compress(lines[5000:].encode()),
    }
    forms["packed.ndjson.zst"] = subprocess.run(["zstd", "-q"], input=lines.encode(), capture_output=True, check=True).stdout
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        stream = "form_" + name.replace(".", "_")
        summary = json.loads(cli("ingest", "--stream", stream, "--batch", "20KiB", "-o", "json", tmp_path / name).text)
        assert summary["rows"] == 3000 and summary["complete"], (name, summary)
        assert api.sql("SELECT count(*) AS n, count(DISTINCT i) AS d, max(i) AS m FROM " + stream)[0] == {"n": 3000, "d": 3000, "m": 2999.0}, name
    cli("ingest", tmp_path / "lines.ndjson")
    assert api.count("lines") == 3000
    cli("ingest", "-s", "from_stdin", "-", stdin=lines)
    assert api.count("from_stdin") == 3000


def test_a_bad_line_is_named_and_what_is_before_it_is_there(cli, api, tmp_path):
    file = tmp_path / "bad.ndjson"
    file.write_text('{"i":1}\n\n{"i":2}\n{"i":}\n{"i":4}\n')
    out = cli("ingest", "-s", "bad1", file, code=1)
    assert "bad.ndjson:4: no JSON: " in out.said
    assert sorted(r["i"] for r in api.sql("SELECT i FROM bad1")) == [1, 2]
    out = cli("ingest", "-s", "bad2", "--skip-bad", "-o", "json", file, code=1)
    assert json.loads(out.text)["bad"] == 1
    assert sorted(r["i"] for r in api.sql("SELECT i FROM bad2")) == [1, 2, 4]


def test_rows_that_only_the_server_refuses_are_named_too(cli, api, tmp_path):
    file = tmp_path / "refused.ndjson"
    file.write_text("".join('{"i":%d%s}\n' % (i, ',"p_timestamp":"2026-01-01T00:00:00Z"' if i in (7, 90) else "") for i in range(1, 101)))
    out = cli("ingest", "-s", "refused", "--skip-bad", file, code=1)
    assert "refused.ndjson:7: " in out.said and "refused.ndjson:90: " in out.said
    assert api.sql("SELECT count(*) AS n, count(DISTINCT i) AS d FROM refused")[0] == {"n": 98, "d": 98}


def test_a_file_that_ends_too_soon(cli, tmp_path):
    packed = gzip.compress(b'{"i":1}\n' * 100000)
    (tmp_path / "cut.gz").write_bytes(packed[:len(packed) // 2])
    assert "in the middle of its gzip data" in cli("ingest", "-s", "cut", tmp_path / "cut.gz", code=1).said
    (tmp_path / "cut.json").write_text('[{"i":1},{"i":')
    assert "cut.json:1: " in cli("ingest", "-s", "cut", tmp_path / "cut.json", code=1).said
    assert "there is no such file" in cli("ingest", tmp_path / "none.json", code=1).said


def test_query_formats(cli, tmp_path):
    cli("ingest", "-s", "formats", "-", stdin='{"a":1,"b":"x, \\"y\\""}\n{"a":2}\n')
    sql = "SELECT a, b FROM formats ORDER BY a"
    assert rows_of(cli("query", sql).text) == [{"a": 1.0, "b": 'x, "y"'}, {"a": 2.0}]
    assert json.loads(cli("query", "-o", "json", sql).text) == [{"a": 1.0, "b": 'x, "y"'}, {"a": 2.0}]
    assert cli("query", "-o", "csv", sql).text.splitlines() == ["a,b", '1.0,"x, ""y"""', "2.0,"]
    assert cli("query", "-o", "arrow", sql).stdout[:4] == b"\xff\xff\xff\xff"
    table = cli("query", "-o", "table", sql)
    assert table.text.splitlines() == ["   a │ b", "─────┼────────", ' 1.0 │ x, "y"', " 2.0 │ "]
    assert table.said.startswith("2 rows in ")
    (tmp_path / "q.sql").write_text(sql)
    assert cli("query", "--file", tmp_path / "q.sql").text == cli("query", stdin=sql).text
    assert "not found" in cli("query", "SELECT * FROM absent", code=1).said
    assert cli("query", "-o", "table", "SELECT a FROM formats WHERE a > 5").said.startswith("0 rows")


def test_query_bounds(cli):
    cli("ingest", "-s", "bounds", "-", stdin='{"a":1}')
    count = "SELECT count(*) AS n FROM bounds"
    for args, n in ([], 1), (["--start", "1h"], 1), (["--start", "2000-01-01", "--end", "2000-01-02"], 0), (["--start", "2d", "--end", "1d"], 0), (["--start", "2020-01-01"], 1):
        assert rows_of(cli("query", *args, count).text) == [{"n": n}], args
    assert "is no time" in cli("query", "--start", "yesterday", count, code=1).said


def test_a_table_does_not_drive_the_terminal(cli):
    cli("ingest", "-s", "escapes", "-", stdin=json.dumps({"m": "a\x1b[31mb\tc\u202ed\u65e5"}))
    assert cli("query", "-o", "table", "SELECT m FROM escapes").text.splitlines()[2] == " a\\x1b[31mb\\tc\\xe2\\x80\\xaed\u65e5"


def test_interrupt_cancels_the_query(server, api, cli):
    cli("ingest", "-s", "slow", "-", stdin="".join('{"a":%d}\n' % i for i in range(20000)))
    sql = "SELECT count(*) AS n FROM slow x JOIN slow y ON x.a < y.a JOIN slow z ON y.a < z.a"
    process = subprocess.Popen([binary(), "query", sql, "--server", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert api.wait(lambda: api.get("/api/v1/queries").json(), 30)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"cancelled" in said and out == b""
    assert api.wait(lambda: not api.get("/api/v1/queries").json(), 60)


# ---- tail


def test_tail_resumes_after_a_restart_without_gap_or_repeat(start_server, tmp_path):
    server = start_server()
    server.api.put("t", [{"i": -1, "level": "x"}])
    out = tmp_path / "out"
    port = server.port
    with open(out, "wb") as f:
        process = subprocess.Popen([binary(), "tail", "t", "--where", "level = 'x'", "--count", "100", "--server", server.url], stdout=f, stderr=subprocess.PIPE)
    sent = 0

    def send(until):
        nonlocal sent
        while sent < until:
            server.api.put("t", [{"i": sent, "level": "x"}, {"i": sent, "level": "y"}])
            sent += 1

    try:
        time.sleep(1)  # the tail starts with the present
        send(40)
        assert server.api.wait(lambda: len(out.read_text().splitlines()) == 40, 30)
        assert server.stop() == 0
        server.spawn(port)
        assert server.api.wait(lambda: _ready(server), 60)
        send(100)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert [json.loads(line)["i"] for line in out.read_text().splitlines()] == [float(i) for i in range(100)]


def _ready(server):
    try:
        return server.api.get("/api/v1/readiness").status == 200
    except OSError:
        return False


def test_tail_of_nothing(cli):
    assert "Stream not found" in cli("tail", "absent", code=1).said
    cli("ingest", "-s", "tailed", "-", stdin='{"a":1}')
    assert "absent" in cli("tail", "tailed", "--where", "absent = 1", code=1).said


# ---- streams and the catalog


def test_stream_commands(cli, api):
    cli("stream", "create", "s1", "--retention", "7", "--partition", "tenant")
    assert "already exists" in cli("stream", "create", "s1", code=1).said
    cli("stream", "create", "s1", "--if-missing")
    info = json.loads(cli("stream", "info", "s1").text)
    assert info["retention"][0]["duration"] == "7d" and info["info"]["customPartition"] == "tenant"
    api.put("s1", [{"tenant": "a", "n": 1}])
    assert {f["name"] for f in json.loads(cli("stream", "schema", "s1").text)["fields"]} >= {"tenant", "n", "p_timestamp"}
    assert "s1" in cli("stream", "ls", "-o", "table").text.splitlines()
    assert {"name": "s1"} in json.loads(cli("stream", "ls").text)
    assert re.search(r"^retention +7d$", cli("stream", "info", "s1", "-o", "table").text, re.M)
    cli("stream", "rm", "--yes", "s1")
    cli("stream", "rm", "--yes", "s1", code=1)
    cli("stream", "rm", "--yes", "--if-exists", "s1")


@pytest.mark.local_store
def test_catalog_commands(start_server):
    server = start_server("--flush-age", "100ms", "--flush-idle", "100ms")
    server.api.put("c", [{"i": i} for i in range(100)])
    server.api.flushed()
    data = ["--data", server.data]
    keys = rows_of(run("catalog", "cat", *data).text)
    assert {k["what"] for k in keys} >= {"cluster slot", "name slot", "head slot", "lane slot", "data file"}
    for key in keys:
        if key["what"].endswith("slot"):
            assert json.loads(run("catalog", "cat", *data, key["key"]).text)["what"] == key["what"]
    good = json.loads(run("catalog", "verify", *data).text)
    assert good["damaged"] == [] and good["files"] >= 1
    report = json.loads(run("catalog", "fsck", *data).text)
    assert report["total"]["live"]["objects"] >= 1 and report["total"]["garbage"]["objects"] == 0
    refused = run("catalog", "fsck", *data, "--repair")
    assert refused.returncode == 1 and "a server uses" in refused.said
    refused = run("catalog", "gc", *data)
    assert refused.returncode == 1 and "a server uses" in refused.said
    assert json.loads(run("catalog", "gc", *data, "--dry-run").text)["dry_run"] is True
    assert server.stop() == 0
    assert run("catalog", "fsck", *data, "--repair").returncode == 0
    assert "removed 0 objects, 0 bytes" in run("catalog", "gc", *data, "-o", "table").text
    file = next(k["key"] for k in keys if k["what"] == "data file" and k["key"].startswith("c/"))
    path = server.data / "store" / file
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(body)
    bad = run("catalog", "verify", *data)
    assert bad.returncode == 1 and [d["key"] for d in json.loads(bad.text)["damaged"]] == [file]
    assert "is no store of Sluice" in run("catalog", "verify", "--store", "/tmp").said


# ---- the network, the terminal


def test_https(start_server, certificate, tmp_path):
    """A certificate that nobody vouches for is refused, with what to do; named, it serves every command."""
    cert, key, context = certificate
    server = start_server("--tls-cert", str(cert), "--tls-key", str(key), start=False)
    server.tls = context
    server.start()
    (tmp_path / "app.ndjson").write_text('{"n":1}\n{"n":2}\n')
    for args in (["query", "SELECT 1 AS one"], ["ingest", tmp_path / "app.ndjson"], ["stream", "list"]):
        out = run(*args, "--server", server.url, timeout=20)
        assert out.returncode == 1 and "not trusted" in out.said and "--ca-cert" in out.said, out
    trust = ["--server", server.url, "--ca-cert", cert]
    assert run("ingest", tmp_path / "app.ndjson", *trust).returncode == 0
    out = run("query", "SELECT count(*) AS n FROM app", "-o", "json", *trust)
    assert out.returncode == 0 and json.loads(out.text) == [{"n": 2}], out


@pytest.mark.parametrize("harm", ["no file", "no PEM", "another key"])
def test_tls_files_that_do_not_fit(certificate, tmp_path, harm):
    cert, key, _ = certificate
    bad = tmp_path / "bad.pem"
    if harm == "no PEM":
        bad.write_text("hello\n")
    elif harm == "another key":
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(bad)], check=True, capture_output=True)
    out = run("serve", "--data", tmp_path / "data", "--addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", bad)
    said = json.loads(out.said.strip().splitlines()[-1])["msg"]
    assert out.returncode == 1 and "bad.pem" in said, said


def test_ingest_waits_for_a_busy_server(tmp_path):
    """503 and 429 with Retry-After: each batch is sent again, in full, until it is taken, and once."""
    import http.server
    import threading
    taken, refused = [], []

    class Busy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            busy = len(refused) < 4 and len(refused) <= len(taken)
            (refused if busy else taken).append(body)
            self.send_response((503, 429)[len(refused) % 2] if busy else 200)
            if busy:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        (tmp_path / "app.ndjson").write_text("".join('{"n":%d}\n' % i for i in range(2000)))
        out = run("ingest", tmp_path / "app.ndjson", "--batch", "8KiB", "-o", "json", "--server", "http://127.0.0.1:%d" % httpd.server_port)
        httpd.shutdown()
    assert out.returncode == 0, out
    numbers = sorted(int(n) for body in taken for n in re.findall(rb'"n":(\d+)', body))
    assert len(refused) >= 2 and numbers == list(range(2000))
    assert json.loads(out.text)["rows"] == 2000


def test_progress_of_ingest(tmp_path):
    """On a terminal a bar with percentage, rate and time left, redrawn in its line and gone at the end; nothing of it on a pipe."""
    import http.server
    import pty
    import threading

    class Slow(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(0.2)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    rows = 8000
    (tmp_path / "app.ndjson").write_text("".join('{"n":%d,"s":"%s"}\n' % (i, "x" * 30) for i in range(rows)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        command = [binary(), "ingest", str(tmp_path / "app.ndjson"), "--batch", "16KiB", "--server", "http://127.0.0.1:%d" % httpd.server_port]
        main, side = pty.openpty()
        environment = {**{k: v for k, v in os.environ.items() if k != "COLUMNS"}, "TERM": "xterm"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=side, env=environment)
        os.close(side)
        shown = b""
        try:
            while got := os.read(main, 65536):
                shown += got
        except OSError:  # the other side is closed
            pass
        os.close(main)
        assert process.wait(60) == 0, shown
        piped = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        httpd.shutdown()
    first, *drawn = shown.decode().split("\r\x1b[K")
    *bars, end = drawn
    assert first == "" and len(bars) >= 2, shown
    for bar in bars:
        assert "\n" not in bar and (not bar or re.fullmatch(r"[█▌░]{24} +\d+ %  [\d.]+ [kMG]?B/s  [\d,]+ rows(  \d+:\d\d left)?", bar)), bar
    parts = [int(re.search(r"(\d+) %", bar).group(1)) for bar in bars if bar]
    assert parts == sorted(parts) and 0 <= parts[0] <= parts[-1] <= 100 and any("left" in bar for bar in bars), bars
    assert "%" not in end and "left" not in end and "8,000 rows" in end, end  # the bar is gone; what stays is the summary
    assert piped.returncode == 0 and b"\x1b" not in piped.stderr and b"%" not in piped.stderr and b"\r" not in piped.stderr, piped.stderr


def test_broken_pipe(cli, server):
    """`| head -1` ends the query as it ends every filter: by SIGPIPE, without a word. A full disk is told."""
    cli("ingest", "-s", "pipe", "-", stdin="".join('{"a":%d}\n' % i for i in range(50000)))
    out = subprocess.run("%s query 'SELECT a FROM pipe' -o ndjson --server %s | head -1; echo ${PIPESTATUS[0]}" % (binary(), server.url),
                         shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=120)
    lines = out.stdout.splitlines()
    assert len(lines) == 2 and "a" in json.loads(lines[0]) and lines[1] == str(128 + signal.SIGPIPE) and not out.stderr, out
    out = subprocess.run("%s query 'SELECT a FROM pipe' -o ndjson --server %s > /dev/full" % (binary(), server.url),
                         shell=True, capture_output=True, text=True, timeout=120)
    assert out.returncode == 1 and "can not be written" in out.stderr, out


def test_terminal_and_pipe(cli, server):
    """A table for eyes, JSON lines for programs; no control characters on a pipe."""
    import pty
    cli("ingest", "-s", "looks", "-", stdin='{"a":1,"b":"x"}\n')
    piped = cli("query", "SELECT a, b FROM looks").text
    assert "\x1b" not in piped and json.loads(piped.splitlines()[0] if piped.startswith("{") else piped)
    main, side = pty.openpty()
    process = subprocess.Popen([binary(), "query", "SELECT a, b FROM looks", "--server", server.url], stdin=side, stdout=side, stderr=side,
                               env={**os.environ, "TERM": "xterm"})
    os.close(side)
    shown = b""
    try:
        while got := os.read(main, 65536):
            shown += got
    except OSError:  # the other side is closed
        pass
    assert process.wait(60) == 0 and not shown.lstrip().startswith((b"{", b"[")) and b"a" in shown and b"x" in shown, shown
