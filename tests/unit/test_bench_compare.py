"""`python -m bench compare`: it runs the other commit's code, and says so when that is faster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import compare
from tests.support.needs import need


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package that waits in each handshake."""
    source = tmp_path / "src"
    shutil.copytree(compare.ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    init = source / "pellucid" / "connection.py"
    waiting = (
        "\nbefore = Connection.receive_data\n\ndef slow(self, data):\n    sum(range(100_000))\n    before(self, data)\n"
    )
    init.write_text(init.read_text() + waiting + "\nConnection.receive_data = slow\n")
    return source


def test_compare_finds_the_slower_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "COUNTS", {"full handshake": 2})
    monkeypatch.setattr(compare, "ROUND_SECONDS", 20.0)
    worker = "import bench.compare as c; c.COUNTS['full handshake'] = 2; c.answer_rounds()"
    monkeypatch.setattr(compare, "COMMAND", (sys.executable, "-c", worker))
    with compare.Tree(compare.ROOT / "src") as this, compare.Tree(tree) as slow:
        assert min(compare.ratios(slow, this, "full handshake", 3)) > 1.5
        assert max(compare.ratios(this, slow, "full handshake", 3)) < 0.67


def test_compare_of_a_commit_with_itself_runs_both(tmp_path: Path) -> None:
    root = compare.ROOT
    need(None if (root / ".git").exists() and shutil.which("git") else "a clone with its history, and git")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "compare", "HEAD", "--rounds", "2", "--floor", "0.01"],
        cwd=root, capture_output=True, text=True, timeout=100, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("×") == len(compare.COUNTS)
