#!/usr/bin/env python3
"""run: the benchmark table. `make bench` runs it; ARGS are its options.

  --quick           a smoke of about a minute: less data, fewer rounds, no 10 M rows
  --only REGEX      groups of figures by name: see --list
  --output json     for machines
  --build DIR       where the binaries are (build); --binary FILE: another server
Every figure is a median of rounds that are interleaved with its yardstick's; CPU-seconds are the server process's, user and system,
so that a busy machine changes them little. Rates "by the clock" are for orientation. Nothing here fails for being slow; the process
ends with 1 if a figure could not be taken or a result differs from the yardstick's.
"""
import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bucket
import growth
import ingest
import queries
import world
from table import Table

GROUPS = [("parts", "the parts of ingest"), ("ingest", "ingest"), ("rss", "memory"), ("acks", "acknowledgement"), ("rows", "one-row requests"),
          ("visible", "visibility"), ("queries", "queries"), ("plan", "planning"), ("growth-rows", "growth: rows"), ("growth-columns", "growth: columns"),
          ("growth-streams", "growth: streams"), ("bucket", "a bucket")]


class Bench:
    def __init__(self, args):
        self.args, self.quick, self.table = args, args.quick, Table()
        self.build = os.path.join(world.ROOT, args.build)
        self.binary = args.binary or os.path.join(self.build, "sluice")
        self.duckdb = os.path.join(os.path.dirname(sys.executable), "duckdb")
        os.makedirs(world.CACHE, exist_ok=True)
        self.work = os.path.join(world.CACHE, f"run.{os.getpid()}")  # beside the data: on a disk, not in memory
        os.mkdir(self.work)
        self.shared = None

    def server(self, fresh=False):
        """One server for all that does not mind what is stored already."""
        if fresh:
            return world.Server(self.binary, self.work)
        if not self.shared:
            self.shared = world.Server(self.binary, self.work)
        return self.shared

    def run_c(self, name, *args):
        return subprocess.run([os.path.join(self.build, "bench", f"bench_{name}"), *args], check=True, capture_output=True, text=True).stdout

    def close(self):
        if self.shared:
            self.shared.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self):
        i, g, q = ingest.Ingest(self), growth.Growth(self), queries.Queries(self)
        calls = {"parts": i.parts, "ingest": i.whole, "rss": i.memory, "acks": i.acks, "rows": i.rows, "visible": i.visible, "queries": q.suite,
                 "plan": g.files, "growth-rows": g.rows, "growth-columns": g.columns, "growth-streams": g.streams, "bucket": bucket.Bucket(self, i).run}
        for name, title in GROUPS:
            if self.args.only and not re.search(self.args.only, name):
                continue
            self.table.section(title)
            try:
                calls[name]()
            except Exception as e:
                self.table.failed(name, str(e).strip().splitlines()[-1] if str(e).strip() else type(e).__name__)
                traceback.print_exc()


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", metavar="REGEX")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--build", default="build")
    parser.add_argument("--binary")
    parser.add_argument("--list", action="store_true", help="the names of the groups")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:<16} {title}" for name, title in GROUPS))
        return
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # leaves no server behind, and prints what it has
    begin, bench = time.monotonic(), Bench(args)
    head = {"machine": machine(), "yardstick": "DuckDB " + subprocess.run([bench.duckdb, "--version"], capture_output=True, text=True).stdout.strip()}
    try:
        head["sluice"] = subprocess.run([bench.binary, "version"], capture_output=True, text=True).stdout.strip().replace("\n", ", ")
        bench.run()
    except KeyboardInterrupt:
        head["interrupted"] = "what was taken until then"
    finally:
        bench.close()
    head["took"] = f"{time.monotonic() - begin:.0f} s"
    (bench.table.print_json if args.output == "json" else bench.table.print_text)(sys.stdout, head)
    sys.exit(any(r.get("value", 0) is None for r in bench.table.rows))


if __name__ == "__main__":
    main()
