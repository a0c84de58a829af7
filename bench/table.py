"""table: figures as they come in, and the one table they end in."""
import json
import math
import statistics
import sys

median = statistics.median


def exponent(points):
    """Slope of log(cost) over log(size) by least squares: 1 is linear, 0 is constant."""
    xs, ys = zip(*[(math.log(x), math.log(max(y, 1e-9))) for x, y in points])
    mx, my = statistics.fmean(xs), statistics.fmean(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)


class Table:
    def __init__(self):
        self.rows = []

    def section(self, name):
        self.rows.append({"section": name})
        print(f"bench: {name}", file=sys.stderr, flush=True)

    def add(self, figure, value, unit, target=None, least=None, most=None, note=""):
        """`least` or `most` is what `value` is held against; `target` says it in words (default: made from the number)."""
        met = None
        if least is not None:
            met, target = value >= least, target or f">= {short(least)} {unit}"
        elif most is not None:
            met, target = value <= most, target or f"<= {short(most)} {unit}"
        self.rows.append({"figure": figure, "value": value, "unit": unit, "target": target or "", "met": met, "note": note})
        print(f"bench:   {figure}: {short(value)} {unit}  {note}", file=sys.stderr, flush=True)

    def failed(self, figure, why):
        self.rows.append({"figure": figure, "value": None, "unit": "", "target": "", "met": False, "note": f"FAILED: {why}"})
        print(f"bench:   {figure}: FAILED: {why}", file=sys.stderr, flush=True)

    def print_json(self, out, head):
        json.dump({**head, "figures": [r for r in self.rows if "figure" in r]}, out, indent=1)
        out.write("\n")

    def print_text(self, out, head):
        body = []
        for r in self.rows:
            if "section" in r:
                body.append((r["section"],))
            else:
                value = "-" if r["value"] is None else f"{short(r['value'])} {r['unit']}".strip()
                verdict = {True: "met", False: "MISSED", None: ""}[r["met"]]
                body.append((r["figure"], value, r["target"], verdict, r["note"]))
        widths = [max([len(h)] + [len(b[i]) for b in body if len(b) > 1]) for i, h in enumerate(("figure", "measured", "target", "verdict"))]
        line = lambda b: (f"{b[0]:<{widths[0]}}  {b[1]:>{widths[1]}}  {b[2]:<{widths[2]}}  {b[3]:<{widths[3]}}  {b[4]}").rstrip()
        for key, value in head.items():
            out.write(f"{key}: {value}\n")
        out.write("\n" + line(("figure", "measured", "target", "verdict", "")) + "\n")
        for b in body:
            out.write(("\n" + b[0] if len(b) == 1 else line(b)) + "\n")
        judged = [r["met"] for r in self.rows if r.get("met") is not None]
        out.write(f"\n{sum(judged)} of {len(judged)} targets met\n")


def short(x):
    if isinstance(x, str):
        return x
    if x == 0:
        return "0"
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}" if abs(x) >= 0.001 else f"{x:.2g}"
