"""bucket: what a store in an S3 bucket costs, in CPU against the local store, in requests, bytes and money."""
import collections
import json
import os
import subprocess
import sys
import time

import queries
import world
from table import median

PRICE = {"PUT": 5e-6, "LIST": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0}  # dollars a request, S3 Standard's list price


# Queries that need all row groups, and the columns they need.
READ_WHOLE = {"count by level": ["level"], "histogram per minute": ["ts"], "top 10 of path": ["path"], "p99 of duration_ms by service": ["service", "duration_ms"],
              "substring in message, common": ["message"], "group by trace_id": ["trace_id"]}


LARGE_FILE, COMPACTED_ROWS = 64 << 20, 8_000_000


class Counting:
    """The fault of a proxy that has none: counts requests, those that queries made (duties beside them read other objects), and the bytes that engines
    read of files by ranges."""

    def __init__(self):
        self.count, self.reads, self.bytes = collections.Counter(), 0, 0

    def __call__(self, method, path, headers, number):
        removes = method == "POST" and path.endswith("?delete=")
        self.count["DELETE" if removes else "LIST" if "list-type" in path or "uploads=" in path else "PUT" if method == "POST" else method] += 1
        self.reads += method in ("GET", "HEAD") and (".parquet" in path or "/_meta/" in path)
        span = headers.get("Range", "")
        if method == "GET" and ".parquet" in path and span.startswith("bytes=") and not span.endswith("-"):
            first, last = span[6:].split("-")
            self.bytes += int(last) - int(first) + 1

    def take(self):
        """All requests, reads of queries, bytes of those."""
        got = self.count, self.reads, self.bytes
        self.__init__()
        return got


def text(count):
    dollars = sum(PRICE.get(k, 0) * n for k, n in count.items())
    return ", ".join(f"{n:,} {k}" for k, n in sorted(count.items())) + f"; ${dollars:.6f}"


class Bucket:
    def __init__(self, bench, ingest):
        self.b, self.t, self.ingest = bench, bench.table, ingest

    def run(self):
        sys.path.insert(0, os.path.join(world.ROOT, "tests"))
        import s3
        kind = "minio" if os.access(s3.minio_binary(), os.X_OK) else "moto"
        store = {"minio": s3.Minio, "moto": s3.Moto}[kind]()
        os.environ.update(s3.KEYS)
        try:
            s3.bucket(store)
            counting = Counting()
            with s3.proxy(store.port, counting) as proxy:
                self.cpu(store.url, kind)
                self.requests(proxy.url, counting, s3.bucket(store))
                self.files(store.url, proxy.url, counting)
                self.created(proxy.url, counting)
                self.compacted(store.url, proxy.url, counting, s3.bucket(store))
        finally:
            store.close()
            for name in s3.KEYS:
                del os.environ[name]

    def cpu(self, url, kind):
        """The same batches into a folder and into the bucket."""
        servers = {"local": self.b.server(fresh=True), "s3": world.Server(self.b.binary, self.b.work, "--store", "s3://logs/cpu", "--s3-endpoint", url)}
        took = {name: [] for name in servers}
        try:
            for server in servers.values():
                server.ingest_all(server.stream(), self.ingest.bodies[:2])
                server.drain()
            for _ in range(self.ingest.rounds):
                for name, server in servers.items():
                    cpu = server.cpu()
                    server.ingest_all(server.stream(), self.ingest.bodies)
                    server.drain()
                    took[name].append(server.cpu() - cpu)
        finally:
            for server in servers.values():
                server.stop()
        self.t.add(f"ingest into {kind} against the local store", median(took["local"]) / median(took["s3"]), "x", least=0.9,
                   note=f"{self.ingest.bytes / 1e6 / median(took['s3']):.0f} MB/CPU-s; the store's own CPU is not in it")

    def server(self, name, url, *args):
        return world.Server(self.b.binary, self.b.work, "--store", f"s3://logs/{name}", "--s3-endpoint", url, *args)

    def cold(self, server, counting, sql):
        """Requests and bytes of files of a query by a server that was just started."""
        server.stop_process()
        server.start()
        counting.take()
        server.query(sql)
        return counting.take()

    def needed(self, bucket, keys):
        """Compressed bytes of each column over all row groups of some files: what a query that reads all of it has to move."""
        import duckdb
        sizes = collections.Counter()
        for key in keys:
            at = os.path.join(self.b.work, "needed.parquet")
            bucket.download_file(key, at)
            for name, size in duckdb.sql(f"SELECT path_in_schema, sum(total_compressed_size) FROM parquet_metadata('{at}') GROUP BY ALL").fetchall():
                sizes[name] += int(size)
            os.unlink(at)
        return sizes

    def files(self, direct, url, counting):
        """A thousand files that follow one another in time, as hours of a busy stream do: a needle, and the newest rows."""
        count, rows = (100, 200) if self.b.quick else (1000, 900)
        server = self.server("files", direct, "--fold-interval", "1s")
        try:
            with open(world.chunks("s1", 100_000 if self.b.quick else 1_000_000)[0], "rb") as f:
                for _ in range(count):
                    server.ingest("s", b"[" + b",".join(next(f)[:-1] for _ in range(rows)) + b"]", "object")
            self.filters(server, count, rows)
            trace = json.loads(server.query(f"SELECT trace_id AS t FROM s ORDER BY p_timestamp LIMIT 1 OFFSET {count * rows // 2}"))[0]["t"]
            server.args = ("--store", "s3://logs/files", "--s3-endpoint", url)
            for name, sql in (("needle by trace_id", queries.SUITE[0][1].format(s="s", trace=trace)), ("newest 100", "SELECT * FROM s ORDER BY p_timestamp DESC LIMIT 100"),
                              ("newest 100 of a service", queries.NEWEST.format(s="s"))):
                cold, reads, moved = self.cold(server, counting, sql)
                self.t.add(f"  {name}, {count:,} files, cold", reads, "GET", most=20, note=f"{moved / 1e6:.2f} MB; with what runs beside it {text(cold)}")
        finally:
            server.stop()

    def filters(self, server, count, rows):
        """What the filters of all files cost."""
        def live():
            return sum(i["live"]["bytes"] for i in json.loads(server.request("GET", "/api/v1/cluster/storage")[1])["incarnations"])
        def indexed():
            metrics = server.request("GET", "/api/v1/metrics")[1].decode().splitlines()
            return sum(float(line.split()[-1]) for line in metrics if line.startswith("sluice_indexed_files_total"))
        before = live()
        server.stop_process()
        server.args += ("--index-interval", "1s")
        server.start()
        until, cpu = time.monotonic() + 120, server.cpu()
        while indexed() <= count - 4 and time.monotonic() < until:  # the last few wait for more
            time.sleep(1)
        self.t.add(f"filters of {count:,} files of {rows} rows", (server.cpu() - cpu) / (count * rows / 1e6), "CPU-s/M rows", note=f"they add {(live() / before - 1) * 100:.1f} % to the bytes")

    def live_files(self, url, bucket, name):
        """Sizes of the files that the newest version of a stream names, by key."""
        def cat(key):
            done = subprocess.run([self.b.binary, "catalog", "cat", "--store", f"s3://logs/{name}", "--s3-endpoint", url, key], capture_output=True, text=True, check=True)
            return json.loads(done.stdout)
        head = max(o.key for o in bucket.objects.filter(Prefix=f"{name}/s/") if "/_head/" in o.key)[len(name) + 1:]
        folder, body = head[: head.index("_head/")], cat(head)["body"]
        files = body["files"] + [f for m in body["manifests"] for f in cat(folder + m["path"])["files"]]
        return {f"{name}/{folder}{f['path']}": f["bytes"] for f in files}

    def compacted(self, direct, url, counting, bucket):
        """Files of half a second each while rows come and compaction runs beside: how much of it is in large files in the end, and a while later."""
        if self.b.quick:
            return  # a large file takes more rows
        server = self.server("compacted", direct, "--flush-age", "500ms", "--flush-idle", "500ms", "--fold-interval", "1s", "--compact-interval", "1s")
        try:
            for _ in range(COMPACTED_ROWS // 1_000_000):
                server.ingest_all("s", world.bodies(world.chunks("s1", 1_000_000)))
            server.drain()
            shares, until = [], time.monotonic() + 120
            while not shares or (shares[-1] < 0.9 and time.monotonic() < until):
                time.sleep(5)
                sizes = self.live_files(direct, bucket, "compacted").values()
                shares.append(sum(s for s in sizes if s >= LARGE_FILE) / sum(sizes))
            self.t.add("bytes in files of 64 MiB and more, after steady ingest", shares[-1] * 100, "%", least=90,
                       note=f"{shares[0] * 100:.0f} % at its end; {len(sizes)} files, {sum(sizes) / 1e6:.0f} MB")
            server.args = ("--store", "s3://logs/compacted", "--s3-endpoint", url)
            cold, _, moved = self.cold(server, counting, queries.SUITE[1][1].format(s="s"))
            needed = self.needed(bucket, self.live_files(direct, bucket, "compacted"))
            self.t.add(f"  {queries.SUITE[1][0]} of these, cold: bytes moved against those of its column", moved / needed["level"], "x", most=1.3, note=f"{moved / 1e6:.2f} MB; {text(cold)}")
        finally:
            server.stop()

    def created(self, url, counting):
        """Streams made by hand, one after the other, and what that costs in writes."""
        count = 200 if self.b.quick else 10_000
        server = self.server("created", url)
        try:
            counting.take()
            conn = server.connect()
            for i in range(count):
                status, said = server.request("PUT", f"/api/v1/logstream/made{i}", b"", conn=conn)
                if status != 200:
                    raise RuntimeError(f"create: {status} {said[:200]}")
            cost, _, _ = counting.take()
            self.t.add(f"{count:,} streams created, PUT each", cost["PUT"] / count, "", most=2, note=text(cost))
        finally:
            server.stop()

    def requests(self, url, counting, bucket):
        """Of a million rows, and of each query of the suite: cold, then again."""
        rows = 100_000 if self.b.quick else 1_000_000
        paths = world.chunks("s1", rows)
        server = world.Server(self.b.binary, self.b.work, "--store", "s3://logs/requests", "--s3-endpoint", url)
        try:
            counting.take()
            server.ingest_all("s", world.bodies(paths))
            server.drain()
            count, _, _ = counting.take()
            self.t.add(f"requests of {rows:,} rows, PUT and LIST", count["PUT"] + count["LIST"], "", note=text(count))
            size = sum(i["live"]["bytes"] for i in json.loads(server.request("GET", "/api/v1/cluster/storage")[1])["incarnations"])
            trace = json.loads(server.query("SELECT min(trace_id) AS t FROM s"))[0]["t"]
            span = json.loads(server.query("SELECT min(ts) AS a, max(ts) AS z FROM s"))[0]
            needed = self.needed(bucket, [o.key for o in bucket.objects.filter(Prefix="requests/s/") if o.key.endswith(".parquet")])
            names = {"trace": trace, "from": span["a"], "to": span["z"], "s": "s"}
            for name, sql, _ in [*queries.SUITE, ("newest 100 of a service", queries.NEWEST, None)]:
                cold, reads, moved = self.cold(server, counting, sql.format(**names))
                server.query(sql.format(**names))
                _, again, _ = counting.take()
                limit = {"most": 20} if name.startswith(("needle", "newest")) else {}
                self.t.add(f"  {name}, cold", reads, "GET", note=f"{moved / 1e6:.2f} of {size / 1e6:.0f} MB; again: {again} GET; with what runs beside it {text(cold)}", **limit)
                if name in READ_WHOLE:
                    self.t.add("    bytes moved against those of its columns", moved / sum(needed[c] for c in READ_WHOLE[name]), "x", most=1.3)
        finally:
            server.stop()
