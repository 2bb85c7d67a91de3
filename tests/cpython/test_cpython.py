"""CPython's own test_ssl over Pellucid, in CI as well; and the page that tells of it is what a run gives."""

from __future__ import annotations

import importlib
import platform
import re
from collections import Counter

import pytest

from tests.cpython.__main__ import MODULE
from tests.cpython.run import (
    NOT_APPLICABLE,
    PASSED,
    REPOSITORY,
    SKIPPED,
    UNEXPECTED,
    expectations,
    found_in,
    module_file,
)
from tests.support.needs import need

PAGE = (REPOSITORY / "docs" / "reference" / "cpython.md").read_text(encoding="utf-8")
PAGE_VERSION = "3.11"


def _row(label: str) -> int:
    found = re.search(rf"^\| {re.escape(label)}[^|]*\| (\d+) \|$", PAGE, re.MULTILINE)
    assert found is not None, label
    return int(found[1])


@pytest.mark.timeout(400)
def test_a_sixth_of_cpython_s_own_tests_that_pass_do() -> None:
    need(None if module_file(MODULE) is not None else f"this Python came without {MODULE}: libpython3.x-testsuite")
    wanted = sorted(_tests_under("Passed"))[1::6]
    found = list(found_in(MODULE, wanted, seconds=200))
    wrong = [f"{one.test}: {one.kind}\n{one.words}" for one in found if not one.good]
    assert not wrong, "\n".join(wrong)
    assert len(found) >= len(wanted) * 0.8  # other versions of Python have other tests
    if platform.python_version().startswith(f"{PAGE_VERSION}."):
        assert {one.test for one in found if one.kind == PASSED} == set(wanted)


@pytest.mark.slow
def test_cpython_s_own_tests_pass_or_have_a_reason() -> None:
    need(None if module_file(MODULE) is not None else f"this Python came without {MODULE}: libpython3.x-testsuite")
    found = list(found_in(MODULE, seconds=380))
    wrong = [f"{one.test}: {one.kind}\n{one.words}" for one in found if not one.good]
    assert not wrong, "\n".join(wrong)
    of = Counter(one.kind for one in found)
    assert of[PASSED] >= 100 and of[UNEXPECTED] == 0
    if platform.python_version().startswith(f"{PAGE_VERSION}."):
        assert {one.test for one in found if one.kind == NOT_APPLICABLE} == _tests_under("Not applicable")
        assert of[PASSED] + of[SKIPPED] == _row("passed") + _row("skipped by CPython itself")


def test_page_has_every_reason_and_adds_up() -> None:
    assert f"CPython {PAGE_VERSION} printed" in PAGE
    expected = expectations(MODULE)
    listed = _tests_under("Not applicable")
    assert listed <= set(expected) and len(listed) == _row("not applicable")
    assert {expected[test].reason.replace("|", "\\|") in PAGE for test in listed} == {True}
    assert len(_tests_under("Passed")) == _row("passed") > 100
    assert _row("failed") == 0


def _tests_under(heading: str) -> set[str]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^[|-] `([\w.]+)`", section, re.MULTILINE))


def test_expectations_name_each_test_once_and_say_why() -> None:
    for module in (MODULE, "test.test_asyncio.test_ssl"):
        for test, expected in expectations(module).items():
            assert re.fullmatch(r"\w+\.test\w+", test)
            assert len(expected.reason) > 30 and "not implemented" not in expected.reason
            assert expected.says.pattern, test


def test_a_failure_that_says_something_else_is_a_failure() -> None:
    run = importlib.import_module("tests.cpython.run")
    known = expectations(MODULE)
    line = {"test": "ThreadedTests.test_session", "outcome": "failed", "seconds": 1, "ours": 1, "openssl": 0}
    assert run._judged({**line, "words": "a crash"}, known).kind == run.FAILED
    assert run._judged({**line, "words": "maximum_version cannot be TLSv1_2"}, known).good
    assert run._judged({**line, "words": "", "outcome": "passed"}, known).kind == UNEXPECTED
    other = {**line, "test": "X.test_y", "words": "", "outcome": "passed"}
    assert run._judged(other, known).kind == PASSED
    assert run._judged({**other, "ours": 0}, known).kind == run.ELSEWHERE
    assert run._judged({**other, "openssl": 1}, known).kind == run.FAILED
