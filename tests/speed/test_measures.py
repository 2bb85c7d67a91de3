"""The measures: named once, those of the issue with their floors, and each cost gives numbers."""

from __future__ import annotations

import itertools
import sys

import pytest

from bench import __main__ as main
from bench import bulk, costs, handshakes, primitives
from bench.harness import Scale, limit, run

GOALS = {
    handshakes.FULL: (1.4, 1.8),
    handshakes.CACHED: (2.2, 2.8),
    handshakes.KEM: (0.9, 1.1),
    handshakes.RESUMED: (1.6, 2.0),
    bulk.bulk_name("AES-128-GCM", "1 MiB"): (1.9, 2.2),
    bulk.PING_PONG: (0.85, 1.0),
    bulk.bulk_name("ChaCha20-Poly1305", "1 MiB"): (0.95, 1.0),
}


@pytest.mark.parametrize("full", [False, True])
def test_every_measure_is_named_once_and_groups_stay_together(full: bool) -> None:
    found = list(main.measures(Scale(full=full)))
    names = [measure.name for measure in found]
    assert len(set(names)) == len(names)
    groups = [group for group, _ in itertools.groupby(measure.group for measure in found)]
    assert len(set(groups)) == len(groups)


def test_what_is_aimed_at_is_in_the_short_run() -> None:
    found = {measure.name: (limit(measure.floor), limit(measure.record)) for measure in main.measures(Scale())}
    assert {name: found[name] for name in GOALS} == GOALS


def test_only_selects_by_group_and_name() -> None:
    assert [measure.name for measure in main.measures(Scale(), "Ping-Pong, 100 bytes")][:1] == [bulk.PING_PONG]
    assert {measure.group for measure in main.measures(Scale(full=True), "cost of a chain")} == {"cost of a chain"}


@pytest.mark.parametrize(
    "name",
    [
        "server's flight, 100 unknown extensions of 0 bytes",
        "server's flight, 1 unknown extensions of 16384 bytes",
        "ping-pong, each of 100 connections in turn",
        "full handshake, 10 roots, configuration made for it",
        "full handshake, chain of 3 certificates",
    ],
)
def test_a_cost_gives_numbers(name: str) -> None:
    scale = Scale(full=True, peers=("ssl", "pellucid"))
    measure = next(measure for measure in costs.measures(scale) if measure.name == name)
    result = run(measure, 1)
    assert set(result.figures) == {"ssl", "pellucid"}
    assert not result.missing
    assert result.ratio is not None and result.ratio > 0.05


def test_the_primitives_give_floors_and_ceilings() -> None:
    report = primitives.measure(rounds=1)
    assert set(report["floors"]) == set(primitives.SUMS)
    assert all(microseconds > 0 for microseconds in report["primitives"].values())
    assert report["ceilings"]["resumed handshake"] > 1


def test_a_measure_that_is_not_there_passes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "nosuchmeasure"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "no measure has 'nosuchmeasure' in its group or name: see --list --full" in capsys.readouterr().err
