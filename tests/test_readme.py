"""The README's tour, as written: every command of it runs, and prints what the README shows."""
import re
import subprocess

import conftest


def tour():
    """[(commands, what they print or None)]"""
    text = (conftest.ROOT / "README.md").read_text()
    part = text.split("## A five-minute tour", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```(sh|text)\n(.*?)```", part, re.S)
    assert len(blocks) > 5 and blocks[0][0] == "sh", "the tour has lost its commands"
    steps = []
    for kind, body in blocks:
        if kind == "sh":
            steps.append([body, None])
        else:
            steps[-1][1] = body
    return steps


def test_tour(server, tmp_path):
    # The tour speaks to port 8000 and to build/sluice of the folder that it runs in.
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "sluice").symlink_to(conftest.binary())
    for commands, printed in tour():
        there = commands.replace("localhost:8000", "127.0.0.1:%d" % server.port)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", there], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "SLUICE_SERVER": server.url, "HOME": str(tmp_path)})
        assert done.returncode == 0, (commands, done.stdout, done.stderr)
        if printed is not None:
            assert done.stdout.strip() == printed.strip(), (commands, done.stderr)


def test_links_lead_somewhere():
    for page in [conftest.ROOT / "README.md", *(conftest.ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), "%s links to %s, which is not there" % (page.name, target)
