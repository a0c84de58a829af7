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
    for _ in range(3):
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
    assert committed["rows"] == 0 and len(committed["unasked"]) == 1
    assert backup(server, tmp_path / "p2")[0]["rows"] == 1
    server.api.put("s", [{"n": 2}])
    server.kill()
    offline, err = sluice("backup", tmp_path / "p2", "--data", server.data)  # nobody to ask
    assert offline["rows"] == 1 and "was not asked to flush" in err
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

    def kill_and_end(*command):
        """Kills it at random moments until it gets through; the summary of the last."""
        for delay in (0.02, 0.1, 0.15, 0.2, 0.3):
            p = spawn(*command)
            time.sleep(delay * (0.5 + rng.random()))
            p.kill()
            out, err = p.communicate()
            if p.returncode == 0 or out:
                return json.loads(out)
        p = spawn(*command)
        out, err = p.communicate(timeout=120)
        assert p.returncode == 0, err
        return json.loads(out)

    command = ("backup", place, *store_of(server), "--server", server.url, "--parallel", "1")
    summary = kill_and_end(*command)
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
    restored = kill_and_end("restore", place, "--data", data, "--parallel", "1")
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
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert "there is file" in backup(one, tmp_path / "full", code=1)[1]
    assert "there is file" in sluice("restore", place, "--store", tmp_path / "full", code=1)[1]
    assert "is a store" in sluice("restore", place, "--data", two.data, code=1)[1]
    assert "no backups" in sluice("restore", one.data / "store", "--data", tmp_path / "d", code=1)[1]
    assert "no point 7" in sluice("restore", place, "--data", tmp_path / "d", "--point", "7", code=1)[1]
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
