"""The ledger of rules is itself tested: what it refuses, what it counts, and that it does so under xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ledger import Ledger, problem_of, section_key

ROOT = Path(__file__).parents[2]
MODULE = """
import pytest

@pytest.mark.rfc("9846 §4.2.3", "one rule")
@pytest.mark.parametrize("n", range(3))
def test_three(n): pass

@pytest.mark.rfc("9846 §4.2.3", "one rule")
@pytest.mark.rfc("9846 §5", "another rule")
def test_two_rules(): pass

@pytest.mark.rfc("9846 §5.1", "a broken rule")
def test_broken(): raise ValueError

@pytest.mark.rfc("6066 §3", "not of RFC 9846")
def test_elsewhere(): pass
"""


def run(tmp_path: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_ruled.py").write_text(source, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = rfc(section, sentence): …\n", encoding="utf-8")
    plugins = ("-p", "xdist", "-p", "tests.support.ledger", "-p", "no:cacheprovider")
    command = (sys.executable, "-m", "pytest", "-q", *plugins)
    return subprocess.run(
        (*command, *arguments, f"--rootdir={tmp_path}", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)),
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # starting the others is what takes time
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("-n0",), ("-n2",)], ids=["alone", "xdist"])
def test_ledger_counts_the_rules_of_9846_and_writes_all(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    book = tmp_path / "ledger.md"
    done = run(tmp_path, MODULE, *arguments, f"--rfc-ledger={book}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "rules held: 2 of RFC 9846 by 4 tests; broken: 1" in done.stdout
    text = book.read_text(encoding="utf-8")
    assert text.index("## RFC 6066 §3") < text.index("## RFC 9846 §4.2.3: Server Hello") < text.index("## RFC 9846 §5:")
    assert (
        "- one rule\n  - `test_ruled.py::test_three`: 3 passed\n  - `test_ruled.py::test_two_rules`: 1 passed" in text
    )
    assert "- a broken rule\n  - `test_ruled.py::test_broken`: 1 failed" in text


@pytest.mark.parametrize("arguments", [("-n0",), ("-n2",)], ids=["alone", "xdist"])
def test_ledger_mark_of_no_section_fails_the_collection(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, MODULE.replace("9846 §5.1", "9846 §4.2.9"), *arguments)
    assert done.returncode != 0, done.stdout
    assert "passed" not in done.stdout
    assert "RFC 9846 has no section 4.2.9" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("9846 §4.2.3", "a rule"), None),
        (("9846 §A.1", "a rule"), None),
        (("7301 §3.2", "a rule of another RFC"), None),
        (("9846 §4.2.9", "a rule"), "has no section"),
        (("9846 §Z", "a rule"), "has no section"),
        (("8446 §4.2.3", "a rule"), "obsolete"),
        (("§4.2.3", "a rule"), "not a citation"),
        (("9846 4.2.3", "a rule"), "not a citation"),
        (("9846 §4.2.3", " "), "empty"),
        (("9846 §4.2.3",), "two strings"),
        (("9846 §4.2.3", 5), "two strings"),
    ],
)
def test_mark_is_checked(arguments: tuple[object, ...], problem: str | None) -> None:
    found = problem_of(pytest.mark.rfc(*arguments).mark)
    assert found is None if problem is None else problem in str(found)


def test_sections_are_sorted_as_read() -> None:
    mixed = ["9846 §A", "9846 §4.2.10", "9846 §10", "6066 §3", "9846 §A.2", "9846 §4", "9846 §4.2.3"]
    wanted = ["6066 §3", "9846 §4", "9846 §4.2.3", "9846 §4.2.10", "9846 §10", "9846 §A", "9846 §A.2"]
    assert sorted(mixed, key=section_key) == wanted


def test_rule_with_a_failed_or_only_skipped_test_is_not_held() -> None:
    ledger = Ledger(None)
    for test, outcome in (("a", "passed"), ("b", "failed")):
        ledger.note("9846 §5", "broken", test, outcome)
    ledger.note("9846 §5", "skipped", "c", "skipped")
    ledger.note("9846 §5", "teardown", "d", "passed")
    ledger.note("9846 §5", "teardown", "d", "failed")
    ledger.note("9846 §5", "held", "e", "passed")
    assert ledger.held() == [("9846 §5", "held")]
