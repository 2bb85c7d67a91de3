"""The matrix of libraries as tests: every cell passes, and nothing is left out without a reason."""

from __future__ import annotations

import gc

import pytest

import tests.ecosystem.cells  # the rows  # noqa: F401
from tests.ecosystem.matrix import COLUMNS, ROWS, Cell, Mark, cells, holes, run
from tests.ecosystem.report import as_text
from tests.ecosystem.trial import Trial

LEAVES_OPEN = {"aiosmtplib", "aiosmtpd", "asyncio"}
"""libraries that leave a transport to the garbage collector after a refused handshake; without Pellucid too"""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(socket|function _Selector):pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in cells()])
def test_library_works_over_pellucid(one: Cell) -> None:
    outcome = run(one)
    if one.library in LEAVES_OPEN:
        gc.collect()  # now, and not in a test that knows nothing of it
    if outcome.error is not None:
        raise outcome.error
    assert outcome.mark is Mark.PASSED


def test_matrix_is_whole() -> None:
    assert holes() == []
    for row in ROWS.values():
        assert set(row.cells) | set(row.reasons) == set(COLUMNS), row.name
        assert row.cells, f"{row.name}: nothing but reasons"
        for column, reason in row.reasons.items():
            assert len(reason) > 15, f"{row.name}, {column}: {reason!r} is no reason"


def test_matrix_cell_that_used_something_else_fails() -> None:
    def idle(trial: Trial) -> None:
        assert trial.authority

    def gets(trial: Trial) -> None:
        pass

    for side, work in (("client", idle), ("server", gets)):
        one = Cell(library="x", column="client", way="", work=work, side=side, verifies=False)
        outcome = run(one)
        assert outcome.mark is Mark.FAILED
        assert f"as {side} was completed" in outcome.text


def test_matrix_cell_that_has_no_end_fails_in_time() -> None:
    import threading

    forever = threading.Event()

    def hangs(trial: Trial) -> None:
        forever.wait()

    outcome = run(Cell(library="x", column="client", way="", work=hangs, side="client", verifies=False), limit=0.1)
    forever.set()
    assert outcome.mark is Mark.FAILED
    assert "still running after 0.1 s" in outcome.text and "forever.wait()" in outcome.text


def test_report_numbers_reasons_and_counts() -> None:
    text = as_text(list(ROWS.values()), [])
    assert "Empty cells, and why" in text
    for row in ROWS.values():
        assert row.name in text
