"""The short form of `python -m tests.operations.renewals`, for every run of the tests."""

from __future__ import annotations

import pytest

from tests.operations.renewals import Outcome, main, renew


def test_certificate_is_renewed_under_load_and_no_handshake_fails() -> None:
    outcome = renew(6, rate=25.0, seconds=4.0)
    assert not outcome.failures
    assert (outcome.failed, outcome.dropped) == (0, 0)
    assert outcome.last_serial_seen
    assert outcome.serials_seen >= 3  # a machine that is busy with other tests may pass over some of them
    assert outcome.connections > 20


def test_outcome_with_a_failure_a_drop_or_a_certificate_never_seen_has_not_passed() -> None:
    good = {
        "renewals": 2,
        "asked_rate": 1.0,
        "connections": 9,
        "serials_seen": 3,
        "last_serial_seen": True,
        "rate": 1.0,
    }
    assert Outcome(**good).passed  # type: ignore[arg-type]
    for bad in (
        {"failed": 1},
        {"dropped": 1},
        {"serials_seen": 2},
        {"last_serial_seen": False},
        {"connections": 0},
        {"rate": 0.5},
    ):
        assert not Outcome(**(good | bad)).passed  # type: ignore[arg-type]


def test_command_line_names_what_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["renewals", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "--renewals" in capsys.readouterr().out
