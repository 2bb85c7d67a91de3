"""`python -m bench profile`: every file of the core has its part, and all of the time is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench import profiling
from bench.compare import ROOT


def frame(name: str, function: str = "f", back: Any = None) -> Any:
    return SimpleNamespace(f_code=SimpleNamespace(co_filename=name, co_name=function), f_back=back)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("schedule.py", "key schedule, AEAD keys, hashes"),
        ("record/protect.py", "key schedule, AEAD keys, hashes"),
        ("record/reader.py", "records, connection"),
        ("handshake/client.py", "state machine, negotiation"),
        ("messages/extensions.py", "messages"),
        ("verify/verdicts.py", "verification, our part"),
        ("crypto/groups.py", "cryptography: X25519"),
    ],
)
def test_a_file_has_its_part(name: str, part: str) -> None:
    assert (ROOT / "src" / "pellucid" / name).exists()
    assert profiling.part_of(frame(f"/somewhere/pellucid/{name}")) == part


def test_what_others_do_counts_for_who_called_it() -> None:
    ask = frame("/somewhere/pellucid/verify/webpki.py", "_ask")
    assert profiling.part_of(frame("/elsewhere/extensions.py", back=frame("<frozen abc>", back=ask))) == profiling.CHAIN
    assert profiling.part_of(frame("<ClientHello>", back=ask)) == "messages"
    assert profiling.part_of(frame("/elsewhere/main.py")) == "the bench"


@pytest.mark.parametrize("kind", profiling.KINDS)
def test_all_of_the_time_is_told(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiling.main([kind, "--seconds", "0.3"]) == 0
    head, *parts = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{kind} handshake, both ends: ")
    assert 90 <= sum(int(line.split("%")[0]) for line in parts) <= 110
    assert (profiling.CHAIN in "".join(parts)) == (kind == "full")
