"""bucket: what a store in an S3 bucket costs, in CPU against the local store, in requests, bytes and money."""
import collections
import json
import os
import sys

import queries
import world
from table import median

PRICE = {"PUT": 5e-6, "LIST": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0}  # dollars a request, S3 Standard's list price


class Counting:
    """The fault of a proxy that has none: counts requests, and the bytes of the files that engines read by ranges."""

    def __init__(self):
        self.count, self.files = collections.Counter(), collections.Counter()

    def __call__(self, method, path, headers, number):
        self.count["LIST" if "list-type" in path else "PUT" if method == "POST" else method] += 1
        span = headers.get("Range", "")
        if method == "GET" and ".parquet" in path and span.startswith("bytes=") and not span.endswith("-"):
            first, last = span[6:].split("-")
            self.files[path] += int(last) - int(first) + 1

    def take(self):
        got, bytes_read = self.count, sum(self.files.values())
        self.count, self.files = collections.Counter(), collections.Counter()
        return got, bytes_read


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
                self.requests(proxy.url, counting)
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

    def requests(self, url, counting):
        """Of a million rows, and of each query of the suite: cold, then again."""
        rows = 100_000 if self.b.quick else 1_000_000
        paths = world.chunks("s1", rows)
        server = world.Server(self.b.binary, self.b.work, "--store", "s3://logs/requests", "--s3-endpoint", url)
        try:
            counting.take()
            server.ingest_all("s", world.bodies(paths))
            server.drain()
            count, _ = counting.take()
            self.t.add(f"requests of {rows:,} rows, PUT and LIST", count["PUT"] + count["LIST"], "", note=text(count))
            size = sum(i["live"]["bytes"] for i in json.loads(server.request("GET", "/api/v1/cluster/storage")[1])["incarnations"])
            trace = json.loads(server.query("SELECT min(trace_id) AS t FROM s"))[0]["t"]
            span = json.loads(server.query("SELECT min(ts) AS a, max(ts) AS z FROM s"))[0]
            names = {"trace": trace, "from": span["a"], "to": span["z"], "s": "s"}
            for name, sql, _ in [*queries.SUITE, ("newest 100 of a service", queries.NEWEST, None)]:
                server.stop_process()
                server.start()
                counting.take()
                server.query(sql.format(**names))
                cold, read = counting.take()
                server.query(sql.format(**names))
                warm, _ = counting.take()
                requests = cold["GET"] + cold["HEAD"]
                limit = {"most": 20} if name.startswith(("needle", "newest")) else {}
                self.t.add(f"  {name}, cold", requests, "GET", note=f"{read / 1e6:.2f} of {size / 1e6:.0f} MB; again: {warm['GET'] + warm['HEAD']} GET", **limit)
        finally:
            server.stop()
