"""The ledger of rules: which sentence of which specification is held by which tests. A pytest plugin.

A test says what it holds by `@pytest.mark.rfc("9846 §4.2.4", "a second HelloRetryRequest is unexpected_message")`.
A mark that names no section, or one that RFC 9846 does not have, is a collection error. `--rfc-ledger FILE` writes it
all as Markdown. Under xdist the workers send their marks along with each report; the controller keeps the book.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from tests.support.rfc9846 import SECTIONS

RFC_9846: Final = "9846"
Rule = tuple[str, str]
"""an rfc mark: section and sentence"""
COLLECTED: Final = pytest.StashKey[dict[Rule, set[str]]]()
"""rule → the test functions that carry it, of all that was collected, whatever was then deselected"""
_CITATION: Final = re.compile(r"(\d{1,5}) §([0-9A-Z]+(?:\.\d+)*)")
_PROPERTY: Final = "rfc"


def problem_of(mark: pytest.Mark) -> str | None:
    """Return what is wrong with an rfc mark, or None."""
    if mark.kwargs or len(mark.args) != 2 or not all(isinstance(argument, str) for argument in mark.args):
        return "the rfc mark takes two strings: a section and a sentence"
    section, sentence = mark.args
    found = _CITATION.fullmatch(section)
    if found is None:
        return f"{section!r} is not a citation such as '9846 §4.2.3'"
    if found[1] == RFC_9846 and found[2] not in SECTIONS:
        return f"RFC 9846 has no section {found[2]}"
    if found[1] == "8446":
        return "RFC 8446 is obsolete: cite RFC 9846"
    if not sentence.strip():
        return "the sentence is empty"
    return None


def section_key(citation: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts citations as a reader expects: by RFC, then section; appendices last."""
    rfc, _, section = citation.partition(" §")
    parts = section.split(".")
    return ((0, int(rfc), ""), *((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts))


class Ledger:
    """What was seen: (section, sentence) → test → its worst outcome."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rules: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def note(self, section: str, sentence: str, test: str, outcome: str) -> None:
        tests = self.rules[section, sentence]
        order = ("passed", "skipped", "failed")
        tests[test] = max(outcome, tests.get(test, "passed"), key=order.index)

    def held(self) -> list[tuple[str, str]]:
        """The rules of RFC 9846 that at least one test holds and none breaks."""
        return [
            rule
            for rule, tests in self.rules.items()
            if rule[0].startswith(f"{RFC_9846} ") and "passed" in tests.values() and "failed" not in tests.values()
        ]

    def summary(self) -> str:
        held = self.held()
        tests = {test for rule in held for test, outcome in self.rules[rule].items() if outcome == "passed"}
        broken = sum("failed" in outcomes.values() for outcomes in self.rules.values())
        line = f"rules held: {len(held)} of RFC 9846 by {len(tests)} tests"
        return f"{line}; broken: {broken}" if broken else line

    def markdown(self) -> str:
        """The whole ledger: a heading a section, an entry a rule, a line a test function."""
        lines = ["# Rules and the tests that hold them", "", f"{self.summary()}."]
        by_section: dict[str, list[str]] = defaultdict(list)
        for section, sentence in sorted(self.rules):
            by_section[section].append(sentence)
        for section in sorted(by_section, key=section_key):
            rfc, _, number = section.partition(" §")
            title = f": {SECTIONS[number]}" if rfc == RFC_9846 else ""
            lines += ["", f"## RFC {section}{title}"]
            for sentence in by_section[section]:
                lines += ["", f"- {sentence}"]
                lines += [f"  - `{test}`: {outcomes}" for test, outcomes in self._functions(section, sentence)]
        return "\n".join(lines) + "\n"

    def _functions(self, section: str, sentence: str) -> list[tuple[str, str]]:
        counted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for test, outcome in self.rules[section, sentence].items():
            counted[test.partition("[")[0]][outcome] += 1
        return [
            (function, ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
            for function, outcomes in sorted(counted.items())
        ]

    # ---- hooks of whoever sees all reports: pytest itself, or xdist's controller ----

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        for name, value in report.user_properties:
            if name == _PROPERTY:
                section, sentence = value
                self.note(section, sentence, report.nodeid, report.outcome)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rules:
            terminalreporter.write_line(self.summary())
        if self.path is not None:
            self.path.write_text(self.markdown(), encoding="utf-8")
            terminalreporter.write_line(f"the ledger of rules is in {self.path}")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rules")
    group.addoption("--rfc-ledger", type=Path, metavar="FILE", help="write which rules are held by which tests")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # not one of xdist's workers
        config.pluginmanager.register(Ledger(config.getoption("--rfc-ledger")), "rfc-ledger")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    wrong = [
        f"{item.nodeid}: {problem}"
        for item in report.result or ()
        if isinstance(item, pytest.Item)
        for mark in item.iter_markers("rfc")
        if (problem := problem_of(mark)) is not None
    ]
    if not wrong:
        return report
    return pytest.CollectReport(nodeid=collector.nodeid, outcome="failed", longrepr="\n".join(wrong), result=[])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    found = config.stash[COLLECTED] = defaultdict(set)
    for item in items:
        for mark in item.iter_markers("rfc"):
            item.user_properties.append((_PROPERTY, mark.args))
            found[mark.args].add(item.nodeid.partition("[")[0])
