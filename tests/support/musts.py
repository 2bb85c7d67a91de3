"""The requirements of RFC 9846, one by one, and the tests that hold each: rfc9846_musts.toml joined with the rfc marks.

A mark keeps its two strings; the table says which requirements that sentence of a test holds. Which test carries which
mark is taken from what pytest collects, not from a run, so that the document is the same wherever it is made.

`python -m tests.support.musts` writes docs/rfc.md, `--check` says whether it is up to date (`make ledger`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.ledger import COLLECTED, RFC_9846, Rule, section_key
from tests.support.rfc9846 import SECTIONS

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).with_name("rfc9846_musts.toml")
DOCUMENT: Final = ROOT / "docs" / "rfc.md"
BOUND: Final = frozenset(
    {
        *("client", "server", "sender", "receiver", "both", "application", "middlebox"),
        *("application protocols", "specifications"),
    }
)
Functions = Mapping[Rule, Iterable[str]]
"""a mark's section and sentence → the test functions that carry it"""

_HEAD: Final = """\
# RFC 9846, requirement by requirement

Every sentence of RFC 9846 that holds a MUST, MUST NOT, SHALL or REQUIRED, in the specification's order, and the tests
that hold it: ✔ held, ○ no test, — not applicable here, with the reason. One that binds two sides in two ways is two.
`make ledger` writes this page from [the requirements](../tests/support/rfc9846_musts.toml) and the marks of the tests.
"""


@dataclass(frozen=True, slots=True)
class Must:
    """One requirement. held_by: marks; not_here: why it does not apply, or ""; note: what falls short or differs."""

    id: str
    binds: str
    text: str
    held_by: tuple[Rule, ...] = ()
    not_here: str = ""
    note: str = ""

    @property
    def section(self) -> str:
        return self.id.rpartition("-")[0]

    @property
    def applies(self) -> bool:
        return not self.not_here


class TableError(ValueError):
    """What is wrong with the table."""


def load(text: str | None = None) -> tuple[Must, ...]:
    """Return the requirements in order. Raises TableError for what cannot be right whatever the tests say."""
    if text is None:
        text = TABLE.read_text(encoding="utf-8")
    musts = tuple(_must(entry) for entry in tomllib.loads(text)["must"])
    order = [(section_key(f"{RFC_9846} §{must.section}"), _number(must.id)) for must in musts]
    if order != sorted(set(order)):
        raise TableError("an id stands twice, or out of order")
    return musts


def _must(entry: dict[str, Any]) -> Must:
    name = entry.get("id", "an entry without id")
    if unknown := set(entry) - {"id", "binds", "text", "held_by", "not_here", "note"}:
        raise TableError(f"{name} has {', '.join(sorted(unknown))}")
    must = Must(
        id=entry["id"],
        binds=entry["binds"],
        text=entry["text"],
        held_by=tuple(map(_rule, entry.get("held_by", ()))),
        not_here=entry.get("not_here", ""),
        note=entry.get("note", ""),
    )
    if must.section not in SECTIONS:
        raise TableError(f"{name}: RFC 9846 has no section {must.section}")
    if must.binds not in BOUND:
        raise TableError(f"{name} binds {must.binds!r}, whom nobody knows")
    if must.not_here and must.held_by:
        raise TableError(f"{name} does not apply and is held by a test: one of the two")
    if len(set(must.held_by)) != len(must.held_by):
        raise TableError(f"{name} names a mark twice")
    return must


def _rule(text: str) -> Rule:
    section, colon, sentence = text.partition(": ")
    if not colon:
        raise TableError(f"{text!r} is not 'section: sentence'")
    return section, sentence


def _number(name: str) -> tuple[int, str]:
    """ "5.4-2b" → (2, "b")."""
    number = name.rpartition("-")[2]
    return int(number.rstrip("ab")), number.lstrip("0123456789")


def problems(musts: Iterable[Must], functions: Functions) -> list[str]:
    """Return what the tests do not bear out: marks that the table names and no test carries."""
    return [
        f"{must.id}: no test is marked {section!r}, {sentence!r}"
        for must in musts
        for section, sentence in must.held_by
        if not functions.get((section, sentence))
    ]


def held(musts: Iterable[Must], rules: Iterable[Rule]) -> list[Must]:
    """Return the requirements whose marks are all among *rules*."""
    known = frozenset(rules)
    return [must for must in musts if must.held_by and known.issuperset(must.held_by)]


# ---- the document ----------------------------------------------------------------------------------------------------


def document(musts: Iterable[Must], functions: Functions) -> str:
    """Return docs/rfc.md."""
    musts = tuple(musts)
    done = {must.id for must in held(musts, functions)}
    by_section: dict[str, list[Must]] = defaultdict(list)
    for must in musts:
        by_section[must.section].append(must)
    tests = {test for must in musts for rule in must.held_by for test in functions.get(rule, ())}
    lines = [_HEAD, f"**{counts(musts, functions)}** {len(tests)} test functions hold them.", ""]
    lines += ["| section | requirements | apply | held |", "|---|---:|---:|---:|"]
    for section, group in by_section.items():
        apply, have = sum(must.applies for must in group), sum(must.id in done for must in group)
        lines.append(f"| {section} {SECTIONS[section]} | {len(group)} | {apply} | {have} |")
    for section, group in by_section.items():
        lines += ["", f"## {section} {SECTIONS[section]}"]
        for must in group:
            lines += ["", *_entry(must, functions, is_held=must.id in done)]
    return "\n".join(lines) + "\n"


def counts(musts: Iterable[Must], rules: Iterable[Rule]) -> str:
    """Return the totals as a sentence."""
    musts = tuple(musts)
    apply, done = sum(must.applies for must in musts), len(held(musts, rules))
    return f"{len(musts)} requirements: {apply} apply here, and {done} of those are held by a test."


def _entry(must: Must, functions: Functions, *, is_held: bool) -> list[str]:
    sign = "—" if not must.applies else "✔" if is_held else "○"
    lines = [f"- {sign} **{must.id}** ({must.binds}) {must.text}"]
    if must.not_here:
        lines.append(f"  - *not here: {must.not_here}*")
    elif not is_held:
        lines.append("  - *no test yet*")
    if must.note:
        lines.append(f"  - *{must.note}*")
    tests = {test for rule in must.held_by for test in functions.get(rule, ())}
    return lines + [f"  - `{test}`" for test in sorted(tests)]


# ---- what pytest collects --------------------------------------------------------------------------------------------


class _Listener:
    """A plugin that keeps what the ledger saw."""

    def __init__(self) -> None:
        self.functions: Functions = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.functions = session.config.stash[COLLECTED]


def collected() -> Functions:
    """Collect all tests in this process, and return who carries which mark. Raises SystemExit if that fails."""
    listener = _Listener()
    out = io.StringIO()
    arguments = ["--collect-only", "-qq", "-p", "no:cacheprovider", f"--rootdir={ROOT}", str(ROOT / "tests")]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the ledger is imported here already
    with contextlib.redirect_stdout(out):
        status = pytest.main(arguments, plugins=[listener])
    if status != pytest.ExitCode.OK:
        raise SystemExit(out.getvalue())
    return listener.functions


def of_session(config: pytest.Config) -> Functions | None:
    """Return who carries which mark in the session that runs; None if it did not collect all tests."""
    wanted = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    narrowed = any(config.getoption(name, None) for name in ("ignore", "ignore_glob", "lf"))
    return None if narrowed or wanted != {ROOT / "tests"} else config.stash[COLLECTED]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.musts", description="Write docs/rfc.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    options = parser.parse_args(arguments)
    musts, functions = load(), collected()
    wrong = problems(musts, functions)
    text = document(musts, functions)
    if options.check and DOCUMENT.read_text(encoding="utf-8") != text:
        wrong.append(f"{DOCUMENT.relative_to(ROOT)} is not up to date: make ledger")
    sys.stderr.writelines(f"{problem}\n" for problem in wrong)
    if not options.check:
        DOCUMENT.write_text(text, encoding="utf-8")
    print(counts(musts, functions))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
