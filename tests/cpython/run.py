"""One of CPython's test modules in a process of its own, and what its outcomes count as."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Found", "Kind", "expectations", "found_in", "module_file"]

REPOSITORY = Path(__file__).parents[2]
EXPECTATIONS = Path(__file__).with_name("expectations.toml")

PASSED, ELSEWHERE, NOT_APPLICABLE, SKIPPED, FAILED, UNEXPECTED = (
    "passed",
    "passed, uses no TLS",
    "not applicable",
    "skipped by CPython",
    "failed",
    "passed, though said not to apply",
)
Kind = str


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One test. reason: why it does not apply, or was skipped; words: of a failure, all that was said."""

    test: str
    kind: Kind
    reason: str = ""
    words: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.kind not in (FAILED, UNEXPECTED)


class Expected(NamedTuple):
    reason: str
    says: re.Pattern[str]
    """what the failure says: one that says something else is a failure, whatever was expected"""


def expectations(module: str) -> dict[str, Expected]:
    """Return test → why it does not apply, of one module. Raises ValueError for a test that is named twice."""
    table = tomllib.loads(EXPECTATIONS.read_text(encoding="utf-8"))
    found: dict[str, Expected] = {}
    for group in table.get(module, ()):
        since = tuple(map(int, group.get("since", "3.0").split(".")))
        if sys.version_info < since:
            continue  # what the test asks for is so only from that Python on
        for test in group["tests"]:
            if test in found:
                raise ValueError(f"{test} is named twice")
            found[test] = Expected(group["reason"], re.compile(group["says"]))
    return found


def module_file(module: str) -> Path | None:
    """Return the file of a module of CPython's `test` package; None where Python came without it."""
    parts = module.split(".")
    for folder in map(Path, sys.path):
        file = folder.joinpath(*parts).with_suffix(".py")
        if parts[0] == "test" and file.is_file() and (folder / "ssl.py").is_file():
            return file
    return None


def found_in(module: str, only: Sequence[str] = (), *, seconds: float = 600) -> Iterator[Found]:
    """Run *module*, or those of its tests that are named; give each test when it is over.

    A process that dies, or takes longer than *seconds*, is a failure of its own.
    """
    expected = expectations(module)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.cpython.child", module, str(seconds), *only],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            if child.stdout is not None:
                for line in child.stdout:
                    yield _judged(json.loads(line), expected)
            child.wait(30)
        finally:
            child.kill()
            code = child.wait()
            if child.stdout is not None:
                child.stdout.close()
        if code != 0:
            said.seek(0)
            yield Found(f"{module} as a whole", FAILED, words=f"exit code {code}\n{said.read()[-3000:]}")


def _judged(line: dict[str, object], expected: dict[str, Expected]) -> Found:
    test, outcome, words = str(line["test"]), str(line["outcome"]), str(line["words"])
    seconds = float(str(line["seconds"]))
    known = expected.get(test)
    if line["openssl"]:
        return Found(test, FAILED, words=f"OpenSSL carried a connection of it\n{words}", seconds=seconds)
    if outcome == "skipped":
        return Found(test, SKIPPED, reason=words, seconds=seconds)
    if outcome == "passed":
        if known is not None:
            return Found(test, UNEXPECTED, reason=known.reason, seconds=seconds)
        return Found(test, PASSED if line["ours"] else ELSEWHERE, seconds=seconds)
    if known is not None and known.says.search(words):
        return Found(test, NOT_APPLICABLE, reason=known.reason, words=words, seconds=seconds)
    return Found(test, FAILED, words=words, seconds=seconds)
