"""Credentials that end: a server in a cloud takes them from the machine's metadata service or a token service, renews them before they end, and goes on
after a store refused them, or after they ended while nobody gave new ones. What was acknowledged meanwhile is there."""
import concurrent.futures
import http.server
import json
import threading
import time
import urllib.parse

import pytest

import clouds
import conftest
import s3
from test_bucket import FAST, check

EARLY_S, AGAIN_S = 300, 10  # store/credential.c: what ends sooner is renewed, at most so often


class Issuer(http.server.ThreadingHTTPServer):
    """Gives numbered credentials as the four services do, and knows which of them hold."""

    daemon_threads = True

    def __init__(self, lifetime):
        super().__init__(("127.0.0.1", 0), Asked)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.lifetime, self.away, self.ends, self.refused, self.problems, self.lock = lifetime, False, [], 0, [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def give(self):
        """(name, lifetime, end as text): whole seconds, as all of them say it."""
        with self.lock:
            end = int(time.time()) + self.lifetime
            self.ends.append(end)
            return "token-%d" % len(self.ends), self.lifetime, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))

    def revoke(self):
        with self.lock:
            self.ends = [0] * len(self.ends)

    def allow(self, headers):
        """Of the store: does what this request bears hold?"""
        name = headers.get("X-Amz-Security-Token") or headers.get("Authorization", "").removeprefix("Bearer ")
        with self.lock:
            number = int(name.removeprefix("token-")) if name.startswith("token-") else 0
            holds = 0 < number <= len(self.ends) and time.time() < self.ends[number - 1]
            self.refused += not holds
            return holds


class Asked(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def oauth(self, header, value):
        if self.headers.get(header) != value:
            self.server.problems.append((self.path, header))
        token, lifetime, _ = self.server.give()
        self.answer(json.dumps({"access_token": token, "expires_in": lifetime, "token_type": "Bearer"}))

    def keys(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "imds-session":
            self.server.problems.append((self.path, "session"))
        token, _, end = self.server.give()
        self.answer(json.dumps({"AccessKeyId": "AK", "SecretAccessKey": "secret", "Token": token, "Expiration": end}))

    def do_GET(self):
        path = self.path.partition("?")[0]
        if self.server.away:
            self.answer("", 503)
        elif path == "/computeMetadata/v1/instance/service-accounts/default/token":
            self.oauth("Metadata-Flavor", "Google")
        elif path == "/metadata/identity/oauth2/token":
            self.oauth("Metadata", "true")
        elif path == "/latest/meta-data/iam/security-credentials/role-1":
            self.keys()
        else:
            self.answer("role-1" if path == "/latest/meta-data/iam/security-credentials/" else "", 200)

    def do_PUT(self):
        self.answer("imds-session", 503 if self.server.away else 200)

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if self.server.away:
            self.answer("", 503)
            return
        if (form.get("WebIdentityToken"), form.get("RoleArn")) != ("a web identity", "arn:role"):
            self.server.problems.append(form)
        token, _, end = self.server.give()
        self.answer("<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AK</AccessKeyId><SecretAccessKey>s"
                    "</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                    "</AssumeRoleWithWebIdentityResponse>" % (token, end))


EXPIRED = (400, b"<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>")


@pytest.fixture
def stage(request, moto, tmp_path):
    """stage(kind, issuer) -> (address of a store, environment of a server that has its credentials of the issuer, of one that needs none)"""
    ends = []

    def make(kind, issuer):
        if kind.startswith("aws"):
            port, resign, address = moto.port, None, "s3://logs/" + kind
            s3.bucket(moto)
            token = tmp_path / "token"
            token.write_text("a web identity\n")
            env = {"AWS_ENDPOINT_URL_STS": issuer.url, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:role"}
            if kind == "aws role":
                env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": issuer.url, "AWS_EC2_METADATA_DISABLED": "false"}
            plain = {**s3.KEYS, "SLUICE_S3_ENDPOINT": moto.url}
        else:
            cloud = clouds.Gcs() if kind == "google machine" else clouds.Azure()
            ends.append(cloud.close)
            port, resign, address, plain = cloud.port, getattr(cloud, "resign", None), cloud.address("tokens"), cloud.env(cloud.port)
            env = {"GCE_METADATA_HOST": issuer.url[len("http://"):], "STORAGE_EMULATOR_HOST": ""}
            if kind == "azure machine":
                env = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": issuer.url}
        p = s3.Proxy(port, lambda *_: None)
        ends.extend((p.server_close, p.shutdown))
        p.allow, p.resign = issuer.allow, resign
        if kind.startswith("aws"):
            p.denial, env["SLUICE_S3_ENDPOINT"] = EXPIRED, p.url
        elif kind == "google machine":
            env["SLUICE_GCS_ENDPOINT"] = p.url
        else:
            env = {**cloud.env(p.server_address[1]), "SLUICE_AZURE_ACCESS_KEY": "", **env}
        return address, {"HOME": "/nonexistent", **env}, plain
    yield make
    for end in reversed(ends):
        end()


def live_through(kind, stage, start_server):
    issuer = Issuer(EARLY_S + AGAIN_S + 2)
    try:
        address, env, plain = stage(kind, issuer)
        server = start_server("--store", address, *FAST, env=env)
        rows = 0

        def put():
            nonlocal rows
            server.api.put("app", [{"i": rows}])
            rows += 1
            time.sleep(0.1)  # not for anything to happen: a hundred files are enough

        # before they end; the next ones would hold for long
        issuer.lifetime = 3600
        assert server.api.wait(lambda: put() or len(issuer.ends) > 1), "nobody asked for new ones"
        server.api.flushed()
        assert issuer.refused == 0 and len(issuer.ends) == 2

        # refused in the middle of a run, and then short-lived
        issuer.lifetime = 5
        issuer.revoke()
        assert server.api.wait(lambda: put() or len(issuer.ends) > 2), "a refusal renews nothing"
        assert issuer.refused

        # after they ended, while nobody gives any
        issuer.away, seen = True, issuer.refused
        assert server.api.wait(lambda: put() or (time.time() > issuer.ends[-1] and issuer.refused > seen)), "what ended is used on"
        issuer.lifetime, issuer.away = 3600, False
        put()
        server.api.flushed()
        if kind != "azure machine":  # DuckDB sends no token of Entra over HTTP
            assert server.api.wait(lambda: server.api.query("SELECT count(*) AS n FROM app").status == 200)
            check(server, "app", rows)
        assert server.stop() == 0 and not issuer.problems, issuer.problems
        check(start_server("--store", address, *FAST, env=plain), "app", rows)
    finally:
        issuer.shutdown()
        issuer.server_close()


def test_credentials_that_end(stage, start_server):
    """All at one time, as what they do is wait."""
    kinds = ("google machine", "azure machine", "aws role", "aws web identity")
    with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
        for done in [pool.submit(live_through, kind, stage, start_server) for kind in kinds]:
            done.result()
