"""`sluice backup` and `sluice restore`: a point taken while rows come holds every row that was acknowledged before and no half of anything;
what is interrupted goes on; what is damaged is found; places that do not fit are refused."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import threading
import time

import pytest

import conftest
import s3

FAST = ("--flush-age", "50ms", "--flush-idle", "50ms", "--fold-interval", "200ms")
TIDY = FAST + ("--gc-interval", "300ms", "--compact-interval", "300ms")
SLOW = ("--flush-age", "1h", "--flush-idle", "1h", "--fold-interval", "1h")  # nothing reaches the store by itself
ROWS = 3  # of a request


def environment(env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "P_"))}
    return {**clean, **conftest.s3_env, **(env or {})}


def spawn(*args, env=None):
    return subprocess.Popen([conftest.binary(), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=environment(env), text=True)


def sluice(*args, env=None, code=0):
    """(what it says on stdout, as JSON where there is any; stderr)"""
    p = spawn(*args, env=env)
    out, err = p.communicate(timeout=120)
    assert p.returncode == code, (args, p.returncode, out, err)
    return json.loads(out) if out else None, err


def store_of(server):
    return ("--store", server.s3_store) if conftest.S3 else ("--data", server.data)


def backup(server, place, *args, code=0, **k):
    return sluice("backup", place, *store_of(server), "--server", server.url, *args, code=code, **k)


def files(folder, end=".parquet"):
    return sorted(p for p in pathlib.Path(folder).rglob("*" + end))


class Load:
    """Clients that each write request q to stream a, then to stream b, and remember what was acknowledged."""

    def __init__(self, server, clients=2):
        self.stop, self.acked = threading.Event(), [{"a": 0, "b": 0} for _ in range(clients)]
        self.threads = [threading.Thread(target=self.run, args=(server, w)) for w in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, server, w):
        with server.client() as c:
            q = 0
            while not self.stop.is_set():
                q += 1
                for stream in ("a", "b"):
                    server.api.put(stream, [{"w": w, "q": q, "i": i, "m": "x" * (q % 50)} for i in range(ROWS)], client=c)
                    self.acked[w][stream] = q

    def now(self):
        return [dict(a) for a in self.acked]

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()


def check_load(api, acked):
    """What the servers of `acked` had said is in; of each client a prefix of its requests, each whole; b never ahead of a."""
    last = {}
    for stream in ("a", "b"):
        rows = api.sql('SELECT w, q, count(*) AS n, count(DISTINCT i) AS d FROM "%s" GROUP BY 1, 2' % stream)
        assert all(r["n"] == ROWS and r["d"] == ROWS for r in rows), [r for r in rows if r["n"] != ROWS or r["d"] != ROWS]
        for w in range(len(acked)):
            seen = sorted(int(r["q"]) for r in rows if r["w"] == w)
            assert seen == list(range(1, len(seen) + 1)), (stream, w)
            assert len(seen) >= acked[w][stream], (stream, w, len(seen), acked[w])
            last[w, stream] = len(seen)
    for w in range(len(acked)):
        assert 0 <= last[w, "a"] - last[w, "b"] <= 1, last
    return last


def stopped(server):
    """In order: a signal before it says that it is ready ends it at once."""
    assert server.api.wait(lambda: server.log().rpartition("\n---")[2].count('"ready: '))
    assert server.stop() == 0


def no_rest(*store):
    """Of a store nothing but what lives."""
    report, _ = sluice("catalog", "fsck", *store, "--output", "json")
    for kind in ("garbage", "limbo", "unknown"):
        assert report["total"][kind]["objects"] == 0, report
    return report


@pytest.mark.local_store
def test_points_while_rows_come(start_server, tmp_path):
    server, place = start_server(*TIDY), tmp_path / "place"
    server.api.put("still", [{"n": 1.5, "t": "é"}, {"n": 2, "list": [1, 2]}])
    assert server.api.call("PUT", "/api/v1/logstream/still/retention", [{"duration": "30d", "action": "delete", "description": ""}]).status == 200
    load, churn_ends = Load(server), threading.Event()

    def churn():  # streams that come, are gone, and come again
        with server.client() as c:
            n = 0
            while not churn_ends.is_set():
                n += 1
                server.api.ingest("gone%d" % (n % 2), [{"n": n}], client=c)
                if n % 3 == 0:
                    server.api.delete("gone%d" % (n % 2))

    churning = threading.Thread(target=churn)
    churning.start()
    points, copied = [], 0
    for _ in range(2):
        time.sleep(0.7)
        acked = load.now()
        summary, _ = backup(server, place)
        assert summary["unasked"] == [] and summary["damaged"] == []
        points.append((summary["point"], acked))
        copied += summary["copied"]
        assert len(files(place)) + len(files(place, ".slm")) == copied  # each file once
    load.end()
    churn_ends.set()
    churning.join()
    before = {f: (f.stat().st_mtime_ns, f.stat().st_ino) for f in files(place)}
    summary, _ = backup(server, place)
    assert all((f.stat().st_mtime_ns, f.stat().st_ino) == before[f] for f in before)
    assert summary["copied"] < summary["files"]  # most were there
    points.append((summary["point"], load.now()))
    listed, _ = sluice("backup", "ls", place)
    assert [p["point"] for p in listed] == [n for n, _ in points]
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    for n, acked in points:
        data = tmp_path / ("data%d" % n)
        restored, _ = sluice("restore", place, "--data", data, "--point", n)
        assert restored["rows"] == listed[n]["rows"] and restored["files"] == listed[n]["files"]
        again = start_server(*TIDY, data=data)
        last = check_load(again.api, acked)
        if n == points[-1][0]:
            assert last == {(w, s): acked[w][s] for w in range(len(acked)) for s in ("a", "b")}  # nobody wrote meanwhile
        columns = "n, t, list"
        assert again.api.sql("SELECT %s FROM still ORDER BY n" % columns) == server.api.sql("SELECT %s FROM still ORDER BY n" % columns)
        for path in ("still/schema", "still/retention"):
            assert again.api.get("/api/v1/logstream/" + path).json() == server.api.get("/api/v1/logstream/" + path).json()
        assert again.api.stats("still")["ingestion"] == server.api.stats("still")["ingestion"]
        again.api.put("a", [{"w": -1, "q": 1}])  # and it goes on
        assert again.api.count("a", "w = -1") == 1
        stopped(again)
        assert again.start().api.count("a", "w = -1") == 1
        stopped(again)
        no_rest("--data", data)


@pytest.mark.local_store
def test_rows_that_are_only_in_the_log(start_server, tmp_path):
    """The server is asked to flush; without, the point is what the store has."""
    server = start_server(*SLOW)
    server.api.put("s", [{"n": 1}])
    committed, _ = sluice("backup", tmp_path / "p1", "--data", server.data, "--committed")
    assert committed["rows"] == 0 and committed["unasked"]
    assert backup(server, tmp_path / "p2")[0]["rows"] == 1
    server.api.put("s", [{"n": 2}])
    server.kill()
    offline, err = sluice("backup", tmp_path / "p2", "--data", server.data)  # nobody to ask
    assert offline["rows"] == 1 and "was not asked to flush" in err
    for registration in (server.data / "store" / ".sluice" / "nodes").iterdir():  # as if it was killed long ago
        registration.unlink()
    offline, err = sluice("backup", tmp_path / "p2", "--data", server.data)
    assert offline["unasked"] == ["(of lane n00001)"] and "lane n00001" in err
    server.start()
    stopped(server)
    offline, err = sluice("backup", tmp_path / "p2", "--data", server.data)
    assert offline["rows"] == 2 and offline["unasked"] == [] and not err
    server.start()
    port = server.port
    _, err = sluice("backup", tmp_path / "p2", "--data", server.data, "--server", "http://127.0.0.1:1", code=1)
    assert "--committed" in err
    _, err = sluice("backup", tmp_path / "p2", "--data", server.data, env={"SLUICE_PASSWORD": "wrong"}, code=1)
    assert "--server" in err and port != 8000


@pytest.mark.local_store
def test_what_is_interrupted_goes_on(start_server, tmp_path):
    server, place, data = start_server(*FAST), tmp_path / "place", tmp_path / "data"
    for n in range(120):
        server.api.put("s%d" % (n % 4), [{"n": n}], headers={"X-P-Ack": "object"})
    rng = random.Random(5)

    def kill_and_end(folder, *command):
        """Kills it each time that some more files are there, until it gets through; the summary of the last."""
        while True:
            goal = len(files(folder)) + rng.randrange(10, 40)
            p = spawn(*command)
            while p.poll() is None and len(files(folder)) < goal:
                time.sleep(0.002)
            p.kill()
            out, err = p.communicate()
            assert p.returncode in (0, -9), err
            if out:
                return json.loads(out)

    command = ("backup", place, *store_of(server), "--server", server.url, "--parallel", "1")
    summary = kill_and_end(place, *command)
    assert summary["rows"] == 120 and summary["copied"] < summary["files"]
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    # a restore that ends half way, for certain: one file of the backup is away
    lost = files(place)[60]
    lost.rename(tmp_path / "lost")
    _, err = sluice("restore", place, "--data", data, code=1)
    assert lost.name in err and "sluice backup verify" in err
    half = start_server("--data", str(data), data=data, start=False).spawn()
    assert half.process.wait(60) != 0 and "a restore into it has not ended" in half.log()
    _, err = sluice("restore", place, "--data", data, "--stream", "s1", code=1)
    assert "another restore" in err
    (tmp_path / "lost").rename(lost)
    restored = kill_and_end(data / "store", "restore", place, "--data", data, "--parallel", "1")
    assert restored["rows"] == 120 and restored["copied"] < restored["files"]
    _, err = sluice("restore", place, "--data", data, code=1)
    assert "restored from this very point" in err
    again = start_server(data=data)
    assert sum(again.api.count("s%d" % i) for i in range(4)) == 120


@pytest.mark.local_store
def test_damage_is_found(start_server, tmp_path):
    server, place = start_server(*FAST), tmp_path / "place"
    for n in range(4):
        server.api.put("s%d" % (n % 2), [{"n": n}], headers={"X-P-Ack": "object"})
    backup(server, place)
    victims = {"file": files(place)[0], "head": sorted((place / "s0").glob("*/_head/*"))[-1],
               "lane": sorted((place / ".sluice" / "lanes").glob("*/*"))[-1]}
    for what, victim in victims.items():
        whole = victim.read_bytes()
        at = len(whole) // 2
        victim.chmod(0o600)
        victim.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1:])
        found, _ = sluice("backup", "verify", place, code=1)
        name = str(victim.relative_to(place))
        assert any(name in d["key"] + d["why"] for d in found["damaged"]), (what, found)
        _, err = sluice("restore", place, "--data", tmp_path / ("data-" + what), code=1)
        assert name in err, (what, err)
        victim.write_bytes(whole)
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    victim = victims["file"]
    victim.write_bytes(victim.read_bytes()[:-1])  # another length: the next backup sees it
    sluice("backup", "verify", place, code=1)
    summary, _ = backup(server, place)
    assert summary["mended"] == 1 and summary["copied"] == 1
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    # a file of the store itself: the backup refuses, and names it
    source = files(server.data / "store")[0]
    whole = source.read_bytes()
    source.chmod(0o600)
    source.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    _, err = backup(server, tmp_path / "another", code=1)
    assert source.name in err and "is damaged" in err


@pytest.mark.local_store
def test_places_that_do_not_fit(start_server, tmp_path):
    one, two, place = start_server(*FAST), start_server(*FAST), tmp_path / "place"
    for server in (one, two):
        server.api.put("s", [{"n": 1}], headers={"X-P-Ack": "object"})
    backup(one, place)
    assert "another store" in backup(two, place, code=1)[1]
    assert "another store" in sluice("backup", tmp_path / "p", "--data", one.data, "--server", two.url, code=1)[1]
    assert "is a store itself" in backup(two, one.data / "store", code=1)[1]
    assert "is inside of the store" in backup(one, one.data / "store" / "backups" / "new", code=1)[1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert "there is file" in backup(one, tmp_path / "full", code=1)[1]
    assert "there is file" in sluice("restore", place, "--store", tmp_path / "full", code=1)[1]
    assert "is a store" in sluice("restore", place, "--data", two.data, code=1)[1]
    assert "no backups" in sluice("restore", one.data / "store", "--data", tmp_path / "d", code=1)[1]
    assert "no point 7" in sluice("restore", place, "--data", tmp_path / "d", "--point", "7", code=1)[1]
    for command in ("ls", "verify", "rm"):
        assert "No such file" in sluice("backup", command, tmp_path / "mistyped", code=1)[1]
        assert not (tmp_path / "mistyped").exists(), command
    assert "no stream x" in sluice("restore", place, "--data", tmp_path / "d", "--stream", "x", code=1)[1]
    served = start_server("--store", str(place), start=False).spawn()
    assert served.process.wait(60) != 0 and "it holds backups" in served.log()
    # a data directory of the store that was lost: its log may hold what is not in this past
    one.api.put("s", [{"n": 2}])
    one.kill()
    shutil.rmtree(one.data / "store")
    sluice("restore", place, "--data", one.data)
    one.spawn()
    assert one.process.wait(60) != 0 and "belongs to another store" in one.log()
    (one.data / "wal").rename(tmp_path / "wal")
    assert one.start().api.sql("SELECT n FROM s") == [{"n": 1}]


@pytest.mark.local_store
def test_one_stream_of_a_backup(start_server, tmp_path):
    server, place, data = start_server(*FAST), tmp_path / "place", tmp_path / "data"
    for name in ("web", "Web", "web2"):
        server.api.put(name, [{"n": name}])
    backup(server, place)
    assert sluice("restore", place, "--data", data, "--stream", "Web")[0]["rows"] == 1
    again = start_server(*TIDY, data=data)
    assert again.api.streams() == ["Web"] and again.api.sql('SELECT n FROM "Web"') == [{"n": "Web"}]
    again.api.put("web", [{"n": 1}])
    assert again.api.count("web") == 1
    stopped(again)
    no_rest("--data", data)


@pytest.mark.local_store
def test_points_are_removed(start_server, tmp_path):
    server, place = start_server(*FAST), tmp_path / "place"
    backup_of = lambda: backup(server, place)[0]  # noqa: E731
    left = lambda: {str(f.relative_to(place)) for f in place.rglob("*") if f.is_file()}  # noqa: E731
    points, after = [], []
    for n in range(5):
        server.api.put("s", [{"n": n}], headers={"X-P-Ack": "object"})
        if n == 1:
            server.api.put("early", [{"n": n}], headers={"X-P-Ack": "object"})
        if n == 2:
            assert server.api.delete("early").status == 200
        points.append(backup_of()["point"])
        after.append(left())
    listed = lambda: [p["point"] for p in sluice("backup", "ls", place)[0]]  # noqa: E731
    assert listed() == points
    assert sluice("backup", "rm", place)[0] == {"points": 0, "objects": 0, "bytes": 0}
    removed, _ = sluice("backup", "rm", place, points[1])  # alone had the stream
    assert removed["points"] == 1 and listed() == points[:1] + points[2:]
    assert not [f for f in left() if f.startswith("early/")] and [f for f in after[1] if f.startswith("early/")]
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    assert sluice("backup", "rm", place, "--keep", "2")[0]["points"] == 2 and listed() == points[3:]
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    assert "no point 0" in sluice("backup", "rm", place, "0", code=1)[1]
    # an interrupted one: nothing begins before it is ended
    notes = sorted((place / ".sluice" / "backup").iterdir())
    notes[-1].unlink()
    assert "sluice backup rm" in backup(server, place, code=1)[1]
    sluice("restore", place, "--data", tmp_path / "data", "--point", points[3])
    (place / "stray").write_text("left of something")
    assert sluice("backup", "rm", place)[0]["objects"] == 1
    last = backup_of()
    assert last["copied"] == 0 and last["rows"] == 5 and listed() == points[3:] + [last["point"]]
    # a point that cannot be read: nobody knows what is its own
    head = sorted(place.glob("s/*/_head/*"))[0]
    whole = head.read_bytes()
    head.chmod(0o600)
    head.write_bytes(whole[:-1])
    before = left()
    assert "is damaged" in sluice("backup", "rm", place, last["point"], code=1)[1]
    assert {f for f in left() if ".sluice/backup" not in f} == {f for f in before if ".sluice/backup" not in f}
    head.write_bytes(whole)
    assert sluice("backup", "rm", place, "--keep", "1")[0]["points"] == 2 and listed() == [last["point"]]
    assert sluice("backup", "verify", place)[0]["damaged"] == []
    again = start_server(data=tmp_path / "data")
    assert again.api.count("s") == 4


@pytest.mark.local_store
def test_a_removal_beside_a_backup(start_server, tmp_path):
    """Whatever their order, what the points name is there."""
    server, place = start_server(*FAST), tmp_path / "place"
    for n in range(20):
        server.api.put("s%d" % (n % 5), [{"n": n}], headers={"X-P-Ack": "object"})
    backup(server, place)
    for n in range(4):
        server.api.put("s0", [{"n": 100 + n}], headers={"X-P-Ack": "object"})
        taking = spawn("backup", place, *store_of(server), "--server", server.url, "--parallel", "1")
        time.sleep(0.01 + 0.03 * n)
        removing = spawn("backup", "rm", place, "--keep", "1")
        for p in (taking, removing):
            _, err = p.communicate(timeout=60)
            assert p.returncode == 0 or "removal of points is going on" in err, err
        assert sluice("backup", "verify", place)[0]["damaged"] == []
        assert sluice("backup", "ls", place)[0]


# ---- buckets


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3.bucket(s3_server)


def test_from_and_to_buckets(s3_server, bucket, start_server, tmp_path):
    """folder -> bucket -> folder, and bucket -> bucket -> bucket, rows coming all the while; a backup that is killed goes on."""
    env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url}
    for kind, store in (("folder", str(tmp_path / "store")), ("bucket", "s3://logs/from")):
        server = start_server("--store", store, *TIDY, env=env)
        load = Load(server, 1)
        time.sleep(0.7)
        place = "s3://logs/place-" + kind
        command = ("backup", place, "--store", store, "--server", server.url)
        p = spawn(*command, env=env)
        time.sleep(0.3)
        p.kill()
        p.communicate()
        acked = load.now()
        first, _ = sluice(*command, env=env)
        time.sleep(0.3)
        last_acked = load.now()
        last, _ = sluice(*command, env=env)
        load.end()
        assert last["copied"] < last["files"] and last["point"] == first["point"] + 1
        assert last["bytes"] >= sum(o.size for o in bucket.objects.filter(Prefix="place-" + kind) if o.key.endswith(".parquet")) - first["bytes"]
        assert sluice("backup", "verify", place, env=env)[0]["damaged"] == []
        server.kill()
        for point, seen in ((first["point"], acked), (last["point"], last_acked)):
            to = str(tmp_path / ("to%d" % point)) if kind == "folder" else "s3://logs/to%d" % point
            sluice("restore", place, "--store", to, "--point", point, env=env)
            again = start_server("--store", to, *TIDY, env=env)
            check_load(again.api, seen)
            stopped(again)
            if point == first["point"]:
                continue
            report, _ = sluice("catalog", "fsck", "--store", to, "--output", "json", env=env)
            assert all(report["total"][kind]["objects"] == 0 for kind in ("garbage", "limbo", "unknown")), report
    damaged = [o for o in bucket.objects.filter(Prefix="place-bucket/") if o.key.endswith(".parquet")][0]
    body = damaged.get()["Body"].read()
    bucket.put_object(Key=damaged.key, Body=body[:50] + bytes([body[50] ^ 4]) + body[51:])
    found, _ = sluice("backup", "verify", "s3://logs/place-bucket", env=env, code=1)
    assert [d["key"] for d in found["damaged"]] == [damaged.key[len("place-bucket/"):]]
    # of a bucket that is only read from, nothing is written
    assert not [o.key for o in bucket.objects.filter(Prefix="from/.sluice/backup")]


def test_a_place_on_another_server(s3_server, start_server, tmp_path):
    """Other keys, another endpoint: the file of --place-config."""
    other = s3.Moto()
    try:
        bucket = s3.bucket(other)
        env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url}
        config = tmp_path / "place.yaml"
        config.write_text("s3_endpoint: %s\ns3_access_key: test-key\ns3_secret_key: test-secret\n" % other.url)
        server = start_server("--store", "s3://logs/one", *FAST, env=env)
        server.api.put("s", [{"n": 1}])
        sluice("backup", "s3://logs/place", "--store", "s3://logs/one", "--server", server.url, "--place-config", config, env=env)
        assert [o.key for o in bucket.objects.filter(Prefix="place/s/")]
        sluice("restore", "s3://logs/place", "--store", "s3://logs/two", "--place-config", config, env=env)
        assert start_server("--store", "s3://logs/two", env=env).api.sql("SELECT n FROM s") == [{"n": 1}]
    finally:
        other.close()


def test_servers_that_share_a_store(s3_server, start_server, tmp_path):
    """All that are named are asked; who was not is told."""
    env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url}
    one, two = (start_server("--store", "s3://logs/shared", *SLOW, env=env) for _ in range(2))
    command = ("backup", tmp_path / "place", "--store", "s3://logs/shared", "--server")
    for n in range(3):  # each round one row on each server, none of which reaches the store by itself
        one.api.put("s", [{"n": 2 * n}])
        two.api.put("s", [{"n": 2 * n + 1}])
        if n == 0:
            summary, err = sluice(*command, one.url, env=env)
            assert summary["rows"] == 1 and (two.data / "node_id").read_text().strip() in summary["unasked"]
            assert all(who in err for who in summary["unasked"])
        else:
            summary, err = sluice(*command, one.url + "," + two.url, env=env)
            assert summary["rows"] == 2 * (n + 1) and summary["unasked"] == [] and not err
    two.kill()
    _, err = sluice(*command, one.url + "," + two.url, env=env, code=1)
    assert two.url in err
    sluice("restore", tmp_path / "place", "--data", tmp_path / "data")
    restored = start_server("--store", str(tmp_path / "data/store"), data=tmp_path / "data")  # not where the other tests' servers have theirs
    assert sorted(r["n"] for r in restored.api.sql("SELECT n FROM s")) == list(range(6))


@pytest.mark.local_store
def test_a_stream_out_of_service(start_server, tmp_path):
    server = start_server(*FAST)
    for name in ("good", "bad"):
        server.api.put(name, [{"n": 1}], headers={"X-P-Ack": "object"})
    assert server.stop() == 0
    head = sorted((server.data / "store" / "bad").glob("*/_head/*"))[-1]
    head.chmod(0o600)
    head.write_bytes(head.read_bytes()[:-1])
    summary, err = sluice("backup", tmp_path / "place", "--data", server.data)
    assert summary["damaged"] == ["bad"] and "stream bad is out of service" in err
    sluice("restore", tmp_path / "place", "--data", tmp_path / "data")
    again = start_server(*TIDY, data=tmp_path / "data")
    assert again.api.streams() == ["good"] and again.api.count("good") == 1


@pytest.mark.local_store
def test_streams_deleted_while_they_are_copied(start_server, tmp_path):
    """Files vanish under the backup; its point is of before or after each delete, never of half a stream."""
    server, place = start_server(*FAST), tmp_path / "place"
    names = ["s%d" % i for i in range(12)]
    for n in range(5):
        for name in names:
            server.api.put(name, [{"n": n}])
        server.api.flushed()
    p = spawn("backup", place, *store_of(server), "--server", server.url, "--parallel", "1")
    for name in reversed(names[2:]):
        time.sleep(0.02)
        server.api.delete(name)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0, err
    sluice("restore", place, "--data", tmp_path / "data")
    again = start_server(data=tmp_path / "data")
    left = again.api.streams()
    assert set(names[:2]) <= set(left)
    assert all(again.api.count(name) == 5 for name in left if name != "pmeta")
