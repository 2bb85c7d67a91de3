"""`python -m tests.ecosystem`, or `make ecosystem`: every library in every column, and what is empty and why.

    --only LIBRARY   only this row; may be given more than once
    --json FILE      the outcomes, for machines

Exits 1 if a cell failed, if one is neither tried nor has a reason, or if fewer than 60 passed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import tests.ecosystem.cells  # the rows  # noqa: F401
from tests.ecosystem.matrix import ROWS, Mark, cells, holes, run
from tests.ecosystem.report import as_json, as_text, passed

ENOUGH: Final = 60


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem", description="Libraries × what they do over TLS.")
    parser.add_argument("--only", action="append", choices=list(ROWS), metavar="LIBRARY", help=", ".join(ROWS))
    parser.add_argument("--json", metavar="FILE", help="write the outcomes there as well")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # the tests have them as errors
    logging.disable(logging.ERROR)  # asyncio's, of connections that are refused as they are meant to be
    start = time.monotonic()
    chosen = [one for one in cells() if not options.only or one.library in options.only]
    outcomes = []
    for number, one in enumerate(chosen, 1):
        outcome = run(one)
        outcomes.append(outcome)
        print(f"[{number}/{len(chosen)}] {outcome.mark.value} {one.name} ({outcome.seconds:.1f} s)", file=sys.stderr)
    rows = [row for row in ROWS.values() if not options.only or row.name in options.only]
    print(as_text(rows, outcomes))
    print(f"\n{time.monotonic() - start:.0f} s")
    if options.json:
        Path(options.json).write_text(as_json(rows, outcomes), encoding="utf-8")
    failed = any(outcome.mark is Mark.FAILED for outcome in outcomes)
    missing = [hole for hole in holes() if not options.only or hole[0] in options.only]
    for name, column in missing:
        print(f"hole: {name} has neither a cell nor a reason in {column}", file=sys.stderr)
    if not options.only and passed(outcomes) < ENOUGH:
        print(f"only {passed(outcomes)} cells passed: {ENOUGH} have to", file=sys.stderr)
        return 1
    return 1 if failed or missing else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code) if code else sys.exit(code)  # what hangs, hangs in threads that nobody waits for
