"""The trace as JSON, for programs: one object an event, secrets hidden unless they are asked for.

docs/reference/trace.md is the format.
Whatever an event knows stands under the name that it has in `pellucid.trace`. Names and meanings are those of schema 1:
within it things may be added, and nothing is renamed or taken away.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO

from pellucid._version import __version__
from pellucid.errors import PeerError, UsageError
from pellucid.explain.fields import message_fields
from pellucid.explain.private import open_private
from pellucid.explain.recorder import Recorded, Recorder
from pellucid.explain.reveal import Shown
from pellucid.explain.sentences import describe
from pellucid.messages.handshake import BODIES, HEADER_LENGTH
from pellucid.registry import (
    alert_name,
    compression_name,
    content_type_name,
    group_name,
    handshake_type_name,
    scheme_name,
    suite_name,
)
from pellucid.trace import (
    CertificateDecompressed,
    ChoiceMade,
    Direction,
    Epoch,
    MessageTraced,
    Role,
    Secret,
    TcpInfo,
    TraceEvent,
)
from pellucid.verify.report import VerificationReport

__all__ = ["SCHEMA", "events_to_json", "read_jsonl", "write_jsonl"]

SCHEMA: Final = 1

_NAMES: Final[dict[str, Callable[[int], str]]] = {
    "algorithm": compression_name,
    "cipher_suite": suite_name,
    "content_type": content_type_name,
    "description": alert_name,
    "group": group_name,
    "message_type": handshake_type_name,
    "scheme": scheme_name,
}
"""field → what its code points are called: they are told as {"code": 29, "name": "x25519"}"""


def events_to_json(recorded: Recorder | Iterable[Recorded], *, reveal: bool) -> list[dict[str, Any]]:
    """Return the events in order, as what `json.dumps` takes. reveal: whether secrets stand in them."""
    events = recorded.recorded if isinstance(recorded, Recorder) else recorded
    shown = Shown(reveal)
    return [_event(seconds, event, shown) for seconds, event in events]


def write_jsonl(recorded: Recorder, file: str | os.PathLike[str] | TextIO, *, reveal: bool = False) -> None:
    """Write the head and then each event, a line each.

    file:   a path, made with mode 0600, what was there is overwritten; or an open text file.
    reveal: whether secrets are written too. Whoever reads them reads the connection.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, "w", encoding="utf-8", opener=open_private) as opened:
            write_jsonl(recorded, opened, reveal=reveal)
        return
    head = {
        "schema": SCHEMA,
        "program": f"pellucid {__version__}",
        "started_at": recorded.started_at,
        "events": len(recorded),
        "dropped": recorded.dropped,
        "revealed": reveal,
    }
    for told in (head, *events_to_json(recorded, reveal=reveal)):
        # Names that a peer chose stand in it, and somebody may look at it on a terminal: no byte of it moves a cursor.
        file.write(json.dumps(told, ensure_ascii=True) + "\n")


def read_jsonl(file: str | os.PathLike[str] | Iterable[str]) -> Recorder:
    """Return what `write_jsonl` wrote, as a recorder. Raises UsageError for anything else.

    file: a path, or the lines themselves, such as an open text file has.

    Secrets that were hidden are empty, a report on certificates is its dictionary; events of a later version are
    left out.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, encoding="utf-8") as opened:
            return read_jsonl(opened)
    try:
        told = [json.loads(line) for line in file if line.strip()]
        if not told or told[0]["schema"] != SCHEMA:
            raise UsageError(f"not a trace of schema {SCHEMA}")
        started = float(told[0]["started_at"])
        recorder = Recorder(limit=max(1, len(told)), record_bytes=2**62, message_bytes=2**62, wall=lambda: started)
        recorder.dropped = int(told[0]["dropped"])
        recorder._recorded.extend(_read(one) for one in told[1:] if one["event"] in _KINDS)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UsageError(f"not a trace of schema {SCHEMA}: {type(error).__name__}: {error}") from error
    return recorder


# ---- there ---------------------------------------------------------------------------------------------------------


def _event(seconds: float, event: TraceEvent, shown: Shown) -> dict[str, Any]:
    told: dict[str, Any] = {"at": round(seconds, 9), "event": type(event).__name__, "sentence": describe(event)}
    for field in dataclasses.fields(event):
        if field.name == "body":
            continue
        value = getattr(event, field.name)
        name = _NAMES.get(field.name)
        if name is not None and isinstance(value, int):
            told[field.name] = {"code": value, "name": name(value)}
        else:
            told[field.name] = _value(value, shown)
    if isinstance(event, MessageTraced | CertificateDecompressed):
        told["fields"] = [{"name": one.name, "value": one.value} for one in message_fields(event)]
    return told


def _value(value: Any, shown: Shown) -> Any:
    match value:
        case Secret():
            return shown.to_dict(value)
        case bytes():
            return value.hex()
        case Epoch():
            return value.name.lower()
        case enum.Enum():
            return value.value
        case VerificationReport():
            return value.to_dict()
        case tuple() | list():
            return [_value(one, shown) for one in value]
        case dict() | str() | int() | float() | None:
            return value
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _value(getattr(value, field.name), shown) for field in dataclasses.fields(value)}
        case _:  # what a verifier of somebody's own reports
            return repr(value)


# ---- and back ------------------------------------------------------------------------------------------------------


def _kinds(kind: type[TraceEvent] = TraceEvent) -> Iterator[type[TraceEvent]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


_KINDS: Final = {kind.__name__: kind for kind in _kinds()}
_BYTES: Final = frozenset({"raw", "context", "client_random", "local_public", "peer_public"})
_SECRETS: Final = frozenset({"secret", "key", "iv", "value"})


def _read(told: dict[str, Any]) -> Recorded:
    kind = _KINDS[told["event"]]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == "body":
            values["body"] = _body(kind, told)
        elif field.name in told:
            values[field.name] = _back(kind, field.name, told[field.name])
    return Recorded(float(told["at"]), kind(**values))


def _back(kind: type[TraceEvent], name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _NAMES:
        return int(value["code"])
    if name in _BYTES:
        return bytes.fromhex(value)
    if name in _SECRETS:
        return Secret(bytes.fromhex(value.get("value", "")))
    if name == "epoch":
        return Epoch[value.upper()]
    if name == "direction":
        return Direction(value)
    if name in {"role", "signer"}:
        return Role(value)
    if name == "info":
        return TcpInfo(**value)
    if name in {"options", "unavailable"}:
        return tuple((str(one), str(other)) for one, other in value)
    if (kind is ChoiceMade and name in {"local", "peer"}) or name == "flags":
        return tuple(map(str, value))
    return value


def _body(kind: type[TraceEvent], told: dict[str, Any]) -> object:
    """Return the message decoded again; None for one that cannot be, and for what was compressed."""
    body = BODIES.get(told["message_type"]["code"]) if kind is MessageTraced else None
    if body is None:
        return None
    try:
        return body.decode(bytes.fromhex(told["raw"])[HEADER_LENGTH:])
    except PeerError:
        return None
