"""`python -m bench compare [REV]`: this tree beside another commit of it, in one run: what a change costs.

Each tree has a process of its own that runs a round when it is told to; rounds of the two alternate, and each ratio is
the median over the rounds of neighbours. Above 1: this tree is better than REV. It fails where one is worse by more
than noise may take, 15 %, or 25 % where a measure has several processes. What fails is measured again, longer, and
counts as worse if that says so too. A commit that is slower for a reason says so in its message, with a line
"Slower: MEASURE: reason"; that is told, and fails nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import bulk, handshakes
from bench.harness import OURS, Measure, Scale, quartiles

ROOT = Path(__file__).parent.parent
ENDING_SECONDS = 30.0
AGAIN = 2
"""so many times the rounds, when what failed is measured again"""


class NotThereError(Exception):
    """A tree cannot do what is to be measured; says why."""


class Tree:
    """A process that measures the package in *folder*/src."""

    def __init__(self, folder: Path) -> None:
        paths = os.pathsep.join((str(folder / "src"), str(ROOT)))
        self._process = subprocess.Popen(
            (sys.executable, "-m", "bench.worker", str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": paths},
        )

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate(timeout=ENDING_SECONDS)  # the end of its input is its end
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def round(self, name: str) -> float:
        """Return what one round comes to; NotThereError says why there is none."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise NotThereError(f"its process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise NotThereError(answer["missing"])
        return float(answer["value"])


@dataclass(frozen=True, slots=True)
class Compared:
    """The ratios of one measure, each above 1 where this tree is better; or why there are none.

    lost: it is this tree that cannot do it, and the other can.
    """

    measure: Measure
    ratios: tuple[float, ...]
    missing: str = ""
    lost: bool = False

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def worse(self, slack: float | None = None) -> bool:
        allowed = self.measure.slack if slack is None else slack
        return self.lost or (bool(self.ratios) and self.ratio < 1 - allowed)

    def line(self) -> str:
        if not self.ratios:
            return f"{self.measure.name:<46}{self.missing}"
        low, high = quartiles(self.ratios)
        return f"{self.measure.name:<46}{self.ratio:>8.3f}×   quartiles {low:.3f}-{high:.3f}"


def compared(old: Tree, new: Tree, measure: Measure, rounds: int) -> Compared:
    """Have both run *rounds* of *measure*; each goes first every other time."""
    for tree, where in ((old, "in REV"), (new, "here")):
        try:
            tree.round(measure.name)
        except NotThereError as error:
            return Compared(measure, (), f"not {where}: {error}", lost=tree is new)
    found = []
    for i in range(rounds):
        order = (old, new) if i % 2 else (new, old)
        value = {tree: tree.round(measure.name) for tree in order}
        found.append(value[new] / value[old] if measure.better == "higher" else value[old] / value[new])
    return Compared(measure, tuple(found))


def in_memory() -> Iterator[Measure]:
    """Yield every measure with both ends in one process and in memory."""
    scale = Scale(full=True, peers=(OURS,))
    yield from handshakes.measures(scale)
    yield from bulk.measures(scale)


def everything() -> Iterator[Measure]:
    """Yield every measure that there is, those with sockets and processes too."""
    return importlib.import_module("bench.__main__").measures(Scale(full=True, peers=(OURS,)))


def unpack(revision: str, folder: Path) -> Path:
    """Write src/ and bench/ as they are in *revision* into *folder*."""
    archive = subprocess.run(["git", "archive", revision, "src", "bench"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(f"no commit {revision} to compare with: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def admitted(revision: str) -> dict[str, str]:
    """Return the measures that commits since *revision* say they make worse, with the reason of each."""
    log = subprocess.run(
        ["git", "log", "--format=%B", f"{revision}..HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if log.returncode:
        raise SystemExit(log.stderr.strip())
    found = {}
    for line in log.stdout.splitlines():
        if line.startswith("Slower: "):
            measure, _, reason = line.removeprefix("Slower: ").partition(": ")
            if reason.strip():
                found[measure] = reason.strip()
    return found


def judged(
    old: Tree, new: Tree, measure: Measure, options: argparse.Namespace, say: Callable[[str], None]
) -> tuple[Compared, bool]:
    """Return what came of *measure*, and whether this tree is worse by more than is allowed."""
    result = compared(old, new, measure, options.rounds)
    say(result.line())
    if result.lost or not result.worse(options.slack):
        return result, result.lost
    result = compared(old, new, measure, options.rounds * AGAIN)
    say(result.line() + "   (again, longer)")
    return result, result.worse(options.slack)


def main(arguments: list[str]) -> int:
    """Print each measure's ratio; return 1 if one is worse, or if none could be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m bench compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", metavar="REV", nargs="?", default="HEAD~1", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="of each measure; default: %(default)s")
    parser.add_argument("--slack", type=float, help="how much worse is put down to noise; default: as the measure says")
    parser.add_argument("--all", action="store_true", help="measures with sockets and processes too, and costs")
    parser.add_argument("--only", default="", metavar="TEXT", help="measures with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    worse = []
    with tempfile.TemporaryDirectory(prefix="pellucid-bench-") as folder:
        tree = unpack(options.revision, Path(folder))
        with Tree(tree) as old, Tree(ROOT) as new:
            for measure in everything() if options.all else in_memory():
                if options.only.lower() not in measure.name.lower():
                    continue
                result, slower = judged(old, new, measure, options, lambda text: print(text, flush=True))
                results[measure.name] = (
                    {"ratio": result.ratio, "quartiles": quartiles(result.ratios)}
                    if result.ratios
                    else {"missing": result.missing}
                )
                worse += [measure.name] if slower else []
    if options.json:
        options.json.write_text(json.dumps({"schema": 2, "revision": options.revision, "results": results}) + "\n")
    if not worse and not any("ratio" in result for result in results.values()):
        print(f"nothing could be compared with {options.revision}", file=sys.stderr)
        return 1
    known = admitted(options.revision) if worse else {}
    for name in worse:
        reason = f", as its commit says: {known[name]}" if name in known else ""
        print(f"worse than {options.revision} by more than is allowed: {name}{reason}", file=sys.stderr)
    return 1 if set(worse) - set(known) else 0
