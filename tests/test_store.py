"""Object stores: `sluice store check` against a directory and against S3 servers, one that is good, and a proxy that loses, delays,
breaks and falsifies what goes through it."""
import http.server
import json
import os
import random
import subprocess
import threading
import time

import pytest

import conftest
from s3 import KEYS, Proxy, proxy


def sluice(*args, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SLUICE_S", "P_"))}
    done = subprocess.run([conftest.binary(), *args], capture_output=True, text=True, timeout=300,
                          env={**clean, "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", **(env or {})})
    return done


def check(endpoint, store="s3://logs/some/prefix", env=None, more=()):
    done = sluice("store", "check", store, "--s3-endpoint", endpoint, "--output", "json", *more, env=KEYS if env is None else env)
    return done, (json.loads(done.stdout) if done.stdout else None)


def bad_steps(report):
    return {s["what"]: s["problem"] for s in report["steps"] if not s["good"]}


# ---- tests

def left_over(moto):
    status, body = moto.request("GET", "/logs?list-type=2")
    assert status == 200
    return body.count(b"<Key>")


def test_folder(tmp_path):
    done = sluice("store", "check", str(tmp_path / "store"), "--output", "json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["good"] and len(report["steps"]) >= 8, done
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


def test_s3(moto):
    with proxy(moto.port, lambda method, path, headers, number: None) as p:
        done, report = check(p.url)
    assert done.returncode == 0 and report["good"], done
    assert left_over(moto) == 0


@pytest.mark.parametrize("faults", [["503", "500", "429", "409"], ["lose", "reset"], ["truncate", "stall"]])
def test_faults_are_ridden_out(moto, faults):
    """Reads, lists and removals are repeated; an upload whose reply is lost finds its own nonce."""
    rng = random.Random(7)

    def fault(method, path, headers, number):
        create = method == "PUT" and "x-amz-meta-sluice-nonce" not in headers and "partNumber" not in path
        return None if create or rng.random() < 0.6 else rng.choice(faults)

    with proxy(moto.port, fault) as p:
        done, report = check(p.url)
        assert done.returncode == 0 and report["good"], (done, p.done)
        for name in faults:
            assert p.done[name] > 0
    assert left_over(moto) == 0


def test_undecided_creates_are_no_verdict(moto):
    """A lost reply of a create proves nothing against a store: the race step stays good, others say that they could not ask."""
    with proxy(moto.port, lambda method, path, headers, number: "lose" if method == "PUT" and "race-" in path else None) as p:
        done, report = check(p.url)
        assert p.done["lose"] >= 16
        assert report["good"], done


def test_store_that_overwrites_is_found_out(moto):
    with proxy(moto.port, lambda method, path, headers, number: "overwrite") as p:
        done, report = check(p.url)
    assert done.returncode == 1 and not report["good"]
    bad = bad_steps(report)
    assert any("16 creates" in what for what in bad) and any("upload" in what for what in bad), bad
    assert left_over(moto) == 0


def test_parts_go_up_together(moto):
    """Either part of an upload waits in the proxy for the other one."""
    with proxy(moto.port, lambda method, path, headers, number: "together" if "partNumber=" in path else None) as p:
        done, report = check(p.url)
        assert done.returncode == 0 and report["good"] and p.done["together"] >= 2 and not p.together.broken, done


def test_retry_after_holds_back_everybody(moto):
    """A store that asks for two seconds of peace gets them from all 16 racers, not only from the one that was told."""
    seen = []

    def fault(method, path, headers, number):
        seen.append((time.monotonic(), "race-1" in path))
        return "503" if sum(race for _, race in seen) == 1 and seen[-1][1] else None
    with proxy(moto.port, fault) as p:
        p.retry_after = 2
        done, report = check(p.url)
        assert p.done["503"] == 1 and report["good"], done
    told = next(at for at, race in seen if race)
    early = [at - told for at, _ in seen if told + 0.3 < at < told + 1.8]
    assert not early and any(at > told + 1.8 for at, _ in seen), early


@pytest.mark.parametrize("server, name", [("VERSITYGW", "VERSITYGW"), ("SeaweedFS 30GB 4.17", "SeaweedFS 30GB 4.17"), ("", "Garage")])
def test_products_without_exclusive_create_are_refused(moto, start_server, server, name):
    """They pass every test that a probe can make."""
    with proxy(moto.port, lambda method, path, headers, number: "is " + server) as p:
        done, report = check(p.url)
        assert done.returncode == 1 and report["product"] == name
        assert list(bad_steps(report)) == ["what is known of the product"]
        refused = start_server("--store", "s3://logs/denied", env={**KEYS, "SLUICE_S3_ENDPOINT": p.url}, start=False)
        refused.spawn()
        assert refused.process.wait(60) == 1
        log = refused.log()
        assert "no exclusive create" in log and name + " is no store for Sluice" in log and "store check" in log, log
    assert left_over(moto) == 0


def test_falsified_bytes_are_found_out(moto):
    with proxy(moto.port, lambda method, path, headers, number: "falsify" if method == "GET" and "list-type" not in path else None) as p:
        done, report = check(p.url)
    assert done.returncode == 1 and not (report and report["good"]), done


def test_clock(moto):
    with proxy(moto.port, lambda method, path, headers, number: "skew") as p:
        done, report = check(p.url)
    assert done.returncode == 0 and abs(report["clock_offset_us"]) > 86400e6, done


def test_what_is_wrong_is_said(moto):
    for store, endpoint, env, text in [
            ("s3://nope", moto.url, KEYS, "NoSuchBucket"),
            ("s3://logs", "http://127.0.0.1:1", KEYS, "onnect"),
            ("s3://logs", moto.url, {}, "no S3 credentials"),
            ("s3://x", moto.url, KEYS, "no name of a bucket"),
            ("s3://logs", "ftp://127.0.0.1", KEYS, "no endpoint"),
            ("http://logs", moto.url, KEYS, "no address of a bucket"),
            ("s3://logs/a/../b", moto.url, KEYS, "can not begin keys")]:
        done, _ = check(endpoint, store, env=env, more=("--s3-retry", "1s"))
        assert done.returncode == 1 and text in done.stderr, (store, done)
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stderr + done.stdout


# ---- where keys come from: each is seen in what reaches the server

class Seen(Proxy):
    def __init__(self, to):
        self.authorizations, self.tokens = set(), set()
        super().__init__(to, self.look)

    def look(self, method, path, headers, number):
        self.authorizations.add(headers["authorization"].split("Credential=")[1].split("/")[0])
        self.tokens.add(headers.get("x-amz-security-token"))


def keys_seen(moto, env):
    seen = Seen(moto.port)
    try:
        done, _ = check(seen.url, "s3://nope", env=env)  # one request is enough
        assert "NoSuchBucket" in done.stderr, done
        return seen.authorizations, seen.tokens
    finally:
        seen.shutdown()
        seen.server_close()


def test_keys_of_a_profile(moto, tmp_path):
    file = tmp_path / "credentials"
    file.write_text("# c\n[default]\naws_access_key_id = one\naws_secret_access_key=s\n\n[logs]\naws_access_key_id=two\n"
                    "aws_secret_access_key = t\naws_session_token = u\n")
    assert keys_seen(moto, {"AWS_SHARED_CREDENTIALS_FILE": str(file)}) == ({"one"}, {None})
    assert keys_seen(moto, {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "logs"}) == ({"two"}, {"u"})


def test_keys_of_a_web_identity(moto, tmp_path):
    token = tmp_path / "token"
    token.write_text("a.b.c\n")
    keys, tokens = keys_seen(moto, {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ENDPOINT_URL_STS": moto.url,
                                    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/logs"})
    assert len(keys) == 1 and None not in tokens


class Metadata(http.server.BaseHTTPRequestHandler):
    """IMDSv2 of an instance, and the endpoint of a container; keys that soon expire are renewed."""

    def log_message(self, *args):
        pass

    def say(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.say("imds-session")

    def do_GET(self):
        keys = {"AccessKeyId": "role-key", "SecretAccessKey": "s", "Token": "role-token", "Expiration": "2999-01-01T00:00:00Z"}
        if self.path == "/container":
            ok = self.headers.get("Authorization") == "Bearer x"
            self.say(json.dumps({**keys, "AccessKeyId": "container-key"}) if ok else "no", 200 if ok else 401)
        elif self.headers.get("X-aws-ec2-metadata-token") != "imds-session":
            self.say("", 401)
        elif self.path.endswith("/security-credentials/"):
            self.say("the-role")
        else:
            assert self.path.endswith("/the-role")
            self.say(json.dumps(keys))


@pytest.fixture
def metadata():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:%d" % server.server_address[1]
    server.shutdown()
    server.server_close()


def test_keys_of_a_role(moto, metadata):
    env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata, "AWS_EC2_METADATA_DISABLED": "false"}
    assert keys_seen(moto, env) == ({"role-key"}, {"role-token"})
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": metadata + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer x"}
    assert keys_seen(moto, env) == ({"container-key"}, {"role-token"})
