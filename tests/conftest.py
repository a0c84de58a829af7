"""Black-box tests: the server as a user meets it, over HTTP and its command line.

  server          one for a module's tests, with default settings
  start_server    makes private ones: options, environment, kill -9, restart
SLUICE_BIN is the program; SLUICE_SOAK=1 asks for the long forms. SLUICE_TEST_S3=moto or minio puts the files of all servers into a bucket,
SLUICE_TEST_S3_FAULTS=1 with a proxy in between that breaks a tenth of the requests. What a server logged is printed when its test fails.
"""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # beside the clone: golden exchanges, data generator
SOAK = bool(os.environ.get("SLUICE_SOAK"))
START_S = 120  # a server that does not answer by then hangs
HTTP_S = 120
S3 = os.environ.get("SLUICE_TEST_S3")
S3_FAULTS = bool(os.environ.get("SLUICE_TEST_S3_FAULTS"))
s3_env = {}  # of every server, while S3 is asked for
s3_direct = {}  # the same without the proxy, and what boto3 sees: of who looks at what they left
IDLE_S = 2  # the server closes connections that were idle for 5 s


def binary():
    path = os.environ.get("SLUICE_BIN") or str(ROOT / "build" / "sluice")
    if not os.access(path, os.X_OK):
        pytest.fail("no program at %s: build it, or set SLUICE_BIN" % path, pytrace=False)
    return path


def shared(name):
    """A file of ../shared; without it the test fails in CI, and says that it is skipped elsewhere."""
    for base in (os.environ.get("SLUICE_SHARED"), SHARED, "/work/shared"):
        if base and (pathlib.Path(base) / name).exists():
            return pathlib.Path(base) / name
    message = "%s is missing: clone the project beside its folder shared/, or set SLUICE_SHARED" % (SHARED / name)
    (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<%d %r>" % (self.status, self.body[:300])


def basic(user="admin", password="admin"):
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


class Client:
    """One keep-alive connection, opened again when the server closed it; not for several threads."""

    def __init__(self, port, tls=None, timeout=HTTP_S):
        self.port, self.tls, self.timeout, self.connection = port, tls, timeout, None
        self.used = 0.0

    def _connect(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=self.timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def open(self, method, path, body=None, headers=None, auth=True):
        """The answer unread: for streams."""
        headers = dict(headers or {})
        if auth and "Authorization" not in headers:
            headers["Authorization"] = basic()
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        if time.monotonic() - self.used > IDLE_S:
            self.close()
        self.used = time.monotonic()
        if self.connection is None:
            self.connection = self._connect()
        self.connection.request(method, path, body=body, headers=headers)
        return self.connection.getresponse()

    def request(self, method, path, body=None, headers=None, auth=True):
        """Sent at most once: whoever repeats knows whether that is safe."""
        try:
            response = self.open(method, path, body, headers, auth)
            answer = Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.will_close:
            self.close()
        return answer


class Api:
    """What tests do most, each call on a connection of its own unless a client is given."""

    def __init__(self, server):
        self.server = server

    def call(self, method, path, body=None, headers=None, auth=True, client=None):
        if client:
            return client.request(method, path, body, headers, auth)
        with self.server.client() as c:
            return c.request(method, path, body, headers, auth)

    def get(self, path, **k):
        return self.call("GET", path, **k)

    def ingest(self, stream, rows, headers=None, client=None):
        """`rows`: what json.dumps takes, or the body's bytes."""
        body = rows if isinstance(rows, (bytes, str)) else json.dumps(rows)
        head = {"X-P-Stream": urllib.parse.quote(stream) if not stream.isascii() else stream, "Content-Type": "application/json"}
        return self.call("POST", "/api/v1/ingest", body, {**head, **(headers or {})}, client=client)

    def put(self, stream, rows, headers=None, client=None):
        """Ingests, and insists."""
        answer = self.ingest(stream, rows, headers, client)
        assert answer.status == 200, answer

    def create(self, stream, body=None, headers=None):
        return self.call("PUT", "/api/v1/logstream/" + stream, body, headers)

    def delete(self, stream):
        return self.call("DELETE", "/api/v1/logstream/" + stream)

    def query(self, sql, start="1d", end="now", params="", headers=None, client=None, **members):
        body = {"query": sql, "startTime": start, "endTime": end, **members}
        return self.call("POST", "/api/v1/query" + params, body, headers, client=client)

    def sql(self, sql, start="1d", end="now", client=None):
        answer = self.query(sql, start, end, client=client)
        assert answer.status == 200, answer
        return answer.json()

    def count(self, stream, where="true"):
        return self.sql('SELECT count(*) AS n FROM "%s" WHERE %s' % (stream, where))[0]["n"]

    def stats(self, stream):
        answer = self.get("/api/v1/logstream/%s/stats" % stream)
        assert answer.status == 200, answer
        return answer.json()

    def streams(self):
        return sorted(s["name"] for s in self.get("/api/v1/logstream").json())

    def metrics(self):
        """{series with its labels: value}"""
        out = {}
        for line in self.get("/api/v1/metrics").text.splitlines():
            if line and line[0] != "#":
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def wait(self, what, seconds=90):
        """Until what() is true; its last value. For what the server does in its own time."""
        end = time.monotonic() + seconds
        while True:
            value = what()
            if value or time.monotonic() > end:
                return value
            time.sleep(0.1)

    def flushed(self, seconds=120):
        """Waits until every row is in the catalog."""
        assert self.wait(lambda: self.metrics()["sluice_stage_rows"] == 0, seconds), "rows are still staged"


class Server:
    """One data directory and the processes that serve it, one after the other."""

    def __init__(self, args=(), env=None, data=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
        self.data = pathlib.Path(data) if data else self.folder / "data"
        self.args, self.env = list(args), dict(env or {})
        self.log_path = self.folder / "log"
        self.process, self.port, self.tls = None, None, None
        self.api = Api(self)
        self.log_shown = 0
        self.s3_at = None  # when it was started on s3_store, last
        self.killed = False  # once or more

    @property
    def s3_store(self):
        """Of one data directory, whoever serves it."""
        return "s3://logs/" + hashlib.sha256(str(self.data).encode()).hexdigest()[:16]

    # ---- the process

    def spawn(self, port=None):
        """Starts it without waiting: a free port each time, as the last one may be in TIME_WAIT."""
        with contextlib.closing(socket.socket()) as s:
            s.bind(("127.0.0.1", 0))
            self.port = port or s.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "P_"))}
        if s3_env and "--store" not in self.args:
            environment.update({**s3_env, "SLUICE_STORE": self.s3_store})
            self.s3_at = time.monotonic()
        environment.update(self.env)
        command = [binary(), "serve", "--data", str(self.data), "--addr", "127.0.0.1:%d" % self.port, *self.args]
        with open(self.log_path, "ab") as log:
            log.write(b"--- %s\n" % " ".join(command).encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return self

    def start(self):
        self.spawn()
        end = time.monotonic() + START_S
        while True:
            if self.process.poll() is not None:
                raise AssertionError("the server ended with %d at its start:\n%s" % (self.process.returncode, self.log()[-4000:]))
            try:
                with self.client() as c:
                    if c.request("GET", "/api/v1/readiness").status == 200:
                        return self
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                raise AssertionError("the server does not answer:\n%s" % self.log()[-4000:])
            time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.killed = True

    def stop(self, seconds=120):
        """SIGTERM, as service managers send it; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def restart(self, clean=True):
        assert not clean or self.stop() == 0, self.log()[-4000:]
        if self.process.poll() is None:
            self.kill()
        return self.start()

    def done(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- what it shows

    def client(self, **k):
        return Client(self.port, self.tls, **k)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def rss(self):
        """Resident bytes."""
        text = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in getattr(item.module, "_servers", []):
            log = server.log()[server.log_shown:]
            server.log_shown += len(log)
            if log:
                report.sections.append(("log of the server in %s, since the last failure" % server.folder.name, log[-8000:]))


@contextlib.contextmanager
def _made(module):
    """A factory whose servers end with the block."""
    made = []
    if not hasattr(module, "_servers"):
        module._servers = []

    def make(*args, env=None, start=True, data=None):
        server = Server(args, env, data)
        made.append(server)
        module._servers.append(server)
        return server.start() if start else server

    try:
        yield make
        if s3_direct:
            import leftovers
            leftovers.check(made, **s3_direct)
    finally:
        for server in made:
            module._servers.remove(server)
            server.done()


def pytest_configure(config):
    config.addinivalue_line("markers", "local_store: looks into the folder of a local store")


def pytest_collection_modifyitems(items):
    for item in items:
        if S3 and item.get_closest_marker("local_store"):
            item.add_marker(pytest.mark.skip(reason="looks into the folder of a local store"))


@pytest.fixture(scope="session", autouse=True)
def files_on_s3():
    if not S3:
        yield
        return
    import s3
    with s3.store_of_all(S3, S3_FAULTS) as (env, direct):
        s3_env.update(env)
        s3_direct.update(direct)
        yield
        s3_env.clear()
        s3_direct.clear()


def pytest_terminal_summary(terminalreporter):
    if S3:
        import leftovers
        terminalreporter.write_line("%(stores)d stores were looked at for what their servers left, %(seconds).1f s" % leftovers.spent)


def _s3_server(kind):
    import s3
    server = s3.Minio() if kind == "minio" else s3.Moto()
    s3.bucket(server)
    yield server
    server.close()


@pytest.fixture(scope="module")
def s3_server():
    """An S3 server with the empty bucket `logs`: moto, or MinIO where SLUICE_TEST_S3 asks for it."""
    yield from _s3_server(S3)


@pytest.fixture(scope="module")
def moto():
    """For what MinIO does not let pass: clocks, keys and headers that are wrong."""
    yield from _s3_server("moto")


@pytest.fixture
def start_server(request):
    with _made(request.module) as make:
        yield make


@pytest.fixture(scope="module")
def server(request):
    with _made(request.module) as make:
        yield make()


@pytest.fixture(scope="module")
def api(server):
    return server.api


def make_certificate(cert, key):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
                   check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key, client context) of a self-signed one for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make_certificate(cert, key)
    return cert, key, ssl.create_default_context(cafile=str(cert))
