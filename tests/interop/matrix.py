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
import textwrap
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
WIDTH: Final = 100
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
    left = max((len(name) for name in scenarios), default=0) + 1
    widths = {peer.name: max(len(peer.name), 3) + 1 for peer in peers}
    lines = [f"Interoperability of {ours}. Left mark: the peer is the client; right: the server.", ""]
    lines.append((" " * left + "".join(name.rjust(width) for name, width in widths.items())).rstrip())
    for name in scenarios:
        row = [
            " ".join(marks[peer, role, name].value if (peer, role, name) in marks else " " for role in Role).center(
                width
            )
            for peer, width in widths.items()
        ]
        lines.append((name.ljust(left) + "".join(row)).rstrip())
    count = {mark: sum(outcome.mark is mark for outcome in outcomes) for mark in Mark}
    present = sum(peer.missing() is None for peer in peers)
    marked = ", ".join(f"{count[mark]} {mark.name.lower()} {mark.value}" for mark in Mark)
    lines += ["", f"{present} of {len(peers)} peers present: {marked}"]
    told = [name for name in scenarios if not SCENARIOS[name].speaks_for_itself]
    if told:
        lines += ["", "Scenarios; the others are named after the one group, suite or certificate that is allowed"]
        lines += [f"  {name.ljust(left)} {SCENARIOS[name].title}" for name in told]
    width = max(widths.values(), default=0)
    lines += ["", "Peers", *(f"  {peer.name.ljust(width)}{peer.missing() or peer.version()}" for peer in peers)]
    lines += _empty_cells(outcomes)
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


def _empty_cells(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the reasons, each once, with the cells it is for: peers that lack the same are named together."""
    tried = {name: {outcome.scenario for outcome in outcomes if outcome.peer == name} for name in PEERS}
    reasons: dict[str, dict[tuple[str, Role], list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        if outcome.mark is Mark.EMPTY:
            reasons[outcome.text][outcome.peer, outcome.role].append(outcome.scenario)
    lines = ["", "Empty cells, and why"] if reasons else []
    for reason, cells in reasons.items():
        together: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for (peer, role), names in cells.items():
            shown = ("every scenario",) if len(names) == len(tried[peer]) > 1 else tuple(names)
            together[shown][peer].append(role.value)
        groups = []
        for shown, peers in together.items():
            who = [peer if len(roles) == len(Role) else f"{peer} as {roles[0]}" for peer, roles in peers.items()]
            groups.append(f"{', '.join(who)}: {', '.join(shown)}")
        text = f"{reason} — {'; '.join(groups)}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
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
