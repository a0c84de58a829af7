"""Servers whose files lie in Azure Blob or in Google Cloud Storage: the core of test_store.py and test_bucket.py on both. No live cloud account was
ever tried: Azurite and fake-gcs-server stand in."""
import json
import os
import random
import shutil
import subprocess

import pytest

import clouds
import conftest
import s3
from test_bucket import FAST, TIDY, Switch, check, put


@pytest.fixture(scope="module", params=sorted(clouds.KINDS))
def cloud(request):
    server = clouds.KINDS[request.param]()
    yield server
    server.close()


@pytest.fixture(scope="module")
def through(cloud):
    """A proxy in front of it whose faults can be changed."""
    switch = Switch()
    with s3.proxy(cloud.port, switch) as p:
        p.switch = switch
        yield p


@pytest.fixture
def between(through):
    through.switch.fault = lambda *_: None
    through.done.clear()
    through.resign = None
    yield through
    through.switch.fault = lambda *_: None


def prefix_of(request):
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]


@pytest.fixture
def on_cloud(request, cloud, between, start_server):
    """start(options...) of servers on one prefix, a new one for each test; each call is a node with a disk of its own."""
    prefix = prefix_of(request)

    def start(*options, start=True):
        return start_server("--store", cloud.address(prefix), *options, env=cloud.env(between.server_address[1]), start=start)
    start.prefix = prefix + "/"
    yield start


def sluice(cloud, port, *args, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "GOOGLE_", "SLUICE_", "P_", "STORAGE_"))}
    return subprocess.run([conftest.binary(), *args], capture_output=True, text=True, timeout=300,
                          env={**clean, "HOME": "/nonexistent", **cloud.env(port), **(env or {})})


def store_check(cloud, between, prefix, *more):
    done = sluice(cloud, between.server_address[1], "store", "check", cloud.address(prefix), "--output", "json", *more)
    return done, (json.loads(done.stdout) if done.stdout else None)


# ---- the store alone

def test_store_check(request, cloud, between):
    """16 creates at once among it, pages and folders of lists, ranges, uploads whole and in parts."""
    prefix = prefix_of(request)
    done, report = store_check(cloud, between, prefix)
    assert done.returncode == 0 and report["good"] and len(report["steps"]) >= 8, done
    assert cloud.objects(prefix) == {}


def test_faults_are_ridden_out(request, cloud, between):
    """Reads, lists and removals are repeated; an upload whose reply is lost finds its own nonce. Plain creates are for the caller to look after."""
    rng, prefix, faults = random.Random(7), prefix_of(request), ["503", "500", "429", "lose", "reset", "truncate", "stall"]

    def fault(method, path, headers, number):
        return None if cloud.is_create(method, path, headers) or rng.random() < 0.7 else rng.choice(faults)
    between.switch.fault = fault
    done, report = store_check(cloud, between, prefix)
    assert done.returncode == 0 and report["good"], (done, between.done)
    for name in faults:
        assert between.done[name] > 0
    assert cloud.objects(prefix) == {}


def test_undecided_creates_are_no_verdict(request, cloud, between):
    """A lost reply of a create proves nothing against a store. Those of the first step are let through, as a check ends where nothing works."""
    creates = []

    def fault(method, path, headers, number):
        if cloud.is_create(method, path, headers):
            creates.append(path)
            return "lose" if len(creates) > 4 and len(creates) % 2 else None
    between.switch.fault = fault
    done, report = store_check(cloud, between, prefix_of(request))
    assert between.done["lose"] >= 4 and report, done
    assert not [s for s in report["steps"] if "16 creates" in s["what"] and not s["good"]], report


def test_store_that_overwrites_is_found_out(request, cloud, between):
    between.switch.fault = lambda *_: "overwrite"
    between.resign = getattr(cloud, "resign", None)
    done, report = store_check(cloud, between, prefix_of(request))
    assert done.returncode == 1 and not report["good"], done
    assert any("16 creates" in s["what"] and not s["good"] for s in report["steps"]), report


def test_falsified_bytes_are_found_out(request, cloud, between):
    between.switch.fault = lambda method, path, headers, number: "falsify" if method == "GET" and "prefix=" not in path else None
    done, report = store_check(cloud, between, prefix_of(request))
    assert done.returncode == 1 and not (report and report["good"]), done


def test_what_is_wrong_is_said(cloud, between):
    port = between.server_address[1]
    for store, at, text in [(cloud.address("x").replace("logs", "nope-nope"), port, "nope-nope"),
                            (cloud.address("x"), 1, "onnect"),
                            (cloud.address("x").replace("logs", "X"), port, "no name of a"),
                            (cloud.address("a/../b"), port, "can not begin keys")]:
        done = sluice(cloud, at, "store", "check", store, "--s3-retry", "1s")
        assert done.returncode == 1 and text in done.stderr + done.stdout, (store, done)


# ---- a server on it

def test_a_lost_disk_loses_nothing_that_was_flushed(on_cloud, cloud, between):
    first = on_cloud(*FAST)
    put(first, "app", 0, 200)
    first.api.flushed()
    assert [k for k in cloud.objects(on_cloud.prefix) if k.startswith("app/") and k.endswith(".parquet")]
    first.kill()
    shutil.rmtree(first.data)
    second = on_cloud(*FAST)  # another machine, an empty disk
    assert "app" in second.api.streams()
    check(second, "app", 200)
    assert second.api.sql("SELECT i FROM app WHERE m = 'message 96' ORDER BY i") == [{"i": 96}, {"i": 193}]
    put(second, "app", 200, 100)
    check(second, "app", 300)
    assert second.stop() == 0
    done = sluice(cloud, between.server_address[1], "catalog", "verify", "--store", cloud.address(on_cloud.prefix[:-1]))
    assert done.returncode == 0 and '"damaged": []' in done.stdout, done
    assert not [p for p in (second.data / "tmp").rglob("*") if p.is_file()]


def test_a_bucket_that_falters(on_cloud, between):
    """A fifth of the requests fail or lose their answer, through kills: nothing is lost, nothing comes twice."""
    server = on_cloud(*TIDY)
    rng = random.Random(11)
    between.switch.fault = lambda *_: rng.choice(["503", "500", "lose", "reset", "truncate"]) if rng.random() < 0.2 else None
    for count in (60, 120):
        put(server, "app", count - 60, 60, size=10)
        server.kill()
        server.start()
        check(server, "app", count)
    between.switch.fault = lambda *_: None
    server.api.flushed()
    check(server, "app", 120)
    assert between.done["lose"] and between.done["503"]


def test_deleted_streams_leave_nothing(on_cloud, cloud):
    """But for the head that says so, kept for 7 days."""
    server = on_cloud(*TIDY)
    put(server, "app", 0, 60)
    put(server, "kept", 0, 60)
    server.api.flushed()
    assert server.api.delete("app").status == 200
    left = lambda: [k for k in cloud.objects(on_cloud.prefix) if k.startswith("app/")]  # noqa: E731
    assert server.api.wait(lambda: len(left()) == 1), left()
    assert "/_head/" in left()[0]
    check(server, "kept", 60)


def test_keys_are_nowhere(on_cloud, cloud):
    server = on_cloud(*FAST)
    put(server, "app", 0, 20)
    server.api.flushed()
    check(server, "app", 20)
    secret = cloud.secret or "no secret of an emulator"
    for sql in ("SELECT * FROM duckdb_secrets()", "SELECT getenv('SLUICE_AZURE_ACCESS_KEY')", "EXPLAIN ANALYZE SELECT * FROM app",
                "SELECT * FROM read_parquet('%s/*')" % cloud.address(on_cloud.prefix)):
        answer = server.api.query(sql)
        assert secret not in answer.text and "AccountKey" not in answer.text and "BEARER" not in answer.text.upper(), answer
        assert answer.status != 200 or sql.startswith("EXPLAIN"), answer
    assert secret not in server.log() + server.api.get("/api/v1/metrics").text + server.api.get("/api/v1/about").text


@pytest.mark.parametrize("kind", sorted(clouds.KINDS))
def test_https_with_a_certificate_of_ones_own(certificate, start_server, kind):
    """The store's client and the engine's trust what store-ca-cert says and nothing less."""
    cloud = clouds.KINDS[kind](tls=certificate)
    try:
        options = ("--store", cloud.address("tls"), *FAST)
        server = start_server(*options, "--store-ca-cert", str(certificate[0]), env=cloud.env(cloud.port))
        server.api.put("app", [{"n": n} for n in range(5)])
        server.api.flushed()
        assert server.api.sql("SELECT sum(n) AS s FROM app") == [{"s": 10}]
        assert any(k.endswith(".parquet") for k in cloud.objects("tls/"))
        done = sluice(cloud, cloud.port, "store", "check", cloud.address("tls"))
        assert done.returncode == 1 and "certificate" in done.stderr, done
    finally:
        cloud.close()


# ---- tokens

def test_a_service_account(request, tmp_path):
    """The JWT is what Google asks for, by an implementation that is not ours; the token goes with every request; one that is refused is asked for again, but not
    more often than every 10 s."""
    cloud = clouds.Gcs()
    service = clouds.TokenService()
    try:
        with s3.proxy(cloud.port, lambda *_: None) as p:
            p.allow = service.allow
            key = tmp_path / "key.json"
            key.write_text(json.dumps(service.google_key()))
            env = {"STORAGE_EMULATOR_HOST": "", "SLUICE_GCS_ENDPOINT": p.url, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}
            done = sluice(cloud, 0, "store", "check", "gs://logs/tokens", "--output", "json", env=env)
            assert done.returncode == 0 and json.loads(done.stdout)["good"], (done, service.problems)
            assert service.given and service.refused and not service.problems, service.problems
            env["GOOGLE_APPLICATION_CREDENTIALS"] = str(tmp_path / "none")
            done = sluice(cloud, 0, "store", "check", "gs://logs/tokens", env=env)
            assert done.returncode == 1 and str(tmp_path / "none") in done.stderr, done
    finally:
        cloud.close()
        service.close()


def test_a_client_of_entra():
    """Behind a proxy that takes tokens and signs with the account's key, as Azurite takes tokens over HTTPS only."""
    cloud = clouds.Azure()
    service = clouds.TokenService()
    try:
        with s3.proxy(cloud.port, lambda *_: None) as p:
            p.allow, p.resign = service.allow, cloud.resign
            env = {"SLUICE_AZURE_ACCESS_KEY": "", "AZURE_AUTHORITY_HOST": service.url, "AZURE_TENANT_ID": "tenant-1",
                   "AZURE_CLIENT_ID": "client-1", "AZURE_CLIENT_SECRET": "s e&cret"}
            done = sluice(cloud, p.server_address[1], "store", "check", "az://logs/tokens", "--output", "json", env=env)
            assert done.returncode == 0 and json.loads(done.stdout)["good"], (done, service.problems)
            assert service.given and service.refused and not service.problems, service.problems
            env.update(AZURE_CLIENT_SECRET="", AZURE_POD_IDENTITY_AUTHORITY_HOST=service.url)  # the machine's identity
            done = sluice(cloud, p.server_address[1], "store", "check", "az://logs/tokens", "--output", "json", env=env)
            assert done.returncode == 0 and json.loads(done.stdout)["good"] and not service.problems, (done, service.problems)
            env.update(AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:1")
            done = sluice(cloud, p.server_address[1], "store", "check", "az://logs/tokens", env=env)
            assert done.returncode == 1 and "no Azure credentials" in done.stderr and "s e&cret" not in done.stderr, done
    finally:
        cloud.close()
        service.close()
