"""`python -m bench compare`: it runs the other commit's code and its own way of calling it, and finds a slower tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import compare
from bench.handshakes import FULL
from tests.support.needs import need

MEASURES = {measure.name: measure for measure in compare.in_memory()}
SLOW = """
before = Connection.receive_data

def slow(self, data):
    sum(range(100_000))
    before(self, data)

Connection.receive_data = slow
"""


@pytest.fixture(scope="module")
def this() -> Iterator[compare.Tree]:
    """The process of this tree, one for all."""
    with compare.Tree(compare.ROOT) as tree:
        yield tree


def copy(tmp_path: Path) -> Path:
    """Copy what a commit has of this tree."""
    for part in ("src", "bench"):
        shutil.copytree(compare.ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "out"))
    return tmp_path


def test_a_tree_that_waits_is_found_out(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    connection = tree / "src" / "pellucid" / "connection.py"
    connection.write_text(connection.read_text() + SLOW)
    with compare.Tree(tree) as slow:
        worse = compare.compared(this, slow, MEASURES[FULL], 3)
        better = compare.compared(slow, this, MEASURES[FULL], 3)
    assert worse.worse() and max(worse.ratios) < 0.67
    assert not better.worse() and min(better.ratios) > 1.5


def test_a_tree_that_lacks_something_is_not_compared_with(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    init = tree / "src" / "pellucid" / "__init__.py"
    init.write_text(init.read_text() + "\ndel ClientConfig\n")
    with compare.Tree(tree) as old:
        result = compare.compared(old, this, MEASURES[FULL], 3)
    assert result.missing.startswith("not in REV: ")
    assert not result.worse()


def test_each_tree_is_called_in_its_own_way(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    ours = tree / "bench" / "peers" / "ours.py"
    text = ours.read_text()
    changed = text.replace(
        "    def completed(self) -> None:\n", "    def completed(self) -> None:\n        sum(range(200_000))\n", 1
    )
    assert changed != text
    ours.write_text(changed)
    with compare.Tree(tree) as old:
        assert min(compare.compared(old, this, MEASURES[FULL], 3).ratios) > 1.5


def test_a_commit_from_before_the_interface_is_called_in_ours(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    peers = tree / "bench" / "peers"
    shutil.rmtree(peers)
    (tree / "bench" / "peers.py").write_text("")
    with compare.Tree(tree) as old:
        assert compare.compared(old, this, MEASURES[FULL], 2).ratios


def test_handshakes_are_compared_with_a_commit_that_has_no_buffers_to_lend(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    ours = tree / "bench" / "peers" / "ours.py"
    ours.write_text(ours.read_text().replace("from pellucid.record.bulk import", "from pellucid.record.gone import"))
    with compare.Tree(tree) as old:
        assert compare.compared(old, this, MEASURES[FULL], 1).ratios


def test_a_run_that_compares_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compare, "unpack", lambda _revision, folder: folder)
    monkeypatch.setattr(
        compare, "compared", lambda _old, _new, measure, _n: compare.Compared(measure, (), "not in REV: why")
    )
    assert compare.main(["HEAD", "--only", FULL]) == 1
    assert "nothing could be compared with HEAD" in capsys.readouterr().err


def test_the_slack_is_the_measures() -> None:
    one = compare.Compared(replace(MEASURES[FULL], slack=0.15), (0.8, 0.84, 0.9))
    assert one.worse()
    assert not compare.Compared(replace(MEASURES[FULL], slack=0.25), one.ratios).worse()
    assert not one.worse(slack=0.5)


def test_compare_of_a_commit_with_itself_runs_both(tmp_path: Path) -> None:
    root = compare.ROOT
    need(None if (root / ".git").exists() and shutil.which("git") else "a clone with its history, and git")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "compare", "HEAD", "--rounds", "2", "--slack", "0.99", "--only", "AES-128"],
        cwd=root, capture_output=True, text=True, timeout=100, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("×") == sum("AES-128" in name for name in MEASURES)


def test_what_is_measured_again_has_to_fail_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([(0.5,), (1.0,), (0.5,), (0.6,)])
    monkeypatch.setattr(compare, "compared", lambda _old, _new, measure, _n: compare.Compared(measure, next(outcomes)))
    options = compare.argparse.Namespace(rounds=1, slack=None)
    said: list[str] = []
    verdicts = [compare.judged(None, None, MEASURES[FULL], options, said.append)[1] for _ in range(2)]  # type: ignore[arg-type]
    assert verdicts == [False, True]
    assert len(said) == 4


def test_what_this_tree_can_no_longer_do_is_worse(tmp_path: Path, this: compare.Tree) -> None:
    tree = copy(tmp_path)
    init = tree / "src" / "pellucid" / "__init__.py"
    init.write_text(init.read_text() + "\ndel ClientConfig\n")
    with compare.Tree(tree) as new:
        assert compare.compared(this, new, MEASURES[FULL], 1).worse()


def test_a_commit_may_say_what_it_makes_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(None if shutil.which("git") else "git")
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-C", str(tmp_path)]
    messages = (
        "first",
        f"A check\n\nSlower: {FULL}: each share is checked now\nSlower: no reason",
        "Slower: later: yes",
    )
    subprocess.run([*git, "init", "-q"], check=True, timeout=20)
    for message in messages:
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True, timeout=20)
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    assert compare.admitted("HEAD~2") == {FULL: "each share is checked now", "later": "yes"}
    assert compare.admitted("HEAD") == {}


def test_a_commit_that_is_not_there_is_said_to_be_that(tmp_path: Path) -> None:
    need(None if (compare.ROOT / ".git").exists() and shutil.which("git") else "a clone with its history, and git")
    with pytest.raises(SystemExit, match="no commit nosuchrev to compare with"):
        compare.unpack("nosuchrev", tmp_path)
