"""The harness: turns, medians of neighbours' ratios, floors in either direction and by Python, misses that show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.harness import Measure, Sample, interleave, limit, opened, per_second, run

SPEED = Measure(
    name="n", group="g", unit="/s", better="higher", rounds=5, floor=1.4, record=1.8,
    open=opened(lambda: {"ssl": lambda: 100.0, "pellucid": lambda: 150.0, "other": "not installed"}),
)  # fmt: skip


def giving(ours: float, theirs: float = 100.0, **others: float) -> Callable[[], object]:
    return opened(
        lambda: {"ssl": lambda: theirs, "pellucid": lambda: ours, **{n: lambda v=v: v for n, v in others.items()}}
    )


def test_run_gives_medians_ratios_and_reasons() -> None:
    result = run(SPEED)
    assert result.ratio == 1.5
    assert result.figures["ssl"].ratio == 1.0
    assert result.missing == {"other": "not installed"}
    assert result.verdict() == "kept"


@pytest.mark.parametrize(
    ("ours", "verdict"), [(180, "record"), (140, "kept"), (139, "within noise"), (120, "within noise"), (118, "below")]
)
def test_verdict_of_a_speed(ours: float, verdict: str) -> None:
    assert run(replace(SPEED, open=giving(ours))).verdict() == verdict


@pytest.mark.parametrize(
    ("ours", "verdict"), [(40, "record"), (50, "kept"), (51, "within noise"), (57, "within noise"), (58, "below")]
)
def test_verdict_of_a_cost(ours: float, verdict: str) -> None:
    cost = replace(SPEED, better="lower", unit="KiB", floor=0.5, record=0.4, open=giving(ours))
    assert run(cost).verdict() == verdict


def test_verdict_of_a_difference() -> None:
    ttfb = replace(SPEED, better="lower", against="difference", floor=-1.0, record=None)
    assert run(replace(ttfb, open=giving(2.0, 3.0))).verdict() == "kept"
    assert run(replace(ttfb, open=giving(2.1, 3.0))).verdict() == "within noise"
    assert run(replace(ttfb, open=giving(2.2, 3.0))).verdict() == "below"


def test_record_asks_for_others_too() -> None:
    beside = replace(SPEED, beside={"other": 1.0})
    assert run(replace(beside, open=giving(180, other=170))).verdict() == "record"
    ahead = run(replace(beside, open=giving(180, other=190)))
    assert (ahead.verdict(), ahead.behind()) == ("kept", ["other"])
    assert run(replace(beside, open=giving(180))).verdict() == "kept"


def test_ours_missing_is_no_pass() -> None:
    result = run(replace(SPEED, open=opened(lambda: {"ssl": lambda: 1.0, "pellucid": "cannot"})))
    assert result.verdict() == "not measured"


def test_a_floor_may_differ_by_python() -> None:
    floors = {"3.11": 2.2, "3.13": 2.8}
    assert [limit(floors, python) for python in ("3.10", "3.11", "3.12.4", "3.13.0", "3.14")] == [
        2.2,
        2.2,
        2.2,
        2.8,
        2.8,
    ]


def test_peers_take_turns() -> None:
    order: list[str] = []
    found = interleave({name: lambda name=name: order.append(name) or 1.0 for name in "abc"}, 6, {})
    assert all(len(samples) == 6 for samples in found.values())
    turns = [tuple(order[i : i + 3]) for i in range(3, len(order), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert {turn[0] for turn in turns} == {"a", "b", "c"}


def test_what_is_below_its_floor_is_measured_again() -> None:
    numbers = iter([0.0] + [100.0] * 5 + [0.0] + [160.0] * 6)
    result = run(replace(SPEED, open=opened(lambda: {"ssl": lambda: 100.0, "pellucid": lambda: next(numbers)})))
    assert result.ratio == pytest.approx(1.3)
    assert result.verdict() == "within noise"


def test_parts_are_told_apart() -> None:
    peers = {"ssl": lambda: Sample(1.0, {"client": 3.0}), "pellucid": lambda: Sample(2.0, {"client": 1.0})}
    result = run(replace(SPEED, open=opened(lambda: peers)))
    assert result.figures["pellucid"].parts == {"client": 1.0}
    assert result.as_json()["peers"]["ssl"]["parts"] == {"client": 3.0}


def test_per_second_counts_work_and_time() -> None:
    clock = iter([1.0, 3.0])
    done: list[int] = []
    one_round = per_second(lambda: done.append(1), 10, amount=2.0, clock=lambda: next(clock))
    assert one_round() == 10.0
    assert len(done) == 10


def test_what_raises_is_told_and_ends_nothing() -> None:
    def wrong() -> float:
        raise RuntimeError("a message came in pieces")

    other = run(replace(SPEED, open=opened(lambda: {"ssl": lambda: 100.0, "pellucid": lambda: 150.0, "x": wrong})))
    assert (other.verdict(), other.missing) == ("kept", {"x": "failed: RuntimeError: a message came in pieces"})
    ours = run(replace(SPEED, floor=None, open=opened(lambda: {"ssl": lambda: 100.0, "pellucid": wrong})))
    assert ours.verdict() == "not measured"
    base = run(replace(SPEED, open=opened(lambda: {"ssl": wrong, "pellucid": lambda: 150.0})))
    assert base.verdict() == "not measured"


def test_a_measure_that_cannot_be_opened_is_not_measured() -> None:
    def broken() -> dict[str, object]:
        raise OSError("no port")

    result = run(replace(SPEED, floor=None, open=opened(broken)))
    assert result.verdict() == "not measured"
    assert result.missing == {"pellucid": "failed: OSError: no port"}
