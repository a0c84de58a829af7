"""What servers left in the bucket, when the whole suite runs on S3: asked of the bucket itself when a test's or a module's servers end.

They stop, one round of `catalog gc` runs, and then there may be, by the bucket's own listing:
  - below a stream's folder what `catalog fsck --report` calls live or retained, object by object and byte by byte; of a deleted stream its last
    head, which stays for a week
  - below .sluice/ what SYSTEM names
  - where the last process was killed, and nobody came back for its rows: files that its next record may name (limbo)
  - where any was killed: its probe of the store, which the collector takes an hour later
Nothing is lost: each file that the catalog names is there, with its checksum (`catalog verify`). Nothing is doubled: no record of a lane commits
a segment of a write-ahead log that another one committed.
"""
import collections
import json
import re
import struct
import subprocess
import time

import conftest

SYSTEM = re.compile(r"\.sluice/(cluster/\d{20}|names/[^/]+/\d{20}|lanes/n\d+/\d{20}|shards/\d+/(lease/)?\d{20}|nodes/[^/]+\.json|backup/\d{20})")
PROBE = re.compile(r"\.sluice/probe/")
FLAG_ZSTD = 1
spent = collections.Counter()


def slot_body(data):
    """Of a slot of the catalog, 60 bytes and then JSON."""
    length, flags = struct.unpack_from("<II", data, 48)
    body = data[60:60 + length]
    if flags & FLAG_ZSTD:
        import pyarrow
        body = pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd").read()
    return json.loads(body)


def segments_twice(bucket, prefix, keys):
    """Segments of write-ahead logs that two records committed."""
    committed, twice = {}, []
    for key in keys:
        if not key.startswith(".sluice/lanes/"):
            continue
        record = slot_body(bucket.Object(prefix + key).get()["Body"].read())
        if record["type"] == "data":
            wal = record["wal"]
            for segment in range(wal["from"], wal["to"] + 1):
                before = committed.setdefault((wal["id"], segment), key)
                if before != key:
                    twice.append((wal["id"], segment, before, key))
    return twice


def judge(listed, report, killed, ever_killed):
    """What is wrong with a bucket where `listed` {key: size} is, of which fsck says `report`."""
    wrong, left = [], dict(listed)
    for i in report["incarnations"]:
        own = {k: left.pop(k) for k in list(left) if k.startswith(i["prefix"])}
        classes = ("live", "retained", "limbo", "garbage", "unknown")
        told = tuple(sum(i[c][what] for c in classes) for what in ("objects", "bytes"))
        if told != (len(own), sum(own.values())):
            wrong.append("%s: fsck says %s, the bucket has %s" % (i["prefix"], told, sorted(own.items())))
        heads = [k for k in own if "/_head/" in k]
        good = {"live": i["garbage"]["objects"] == 0 and i["live"]["objects"] + i["retained"]["objects"] > 0,
                "dead": len(own) == len(heads) == 1}.get(i["state"])
        if not good or i["unknown"]["objects"] or (i["limbo"]["objects"] and not killed):
            wrong.append("%s holds %s" % (i, sorted(own)))
    strangers = [k for k in left if not SYSTEM.fullmatch(k) and not (ever_killed and PROBE.match(k))]
    if strangers:
        wrong.append("of nobody: %s" % strangers)
    return wrong


def look(store, server, direct, bucket, ever_killed):
    prefix = store.split("/", 3)[3] + "/"

    def catalog(*args):
        done = subprocess.run([conftest.binary(), "catalog", *args, "--store", store, "--data", server.data, "-o", "json"], env=direct,
                              capture_output=True, text=True, timeout=conftest.HTTP_S)
        assert done.returncode == 0, (args, done.stdout[-4000:], done.stderr[-4000:])
        return json.loads(done.stdout)

    if not list(bucket.objects.filter(Prefix=prefix).limit(1)):
        return []
    catalog("gc")
    report = catalog("fsck", "--report")
    listed = {o.key[len(prefix):]: o.size for o in bucket.objects.filter(Prefix=prefix)}
    wrong = judge(listed, report, server.process.returncode < 0, ever_killed)
    if any(k.endswith(".parquet") for k in listed):
        catalog("verify")
    return wrong + ["committed twice: %s" % (t,) for t in segments_twice(bucket, prefix, listed)]


def check(servers, direct, bucket):
    """Of each store of these servers; ends them."""
    start, stores, wrong = time.monotonic(), {}, []
    for server in servers:
        if server.s3_at:
            stores.setdefault(server.s3_store, []).append(server)
            if server.process.poll() is None:
                server.stop()
    for store, of in stores.items():
        last = max(of, key=lambda s: s.s3_at)
        wrong += look(store, last, direct, bucket, any(s.killed for s in of))
    spent["stores"] += len(stores)
    spent["seconds"] += time.monotonic() - start
    assert not wrong, "left in the bucket:\n" + "\n".join(wrong)
