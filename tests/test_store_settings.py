"""Settings of a bucket as users of Parseable have them, by their P_ names: what each does is seen at the server; what can not be had is refused or told."""
import http.server
import json
import os
import subprocess
import threading

import pytest

import conftest
import s3

FAST = ("--flush-age", "50ms", "--flush-idle", "50ms", "--fold-interval", "200ms")


def sluice(*args, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SLUICE_", "P_", "STORAGE_"))}
    return subprocess.run([conftest.binary(), *map(str, args)], capture_output=True, text=True, timeout=300,
                          env={**clean, "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", **(env or {})})


def bucket_env(url, **more):
    return {"P_S3_URL": url, "P_S3_ACCESS_KEY": s3.KEYS["AWS_ACCESS_KEY_ID"], "P_S3_SECRET_KEY": s3.KEYS["AWS_SECRET_ACCESS_KEY"], **more}


def test_cache_control(moto):
    """Small objects, large ones that go up in parts, and what the server copies."""
    seen = {}

    def look(method, path, headers, number):
        if method == "PUT" and "partNumber" not in path or method == "POST" and "uploads" in path:
            seen.setdefault("parts" if "uploads" in path else "whole", set()).add(headers.get("Cache-Control"))
    with s3.proxy(moto.port, look) as p:
        assert sluice("store", "check", "s3://logs/cache", env=bucket_env(p.url)).returncode == 0
        assert seen == {"whole": {None}, "parts": {None}}
        seen.clear()
        assert sluice("store", "check", "s3://logs/cache", env=bucket_env(p.url, P_S3_CACHE_CONTROL_NO_STORE="true")).returncode == 0
        assert seen == {"whole": {"no-store"}, "parts": {"no-store"}}


def test_requests_at_one_time(moto):
    """16 racing creates go one by one where one is allowed."""
    lock, now, most = threading.Lock(), [0], [0]

    class Counting(s3.Handler):
        def forward(self, *args):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            try:
                return super().forward(*args)
            finally:
                with lock:
                    now[0] -= 1

    for limit in ("1", "1000"):
        most[0] = 0
        with s3.proxy(moto.port, lambda *_: None) as p:
            p.RequestHandlerClass = Counting
            done = sluice("store", "check", "s3://logs/limit", env=bucket_env(p.url, P_MAX_OBJECT_STORE_REQUESTS=limit))
            assert done.returncode == 0, done
        assert (most[0] == 1) == (limit == "1"), (limit, most)


def test_certificates_unchecked(certificate, start_server):
    """Of the store's client and of the engine's, and every start says so."""
    server = s3.Moto(tls=certificate)
    try:
        s3.bucket(server, verify=str(certificate[0]))
        env = bucket_env(server.url)
        done = sluice("store", "check", "s3://logs/tls", "--s3-retry", "1s", env=env)
        assert done.returncode == 1 and "certificate" in done.stderr and "NOT CHECKED" not in done.stderr, done
        env["P_S3_TLS_SKIP_VERIFY"] = "true"
        done = sluice("store", "check", "s3://logs/tls", env=env)
        assert done.returncode == 0 and "NOT CHECKED" in done.stderr, done
        sluice_server = start_server("--store", "s3://logs/tls", *FAST, env=env)
        for start in range(2):
            sluice_server.api.put("app", [{"n": n} for n in range(5)])
            sluice_server.api.flushed()
            assert sluice_server.api.sql("SELECT sum(n) AS s FROM app") == [{"s": 10 * (start + 1)}]
            assert sluice_server.log().count("NOT CHECKED") == start + 1
            sluice_server.restart()
    finally:
        server.close()


class Metadata(http.server.BaseHTTPRequestHandler):
    """Of an instance that knows version 1 alone, or gives everybody a token and asks for it."""

    def log_message(self, *args):
        pass

    def say(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.say(*(("no", 403) if self.server.version == 1 else ("session",)))

    def do_GET(self):
        if self.server.version == 2 and self.headers.get("X-aws-ec2-metadata-token") != "session":
            self.say("no", 401)
        elif self.path.endswith("/security-credentials/"):
            self.say("the-role")
        else:
            self.say(json.dumps({"AccessKeyId": s3.KEYS["AWS_ACCESS_KEY_ID"], "SecretAccessKey": s3.KEYS["AWS_SECRET_ACCESS_KEY"], "Token": "t",
                                 "Expiration": "2999-01-01T00:00:00Z"}))


@pytest.mark.parametrize("version, fallback, good", [(1, "false", False), (1, "true", True), (2, "true", True), (2, "false", True)])
def test_metadata_of_an_instance(moto, version, fallback, good):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.version = version
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = sluice("store", "check", "s3://logs/role", env={"P_S3_URL": moto.url, "P_AWS_IMDSV1_FALLBACK": fallback, "AWS_EC2_METADATA_DISABLED": "false",
                                                               "P_AWS_METADATA_ENDPOINT": "http://127.0.0.1:%d" % server.server_address[1]})
        assert done.returncode == (0 if good else 1) and ("no S3 credentials" in done.stderr) != good, done
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("args", [("store", "check", "s3://logs/x"), ("catalog", "fsck", "--store", "s3://logs/x"), ("config", "check"),
                                  ("import", "parseable", "s3://logs/x"), ("backup", "/tmp/x", "--store", "s3://logs/x"), ("serve",)])
def test_a_key_of_ones_own_is_never_ignored(moto, args):
    """SSE-C: nothing is written or read without it, and the message says what to do."""
    done = sluice(*args, env=bucket_env(moto.url, P_S3_SSEC_ENCRYPTION_KEY="SSE-C:AES256:c2VjcmV0"))
    assert done.returncode == 2 and "default encryption of the bucket" in done.stderr and "c2VjcmV0" not in done.stderr, done


def test_every_variable_of_a_bucket_says_what_holds(tmp_path):
    """Those of section 8.7 of the contract: a setting, or a message of its own."""
    names = {"P_S3_CACHE_CONTROL_NO_STORE": "true", "P_S3_PATH_STYLE": "false", "P_S3_TLS_SKIP_VERIFY": "true", "P_AWS_IMDSV1_FALLBACK": "true",
             "P_AWS_METADATA_ENDPOINT": "http://127.0.0.1:1", "P_GCS_TLS_SKIP_VERIFY": "true", "P_MAX_OBJECT_STORE_REQUESTS": "7", "P_S3_REGION": "x",
             "P_S3_URL": "http://127.0.0.1:2", "P_S3_BUCKET": "b"}
    done = sluice("config", "check", "-o", "json", env={**names, "P_S3_CHECKSUM": "true"})
    values = {v["source"]: v["value"] for v in json.loads(done.stdout).values()}
    assert {n: values.get(n) for n in names} == names
    assert "P_S3_CHECKSUM: true is what always holds" in done.stderr and done.stderr.count("\n") == 1, done
