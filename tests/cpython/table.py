"""What a run is told as: lines for the terminal, and the page docs/reference/cpython.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.cpython.run import ELSEWHERE, FAILED, NOT_APPLICABLE, PASSED, SKIPPED, UNEXPECTED, Found

__all__ = ["as_page", "counts", "line", "summary"]

MARKS = {PASSED: "✔", ELSEWHERE: "·", NOT_APPLICABLE: "-", SKIPPED: "-", FAILED: "✘", UNEXPECTED: "✘"}
ORDER = (PASSED, NOT_APPLICABLE, SKIPPED, ELSEWHERE, FAILED, UNEXPECTED)


def line(one: Found) -> str:
    told = one.reason or (one.words.strip().splitlines() or [""])[-1]
    return f"{MARKS[one.kind]} {one.test:<60} {one.seconds:6.2f} s  {told}".rstrip()


def counts(found: Iterable[Found]) -> dict[str, int]:
    of = Counter(one.kind for one in found)
    return {kind: of[kind] for kind in ORDER}


def summary(found: Sequence[Found]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts(found).items() if number)


def as_page(found: Sequence[Found], version: str, also: Sequence[tuple[str, dict[str, int]]]) -> str:
    """Return the page. also: other modules of CPython's, and the counts of their runs."""
    of = counts(found)
    text = [HEAD.format(version=version, **{name: of[kind] for name, kind in NAMES.items()})]
    text += ["## Not applicable\n\n| test | why |\n|---|---|\n"]
    text += [f"| `{one.test}` | {_cell(one.reason)} |\n" for one in found if one.kind == NOT_APPLICABLE]
    text += ["\n## Skipped by CPython\n\nIts own conditions, in its own words.\n\n| test | why |\n|---|---|\n"]
    text += [f"| `{one.test}` | {_cell(one.reason)} |\n" for one in found if one.kind == SKIPPED]
    text += ["\n## Passed\n\n"]
    text += [f"- `{one.test}`\n" for one in found if one.kind == PASSED]
    text += [ALSO]
    text += [_row(module, numbers) for module, numbers in also]
    return "".join(text)


def _row(module: str, of: dict[str, int]) -> str:
    cells = (of[PASSED], of[NOT_APPLICABLE], of[SKIPPED], of[ELSEWHERE], of[FAILED] + of[UNEXPECTED])
    return f"| `{module}` | " + " | ".join(map(str, cells)) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


NAMES = {
    "passed": PASSED,
    "not_applicable": NOT_APPLICABLE,
    "skipped": SKIPPED,
    "elsewhere": ELSEWHERE,
    "failed": FAILED,
    "unexpected": UNEXPECTED,
}

HEAD = """\
# CPython's own tests of `ssl`

`make cpython` runs `Lib/test/test_ssl.py` of the running Python, unmodified, in a process where
`pellucid.install(dangerous_allow_unverified=True)` has put our context in the place of `ssl.SSLContext`: each of its
connections is made by Pellucid, at both ends. A run in which OpenSSL carries one fails. The file is taken from the
interpreter that runs the tests; nothing of it is in this repository.

A test counts as passed only if it made an object of ours. What cannot apply is named, test by test and with its reason,
in [tests/cpython/expectations.toml](../../tests/cpython/expectations.toml); one of these that passes all the same makes
the run fail, as does any other failure. This page is what the last run on CPython {version} printed.

| | tests |
|---|---|
| passed | {passed} |
| not applicable, each with its reason | {not_applicable} |
| skipped by CPython itself | {skipped} |
| passed, but use no TLS: enumerations, parsing, buffers | {elsewhere} |
| failed | {failed} |

"""

ALSO = """
## Also run

The other tests of CPython that speak TLS, in the same way: `python -m tests.cpython MODULE`. Most of what is in these
modules has nothing to do with TLS.

| module | passed | not applicable | skipped by CPython | use no TLS | failed |
|---|---|---|---|---|---|
"""
