"""`python -m bench compare REV`: this tree beside another commit of it, in one run: what a change costs.

Each tree has a process of its own that is told to run a round and answers with its CPU time; rounds of the two
alternate, and each ratio is the median over the rounds of neighbours. Above 1: this tree is faster than REV.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.peers import Certificates, PellucidStack

ROOT = Path(__file__).parent.parent
ROUND_SECONDS = 30.0
COMMAND = (sys.executable, "-m", "bench", "compare", "--rounds-for-another-process")

COUNTS = {
    "full handshake, ECDSA P-256 leaf + intermediate": 60,
    "resumed handshake, x25519": 90,
    "bulk AES-128-GCM, 1 MiB writes": 40,
    "ping-pong, 100 bytes": 5000,
}
"""measure → how often it is run in a round"""


def work(measure: str) -> Callable[[], None]:
    """Return what one turn of *measure* does."""
    certificates = Certificates("p256")
    if measure.startswith("resumed"):
        stack = PellucidStack(certificates, 1)
        return lambda: stack.resumed_pair().handshake()
    stack = PellucidStack(certificates)
    if measure.startswith("full"):
        return lambda: stack.pair().handshake()
    pair = stack.pair()
    pair.handshake()
    data = bytes(2**20 if measure.startswith("bulk") else 100)
    return (lambda: pair.send(data)) if measure.startswith("bulk") else (lambda: pair.ping_pong(data))


def answer_rounds() -> int:
    """Be a tree's process: for each line that names a measure, run a round of it and write its CPU seconds."""
    runs: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        measure = line.strip()
        if measure not in runs:
            runs[measure] = work(measure)
            runs[measure]()
        start = time.process_time()
        for _ in range(COUNTS[measure]):
            runs[measure]()
        print(time.process_time() - start, flush=True)
    return 0


class Tree:
    """A process that measures the package in *source*."""

    def __init__(self, source: Path) -> None:
        paths = os.pathsep.join((str(source), str(ROOT)))
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=ROUND_SECONDS)  # the end of its input is its end
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def round(self, measure: str) -> float:
        """Return the CPU seconds of one round."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(measure + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the process ended with {self._process.wait()}: does REV have what is measured?")
        return float(line)


def unpack(revision: str, folder: Path) -> Path:
    """Write src/ as it is in *revision* into *folder*; return where that is."""
    archive = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(archive.stderr.decode(errors="replace").strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


def ratios(old: Tree, new: Tree, measure: str, repeat: int) -> list[float]:
    """Return old seconds / new seconds of each pair of neighbouring rounds; each goes first every other time."""
    for tree in (old, new):
        tree.round(measure)
    found = []
    for i in range(repeat):
        order = (old, new) if i % 2 else (new, old)
        seconds = {tree: tree.round(measure) for tree in order}
        found.append(seconds[old] / seconds[new])
    return found


def main(arguments: list[str]) -> int:
    """Print each measure's ratio; return 1 if one is below the floor."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("revision", metavar="REV", nargs="?", default="HEAD~1", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=21, help="of each measure; default: %(default)s")
    parser.add_argument("--floor", type=float, default=0.85, help="the lowest ratio; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--rounds-for-another-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds_for_another_process:
        return answer_rounds()
    results = {}
    with tempfile.TemporaryDirectory(prefix="pellucid-bench-") as folder:
        source = unpack(options.revision, Path(folder))
        with Tree(source) as old, Tree(ROOT / "src") as new:
            for measure in COUNTS:
                found = ratios(old, new, measure, options.rounds)
                low, _, high = statistics.quantiles(found, n=4)
                results[measure] = {"ratio": statistics.median(found), "quartiles": [low, high]}
                print(f"{measure:<50}{statistics.median(found):>8.3f}×   quartiles {low:.3f}-{high:.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"schema": 1, "revision": options.revision, "results": results}) + "\n")
    slower = [measure for measure, result in results.items() if result["ratio"] < options.floor]
    for measure in slower:
        print(f"slower than {options.revision} by more than the floor allows: {measure}", file=sys.stderr)
    return 1 if slower else 0
