"""Run BoringSSL's test runner over the tests in scope: `make conformance BOGO_RUNNER=…`.

    --runner FILE     the runner's binary, which is not part of this repository
    --test PATTERN    only these tests, in the runner's globs; may be given more than once
    --group NAME      only the tests of this group; may be given more than once
    --workers N       tests at a time
    --cold            a new Python for every test
    --json FILE       the runner's own JSON of the outcomes

Exits 1 if a test failed, or asked for something that the shim does not know.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CONFIG: Final = HERE / "shim_config.json"
_STATES: Final = ("PASS", "FAIL", "SKIP", "disabled")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    groups = in_scope()
    names = [name for name in groups if _wanted(name, groups[name], options)]
    disabled = {name for name in names if reason_disabled(name, disabled_tests())}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pellucid-bogo-") as directory:
        output = Path(options.json or Path(directory) / "outcomes.json").resolve()
        with _shim(Path(directory), cold=options.cold) as shim:
            command = [
                str(Path(options.runner).resolve()),
                f"-shim-path={shim}",
                f"-shim-config={CONFIG}",
                f"-num-workers={options.workers}",
                f"-json-output={output}",
                "-pipe",
                "-test=" + ";".join(name for name in names if name not in disabled),
            ]
            done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, text=True, check=False)
        print("".join(f"{block}\n" for block in _failures(done.stdout)), end="")
        outcomes = {name: test["actual"] for name, test in json.loads(output.read_text())["tests"].items()}
    outcomes |= dict.fromkeys(disabled, "disabled")
    print("\n".join(table(groups, outcomes)))
    print(f"{time.monotonic() - start:.0f} seconds")
    missing = [name for name in names if name not in outcomes]
    if missing:
        print(f"{len(missing)} tests that this runner does not have: {', '.join(missing[:5])}")
    return 0 if not missing and not {"FAIL", "SKIP"} & set(outcomes.values()) else 1


def in_scope() -> dict[str, str]:
    """Return every test in scope with its group."""
    lines = (HERE / "tests.tsv").read_text().splitlines()[1:]
    return dict(line.split("\t") for line in lines)


def disabled_tests() -> dict[str, str]:
    """Return the patterns that are not run, each with its reason."""
    tests: dict[str, str] = json.loads(CONFIG.read_text())["DisabledTests"]
    return tests


def reason_disabled(name: str, patterns: Mapping[str, str]) -> str | None:
    """Return why a test is not run; None: it is."""
    return next((reason for pattern, reason in patterns.items() if fnmatch.fnmatchcase(name, pattern)), None)


def table(groups: Mapping[str, str], outcomes: Mapping[str, str]) -> list[str]:
    """Return the counts by group as lines, the sum last."""
    counts = {state: Counter(groups.get(name, "?") for name, s in outcomes.items() if s == state) for state in _STATES}
    lines = [f"{'':36} passed failed skipped disabled"]
    for group in dict.fromkeys(groups.values()):
        row = [counts[state][group] for state in _STATES]
        if any(row):
            lines.append(f"{group:36} {row[0]:6} {row[1]:6} {row[2]:7} {row[3]:8}")
    row = [counts[state].total() for state in _STATES]
    return [*lines, f"{'in all':36} {row[0]:6} {row[1]:6} {row[2]:7} {row[3]:8}"]


def _wanted(name: str, group: str, options: argparse.Namespace) -> bool:
    if options.group and group not in options.group:
        return False
    return not options.test or any(fnmatch.fnmatchcase(name, pattern) for pattern in options.test)


def _failures(output: str) -> Iterator[str]:
    """Yield what the runner printed of each test that did not pass."""
    block: list[str] = []
    for line in output.splitlines():
        if line.startswith(("PASSED (", "FAILED (", "UNIMPLEMENTED (")):
            if block:
                yield "\n".join(block)
            block = []
        if block or not line.startswith("PASSED ("):
            block.append(line)
    if block:
        yield "\n".join(block)


@contextmanager
def _shim(directory: Path, *, cold: bool) -> Iterator[Path]:
    """Yield the program that the runner starts for each test."""
    root, script = HERE.parent.parent, directory / "shim"
    path = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(root / "src"), str(root)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if cold:
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.conformance.shim "$@"\n')
        script.chmod(0o755)
        yield script
        return
    sock = directory / "warm"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "launcher.py"} {sock} "$@"\n')
    script.chmod(0o755)
    with subprocess.Popen([sys.executable, "-m", "tests.conformance.warm", str(sock)]) as server:
        try:
            while not sock.exists():
                if server.poll() is not None:
                    raise SystemExit("the warm shim did not start")
                time.sleep(0.02)
            yield script
        finally:
            server.terminate()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run")
    parser.add_argument("--runner", required=True)
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
