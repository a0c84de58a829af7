"""Large objects that go from one place in a bucket to another are copied by the server: backup, restore and import move none of their bytes,
and trust nothing but a checksum. moto tells none of a part that it copied; the proxy adds it, as Amazon tells it. MinIO tells that of whole objects."""
import base64
import collections
import hashlib
import json
import os
import subprocess
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import conftest
import s3

FAST = ("--flush-age", "50ms", "--flush-idle", "50ms", "--fold-interval", "200ms", "--compact-interval", "1h")
MINIO = conftest.S3 == "minio"
LARGE = 1 << 20  # store/s3.c: COPY_BYTES_MIN
START, END = "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return base64.b64encode((crc ^ 0xFFFFFFFF).to_bytes(4, "big"))


class Watch:
    """A proxy's fault that has none of its own, and keeps what was asked of data files."""

    def __init__(self, fault=None):
        self.fault, self.asked, self.conditions = fault or (lambda *_: None), collections.Counter(), []

    def __call__(self, method, path, headers, number):
        if ".parquet" in path:
            copy = "x-amz-copy-source" in headers
            self.asked["copy" if copy else method] += 1
            self.asked["copy of a part"] += copy and "uploadId" in path
            self.asked["sent"] += int(headers.get("Content-Length") or 0) if method == "PUT" else 0
            if method == "POST" and "uploads" not in path:
                self.conditions.append(headers.get("If-None-Match"))
        return self.fault(method, path, headers, number) or ("tell" if "x-amz-copy-source" in headers and "uploadId" in path else None)


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3.bucket(s3_server)


@pytest.fixture
def between(s3_server, bucket):
    """proxy(fault) -> the proxy, with .watch; the environment of what goes through it."""
    opened = []

    def crc_of(source):
        name, _, key = urllib.parse.unquote(source).lstrip("/").partition("/")
        assert name == bucket.name
        return crc32c(bucket.Object(key).get()["Body"].read())

    def make(fault=None):
        watch = Watch(fault)
        p = s3.Proxy(s3_server.port, watch)
        p.watch, p.crc_of = watch, crc_of
        opened.append(p)
        return p, {**s3.KEYS, "SLUICE_S3_ENDPOINT": p.url}
    yield make
    for p in opened:
        p.shutdown()
        p.server_close()


def environment(env):
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "P_"))}, **env}


def sluice(*args, env, code=0):
    done = subprocess.run([conftest.binary(), *map(str, args)], env=environment(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    assert done.returncode == code, done
    return json.loads(done.stdout) if done.stdout else done.stderr.decode()


def noise(size):
    return base64.b64encode(os.urandom(size)).decode()


def objects(bucket, prefix, end=".parquet"):
    return {o.key[len(prefix):]: o for o in bucket.objects.filter(Prefix=prefix) if o.key.endswith(end)}


def unfinished(bucket, prefix):
    found = bucket.meta.client.list_multipart_uploads(Bucket=bucket.name, Prefix=prefix).get("Uploads", [])
    return [u["Key"] for u in found]


@pytest.fixture
def filled(request, s3_server, bucket, start_server):
    """A store in the bucket with a large and a small file; its server has ended. (prefix, answer to SUM)"""
    prefix = "st ore+%s" % request.node.name.replace("[", "-").replace("]", "")
    env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url}
    server = start_server("--store", "s3://logs/" + prefix, *FAST, env=env)
    server.api.put("large", [{"n": n, "noise": noise(30000)} for n in range(60)])
    server.api.put("small", [{"n": 1}])
    server.api.flushed()
    assert server.stop() == 0
    sizes = sorted(o.size for o in objects(bucket, prefix + "/").values())
    assert len(sizes) == 2 and sizes[0] < LARGE < sizes[1], sizes
    return prefix


def restored(start_server, s3_server, place):
    server = start_server("--store", "s3://logs/" + place, *FAST, env={**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url})
    assert server.api.sql('SELECT count(*) AS n, sum(n) AS s, sum(length(noise)) AS l FROM "large"') == [
        {"n": 60, "s": 60 * 59 // 2, "l": 60 * 40000}]
    assert server.api.sql("SELECT n FROM small") == [{"n": 1}]
    assert server.stop() == 0


def same(bucket, one, other):
    a, b = objects(bucket, one + "/"), objects(bucket, other + "/")
    assert a.keys() == b.keys() and all(a[k].get()["Body"].read() == b[k].get()["Body"].read() for k in a)


def test_backup_and_restore(s3_server, bucket, between, filled, start_server):
    p, env = between()
    for what, of, to in (("backup", filled, filled + ".place"), ("restore", filled + ".place", filled + ".again")):
        p.watch.asked.clear()
        if what == "backup":
            done = sluice("backup", "s3://logs/" + to, "--store", "s3://logs/" + of, env=env)
        else:
            done = sluice("restore", "s3://logs/" + of, "--store", "s3://logs/" + to, env=env)
        small = min(o.size for o in objects(bucket, filled + "/").values())
        assert p.watch.asked["copy"] == 1, p.watch.asked
        if not MINIO:
            assert p.watch.asked["sent"] == small and p.watch.asked["GET"] <= 2, p.watch.asked
        assert done["copied"] == done["files"]
        same(bucket, filled, to)
        assert not unfinished(bucket, to)
    assert p.watch.conditions == ["*", "*"] * (not MINIO), "an object is never made without the condition"
    assert sluice("backup", "verify", "s3://logs/" + filled + ".place", env=env)["damaged"] == []
    restored(start_server, s3_server, filled + ".again")


def test_a_server_that_tells_no_checksum(s3_server, bucket, between, filled, start_server):
    p, env = between(lambda method, path, headers, number: "plain" if "x-amz-copy-source" in headers else None)
    sluice("backup", "s3://logs/" + filled + ".place", "--store", "s3://logs/" + filled, env=env)
    assert p.watch.asked["copy"] == 1 and p.watch.asked["sent"] > LARGE, p.watch.asked
    same(bucket, filled, filled + ".place")
    assert not unfinished(bucket, filled + ".place")


@pytest.mark.parametrize("answer", ("501", "400", "403"))
def test_a_server_that_cannot_copy(s3_server, bucket, between, filled, answer):
    p, env = between(lambda method, path, headers, number: answer if "x-amz-copy-source" in headers else None)
    sluice("backup", "s3://logs/" + filled + ".place", "--store", "s3://logs/" + filled, env={**env, "SLUICE_S3_RETRY": "2s"})
    assert p.watch.asked["sent"] > LARGE, p.watch.asked
    same(bucket, filled, filled + ".place")
    assert not unfinished(bucket, filled + ".place")


def test_lost_replies(s3_server, bucket, between, filled):
    """Each request of a copy is done, and its first reply lost."""
    seen = set()

    def lose(method, path, headers, number):
        kind = "copy" if "x-amz-copy-source" in headers else method + ("s" if "uploads" in path else "")
        if ".parquet" not in path or kind in seen:
            return None
        seen.add(kind)
        return "lose"
    p, env = between(lose)
    sluice("backup", "s3://logs/" + filled + ".place", "--store", "s3://logs/" + filled, env=env)
    assert {"copy", "POSTs", "DELETE" if MINIO else "POST"} <= seen
    same(bucket, filled, filled + ".place")


def test_damage_is_not_copied(s3_server, bucket, between, filled):
    p, env = between()
    key, damaged = max(objects(bucket, filled + "/").items(), key=lambda o: o[1].size)
    body = damaged.get()["Body"].read()
    for broken in (body[:-1], body[:500000] + bytes([body[500000] ^ 4]) + body[500001:]):
        bucket.put_object(Key=damaged.key, Body=broken)
        why = sluice("backup", "s3://logs/" + filled + ".place", "--store", "s3://logs/" + filled, env=env, code=1)
        assert "damaged" in why, why
        assert key not in objects(bucket, filled + ".place/") and not unfinished(bucket, filled + ".place")
    assert p.watch.asked["sent"] < LARGE


@pytest.fixture
def parseable(s3_server, bucket, tmp_path):
    """Three large files of one stream, in the bucket."""
    stream = tmp_path / "large"
    (stream / ".stream").mkdir(parents=True)
    (stream / ".stream/.stream.json").write_text(json.dumps({"version": "v4", "objectstore-format": "v4"}))
    for i in range(3):
        path = stream / ("date=2026-11-23/hour=16/minute=%02d/a key=50%%/vm.data.parquet" % i)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"p_timestamp": pa.array([1795452725000 + i] * 50, pa.timestamp("ms")), "noise": [noise(30000) for _ in range(50)]}), path)
        assert path.stat().st_size > LARGE
    for path in tmp_path.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "pars eable/" + str(path.relative_to(tmp_path)))
    return "pars eable"


def adopt(bucket, source, to, env):
    done = sluice("import", "parseable", "s3://logs/" + source, "--store", "s3://logs/" + to, "--output", "json", env=env)
    assert done["files"] == 3 and done["rows"] == 150 and not done["skipped"]
    sums = [sorted(hashlib.sha256(o.get()["Body"].read()).digest() for o in objects(bucket, p + "/").values()) for p in (source, to)]
    assert sums[0] == sums[1] and not unfinished(bucket, to)


def test_import(s3_server, bucket, between, parseable, start_server):
    """Each file is read and looked at, and none is sent back."""
    p, env = between()
    adopt(bucket, parseable, "adopted", env)
    assert p.watch.asked["sent"] == 0 and p.watch.asked["copy"] == 3 + MINIO, p.watch.asked
    assert p.watch.asked["copy of a part"] == (1 if MINIO else 3) and p.watch.conditions == ["*"] * 3 * (not MINIO)
    server = start_server("--store", "s3://logs/adopted", *FAST, env={**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url})
    assert server.api.sql("SELECT count(noise) AS n FROM large", START, END) == [{"n": 150}]


def plain(method, path, headers, number):
    return "plain" if "x-amz-copy-source" in headers else None


def test_import_where_whole_objects_have_a_checksum(s3_server, bucket, between, parseable):
    """As MinIO is. moto tells the source's for a copy's, of another kind: each file is uploaded, and nothing else is left."""
    p, env = between(plain)
    adopt(bucket, parseable, "adopted whole", env)
    assert p.watch.asked["copy of a part"] == 1 and p.watch.asked["copy"] == 4, p.watch.asked
    assert (p.watch.asked["sent"] == 0) == MINIO, p.watch.asked


def test_import_with_lost_replies(s3_server, bucket, between, parseable):
    """The first of each kind: a part's, an object's."""
    lost = set()

    def lose(method, path, headers, number):
        kind = "part" if "uploadId" in path else "object"
        if "x-amz-copy-source" not in headers:
            return None
        if kind not in lost:
            lost.add(kind)
            return "lose"
        return "plain"
    p, env = between(lose)
    adopt(bucket, parseable, "adopted late", env)
    assert lost == {"part", "object"}
