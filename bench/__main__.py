"""`make bench`: speed, as a ratio to stdlib ssl in the same run unless said.

Rounds of the peers alternate, and each ratio is the median over the rounds of neighbours: what else the machine does
hits all of them alike. The run fails where a ratio is below its floor, less what noise may take. docs/performance.md
says how to read it.

`python -m bench compare REV` sets this tree beside another commit; `python -m bench profile` shows what a handshake's
time is spent on, `python -m bench primitives` what cryptography alone takes; `python -m bench pictures FILE…` draws
what `--json FILE` has written.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import harness, primitives, report
from bench.harness import Measure, Scale

MODULES = (
    "bench.handshakes",
    "bench.bulk",
    "bench.loopback",
    "bench.blocking",
    "bench.http",
    "bench.memory",
    "bench.starting",
    "bench.ttfb",
    "bench.costs",
)
"""what offers `measures(scale)`, in the order they are run in"""

COMMANDS = {
    "compare": "bench.compare",
    "profile": "bench.profiling",
    "primitives": "bench.primitives",
    "pictures": "bench.pictures",
}
"""first words that lead to another module's main"""


def load() -> list[Any]:
    """Import and return the modules of measures."""
    return [importlib.import_module(name) for name in MODULES]


def measures(scale: Scale, only: str = "") -> Iterator[Measure]:
    """Yield every measure, or those whose group or name has *only* in it."""
    for module in load():
        for measure in module.measures(scale):
            if only.lower() in f"{measure.group}: {measure.name}".lower():
                yield measure


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        return int(importlib.import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:]))
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="?", default="", help="measures with this in their group or name")
    parser.add_argument("--full", action="store_true", help="every peer, suite and cost")
    parser.add_argument("--rounds", type=int, default=15, help="of an ordinary measure; default: %(default)s")
    parser.add_argument("--list", action="store_true", help="say what would be measured")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures there, and those of the primitives; into a folder too",
    )
    parser.add_argument(
        "--no-gate", action="store_true", help="say what is below its floor, and exit with 0 all the same"
    )
    options = parser.parse_args()
    scale = Scale(full=options.full, rounds=options.rounds)
    if not any(measures(scale, options.only)):
        more = "" if scale.full else " --full"
        parser.error(f"no measure has {options.only!r} in its group or name: see --list{more}")
    if options.list:
        for measure in measures(scale):
            print(f"{measure.group}: {measure.name}")
        return 0
    head = report.machine()
    print(f"{head['implementation']} {head['python']}, {head['processor']}")
    for name, version in head["peers"].items():
        print(f"    {name:<13}{version}")
    results, group, begun = [], "", time.perf_counter()
    for measure in measures(scale, options.only):
        if measure.group != group:
            group = measure.group
            print(f"\n{group}")
        results.append(harness.run(measure))
        print("\n".join(report.lines(results[-1])), flush=True)
    head["seconds"] = round(time.perf_counter() - begun)
    print(f"\n{len(results)} measures in {head['seconds']} s", flush=True)
    if options.json:
        head["primitives"] = primitives.measure()
        report.write(report.file_in(options.json), head, results)
    status = report.summary(results)
    return 0 if options.no_gate else status


if __name__ == "__main__":
    raise SystemExit(main())
