"""A damaged object costs one stream, or one file of it, and never the server. Each test harms objects of the store as disks and people do,
and looks at what goes on, what is refused, in which words, and that a restored object ends it without a restart and without a row lost or
counted twice."""
import json
import random

import pytest

from test_cli import run

pytestmark = pytest.mark.local_store

FAST = {"SLUICE_FOLD_INTERVAL": "200ms", "SLUICE_FLUSH_AGE": "100ms", "SLUICE_FLUSH_IDLE": "100ms", "SLUICE_COMPACT_INTERVAL": "1h"}


def harm(kind, path, seed=0):
    data = bytearray(path.read_bytes())
    if kind == "unreadable":  # the disk answers an error
        path.unlink()
        path.symlink_to(path.name)
        return
    if kind == "truncated":
        data = data[:len(data) // 2]
    elif kind == "empty":
        data = b""
    elif kind == "zeros":
        data = bytes(len(data))
    elif kind == "foreign":
        data = b"<html>404 Not Found</html>"
    else:  # a flipped bit: of the header, its checksum, or the body
        at = {"header": 44, "checksum": 57, "body": random.Random(seed).randrange(60, len(data))}[kind]
        data[at] ^= 1 << (seed % 8)
    path.chmod(0o600)
    path.write_bytes(bytes(data))


KINDS = ["header", "checksum", "body", "truncated", "empty", "zeros", "foreign", "unreadable"]


def restore(path, data):
    if path.is_symlink():
        path.unlink()
    path.write_bytes(data)


def store(server):
    return server.data / "store"


def tail(folder):
    return sorted(p for p in folder.iterdir() if p.name.isdigit() and len(p.name) == 20)[-1]


def head_of(server, stream):
    return tail(next((store(server) / stream).glob("*/_head")))


def name_of(server, stream):
    return tail(store(server) / ".sluice/names" / stream)


def heads_written(api):
    return api.metrics().get("sluice_fold_heads_total", 0)  # there once a round has ended


def numbers(api, stream):
    return sorted(r["n"] for r in api.sql("SELECT n FROM \"%s\"" % stream))


def test_one_stream_is_out_of_service(start_server):
    """Every way to harm its head or its name, with rows of it in the WAL and in lane records that no head has yet: the others never notice,
    and no row of it is lost or counted twice when the object is put back, whatever happened in between."""
    server = start_server(env=FAST)
    api = server.api
    sick = {"%s-%s" % (what, kind): (what, kind) for what in ("head", "name") for kind in KINDS}
    rows = dict.fromkeys(["well", *sick], 0)

    def put(*streams):
        for stream in streams or rows:
            api.put(stream, {"n": rows[stream]})
            rows[stream] += 1

    put()
    api.flushed()
    assert api.wait(lambda: heads_written(api) >= len(rows))
    server.env = {**FAST, "SLUICE_FOLD_INTERVAL": "1h"}
    server.restart()
    put()
    api.flushed()  # in lane records
    server.env = {**FAST, "SLUICE_FLUSH_AGE": "1h", "SLUICE_FLUSH_IDLE": "1h", "SLUICE_FOLD_INTERVAL": "1h"}
    server.kill()
    server.start()
    put()  # in the WAL
    server.kill()
    whole = {}
    for stream, (what, kind) in sick.items():
        path = (head_of if what == "head" else name_of)(server, stream)
        whole[stream] = path, path.read_bytes()
        harm(kind, path, len(whole))

    server.env = FAST
    server.start()
    for round in range(2):
        assert api.get("/api/v1/readiness").status == 200
        assert sorted(set(rows) - {"well"} | {"well"}) == sorted(s for s in api.streams() if s != "pmeta")
        assert api.metrics()["sluice_damaged_streams"] == len(sick)
        assert numbers(api, "well") == list(range(rows["well"]))
        put("well")
        for stream, (path, _) in whole.items():
            for answer in (api.query("SELECT count(*) AS n FROM \"%s\"" % stream), api.get("/api/v1/logstream/%s/schema" % stream)):
                assert answer.status == 500 and path.name in answer.text and "out of service" in answer.text, (stream, answer)
            answer = api.ingest(stream, {"n": -1})
            assert answer.status == 503 and answer.headers["Retry-After"] and path.name in answer.text, (stream, answer)
        api.flushed()
        assert all(server.log().count("stream %s is out of service" % s) == round + 1 for s in sick), "told once a start"
        folded = heads_written(api)
        put("well")
        assert api.wait(lambda: heads_written(api) > folded), "the fold goes on"
        if round == 0:
            server.restart()
    told = lambda: {(r["stream"], whole[r["stream"]][0].name in r["cause"]) for r in  # noqa: E731
                    api.sql("SELECT stream, cause FROM pmeta WHERE kind = 'quarantine'")}
    assert api.wait(lambda: told() == {(s, True) for s in sick}), told()

    for path, data in whole.values():
        restore(path, data)
    assert api.wait(lambda: api.metrics()["sluice_damaged_streams"] == 0)
    assert api.wait(lambda: all(len(numbers(api, s)) == n for s, n in rows.items())), {s: numbers(api, s) for s in rows}
    put()
    server.kill()
    server.start()
    for clean in (True, False):
        for stream, n in rows.items():
            assert numbers(api, stream) == list(range(n)), stream
        api.flushed()
        server.restart(clean)
    assert not list((server.data / "wal/parked").iterdir())


def test_a_damaged_stream_can_be_deleted(start_server):
    """And made anew: nothing of the old one comes back."""
    server = start_server(env=FAST)
    api = server.api
    api.put("sick", {"n": 1})
    api.flushed()
    api.wait(lambda: heads_written(api) >= 1)
    server.stop()
    harm("zeros", head_of(server, "sick"))
    server.start()
    assert api.ingest("sick", {"n": 2}).status == 503
    assert api.delete("sick").status == 200
    assert "sick" not in api.streams() and api.metrics()["sluice_damaged_streams"] == 0
    api.put("sick", {"n": 3})
    assert numbers(api, "sick") == [3]
    server.restart()
    assert numbers(api, "sick") == [3]


def test_a_head_that_is_gone_is_damage(start_server):
    """An empty stream in its place would be a loss that nobody hears of."""
    server = start_server(env=FAST)
    api = server.api
    api.put("gone", {"n": 1})
    api.flushed()
    api.wait(lambda: heads_written(api) >= 1)
    server.stop()
    heads = next((store(server) / "gone").glob("*/_head"))
    kept = heads.rename(server.folder / "kept")
    server.start()
    answer = api.query("SELECT * FROM gone")
    assert answer.status == 500 and "_head" in answer.text, answer
    assert api.ingest("gone", {"n": 2}).status == 503
    if heads.exists():
        heads.rmdir()
    kept.rename(heads)
    assert api.wait(lambda: api.query("SELECT * FROM gone").status == 200)
    api.put("gone", {"n": 2})
    assert numbers(api, "gone") == [1, 2]


def test_a_foreign_head_while_it_runs(start_server):
    """Something that is no head in the place of the next one: rows that were accepted leave the stage for a file, and come back."""
    server = start_server(env={**FAST, "SLUICE_FLUSH_AGE": "1h", "SLUICE_FLUSH_IDLE": "1h", "SLUICE_FOLD_INTERVAL": "1h"})
    api = server.api
    api.put("sick", {"n": 0})
    api.put("well", {"n": 0})
    keep = [{"description": "a week", "action": "delete", "duration": "7d"}]
    assert api.call("PUT", "/api/v1/logstream/sick/retention", keep).status == 200  # what was only created has no head yet
    head = head_of(server, "sick")
    foreign = head.with_name("%020d" % (int(head.name) + 1))
    foreign.write_bytes(b"not a head")
    asked = {"X-P-Ack": "object"}
    assert api.ingest("well", {"n": 1}, asked).status == 200, "a flush goes on without the sick one"
    answer = api.query("SELECT * FROM sick")
    assert answer.status == 500 and foreign.name in answer.text, answer
    assert api.ingest("sick", {"n": -1}).status == 503
    api.put("well", {"n": 2}, asked)
    server.env = FAST
    server.restart()
    assert api.query("SELECT * FROM sick").status == 500 and numbers(api, "well") == [0, 1, 2]
    foreign.unlink()
    assert api.wait(lambda: api.query("SELECT n FROM sick").status == 200 and numbers(api, "sick") == [0])
    api.put("sick", {"n": 1})
    server.restart(clean=False)
    assert numbers(api, "sick") == [0, 1]


@pytest.mark.parametrize("what", ["cluster", "lanes/n00001", "shards/0"])
def test_what_belongs_to_all_stops_the_start(start_server, what):
    """With the name of the object, and what to do."""
    server = start_server(env=FAST)
    api = server.api
    api.put("s", {"n": 1})
    api.flushed()
    assert api.wait(lambda: len({p.parent for p in (store(server) / ".sluice/shards").glob("*/0*")}) == 4)
    server.stop()
    path = tail(store(server) / ".sluice" / what)
    whole = path.read_bytes()
    for kind in ("header", "body", "empty"):
        harm(kind, path)
        server.spawn()
        assert server.process.wait(60) == 1, kind
        last = json.loads(server.log().strip().splitlines()[-1])["msg"]
        assert path.name in last and what in last and "put it back" in last and "Damaged objects" in last, (kind, last)
        path.write_bytes(whole)
    server.start()
    assert numbers(api, "s") == [1]


def test_a_damaged_manifest(start_server):
    """A list of files: the first query that needs it fails and names it, later ones do without those files and say so; ingest, flush and
    fold go on."""
    server = start_server(env=FAST)
    api = server.api
    assert api.create("m", headers={"X-P-Custom-Partition": "k"}).status == 200
    api.create("other")
    n = 0
    for _ in range(2):
        api.put("m", [{"n": n + i, "k": "v%d" % i} for i in range(150)])
        n += 150
        api.flushed()
    meta = lambda: list((store(server) / "m").glob("*/_meta/*.slm"))  # noqa: E731
    assert api.wait(meta)
    assert api.count("m") == n
    server.stop()
    (path,) = meta()
    whole = path.read_bytes()
    harm("body", path)
    server.env = {**FAST, "SLUICE_COMPACT_INTERVAL": "200ms", "SLUICE_GC_INTERVAL": "200ms", "SLUICE_RETENTION_INTERVAL": "200ms"}
    server.start()
    answer = api.query("SELECT n FROM m")
    assert answer.status == 500 and path.name in answer.text, answer
    api.put("m", {"n": n, "k": "x"})
    api.put("other", {"n": 1})
    api.flushed()
    answer = api.query("SELECT n FROM m")
    assert answer.status == 200 and [r["n"] for r in answer.json()] == [n] and answer.headers["X-Sluice-Skipped-Files"] == "1", answer
    for output in ("ndjson", "table"):  # whoever only looks at the rows of the command hears of it too
        told = run("query", "--output", output, "SELECT n FROM m", "--server", server.url)
        assert told.returncode == 0 and "rows are missing, as 1 file is damaged" in told.said, told
    folded = heads_written(api)
    api.put("m", {"n": n + 1, "k": "x"})
    assert api.wait(lambda: heads_written(api) > folded)
    errors = [k for k in api.metrics() if k.startswith("sluice_maintenance_errors_total")]
    assert not errors, errors
    assert all(p.exists() for p in (store(server) / "m").glob("*/date=*/hour=*/*/*.parquet"))
    path.write_bytes(whole)
    assert api.wait(lambda: numbers(api, "m") == list(range(n + 2)))
