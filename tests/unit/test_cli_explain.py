"""`pellucid explain`: one code, all codes, and what is no code."""

from __future__ import annotations

import json

import pytest

from pellucid.cli.main import main
from pellucid.explain import CODES


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["explain", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_code_is_told_at_length_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "X509-EXPIRED")
    one = CODES["X509-EXPIRED"]
    assert (status, err) == (0, "")
    assert out.startswith(f"X509-EXPIRED: {one.title}\n")
    words = " ".join(out.split())
    assert " ".join(one.explanation.split()) in words
    assert " ".join(one.example.split()) in words
    assert all(remedy in words for remedy in one.remedy)
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("written", ["x509-expired", "X509_EXPIRED", "x509 expired", "X509-Expired"])
def test_code_may_be_written_in_any_case(capsys: pytest.CaptureFixture[str], written: str) -> None:
    assert run(capsys, written)[1].startswith("X509-EXPIRED: ")


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(CODES)


def test_what_is_no_code_is_refused_with_those_that_are_near(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "x509-expried")
    assert (status, out) == (2, "")
    assert "hint: did you mean X509-EXPIRED?" in err
    status, _, err = run(capsys, "nonsense\x1b[2J")
    assert status == 2 and "did you mean" not in err and "\x1b" not in err


def test_json_has_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads(run(capsys, "TCP-REFUSED", "--json")[1])
    assert one["schema"] == 1 and one["code"] == "TCP-REFUSED" and one["remedy"]
    assert len(json.loads(run(capsys, "--json")[1])["codes"]) == len(CODES)
