"""The shim without its runner: what `make test` can hold of it."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid
from pellucid.errors import AlertReceived, DecodeError, PeerError, TLSError, UnexpectedMessage
from tests.conformance import flags, run
from tests.conformance.errors import TABLE, Row, name_of
from tests.conformance.shim import UNIMPLEMENTED, main

HERE = Path(__file__).parent
SOURCE = "".join(path.read_text() for path in sorted(Path(pellucid.__file__).parent.rglob("*.py")))
CONFIG = json.loads(run.CONFIG.read_text())


# ---- the error table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.name}-{row.error.__name__}-{row.section}")
def test_row_names_an_error_that_there_is(row: Row) -> None:
    assert issubclass(row.error, TLSError)
    assert row.name == row.name.upper() and " " not in row.name
    assert f'"{row.section}"' in SOURCE or not row.section
    assert row.words.lower() in SOURCE.lower()  # registered names are made from identifiers


def test_every_row_is_reached() -> None:
    """No row stands behind one that takes everything of its kind."""
    for number, row in enumerate(TABLE):
        for earlier in TABLE[:number]:
            covers = earlier.section in {"", row.section} and earlier.words in row.words
            assert earlier.error is not row.error or not covers, (earlier, row)


def test_errors_have_the_names_of_the_first_row_that_fits() -> None:
    assert name_of(DecodeError("an alert record of 1 bytes, not 2", rfc="9846 §5.1")) == ":BAD_ALERT:"
    assert name_of(DecodeError("something else", rfc="9846 §9")) == ":DECODE_ERROR:"
    assert name_of(UnexpectedMessage("more than 2 change_cipher_spec", rfc="9846 §5")) == ":TOO_MANY_EMPTY_FRAGMENTS:"
    assert name_of(AlertReceived(22)) == ":TLSV1_ALERT_RECORD_OVERFLOW:"
    assert name_of(PeerError("new")) == ":PeerError:"


# ---- the configuration -----------------------------------------------------------------------------------------------


def test_every_disabled_test_is_in_scope_and_has_its_reason() -> None:
    names = run.in_scope()
    for pattern, reason in CONFIG["DisabledTests"].items():
        assert len(reason) > 20, pattern
        assert fnmatch.filter(names, pattern), pattern


def test_error_map_is_short() -> None:
    assert len(CONFIG["ErrorMap"]) <= 10
    known = {f":{row.name}:" for row in TABLE} | {":SSLV3_ALERT_HANDSHAKE_FAILURE:"}
    assert {name for names in CONFIG["ErrorMap"].values() for name in names} <= known


def test_outcomes_are_counted_by_group() -> None:
    lines = run.table({"a": "one", "b": "one", "c": "two"}, {"a": "PASS", "b": "FAIL", "c": "disabled"})
    assert [line.split() for line in lines[1:]] == [
        ["one", "1", "1", "0", "0"],
        ["two", "0", "0", "0", "1"],
        ["in", "all", "1", "1", "0", "1"],
    ]


# ---- flags -----------------------------------------------------------------------------------------------------------


def test_flags_reach_the_phases_they_are_for() -> None:
    phases = flags.parse(
        ["-port", "7", "-on-resume-curves", "29", "-curves", "23", "-on-retry-host-name", "x", "-reverify-on-resume"]
    )
    assert [f.port for f in (phases.initial, phases.resume, phases.retry)] == [7, 7, 7]
    assert (phases.initial.curves, phases.resume.curves, phases.retry.curves) == ([23], [29, 23], [23])
    assert (phases.initial.host_name, phases.retry.host_name) == ("", "x")
    assert phases.initial.reverify_on_resume


def test_credential_flags_are_of_the_credential_begun_last() -> None:
    parsed = flags.parse(
        ["-cert-file", "a", "-new-x509-credential", "-cert-file", "b", "-signing-prefs", "1027"]
    ).initial
    assert parsed.default_credential.cert_file == "a"
    assert [(c.kind, c.cert_file, c.signing_prefs) for c in parsed.credentials] == [("x509", "b", [1027])]


# ---- the shim itself -------------------------------------------------------------------------------------------------


def test_shim_has_no_handshaker(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-is-handshaker-supported"]) == 0
    assert capfd.readouterr() == ("No\n", "")


def test_shim_answers_89_to_a_flag_it_does_not_know(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-port", "1", "-dtls"]) == UNIMPLEMENTED
    assert capfd.readouterr().err == ""


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "warm"
    with subprocess.Popen([sys.executable, "-m", "tests.conformance.warm", str(path)]) as server:
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            yield path
        finally:
            server.kill()


def test_warm_shim_answers_through_the_launcher(warm: Path) -> None:
    command = [sys.executable, "-I", "-S", str(HERE / "launcher.py"), str(warm)]
    for arguments, code, output in (
        (["-is-handshaker-supported"], 0, "No\n"),
        (["-nothing-like-it"], UNIMPLEMENTED, "unknown flag: nothing_like_it\n"),
        (["-port", "1", "-shim-id", "1"], 1, ""),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout, bool(done.stderr)) == (code, output, code == 1)
