"""S3 servers for tests: moto (pure Python, in memory), MinIO where it was built, and a proxy that loses, delays, breaks and falsifies what
goes through it."""
import collections
import contextlib
import http.client
import http.server
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import conftest

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}


class Moto:
    """The S3 server of moto, in memory."""

    def __init__(self, tls=None):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.port)
        options = ["--ssl-cert", str(tls[0]), "--ssl-key", str(tls[1])] if tls else []
        self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port), *options],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self)

    def request(self, method, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=conftest.HTTP_S)
        c.request(method, path)
        answer = c.getresponse()
        body = answer.read()
        c.close()
        return answer.status, body

    def close(self):
        self.process.terminate()
        self.process.wait(conftest.HTTP_S)


class Minio:
    """MinIO, built by `tools/setup --minio`; its files in a folder of its own."""

    def __init__(self):
        binary = minio_binary()
        if not os.access(binary, os.X_OK):
            pytest.fail("no MinIO at %s: tools/setup --minio builds it" % binary, pytrace=False)
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-minio-")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port
        env = {**os.environ, "MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"]}
        self.process = subprocess.Popen([binary, "server", "--quiet", "--address", "127.0.0.1:%d" % self.port, self.folder.name], env=env,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self)

    def close(self):
        self.process.terminate()
        self.process.wait(conftest.HTTP_S)
        self.folder.cleanup()


def minio_binary():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return str(pathlib.Path(cache) / "sluice" / "minio" / "minio")


def wait_for(server):
    end = time.monotonic() + conftest.START_S
    while time.monotonic() < end:
        assert server.process.poll() is None, "the S3 server ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", server.port)).close()
            return
        time.sleep(0.1)
    pytest.fail("the S3 server does not answer")


def bucket(server, name="logs", verify=None):
    """boto3's view of a bucket, which is made if need be: what is really there."""
    import boto3
    import botocore.config

    resource = boto3.resource("s3", endpoint_url=server.url, region_name="us-east-1", verify=verify, aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                              aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
                              config=botocore.config.Config(s3={"addressing_style": "path"}))
    try:
        return resource.create_bucket(Bucket=name)
    except resource.meta.client.exceptions.BucketAlreadyOwnedByYou:
        return resource.Bucket(name)


# ---- a proxy with faults

class Proxy(http.server.ThreadingHTTPServer):
    """Between Sluice and an S3 server. `fault(method, path, headers, number)` names what is done to a request, or None.

    Writes go through one at a time: moto looks and then writes, so that of 16 creates at once two may win, which `store check` finds."""

    daemon_threads = True

    def __init__(self, to, fault):
        self.to, self.fault, self.done, self.number, self.lock = to, fault, collections.Counter(), 0, threading.Lock()
        self.allow, self.denial = None, (401, b"")  # of bearer tokens: headers -> bool; (status, body) for those that are not
        self.crc_of = None  # of the source of a copied part: its crc32c, which moto does not tell as Amazon does: path -> base64
        self.resign = None  # of signatures that would not bear what a fault changes: (method, path, headers, length) -> headers
        self.writing, self.retry_after, self.together = threading.Lock(), 0, threading.Barrier(2)
        self.release = threading.Event()  # of requests that are held
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # broken connections are what it is for


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, headers, body, cut=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        size = dict((n.lower(), v) for n, v in headers).get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])

    def forward(self, body, drop=()):
        c = http.client.HTTPConnection("127.0.0.1", self.server.to, timeout=conftest.HTTP_S)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in drop}
        path = self.path.replace("ifGenerationMatch=0&", "") if "if-none-match" in drop else self.path  # GCS says it there
        if self.server.resign:
            headers = self.server.resign(self.command, path, headers, len(body))
        with self.server.writing if self.command in ("PUT", "POST") else contextlib.nullcontext():
            c.request(self.command, path, body, headers)
            r = c.getresponse()
            data = r.read()
        c.close()
        return r.status, r.getheaders(), data

    def handle_any(self):
        server = self.server
        with server.lock:
            server.number += 1
            fault = server.fault(self.command, self.path, self.headers, server.number)
            server.done[fault] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "together":  # goes on when another such request is here
            server.together.wait(conftest.HTTP_S)
        if fault == "hold":
            server.release.wait(conftest.HTTP_S)
        if server.allow and not server.allow(self.headers):
            self.answer(server.denial[0], [], server.denial[1])
            return
        if fault in ("reset", "refuse"):  # before it did anything
            self.close_connection = True
            return
        if fault and fault.isdigit():
            code = {"409": "ConditionalRequestConflict", "503": "SlowDown", "429": "TooManyRequests", "500": "InternalError", "501": "NotImplemented",
                    "400": "InvalidRequest", "403": "AccessDenied"}[fault]
            extra = [("Retry-After", str(server.retry_after))] if fault == "503" else []
            self.answer(int(fault), extra, b"<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>so</Message></Error>" % code.encode())
            return
        if fault == "keep":  # of many removed in one request: none, and the document says so
            self.answer(200, [], b"<DeleteResult><Error><Key>some/key</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>")
            return
        status, headers, data = self.forward(body, ("if-none-match",) if fault == "overwrite" else ())
        if fault == "lose":  # done, and nobody is told
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(0.3)
        if fault == "truncate" and data:
            self.answer(status, headers, data, cut=len(data) // 2)
            self.close_connection = True
            return
        if fault == "falsify" and data and status in (200, 206):
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault and fault.startswith("is "):  # another product, of which nothing but its name differs
            headers = [(n, v) for n, v in headers if n.lower() != "server"] + [("Server", fault[3:])] * bool(fault[3:])
            if status == 404 and not fault[3:]:
                data = b"<Error><Code>NoSuchKey</Code><Message>Key not found</Message><Resource>/logs</Resource><Region>garage</Region></Error>"
        if fault == "young":  # moto says of every unfinished upload that it began in 2010
            data = data.replace(b"2010-11-10T20:48:33.000Z", time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 20 * 3600)).encode())
        if fault == "tell" and self.headers.get("x-amz-copy-source"):
            told = b"</ETag><ChecksumCRC32C>%s</ChecksumCRC32C>" % self.server.crc_of(self.headers["x-amz-copy-source"])
            data = data.replace(b"</ETag>", told)
        if fault == "skew":
            headers = [("Date", "Fri, 01 Jan 2027 00:00:00 GMT") if n.lower() == "date" else (n, v) for n, v in headers]
        self.answer(status, headers, data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any


@contextlib.contextmanager
def proxy(to, fault):
    p = Proxy(to, fault)
    try:
        yield p
    finally:
        p.shutdown()
        p.server_close()


# ---- a whole test run on S3

def random_faults(seed=7):
    """A tenth of the requests go wrong; also those whose fate is then unknown."""
    rng = random.Random(seed)

    def fault(method, path, headers, number):
        if rng.random() > 0.1:
            return None
        return rng.choice(["503", "500", "429", "409", "lose", "reset", "truncate", "stall"])
    return fault


@contextlib.contextmanager
def store_of_all(kind, faults):
    """Environment of servers whose files go to an S3 server, `kind` moto or minio; the same past the proxy, with the bucket."""
    server = {"moto": Moto, "minio": Minio}[kind]()
    try:
        direct = {"direct": {**KEYS, "SLUICE_S3_ENDPOINT": server.url}, "bucket": bucket(server)}
        with proxy(server.port, random_faults() if faults else lambda *_: None) as p:
            yield {**KEYS, "SLUICE_S3_ENDPOINT": p.url if faults or kind == "moto" else server.url}, direct
    finally:
        server.close()
