"""`pellucid.inspection` where something fails: a host, a mistake of ours, odd bytes. Nothing else is lost for it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import random
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.cli import inspect as command
from pellucid.cli.inspect_text import full_lines
from pellucid.cli.main import main
from pellucid.errors import DecodeError, TLSError
from pellucid.explain.recorder import Recorder
from pellucid.inspection import Examination, Settings, Target, Verdict, behaving, document
from pellucid.inspection.facts import Facts
from pellucid.inspection.probing import Prober
from pellucid.inspection.verdict import Judgement, judge
from pellucid.messages.handshake import BODIES, HEADER_LENGTH
from pellucid.trace import Direction, MessageTraced
from tests.unit.test_inspect import ANSWER, AUTHORITY, codes, examined, serving

EXAMINING: Any = importlib.import_module("pellucid.inspection.examine")  # Any: the module, not the function of its name


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("a mistake of ours"), "TLS-INTERNAL"), (DecodeError("odd"), "TLS-DECODE")]
)
def test_examine_all_loses_no_host_for_another(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = EXAMINING.judge

    def fails_for_good(facts: Facts) -> Judgement:
        if facts.failed is None:
            raise error
        return judged(facts)

    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)
    monkeypatch.setattr(EXAMINING, "judge", fails_for_good)
    with serving() as port:
        words = ["inspect", "--cacert", str(root), "localhost:1", f"localhost:{port}", "localhost:1"]
        with pytest.raises(SystemExit) as plainly:
            main(words)
        plain = capsys.readouterr().out
        with pytest.raises(SystemExit) as as_json:
            main([*words, "--json"])
    assert (plainly.value.code, as_json.value.code) == (1, 1)
    assert plain.count("(TCP-REFUSED)") == 2
    assert ("internal error: RuntimeError: a mistake of ours" in plain) is (code == "TLS-INTERNAL")
    found = json.loads(capsys.readouterr().out)["examinations"]
    assert [one["failed"]["code"] for one in found] == ["TCP-REFUSED", code, "TCP-REFUSED"]
    assert [one["verdict"] for one in found] == ["broken"] * 3


def test_inspect_that_cannot_be_written_is_told_in_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Examination(
        target=Target.of("odd.test"), facts=Facts(connections=10**5_000), judgement=Judgement(Verdict.GOOD, ())
    )
    fine = Examination(target=Target.of("fine.test"), facts=Facts(), judgement=Judgement(Verdict.GOOD, ()))
    monkeypatch.setattr(command, "examine_all", lambda *_, **__: (one for one in (found, fine)))
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)
    for form in ("--json", "--full", "--brief"):
        with pytest.raises(SystemExit) as leaving:
            main(["inspect", "--cacert", str(root), form, "odd.test", "fine.test"])
        out = capsys.readouterr().out
        assert leaving.value.code == 1
        assert "odd.test" in out and "internal error: ValueError" in out and "fine.test" in out


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), DecodeError("odd")])
def test_inspect_what_cannot_be_read_of_the_first_connection_loses_nothing_else(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise error

    monkeypatch.setattr(EXAMINING, "chain_of", broken)
    with serving() as port:
        examination = examined(port)
    found = examination.facts
    assert found.chain is None and found.negotiated and found.groups and found.groups.accepted
    if isinstance(error, DecodeError):
        assert found.failed is None and found.afterwards and found.afterwards.code == "TLS-DECODE"
        assert codes(examination) == {"breaks-afterwards"}
    else:
        assert found.failed and found.failed.message == "chain: RuntimeError: a mistake of ours"
        assert codes(examination) == {"internal-error"}


def test_inspect_that_is_given_up_waits_for_nobody() -> None:
    with serving() as port, asking(port, connections=1) as prober:
        prober._executor.shutdown()
        answers = [prober.ask("first"), prober.ask("second")]
    assert all(one.negotiated is not None and one.error is None for one in answers)


# ---- KeyUpdate -------------------------------------------------------------------------------------------------------


def deaf(said: tuple[bytes, ...], pause: float, over: threading.Event) -> Callable[[pellucid.Stream], None]:
    """Return a handler that reads nothing, no KeyUpdate either, and says what nobody asked for."""

    def handle(stream: pellucid.Stream) -> None:
        with contextlib.suppress(OSError):
            for one in said:
                stream.sendall(one)
                over.wait(pause)
        over.wait(5)

    return handle


@pytest.mark.rfc("9846 §4.7.3", "only data sent after a KeyUpdate was read shows whether it was obeyed")
@pytest.mark.parametrize(
    ("said", "pause", "outcome"),
    [
        pytest.param((ANSWER,), 0.0, "accepted", id="at once"),
        pytest.param((b"tick",) * 100, 0.05, None, id="never quiet"),
        pytest.param((b"", b"late"), 0.5, None, id="late"),
    ],
)
def test_inspect_data_that_nobody_asked_for_shows_no_ignored_key_update(
    said: tuple[bytes, ...], pause: float, outcome: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaving, "_SILENT_SECONDS", 0.4)
    monkeypatch.setattr(behaving, "_UPDATE_SECONDS", 0.8)
    over = threading.Event()
    with serving(deaf(said, pause, over)) as port, asking(port) as prober:
        found, _ = behaving.key_update(prober, prober.ask("first", watched=True))
        over.set()
    assert found.outcome == outcome, found
    assert outcome or "without being asked" in found.detail


def test_inspect_answer_with_the_old_key_is_an_ignored_key_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaving, "_SILENT_SECONDS", 0.3)
    over = threading.Event()

    def old_key(stream: pellucid.Stream) -> None:
        if select.select([stream], [], [], 5)[0]:  # a KeyUpdate, which it does not read, and a request
            with contextlib.suppress(OSError):
                stream.sendall(ANSWER)
            over.wait(5)

    with serving(old_key) as port, asking(port) as prober:
        found, _ = behaving.key_update(prober, prober.ask("first", watched=True))
        over.set()
    assert found.outcome == "ignored"


@contextlib.contextmanager
def asking(port: int, **settings: Any) -> Iterator[Prober]:
    target = Target.of("localhost", port, resolve={"localhost": "127.0.0.1"})
    with ThreadPoolExecutor(2) as executor:
        yield Prober(target, Settings(trust=AUTHORITY.trust, max_seconds=10, **settings), executor)


# ---- odd bytes -------------------------------------------------------------------------------------------------------


def test_inspect_reads_any_message_that_a_server_can_send() -> None:
    with (
        serving(
            alpn=("h2",),
            max_early_data=1_000,
            cookie_key=bytes(32),
            groups=(0x17,),
            client_authentication=pellucid.ClientAuthentication.OPTIONAL,
            client_trust=AUTHORITY.trust,
        ) as port,
        asking(port) as prober,
    ):
        first = EXAMINING._first(prober, EXAMINING.resuming.Kept())
    assert first.recorder is not None and first.negotiated is not None
    theirs = [event for event in first.recorder.of(MessageTraced) if event.direction is Direction.RECEIVED]
    assert len({event.message_type for event in theirs}) >= 8
    chance = random.Random(4)
    changed = 0
    for _ in range(150):
        recorder = Recorder()
        for event in first.recorder.events:
            recorder(_odd(event, chance) if event in theirs and chance.random() < 0.5 else event)
        changed += recorder.events != first.recorder.events
        odd = dataclasses.replace(first, recorder=recorder)
        facts = EXAMINING._of_first(prober, odd)
        assert facts.failed is None and facts.afterwards is None, facts
        facts = dataclasses.replace(facts, early_data=EXAMINING.resuming.early_data(prober, odd))
        examination = Examination(target=prober.target, facts=facts, judgement=judge(facts))
        assert json.dumps(document([examination])) and list(full_lines(examination, 80))
    assert changed > 50


def _odd(event: MessageTraced, chance: random.Random) -> MessageTraced:
    """Return the message with some of its bytes changed and some of its extensions longer, if it can be read then."""
    body: Any = event.body
    if extensions := getattr(body, "extensions", ()):
        at = chance.randrange(len(extensions))
        longer = extensions[at]._replace(extension_data=chance.randbytes(chance.choice((0, 1, 2, 3, 5, 2_000))))
        return dataclasses.replace(
            event, body=dataclasses.replace(body, extensions=(*extensions[:at], longer, *extensions[at + 1 :]))
        )
    raw = bytearray(event.raw)
    for _ in range(chance.randrange(1, 4)):
        raw[chance.randrange(HEADER_LENGTH, len(raw))] = chance.randrange(256)
    with contextlib.suppress(TLSError, KeyError):
        body = BODIES[event.message_type].decode(bytes(raw[HEADER_LENGTH:]))
    return dataclasses.replace(event, raw=bytes(raw), body=body)
