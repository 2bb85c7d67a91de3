"""The trace as JSON Lines: every event, no secret unless asked for, and back again."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import UsageError
from pellucid.explain import Recorder, events_to_json, read_jsonl, write_jsonl
from pellucid.explain.jsonl import _KINDS, SCHEMA
from pellucid.explain.ladder import ladder
from pellucid.explain.text import plain
from pellucid.trace import ChoiceMade, KeysInstalled, SecretDerived, SharedSecretComputed, VerificationTraced
from tests.support.meetings import client, meet, server
from tests.support.pair import Pair, client_config, server_config

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "trace.md"


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    recorder = Recorder()
    pair = Pair.of(client_config(trace_records=True), server_config(), client_trace=recorder).connect()
    pair.send(pair.client, b"hello")
    pair.client.close()
    return recorder


def secrets(recorder: Recorder) -> set[str]:
    found = {event.secret.reveal().hex() for event in recorder.of(SecretDerived)}
    found |= {event.secret.reveal().hex() for event in recorder.of(SharedSecretComputed)}
    return found | {secret.reveal().hex() for one in recorder.of(KeysInstalled) for secret in (one.key, one.iv)}


def written(recorder: Recorder, *, reveal: bool = False) -> str:
    file = io.StringIO()
    write_jsonl(recorder, file, reveal=reveal)
    return file.getvalue()


def test_secrets_stand_in_it_only_when_they_are_asked_for(recorder: Recorder) -> None:
    hidden, shown = written(recorder), written(recorder, reveal=True)
    assert len(secrets(recorder)) > 10
    assert not any(secret in hidden for secret in secrets(recorder))
    assert all(secret in shown for secret in secrets(recorder))
    assert json.loads(hidden.splitlines()[0])["revealed"] is False


def test_file_is_read_by_its_path(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    write_jsonl(recorder, path)
    assert len(read_jsonl(path)) == len(read_jsonl(str(path))) == len(recorder)
    assert repr(recorder) == f"<Recorder: {len(recorder)} events, 0 dropped>"


def test_what_a_peer_chose_moves_no_cursor() -> None:
    evil = Recorder()
    evil(ChoiceMade(what="alpn", chosen="\x9b31m\u202e\udc80", reason="\x1b[31m"))
    lines = written(evil)
    assert all(0x20 <= ord(character) < 0x7F for character in lines.replace("\n", ""))
    assert read_jsonl(lines.splitlines()).events == evil.events


def test_head_and_events_are_a_line_each(recorder: Recorder) -> None:
    head, *events = map(json.loads, written(recorder).splitlines())
    assert head["schema"] == SCHEMA == 1
    assert head["events"] == len(events) == len(recorder)
    assert head["started_at"] == recorder.started_at
    assert [one["event"] for one in events] == [type(event).__name__ for event in recorder.events]
    assert [one["at"] for one in events] == sorted(one["at"] for one in events)
    message = next(one for one in events if one["event"] == "MessageTraced")
    assert message["message_type"] == {"code": 1, "name": "ClientHello"}
    assert {"name": "server name", "value": "pair.test"} in message["fields"]
    assert message["epoch"] == "initial"
    assert events == events_to_json(recorder, reveal=False)


def test_reference_has_every_event_and_each_of_its_keys() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z]\w+)` \| (.*?) \|", text, re.MULTILINE))
    assert set(rows) == {name for name, kind in _KINDS.items() if kind.__module__.startswith("pellucid.")}
    for name, keys in rows.items():
        fields = {field.name for field in dataclasses.fields(_KINDS[name])}
        assert set(re.findall(r"`(\w+)`", keys)) == (fields - {"body"}) | ({"fields"} if "body" in fields else set())


def test_it_can_be_read_back(recorder: Recorder) -> None:
    back = read_jsonl(written(recorder, reveal=True).splitlines())
    assert back.started_at == recorder.started_at
    for (moment, old), (again, new) in zip(recorder.recorded, back.recorded, strict=True):
        assert abs(moment - again) < 1e-6
        assert type(old) is type(new)
        if not isinstance(old, VerificationTraced):
            assert told(old) == told(new)
    draw = [[plain(line) for line in ladder(one.events, detail=3)] for one in (recorder, back)]
    assert [line for line in draw[0] if "─" in line] == [line for line in draw[1] if "─" in line]


def told(event: Any) -> dict[str, Any]:
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: value.reveal() if hasattr(value, "reveal") else value for name, value in values.items()}


def test_what_was_hidden_stays_hidden(recorder: Recorder) -> None:
    back = read_jsonl(written(recorder).splitlines())
    assert {len(secret) for secret in back.secrets.values()} == {0}
    assert written(back)


def test_resumption_with_early_data_is_written_and_read() -> None:
    ours, theirs = client(early_data=True), server(max_early_data=16_384)
    meet(ours, theirs)
    recorder = Recorder()
    meet(ours, theirs, early=b"early", server_trace=recorder)
    back = read_jsonl(written(recorder, reveal=True).splitlines())
    assert [type(event) for event in back.events] == [type(event) for event in recorder.events]


def test_file_is_private(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("something else")
    path.chmod(0o644)
    write_jsonl(recorder, path, reveal=True)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with path.open(encoding="utf-8") as file:
        assert len(read_jsonl(file)) == len(recorder)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["not json"],
        ["[]"],
        ['{"schema": 2}'],
        ['{"schema": 1}'],
        ['{"schema": 1, "started_at": 1, "dropped": 0}', '{"event": "StateChanged"}'],
        ['{"schema": 1, "started_at": 1, "dropped": 0}', "3"],
        ['{"schema": 1, "started_at": 1, "dropped": 0}', '{"event": "RecordTraced", "at": 0, "raw": "zz"}'],
    ],
)
def test_anything_else_is_refused(lines: list[str]) -> None:
    with pytest.raises(UsageError, match="not a trace of schema 1"):
        read_jsonl(lines)


def test_events_of_a_later_version_are_left_out() -> None:
    lines = ['{"schema": 1, "started_at": 1, "dropped": 2}', '{"event": "Unheard", "at": 0.5, "x": 1}']
    assert read_jsonl(lines).dropped == 2
