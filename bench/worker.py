"""A process that runs rounds of ours for `bench compare`: of the package in one tree, by that tree's own adapter.

It reads a line with the name of a measure and answers with a line of JSON: {"value": …} in the measure's unit, or
{"missing": why}. The measures are those of the tree that compares, so that both do the same; how Pellucid is called
(`bench.peers`) is the measured tree's, which knows what its package has. Where that has none that fits, ours is taken.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

PEERS = "bench.peers"


def use_peers_of(tree: Path) -> None:
    """Import `bench.peers` from *tree*; leave it to be imported as usual where that has none that the measures know."""
    package = tree / "bench" / "peers"
    if not (package / "__init__.py").exists():
        return
    spec = importlib.util.spec_from_file_location(
        PEERS, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[PEERS] = module
    try:
        spec.loader.exec_module(module)
        importlib.import_module("bench.__main__").load()
    except Exception:  # noqa: BLE001 - it may fail in any way; ours is tried then
        for name in [name for name in sys.modules if name.startswith("bench.")]:
            del sys.modules[name]


class Rounds:
    """The measures of this process, opened when they are first asked for."""

    def __init__(self) -> None:
        harness = importlib.import_module("bench.harness")
        main = importlib.import_module("bench.__main__")
        self._stack = contextlib.ExitStack()
        self._sample = harness.Sample
        self._measures = {}
        for ours in (harness.OURS, "recorded"):
            for measure in main.measures(harness.Scale(full=True, peers=(ours,))):
                if measure.ours == ours:
                    self._measures[measure.name] = measure
        self._ready: dict[str, Any] = {}

    def answer(self, name: str) -> dict[str, Any]:
        """Run a round of *name*."""
        try:
            if name not in self._ready:
                measure = self._measures[name]
                self._ready[name] = self._stack.enter_context(measure.open()).get(measure.ours, "not measured")
            one_round = self._ready[name]
            if isinstance(one_round, str):
                return {"missing": one_round}
            outcome = one_round()
        except Exception as error:  # noqa: BLE001 - an older package may fail in any way
            return {"missing": f"{type(error).__name__}: {error}"}
        return {"value": outcome.value if isinstance(outcome, self._sample) else outcome}

    def close(self) -> None:
        self._stack.close()


def main(tree: str) -> int:
    use_peers_of(Path(tree))
    try:
        rounds = Rounds()
    except Exception as error:  # noqa: BLE001 - an older package may fail in any way
        for _ in sys.stdin:
            print(json.dumps({"missing": f"{type(error).__name__}: {error}"}), flush=True)
        return 0
    for line in sys.stdin:
        print(json.dumps(rounds.answer(line.strip())), flush=True)
    rounds.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
