"""The matrix: every peer in both roles in every scenario. `python -m tests.interop.matrix`, or `make interop`.

    --peer X --scenario Y   only these; either may be given more than once
    --against stdlib        a peer instead of Pellucid at our end: to test the harness itself. Any peer can, but only
                            stdlib understands all that is asked of our end (or says that it lacks it)
    --json FILE             the outcomes, for machines
    --verbose               what was negotiated in the cells that passed

Exits 1 if a cell failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.interop.cells import Mark, OurSide, Outcome, all_cells, run_cell
from tests.interop.certificates import make_certificates
from tests.interop.peers import PEERS
from tests.interop.scenarios import SCENARIOS
from tests.interop.spec import Peer, Role

WORKERS: Final = 3
SCHEMA: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    start = time.monotonic()
    cells = [
        (peer, role, scenario)
        for scenario in SCENARIOS.values()
        for peer, role in all_cells()
        if (not options.peer or peer.name in options.peer)
        and (not options.scenario or scenario.name in options.scenario)
    ]
    ours = our_side(options.against)
    with tempfile.TemporaryDirectory(prefix="pellucid-interop-") as directory:
        certificates = make_certificates(Path(directory) / "certificates")

        def run(number: int) -> Outcome:
            peer, role, scenario = cells[number]
            return run_cell(peer, role, scenario, ours, certificates, Path(directory) / f"cell-{number}")

        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = []
            for outcome in pool.map(run, range(len(cells))):
                outcomes.append(outcome)
                _progress(outcome, len(outcomes), len(cells))
    peers = [peer for peer in PEERS.values() if not options.peer or peer.name in options.peer]
    print(report(outcomes, peers, options.against or "pellucid", verbose=options.verbose))
    print(f"\n{time.monotonic() - start:.0f} s")
    if options.json:
        Path(options.json).write_text(as_json(outcomes, peers, options.against or "pellucid"))
    return 1 if any(outcome.mark is Mark.FAILED for outcome in outcomes) else 0


def our_side(against: str | None) -> OurSide:
    """Return Pellucid, or the peer to stand in for it."""
    if against is not None:
        return PEERS[against]
    from tests.interop.pellucid_side import Pellucid

    return Pellucid()


def report(outcomes: Sequence[Outcome], peers: Sequence[Peer], ours: str, *, verbose: bool = False) -> str:
    """Return the table, what the empty cells lack, what went wrong in the failed ones, and who the peers are."""
    marks = {(outcome.peer, outcome.role, outcome.scenario): outcome.mark for outcome in outcomes}
    scenarios = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    left = max((len(name) for name in scenarios), default=0) + 2
    width = max((len(peer.name) for peer in peers), default=0) + 2
    lines = [f"Interoperability of {ours}. Left mark: the peer is the client; right: the server.", ""]
    lines.append(" " * left + "".join(peer.name.center(width) for peer in peers).rstrip())
    for name in scenarios:
        row = [
            " ".join(marks[peer.name, role, name].value if (peer.name, role, name) in marks else " " for role in Role)
            for peer in peers
        ]
        lines.append(name.ljust(left) + "".join(pair.center(width) for pair in row).rstrip())
    count = {mark: sum(outcome.mark is mark for outcome in outcomes) for mark in Mark}
    present = sum(peer.missing() is None for peer in peers)
    lines += ["", f"{present} peers: " + ", ".join(f"{count[mark]} {mark.name.lower()} {mark.value}" for mark in Mark)]
    lines += ["", "Scenarios", *(f"  {name.ljust(left)}{SCENARIOS[name].title}" for name in scenarios)]
    lines += ["", "Peers", *(f"  {peer.name.ljust(width)}{peer.missing() or peer.version()}" for peer in peers)]
    lines += _empty_cells(outcome for outcome in outcomes if outcome.mark is Mark.EMPTY)
    if verbose:
        lines += ["", "Passed"]
        lines += [f"  {_label(outcome)}: {outcome.text}" for outcome in outcomes if outcome.mark is Mark.PASSED]
    for outcome in outcomes:
        if outcome.mark is Mark.FAILED:
            lines += ["", f"✘ {_label(outcome)}", *(f"    {line}" for line in outcome.text.splitlines())]
    return "\n".join(lines)


def as_json(outcomes: Iterable[Outcome], peers: Iterable[Peer], ours: str) -> str:
    """Return the outcomes as JSON; the shape is `schema`'s."""
    cells = [
        {
            "peer": outcome.peer,
            "role": outcome.role.value,
            "scenario": outcome.scenario,
            "outcome": outcome.mark.name.lower(),
            "text": outcome.text,
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    versions = {peer.name: peer.missing() or peer.version() for peer in peers}
    return json.dumps({"schema": SCHEMA, "ours": ours, "peers": versions, "cells": cells}, indent=1) + "\n"


def _empty_cells(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the reasons, each once, with the cells it is for."""
    cells: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        cells[outcome.peer, outcome.text][outcome.scenario].append(outcome.role.value)
    if not cells:
        return []
    lines = ["", "Empty cells, and why"]
    for (peer, reason), where in cells.items():
        roles = {" and ".join(names) for names in where.values()}
        whole = len(where) > len(SCENARIOS) // 2
        names = "every scenario" if whole else ", ".join(where)
        lines.append(f"  {peer} ({' / '.join(sorted(roles))}): {reason}: {names}")
    return lines


def _label(outcome: Outcome) -> str:
    return f"{outcome.peer} as {outcome.role.value}, {outcome.scenario}"


def _progress(outcome: Outcome, done: int, total: int) -> None:
    if outcome.mark is not Mark.EMPTY:
        print(
            f"[{done}/{total}] {outcome.mark.value} {_label(outcome)} ({outcome.seconds:.1f} s)",
            file=sys.stderr,
            flush=True,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.interop.matrix", description="Every peer, both roles, every scenario."
    )
    parser.add_argument("--peer", action="append", choices=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--against", choices=list(PEERS), metavar="NAME", help="a peer instead of Pellucid at our end")
    parser.add_argument("--json", metavar="FILE", help="write the outcomes there as well")
    parser.add_argument("--verbose", action="store_true", help="also say what was negotiated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
