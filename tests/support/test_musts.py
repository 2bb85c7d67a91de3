"""The table of requirements is right in itself and borne out by the tests, and docs/rfc.md is what comes of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import musts
from tests.support.musts import Functions, TableError, document, held, load, problems

ENTRY = '[[must]]\nid = "{0}"\nbinds = "client"\ntext = "Clients MUST."\n{1}\n'
MARK = "9846 §4.2.4: a rule"


def table(*entries: tuple[str, str]) -> tuple[musts.Must, ...]:
    return load("".join(ENTRY.format(*entry) for entry in entries))


# ---- what is committed -----------------------------------------------------------------------------------------------


def test_page_is_what_the_table_and_the_collected_tests_give(request: pytest.FixtureRequest) -> None:
    """With the marks of this session, if it is one of all tests; else a process of its own collects them."""
    functions = musts.of_session(request.config)
    if functions is None:
        command = (sys.executable, "-m", "tests.support.musts", "--check")
        done = subprocess.run(command, cwd=musts.ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    assert problems(load(), functions) == []
    assert document(load(), functions) == musts.DOCUMENT.read_text(encoding="utf-8"), "make ledger"


def test_table_has_what_was_promised() -> None:
    """Every requirement is there, and is held by a test or says why it does not apply."""
    everything = load()
    assert len(everything) == 338
    words = ("MUST", "SHALL", "REQUIRED")
    assert all(any(word in must.text for word in words) for must in everything)
    assert [must.id for must in everything if not must.not_here and not must.held_by] == []
    assert sum(bool(must.held_by) for must in everything) >= 304


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([("4.2.4-1", ""), ("4.2.4-1", "")], "twice"),
        ([("4.2.4-2", ""), ("4.2.4-1", "")], "order"),
        ([("4.2.4-10", ""), ("4.2.4-9", "")], "order"),
        ([("A-1", ""), ("4.2.4-1", "")], "order"),
        ([("4.2.9-1", "")], "has no section"),
        ([("4.2.4-1", 'held_by = ["no colon"]')], "section: sentence"),
        ([("4.2.4-1", f'held_by = ["{MARK}", "{MARK}"]')], "twice"),
        ([("4.2.4-1", f'held_by = ["{MARK}"]\nnot_here = "why"')], "one of the two"),
        ([("4.2.4-1", 'heldby = ["x"]')], "heldby"),
    ],
)
def test_table_that_cannot_be_is_refused(entries: list[tuple[str, str]], problem: str) -> None:
    with pytest.raises(TableError, match=problem):
        table(*entries)


def test_table_binds_only_whom_we_know() -> None:
    with pytest.raises(TableError, match="whom nobody knows"):
        load(ENTRY.format("4.2.4-1", "").replace('"client"', '"everybody"'))


def test_mark_that_no_test_carries_is_a_problem() -> None:
    made = table(("4.2.4-1", f'held_by = ["{MARK}"]'), ("4.2.4-2a", ""))
    assert problems(made, {}) == ["4.2.4-1: no test is marked '9846 §4.2.4', 'a rule'"]
    assert problems(made, {("9846 §4.2.4", "a rule"): {"tests/test_it.py::test_it"}}) == []


def test_requirement_is_held_by_all_its_marks_or_not_at_all() -> None:
    made = table(("4.2.4-1", f'held_by = ["{MARK}", "9846 §5: another"]'), ("4.2.4-2", 'not_here = "why"'))
    first, second = ("9846 §4.2.4", "a rule"), ("9846 §5", "another")
    assert held(made, [first]) == []
    assert [must.id for must in held(made, [first, second])] == ["4.2.4-1"]


def test_page_shows_the_held_the_open_and_what_does_not_apply() -> None:
    made = table(
        ("4.2.4-1", f'held_by = ["{MARK}"]\nnote = "but"'),
        ("4.2.4-2", 'note = "not done"'),
        ("4.2.4-3", 'not_here = "the reason"'),
    )
    functions: Functions = {("9846 §4.2.4", "a rule"): {"tests/b.py::test_b", "tests/a.py::test_a"}}
    text = document(made, functions)
    assert "**3 requirements: 2 apply here, and 1 of those are held by a test.** 2 test functions hold them." in text
    assert "| 4.2.4 Hello Retry Request | 3 | 2 | 1 |" in text
    assert "## 4.2.4 Hello Retry Request" in text
    assert "- ✔ **4.2.4-1** (client) Clients MUST.\n  - *but*\n  - `tests/a.py::test_a`\n  - `tests/b.py" in text
    assert "- ○ **4.2.4-2** (client) Clients MUST.\n  - *no test yet*\n  - *not done*\n" in text
    assert text.endswith("- — **4.2.4-3** (client) Clients MUST.\n  - *not here: the reason*\n")
    assert document(made, dict(reversed(list(functions.items())))) == text


def test_session_of_some_tests_is_not_taken_for_all(request: pytest.FixtureRequest) -> None:
    config = request.config
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ignore", "ignore_glob", "lf"):
            if hasattr(config.option, name):
                patch.setattr(config.option, name, None)
        patch.setattr(config, "args", [str(musts.ROOT / "tests" / "support")])
        assert musts.of_session(config) is None
        patch.setattr(config, "args", [str(musts.ROOT / "tests")])
        assert musts.of_session(config) is not None
        patch.setattr(config.option, "ignore", ["tests/unit"])
        assert musts.of_session(config) is None
