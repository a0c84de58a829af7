"""The hot tier: copies of the newest files of a bucket on the server's own disk. Whatever is in it, answers are the same; its budget holds;
it survives a restart, and what is deleted leaves it."""
import os
import subprocess

import pytest

import conftest
from s3 import KEYS

FILES = 4
ROWS = 400
QUESTIONS = [
    "SELECT count(*) AS n, sum(n) AS s, count(DISTINCT m) AS d FROM app",
    "SELECT n, m FROM app WHERE n % 100 = 7 ORDER BY n",
    "SELECT m FROM app ORDER BY p_timestamp DESC, n DESC LIMIT 5",
    "SELECT a.m FROM app AS a JOIN app AS b ON a.n = b.n + 1 WHERE a.n > %d ORDER BY a.n" % (FILES * ROWS - 4),
]
HOT = "sluice_hot_tier_"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hot")


@pytest.fixture(scope="module")
def lake(request, s3_server, folder):
    """A server whose files lie in a bucket, FILES of them, of stream app; both tests leave it without a hot tier."""
    args = ["--store", "s3://logs/prefix", "--s3-endpoint", s3_server.url, "--flush-age", "50ms", "--flush-idle", "50ms", "--hot-tier-dir", str(folder)]
    with conftest._made(request.module) as make:
        server = make(*args, env={**KEYS, "AWS_EC2_METADATA_DISABLED": "true"})
        for i in range(FILES):
            server.api.put("app", [{"n": n, "m": "message %d" % (n // 3)} for n in range(i * ROWS, (i + 1) * ROWS)])
            server.api.flushed()
        yield server


def answers(api):
    return [api.sql(q) for q in QUESTIONS]


def files(folder):
    return sorted(f for f in folder.rglob("*.parquet") if ".tmp" not in f.parts)


def metric(api, name):
    return api.metrics().get(HOT + name, 0)


def tier(api, method, body=None, stream="app"):
    return api.call(method, "/api/v1/logstream/%s/hottier" % stream, body)


def filled(api, folder, count=FILES):
    assert api.wait(lambda: len(files(folder)) == count and metric(api, "missing_files") == 0), (files(folder), api.metrics())


def damage(path):
    with open(path, "r+b") as f:
        f.seek(100)
        f.write(bytes(b ^ 0xFF for b in f.read(400)))


def test_same_answers(lake, folder):
    api = lake.api
    cold = answers(api)
    assert cold[0] == [{"n": FILES * ROWS, "s": sum(range(FILES * ROWS)), "d": (FILES * ROWS + 2) // 3}]
    assert (metric(api, "hits_total"), metric(api, "misses_total"), files(folder)) == (0, 0, [])  # nobody asked for it
    assert "message" in cold[2][0]["m"]

    assert tier(api, "GET").status == 400
    for body, why in [({"size": "9 GiB"}, "Stream should have atleast 10.00 GiB size"), ({"size": "lots"}, "'lots'"), ({}, "size"), ([], "size")]:
        refused = tier(api, "PUT", body)
        assert refused.status == 400 and refused.text.startswith("Hot tier validation failed: ") and why in refused.text, (body, refused)
    assert tier(api, "PUT", {"size": "10 GiB"}, "nope").status == 404
    answer = tier(api, "PUT", {"size": "10 GiB"})
    assert (answer.status, answer.text) == (200, "hot tier set for stream app")
    assert api.get("/api/v1/logstream/app/info").json()["hotTierEnabled"] is True
    assert api.get("/api/v1/about").json()["hotTier"] == "Enabled, Path: %s" % folder
    filled(api, folder)
    size = sum(f.stat().st_size for f in files(folder))
    told = tier(api, "GET").json()
    assert told.pop("oldest_date_time_entry")
    assert told == {"version": "v2", "size": "10737418240 Bytes", "used_size": "%d Bytes" % size,
                    "available_size": "%d Bytes" % (10737418240 - size)}
    assert metric(api, "bytes") == size == metric(api, "filled_bytes_total")
    assert api.metrics()['parseable_hot_tier_used_bytes{stream="app",tenant_id="DEFAULT_TENANT"}'] == size

    misses = metric(api, "misses_total")
    assert answers(api) == cold  # warm
    assert metric(api, "misses_total") == misses and metric(api, "hits_total") >= FILES
    for f in files(folder)[::2]:  # half of it is lost, and fetched again
        f.unlink()
    assert answers(api) == cold
    assert metric(api, "misses_total") > misses
    filled(api, folder)
    for f in files(folder)[1::2]:
        damage(f)
    assert answers(api) == cold
    filled(api, folder)
    assert metric(api, "damaged_total") == FILES  # those that were lost, too
    assert answers(api) == cold

    lake.stop()
    for f in files(folder)[:2]:  # while nobody watched
        damage(f)
    lake.start()
    assert answers(api) == cold
    assert metric(api, "damaged_total") == 2
    filled(api, folder)
    assert metric(api, "filled_bytes_total") < size  # the others were still good
    assert answers(api) == cold

    answer = tier(api, "DELETE")
    assert (answer.status, answer.text) == (200, "hot tier deleted for stream app")
    assert api.get("/api/v1/logstream/app/info").json()["hotTierEnabled"] is False
    assert tier(api, "GET").status == 400
    assert api.wait(lambda: not files(folder))
    assert answers(api) == cold


def test_budget_and_deleted_stream(lake, folder):
    api = lake.api
    cold = answers(api)
    tier(api, "PUT", {"size": "10737418240 Bytes"})
    filled(api, folder)
    by_age = files(folder)  # names count upwards
    sizes = [f.stat().st_size for f in by_age]
    lake.stop()
    lake.args += ["--hot-tier-max", str(sum(sizes[2:]) + sizes[1] - 1)]
    lake.start()
    filled(api, folder, FILES - 2)
    assert files(folder) == by_age[2:]  # the newest stay
    assert answers(api) == cold
    api.put("app", [{"n": -1, "m": "new"}])
    api.flushed()
    assert api.wait(lambda: any(f not in by_age for f in files(folder)))
    assert metric(api, "bytes") <= sum(sizes[1:]) - 1
    api.put("other", [{"n": 1}])
    api.flushed()
    assert api.delete("app").status == 200
    assert api.wait(lambda: not files(folder))
    assert not any(d.is_dir() for d in folder.glob("*/app"))


def test_not_configured(start_server):
    api = start_server().api
    api.create("app")
    assert api.get("/api/v1/about").json()["hotTier"] == "Disabled"
    for method, body in [("PUT", {"size": "10 GiB"}), ("GET", None), ("DELETE", None)]:
        answer = tier(api, method, body)
        assert (answer.status, answer.text) == (403, "Hot tier is not enabled at the server config, cannot enable hot tier for stream app")


def test_refused_beside_a_local_store(tmp_path):
    done = subprocess.run([conftest.binary(), "serve", "--data", str(tmp_path), "--addr", "127.0.0.1:0"], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "P_HOT_TIER_DIR": str(tmp_path / "hot")})
    assert done.returncode == 2 and "P_HOT_TIER_DIR" in done.stderr and "hot tier" in done.stderr, done
    assert not (tmp_path / "hot").exists()
