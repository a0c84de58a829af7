"""`sluice import parseable`: a store that Parseable 2.9.5 wrote, with the answers it gave; into a folder, into a bucket, twice, killed in the
middle, damaged, hostile, of older formats, beside a running server."""
import collections
import json
import os
import random
import shutil
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import conftest
import s3

FAST = ("--flush-age", "50ms", "--flush-idle", "50ms", "--fold-interval", "200ms")
TIDY = FAST + ("--gc-interval", "300ms", "--compact-interval", "300ms")
START, END = "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"
ROWS = {"Case_Twins": 60, "app": 900, "fixed": 150, "otel": 20, "pstats": 5810, "web": 360}
FILES = 32


@pytest.fixture(scope="module")
def answers():
    return json.loads(conftest.shared("data/parseable-store/answers.json").read_text())


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.fixture
def source(tmp_path):
    """A copy, as imports may link its files. Its one retention is made long: the rows are as old as they are."""
    folder = tmp_path / "parseable"
    shutil.copytree(conftest.shared("data/parseable-store/store"), folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o755)
    rewrite(folder / "app/.stream/.stream.json", lambda m: m["retention"][0].update(duration="36500d"))
    return folder


def command(place, store, *options):
    return [conftest.binary(), "import", "parseable", str(place), "--store", str(store), "--output", "json", *options]


def environment(env=None):
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "P_"))}, **(env or {})}


def imported(place, store, *options, env=None, code=0):
    """The summary of an import, which must end with this exit code."""
    done = subprocess.run(command(place, store, *options), env=environment(env), capture_output=True, timeout=conftest.HTTP_S)
    assert done.returncode == code, done
    return json.loads(done.stdout)


def store_of(server):
    return server.data / "store"


@pytest.fixture
def local(start_server):
    """A server on a folder, whatever the other tests' servers use; not started yet."""
    def make(*options):
        server = start_server(*options, start=False)
        server.args += ["--store", str(store_of(server))]
        server.data.mkdir(parents=True)
        return server
    return make


def rows(api, sql):
    return api.sql(sql, START, END)


def exact(api):
    for stream, n in ROWS.items():
        assert rows(api, 'SELECT count(*) AS n FROM "%s"' % stream) == [{"n": n}], stream
        assert rows(api, 'SELECT count(p_timestamp) AS n FROM "%s"' % stream) == [{"n": n}], stream


def check_answers(api, answers):
    for sql, was in answers["queries"].items():
        if was["status"] != 200:
            continue
        body = was["body"]
        got = rows(api, sql)
        if "LIMIT 3" in sql: # any three
            assert len(got) == 3 and all(r["Name"] == "Upper" and r["name"] == "lower" and r["tags"] in ("a", "b") for r in got), got
        else:
            assert got == body, sql
    # what Parseable could not read back itself
    regions = collections.Counter()
    for path in (conftest.shared("data/parseable-store/store") / "web").rglob("*.parquet"):
        regions.update(pq.ParquetFile(path).read(["region"])["region"].to_pylist())
    got = rows(api, "SELECT region, count(*) AS n FROM web GROUP BY region")
    assert {r["region"]: r["n"] for r in got} == regions and len(regions) == 3


def check_routes(api, answers):
    names = sorted(s["name"] for s in answers["routes"]["/api/v1/logstream"]["body"])
    assert [n for n in api.streams() if n in names] == names
    for route, was in answers["routes"].items():
        stream, _, what = route[len("/api/v1/logstream/"):].partition("/")
        if what == "schema":
            assert {f["name"]: f["data_type"] for f in api.get(route).json()["fields"]} == {
                f["name"]: f["data_type"] for f in was["body"]["fields"]}, route
        elif what == "info":
            got, want = api.get(route).json(), dict(was["body"])
            for body in (got, want):
                body["createdAt"] = body["createdAt"][:26]
                for entry in body["logSource"]:
                    entry["fields"] = sorted(entry["fields"])
            assert got == want, route
        elif what == "retention" and stream == "app":
            assert api.get(route).json() == [{"description": "keep", "action": "delete", "duration": "36500d"}]
        elif what == "stats":
            got, want = api.get(route).json(), was["body"]
            for part in ("count", "size", "lifetime_count"):
                assert got["ingestion"][part] == want["ingestion"][part], route
            assert got["storage"]["size"] == want["storage"]["size"], route


def test_answers_of_a_local_store(local, source, answers):
    server = local(*FAST)
    dry = imported(source, store_of(server), "--dry-run")
    assert (dry["files"], dry["skipped"], dry["dry_run"]) == (FILES, 0, True) and not store_of(server).exists()
    summary = imported(source, store_of(server))
    assert {s["name"]: s["rows"] for s in summary["streams"]} == ROWS
    assert (summary["files"], summary["linked"], summary["skipped"], summary["present"]) == (FILES, FILES, 0, 0)
    api = server.start().api
    check_answers(api, answers)
    check_routes(api, answers)
    exact(api)
    again = imported(source, store_of(server))  # beside the server
    assert (again["files"], again["present"]) == (0, FILES)
    exact(api)
    # times are instants, whatever their text in the file
    assert rows(api, "SELECT count(*) AS n FROM app WHERE p_timestamp = '2026-11-23T16:52:05.028'") == [{"n": 300}]
    assert api.query("SELECT count(*) AS n FROM app", "2026-11-23T16:53:00Z", "2026-11-23T16:54:00Z").json() == [{"n": 300}]
    # the files are those of Parseable, byte for byte, and one of each
    assert sorted(p.stat().st_ino for p in store_of(server).rglob("*.parquet")) == sorted(p.stat().st_ino for p in source.rglob("*.parquet"))


def test_one_stream_and_its_source_removed(local, source):
    server = local(*FAST)
    summary = imported(source, store_of(server), "--stream", "web", "--remove-source")
    assert [(s["name"], s["files"], s["removed"]) for s in summary["streams"]] == [("web", 9, 9)]
    assert not [p for p in (source / "web").rglob("*") if p.is_file()]
    assert len(list((source / "app").rglob("*.parquet"))) == 3
    imported(source, store_of(server), "--stream", "nobody", code=1)
    api = server.start().api
    assert rows(api, "SELECT count(message) AS n FROM web") == [{"n": 360}] and "app" not in api.streams()


def test_new_rows_and_compaction(local, source, answers):
    """Rows of both kinds in one answer; then merged into files of ours, with the same answers, and nothing taken twice after it."""
    server = local(*FAST, "--compact-interval", "1h")
    imported(source, store_of(server))
    api = server.start().api
    api.put("app", [{"level": "error", "status": 500, "message": "new", "new_field": 1, "later": "x"} for _ in range(50)])
    api.put("Case_Twins", [{"Name": "U", "name": "l", "NAME": "third", "n": 1}] * 10)
    for _ in range(2):  # staged, then flushed
        both = api.sql("SELECT count(*) AS n, count(later) AS l, sum(new_field) AS s FROM app", "3650d")
        assert both == [{"n": 950, "l": 50, "s": 22425.0 + 50}]
        assert api.sql('SELECT count("NAME") AS c, count(name) AS b, count("Name") AS a FROM "Case_Twins"', "3650d") == [{"c": 10, "b": 70, "a": 70}]
        assert api.sql('SELECT DISTINCT "Name" AS a, name AS b, "NAME" AS c FROM "Case_Twins" ORDER BY a', "3650d") == [
            {"a": "U", "b": "l", "c": "third"}, {"a": "Upper", "b": "lower"}]
        api.flushed()
    newest = api.sql("SELECT message, p_timestamp FROM app ORDER BY p_timestamp DESC LIMIT 60", "3650d")
    assert [r["message"] for r in newest[:50]] == ["new"] * 50 and newest[50]["p_timestamp"].startswith("2026-11-23T16:5")
    assert server.stop() == 0
    server.args = [a for a in server.args if a not in ("--compact-interval", "1h")] + ["--compact-interval", "200ms"]
    server.start()
    merged = FILES - 2  # otel, and the statistics of otel, are one file each
    assert api.wait(lambda: api.metrics().get("sluice_compaction_inputs_total", 0) >= merged), api.metrics()
    check_answers(api, answers)
    assert api.sql('SELECT count("NAME") AS c, count(name) AS b, count("Name") AS a FROM "Case_Twins"', "3650d") == [{"c": 10, "b": 70, "a": 70}]
    exact(api)
    assert imported(source, store_of(server))["present"] == FILES
    exact(api)


def test_killed_and_repeated(local, source, answers):
    server = local(*FAST)
    chance = random.Random(5)
    began = time.monotonic()
    for i in range(12):
        process = subprocess.Popen(command(source, store_of(server)), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.02, 0.6))
        process.kill()
        process.wait()
        assert time.monotonic() - began < conftest.HTTP_S
    summary = imported(source, store_of(server))
    assert summary["files"] + summary["present"] == FILES, summary
    server.args += [*TIDY]
    api = server.start().api
    exact(api)
    check_answers(api, answers)
    # what the killed ones left is garbage, and goes
    assert api.wait(lambda: api.get("/api/v1/cluster/storage").status != 200 or
                    api.get("/api/v1/cluster/storage").json()["total"]["garbage"]["objects"] == 0)
    exact(api)
    assert imported(source, store_of(server))["present"] == FILES


def ledgers(server):
    return sum(len(files) for folder, _, files in os.walk(store_of(server)) if folder.endswith("/_import"))


@pytest.mark.parametrize("records", (0, 3, 6))
def test_killed_at_each_record(local, source, records):
    """The moment between what is written down and what is committed: a kill right after the nth record."""
    server = local(*FAST)
    process = subprocess.Popen(command(source, store_of(server)), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and ledgers(server) <= records:
        pass
    process.kill()
    process.wait()
    summary = imported(source, store_of(server))
    assert summary["files"] + summary["present"] == FILES, summary
    exact(server.start().api)


def test_in_place(local, source, answers):
    """Source and destination are one folder; what was Parseable's is removed from it."""
    server = local(*FAST)
    server.args[-1] = str(source)
    assert imported(source, source)["linked"] == FILES
    assert imported(source, source, "--remove-source")["removed"] == FILES
    assert len(list(source.rglob("*.parquet"))) == FILES and not list(source.rglob("*manifest.json"))
    check_answers(server.start().api, answers)
    exact(server.api)


def test_restored_without_its_list(local, source):
    """By an older `backup`, which knew the rows and not what they were imported from."""
    server = local(*FAST)
    imported(source, store_of(server), "--stream", "web")
    for path in store_of(server).rglob("_import/*"):
        path.unlink()
    summary = imported(source, store_of(server), "--stream", "web", code=1)
    assert summary["files"] == 0 and "restored" in summary["skips"][0]["why"]


def sluice(*args, env=None, code=0):
    done = subprocess.run([conftest.binary(), *map(str, args)], env=environment(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    assert done.returncode == code, done
    return json.loads(done.stdout) if done.stdout else None


def records(store):
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("_import/*")}


def test_a_restored_store_knows_what_was_imported(local, source, answers, tmp_path):
    """Also where nothing that was adopted is a file of its own any more."""
    server = local(*TIDY)
    server.start().api.put("web", [{"own": 1}])
    server.api.flushed()
    imported(source, store_of(server), "--stream", "web")
    assert server.api.wait(lambda: server.api.metrics().get("sluice_compaction_inputs_total", 0) >= 8), "of three partitions"
    assert server.stop() == 0
    imported(source, store_of(server), "--stream", "app")
    kept = records(store_of(server))
    assert len(kept) >= 4
    place, again, one = tmp_path / "place", tmp_path / "again", tmp_path / "one"
    sluice("backup", place, "--store", store_of(server), "--committed")
    assert records(place) == kept and sluice("backup", "verify", place)["damaged"] == []
    sluice("restore", place, "--store", again)
    assert records(again) == kept
    for stream in ("web", "app"):
        summary = imported(source, again, "--stream", stream)
        assert summary["files"] == 0 and summary["present"] == len(list((source / stream).rglob("*.parquet"))), summary
    sluice("restore", place, "--store", one, "--stream", "app")
    assert records(one) == {k: v for k, v in kept.items() if k.startswith("app/")}
    damaged = next(place.rglob("_import/*"))
    damaged.write_bytes(damaged.read_bytes()[:-3] + b"9}")
    assert [d["key"] for d in sluice("backup", "verify", place, code=1)["damaged"]] == [str(damaged.relative_to(place))]


def test_backups_beside_an_import(local, source, tmp_path):
    """Each point has of an import what it has of its rows: whoever imports into what was restored takes the rest, and nothing twice."""
    server = local(*FAST)
    server.data.joinpath("tmp").mkdir()
    place = tmp_path / "place"
    imported(source, store_of(server), "--stream", "fixed")
    process = subprocess.Popen(command(source, store_of(server)), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    points = []
    while not points or process.poll() is None:
        points.append(sluice("backup", place, "--store", store_of(server), "--committed")["point"])
    assert process.wait() == 0
    seen = set()
    for n in sorted(set(points[:6] + points[-1:])):
        to = tmp_path / ("to%d" % n)
        sluice("restore", place, "--store", to, "--point", n)
        summary = imported(source, to)
        assert summary["files"] + summary["present"] == FILES, summary
        seen.add(summary["present"])
        api = local(*FAST)
        api.args[-1] = str(to)
        exact(api.start().api)
        api.kill()
    assert len(seen) > 1, "points of different moments"


def test_delete_leaves_nothing(local, source):
    server = local(*TIDY)
    imported(source, store_of(server))
    api = server.start().api
    assert api.delete("web").status == 200
    assert api.wait(lambda: {p.parent.name for p in (store_of(server) / "web").rglob("*") if p.is_file()} <= {"_head"})
    assert len(list((source / "web").rglob("*.parquet"))) == 9, "the source is not ours"
    imported(source, store_of(server), "--stream", "web", code=1)  # a server may not know yet that the name is free
    assert "web" not in api.streams()


def test_manifests_packed_doubled_broken(local, source):
    server = local(*FAST)
    packed = source / "app/date=2026-11-23/vm.manifest.json"
    subprocess.run(["zstd", "-q", "--rm", str(packed), "-o", str(packed) + ".zst"], check=True)
    os.rename(str(packed) + ".zst", packed)
    web = source / "web/date=2026-11-23/vm.manifest.json"
    other = web.with_name("other.manifest.json")
    shutil.copy(web, other)
    rewrite(web, lambda m: m["files"].extend(json.loads(other.read_text())["files"][:4]))
    (source / "otel/date=2026-11-23/vm.manifest.json").write_bytes(b"\x28\xb5\x2f\xfd broken")
    summary = imported(source, store_of(server), code=1)
    assert {s["name"]: s["rows"] for s in summary["streams"]} == {**ROWS, "otel": 0}
    assert sorted((s["stream"], s["file"].rsplit("/", 1)[-1][:11]) for s in summary["skips"]) == [
        ("otel", "vm.data.01M"), ("otel", "vm.manifest")], summary["skips"]
    api = server.start().api
    assert rows(api, "SELECT count(message) AS n FROM web") == [{"n": 360}]
    assert rows(api, "SELECT count(message) AS n FROM app") == [{"n": 900}]


def test_damaged_and_foreign_files(local, source):
    server = local(*FAST)
    app = sorted((source / "app").rglob("*.parquet"))
    damaged = bytearray(app[0].read_bytes())
    damaged[len(damaged) // 2:len(damaged) // 2 + 200] = bytes(200)
    app[0].write_bytes(damaged)
    app[1].write_bytes(app[1].read_bytes()[:-20])
    web = sorted((source / "web").rglob("*.parquet"))
    pq.write_table(pa.table({"message": ["no time"]}), web[0])
    pq.write_table(pa.table({"p_timestamp": pa.array([1795452725028], pa.timestamp("ms")), "status": ["text"]}), web[1])
    web[2].unlink()
    pq.write_table(pa.table({"p_timestamp": pa.array([1795452725028, None], pa.timestamp("ms"))}), web[3])
    pq.write_table(pa.table({"p_timestamp": pa.array([1795452725028], pa.timestamp("ms")), "s": [{"a": 1}]}), web[4])
    other = source / "web/date=2026-11-23/hour=16/minute=52/region=eu-1/unlisted.data.parquet"
    pq.write_table(pa.table({"p_timestamp": pa.array([1795452725028], pa.timestamp("ms"))}), other)
    summary = imported(source, store_of(server), code=1)
    why = {s["file"]: s["why"] for s in summary["skips"]}
    assert len(why) == 8 and all(why.values()), summary["skips"]
    assert "p_timestamp" in why[str(web[0].relative_to(source / "web"))]
    assert "status is utf8, and float64" in why[str(web[1].relative_to(source / "web"))]
    assert "not there" in why[str(web[2].relative_to(source / "web"))]
    assert {s["name"]: s["files"] for s in summary["streams"]} == {"Case_Twins": 3, "app": 1, "fixed": 3, "otel": 1, "pstats": 13, "web": 4}
    api = server.start().api
    assert rows(api, "SELECT count(message) AS n FROM app") == [{"n": 300}]
    left = sum(pq.ParquetFile(p).metadata.num_rows for p in web[5:])
    assert rows(api, "SELECT count(message) AS n FROM web") == [{"n": left}]
    assert imported(source, store_of(server), code=1)["present"] == 25


def test_hostile_metadata(local, source):
    server = local(*FAST)
    manifest = source / "app/date=2026-11-23/vm.manifest.json"
    secret = source.parent / "secret.parquet"
    pq.write_table(pa.table({"p_timestamp": pa.array([1795452725028], pa.timestamp("ms"))}), secret)
    bad = ["srv/app/date=2026-11-23/../../../secret.parquet", "/etc/passwd", str(secret), "", "app/date=2026-11-23/hour=16//x.parquet",
           "app/date=9999999999-11-23/x.parquet", "srv/app/date=2026-11-23/" + "a/" * 2000 + "x.parquet"]
    rewrite(manifest, lambda m: m["files"].extend({"file_path": p, "num_rows": 2**63, "file_size": -1, "ingestion_size": 1e300} for p in bad))
    rewrite(source / "web/.stream/.stream.json", lambda m: m.update({
        "retention": [{"description": "", "action": "delete", "duration": "99999999999999999999d"}], "time_partition_limit": "-1d",
        "created-at": "never", "log_source": 7, "dataset_tags": {"a": []}, "snapshot": {"manifest_list": [{"events_ingested": 2**64 - 1,
                                                                                                    "ingestion_size": 2**64 - 1}] * 3}}))
    (source / "otel/.stream/.stream.json").write_text("[" * 100000)
    rewrite(source / "fixed/.stream/.stream.json", lambda m: m.update({"objectstore-format": "v99"}))
    rewrite(source / "Case_Twins/.stream/.schema", lambda m: m["fields"].extend([{"name": "\0", "data_type": "Utf8"}, 5, {"name": "p_timestamp"}]))
    summary = imported(source, store_of(server), code=1)
    assert {s["stream"] for s in summary["skips"]} == {"app", "otel", "fixed"}
    assert sum(s["stream"] == "app" for s in summary["skips"]) == len(bad)
    assert "v99" in next(s["why"] for s in summary["skips"] if s["stream"] == "fixed")
    api = server.start().api
    assert [s for s in api.streams() if s in ROWS] == ["Case_Twins", "app", "pstats", "web"]
    assert rows(api, "SELECT count(message) AS n FROM web") == [{"n": 360}] and rows(api, "SELECT count(level) AS n FROM app") == [{"n": 900}]
    assert api.get("/api/v1/logstream/web/retention").json() == []


def test_older_formats(local, tmp_path):
    """v1: metadata in the stream's folder, no manifests, times in milliseconds without a zone, whole numbers; v5: a log source by name."""
    server = local(*FAST)
    base = 1795452725000
    at = "date=2026-11-23/hour=16/minute=52/host.data.parquet"
    for name, meta in {"old": {"version": "v1", "objectstore-format": "v1", "stats": {"events": 3, "ingestion": 1, "storage": 1}},
                       "five": {"version": "v5", "objectstore-format": "v5", "log_source": "otel-logs", "time_partition": "ts",
                                "custom_partition": "a,b"},
                       "eight": {"version": "v8", "objectstore-format": "v8", "stream_type": "Internal"}}.items():
        folder = tmp_path / "p" / name
        (folder / at).parent.mkdir(parents=True)
        (folder / ".stream").mkdir()
        where = folder if name == "old" else folder / ".stream"
        (where / ".stream.json").write_text(json.dumps({"created-at": "2023-01-02T03:04:05+00:00", **meta}))
        (where / ".schema").write_text(json.dumps({"fields": [{"name": "p_timestamp", "data_type": {"Timestamp": ["Millisecond", None]}},
                                                              {"name": "n", "data_type": "Float64"}, {"name": "t", "data_type": "Utf8"}]}))
        pq.write_table(pa.table({"t": ["a", "b", None], "p_timestamp": pa.array([base, base + 1, base + 2], pa.timestamp("ms")), "n": [1, 2, 3],
                                 "l": [["x"], [], None]}), folder / at)
    summary = imported(tmp_path / "p", store_of(server))
    assert {s["name"]: s["rows"] for s in summary["streams"]} == {"eight": 3, "five": 3, "old": 3}
    assert "time partition ts" in next(s["note"] for s in summary["streams"] if s["name"] == "five")
    api = server.start().api
    for name in ("old", "five", "eight"):
        assert rows(api, "SELECT p_timestamp, n, t, l FROM %s ORDER BY n" % name) == [
            {"p_timestamp": "2026-11-23T16:52:05", "n": 1.0, "t": "a", "l": ["x"]},
            {"p_timestamp": "2026-11-23T16:52:05.001", "n": 2.0, "t": "b", "l": []}, {"p_timestamp": "2026-11-23T16:52:05.002", "n": 3.0}]
        if name == "eight":
            continue  # an internal stream takes nothing from clients
        api.put(name, {"n": 4, "t": "new"})
        assert api.sql("SELECT sum(n) AS s FROM %s" % name, "3650d") == [{"s": 10.0}]
    info = api.get("/api/v1/logstream/five/info").json()
    assert info["logSource"] == [{"log_source_format": "otel-logs", "fields": []}] and info["createdAt"].startswith("2023-01-02T03:04:05")
    assert api.get("/api/v1/logstream/eight/info").json()["streamType"] == "Internal"


def test_names_that_differ_only_in_case(local, tmp_path):
    """The engine reads names without regard to case, and renames: each file has its own selection of the four, in its own order."""
    server = local(*FAST, "--compact-interval", "1h")
    selections = [("a", "A"), ("A", "a"), ("A",), ("a",), ("a_1", "A", "a"), ("a", "a_1", "A"), ("A_1", "a_1"), ("A", "a", "A_1", "a_1"), ()]
    folder = tmp_path / "p/twins"
    (folder / ".stream").mkdir(parents=True)
    (folder / ".stream/.stream.json").write_text(json.dumps({"version": "v4", "objectstore-format": "v4"}))
    want = collections.defaultdict(set)
    for i, names in enumerate(selections):
        path = folder / ("date=2026-11-23/hour=16/minute=%02d/x.parquet" % i)
        path.parent.mkdir(parents=True)
        columns = [("p_timestamp", pa.array([1795452725000 + i], pa.timestamp("ms"))), *((n, pa.array(["%s of %d" % (n, i)])) for n in names)]
        pq.write_table(pa.Table.from_arrays([c for _, c in columns], [n for n, _ in columns]), path)
        for n in names:
            want[n].add("%s of %d" % (n, i))
    assert imported(tmp_path / "p", store_of(server))["files"] == len(selections)

    def check():
        for n, values in want.items():
            got = rows(api, 'SELECT "%s" AS v FROM twins WHERE "%s" IS NOT NULL' % (n, n))
            assert sorted(r["v"] for r in got) == sorted(values), n
        assert rows(api, 'SELECT "A_1" AS d, a AS c, "A" AS b, a_1 AS e FROM twins WHERE p_timestamp = \'2026-11-23T16:52:05.007\'') == [
            {"d": "A_1 of 7", "c": "a of 7", "b": "A of 7", "e": "a_1 of 7"}]
        assert len(rows(api, "SELECT * FROM twins")) == len(selections)
    api = server.start().api
    check()
    api.put("twins", {"x\0y": 1, "A": "new"})
    assert {"x\0y": 1.0, "A": "new"}.items() <= api.sql("SELECT * FROM twins ORDER BY p_timestamp DESC LIMIT 1", "3650d")[0].items()
    check()
    api.flushed()
    server.args[server.args.index("1h")] = "200ms"
    server.restart()
    assert api.wait(lambda: api.metrics().get("sluice_compaction_inputs_total", 0) >= len(selections)), api.metrics()
    check()


def test_buckets(s3_server, source, answers, start_server):
    """From a folder into a bucket, then from that prefix of Parseable into another of ours, beside its server, killed once."""
    bucket = s3.bucket(s3_server)
    env = {**s3.KEYS, "SLUICE_S3_ENDPOINT": s3_server.url}
    for path in source.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "parseable/" + str(path.relative_to(source)))
    server = start_server("--store", "s3://logs/here", *FAST, env=env)
    process = subprocess.Popen(command("s3://logs/parseable", "s3://logs/here"), env=environment(env), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(0.7)
    process.kill()
    process.wait()
    summary = imported("s3://logs/parseable", "s3://logs/here", env=env)
    assert summary["files"] + summary["present"] == FILES and summary["linked"] == 0
    assert server.api.wait(lambda: set(ROWS) <= set(server.api.streams()) and
                           sum(server.api.count(s, "true") >= 0 and rows(server.api, 'SELECT count(*) AS n FROM "%s"' % s)[0]["n"]
                               for s in ROWS) == sum(ROWS.values()))
    check_answers(server.api, answers)
    exact(server.api)
    assert imported(source, "s3://logs/folder", env=env)["rows"] == sum(ROWS.values())
    removed = imported("s3://logs/parseable", "s3://logs/here", "--remove-source", env=env)
    assert removed["removed"] == FILES and [o.key for o in bucket.objects.filter(Prefix="parseable/")] == ["parseable/.parseable/.parseable.json"]
    exact(server.api)
