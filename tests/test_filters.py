"""Filters outside the files: a search for one value asks few files, and finds all of them. Answers never depend on the filters: not on what is
merged, deleted, damaged or restored."""
import collections
import json
import subprocess

import pytest

import conftest
import s3

FILES = 100  # enough of one stream that those of an hour that is not over get filters too
ROWS = 40
LIVELY = ("--fold-interval", "100ms", "--index-interval", "100ms")
ALONE = ("--compact-interval", "1d")  # as many files as were written
ODD = ["", "O'Neil; --", "naïve \U0001f40c", "tab\there", "UPPER-%d" % 7, "upper-%d" % 7, "x" * 300, "a\u0000b"]


def trace(i, k):
    return "%08x%08x" % (i * 2654435761 % 2**32, (i * ROWS + k) * 40503 % 2**32)


def fill(api, stream="app", files=FILES, base=0):
    """Files of ROWS rows: an id of the row's own, one of eight rows of one file, a level."""
    for i in range(base, base + files):
        rows = [{"id": trace(i, k), "trace": trace(i, k // 8 * 8), "level": ["info", "warn"][k % 2], "n": i * ROWS + k} for k in range(ROWS)]
        if i % 10 == 3:
            rows += [{"id": odd, "trace": "odd", "n": -i} for odd in ODD]
        if i % 10 == 4:
            rows += [{"n": -i}]  # without any
        api.put(stream, rows, {"X-P-Ack": "object"})


def indexed(api, files=FILES):
    """All but a few, which are left until there are more."""
    assert api.wait(lambda: api.metrics().get("sluice_indexed_files_total", 0) > files - 4), api.metrics()


def pruned(api):
    return api.metrics().get("sluice_query_files_pruned_total", 0)


def check(api, stream="app", files=FILES):
    """Every kind of search, against what was written."""
    before = pruned(api)
    for i in range(0, files, 7):
        k = i % ROWS
        assert api.sql("SELECT n FROM %s WHERE id = '%s'" % (stream, trace(i, k))) == [{"n": i * ROWS + k}]
        assert api.count(stream, "trace = '%s'" % trace(i, k // 8 * 8)) == 8
        assert api.count(stream, "'%s' = trace AND level = 'warn'" % trace(i, k // 8 * 8)) == 4
    assert pruned(api) > before + files / 2
    some = [trace(5, 1), trace(50, 2), trace(files - 1, 3)]
    assert api.count(stream, "id IN (%s)" % ", ".join("'%s'" % t for t in some)) == 3
    assert api.count(stream, "id = '%s' OR id = '%s'" % tuple(some[:2])) == 2
    assert api.count(stream, "id = '%s' AND id = '%s'" % tuple(some[:2])) == 0
    assert api.count(stream, "id <> '%s' AND n >= 0" % some[0]) == files * ROWS - 1
    assert api.count(stream, "upper(id) = '%s'" % some[0].upper()) == 1
    assert api.count(stream, "id = 'no such id'") == 0
    assert api.count(stream, "id IS NULL") == len(range(4, files, 10))
    joined = "SELECT count(*) AS n FROM %s AS a JOIN %s AS b ON a.trace = b.trace WHERE a.id = '%s'" % (stream, stream, some[0])
    assert api.sql(joined) == [{"n": 8}]
    for odd in ODD:
        if "\0" not in odd:  # no statement can name it
            assert api.count(stream, "id = '%s'" % odd.replace("'", "''")) == len(range(3, files, 10)), odd
    assert api.count(stream, "id LIKE 'a%b' AND trace = 'odd'") == len(range(3, files, 10))


def test_searches_are_exact(start_server):
    server = start_server(*ALONE, "--fold-interval", "100ms", "--index-interval", "1h")
    api = server.api
    fill(api)
    server.args = [*ALONE, *LIVELY]
    server.restart()
    indexed(server.api)
    check(server.api)
    server.restart(clean=False)
    check(server.api)
    fill(server.api, files=5, base=FILES)  # without filters yet
    assert server.api.count("app", "id = '%s'" % trace(FILES + 4, 0)) == 1


def test_cold_search_in_a_bucket(start_server, s3_server):
    """A few requests, where each file would cost two."""
    seen = collections.Counter()

    def count(method, path, headers, number):
        seen[method, "list-type" in path] += 1

    with s3.proxy(s3_server.port, count) as proxy:
        server = start_server("--store", "s3://logs/filters", "--s3-endpoint", proxy.url, *ALONE, *LIVELY, env={**s3.KEYS, "AWS_EC2_METADATA_DISABLED": "true"})
        fill(server.api)
        indexed(server.api)
        check(server.api)
        server.args += ["--fold-interval", "1h"]
        server.restart()
        seen.clear()
        assert server.api.sql("SELECT n FROM app WHERE id = '%s'" % trace(50, 5)) == [{"n": 50 * ROWS + 5}]
        assert seen["GET", False] + seen["HEAD", False] <= 20, seen


def test_merged_and_deleted_files(start_server):
    """Compaction takes files out from under their filters; a deleted stream takes its filters along."""
    server = start_server(*LIVELY, "--compact-interval", "200ms", "--gc-interval", "200ms")
    api = server.api
    for base in range(0, FILES, 25):
        fill(api, files=25, base=base)
        for i in range(0, base + 25, 11):
            assert api.count("app", "id = '%s'" % trace(i, 1)) == 1
    assert api.wait(lambda: api.metrics().get("sluice_compaction_outputs_total", 0) > 0), api.metrics()
    for i in range(FILES):
        assert api.count("app", "id = '%s'" % trace(i, 1)) == 1
    assert api.delete("app").status == 200

    def left():  # of a deleted stream its DEAD head stays for a week
        return [i for i in api.get("/api/v1/cluster/storage").json()["incarnations"] if "app" in json.dumps(i) and i["live"]["objects"] + i["garbage"]["objects"] > 1]

    assert api.wait(lambda: not left()), left()


@pytest.mark.local_store
def test_damaged_filters(start_server):
    server = start_server(*ALONE, *LIVELY)
    fill(server.api)
    indexed(server.api)

    def packs():
        return sorted((server.data / "store").rglob("*.slf"))

    def verify():
        done = subprocess.run([conftest.binary(), "catalog", "verify", "--data", server.data, "--output", "json"], capture_output=True, text=True)
        return done.returncode, json.loads(done.stdout)

    status, said = verify()
    assert status == 0 and said["filters"] == len(packs()) > 0, said
    key = str(packs()[0].relative_to(server.data / "store"))
    cat = subprocess.run([conftest.binary(), "catalog", "cat", "--data", server.data, key], capture_output=True, text=True, check=True)
    assert json.loads(cat.stdout)["what"] == "filters"
    rounds = 'sluice_maintenance_total{duty="index"}'
    before = server.api.metrics()[rounds]
    assert server.api.wait(lambda: server.api.metrics()[rounds] > before + 2)  # so that it has nothing to do any more
    old = packs()
    for pack in old:
        data = bytearray(pack.read_bytes())
        for at in range(len(data) // 2, len(data), 7):
            data[at] ^= 1
        pack.write_bytes(data)
    status, said = verify()
    assert status == 1 and {d["key"] for d in said["damaged"]} == {str(p.relative_to(server.data / "store")) for p in old}
    for i in range(0, FILES, 9):  # what is damaged prunes nothing, and nothing is lost
        assert server.api.count("app", "id = '%s'" % trace(i, 2)) == 1
    assert server.api.wait(lambda: set(packs()) - set(old)), server.log()
    check(server.api)


def test_restored_with_its_filters(start_server, tmp_path):
    server = start_server(*ALONE, *LIVELY)
    fill(server.api)
    indexed(server.api)
    env = {**conftest.s3_env}
    store = ("--store", server.s3_store) if conftest.S3 else ("--data", server.data)
    run = {"check": True, "capture_output": True, "text": True, "env": {**__import__("os").environ, **env}}
    subprocess.run([conftest.binary(), "backup", tmp_path / "place", *store, "--server", server.url], **run)
    server.stop()
    subprocess.run([conftest.binary(), "restore", tmp_path / "place", "--data", tmp_path / "data"], **{**run, "env": dict(__import__("os").environ)})
    again = start_server("--store", str(tmp_path / "data" / "store"), *ALONE, "--index-interval", "1h", data=tmp_path / "data")
    check(again.api)
