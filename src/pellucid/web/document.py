"""The page as JSON, for programs: the same facts in the same order."""

from __future__ import annotations

from typing import Final

from pellucid.explain.fields import message_fields
from pellucid.explain.recorder import Recorded
from pellucid.explain.reveal import Shown
from pellucid.explain.sentences import describe
from pellucid.explain.snippets import bounded
from pellucid.explain.tree import key_schedule
from pellucid.registry import exchange_name, handshake_type_name, suite_name
from pellucid.trace import ChoiceMade, Direction, HandshakeCompleted, MessageTraced, RecordTraced, Role
from pellucid.web.appraisal import Appraisal, appraise
from pellucid.web.lanes import recorder_role
from pellucid.web.machine import taken
from pellucid.web.offer import offer_of
from pellucid.web.view import Exchange, View

__all__ = ["SCHEMA", "document"]

SCHEMA: Final = 1
"""The number of the JSON's shape: it grows when a program that reads it would have to change."""

_MAX_STEPS: Final = 2000
_MAX_BYTES: Final = 131_072
"""bytes of messages, in all; of what comes after them the size alone is told"""


def document(view: View) -> dict[str, object]:
    """Return the connection as values that JSON has. Secrets stand in it only if the view reveals them."""
    events = view.recorder.events
    role = recorder_role(view.recorder.recorded)
    offer = offer_of(events)
    root = key_schedule(bounded(events))
    steps = [one for one in view.recorder.recorded if not isinstance(one.event, RecordTraced)]
    return {
        "schema": SCHEMA,
        "recorded_by": role.value,
        "secrets_revealed": view.reveal,
        "connection": _connection(view.recorder.first(HandshakeCompleted)),
        "http": None if view.exchange is None else _exchange(view.exchange),
        "steps": _steps(steps[:_MAX_STEPS], role),
        "steps_left_out": max(0, len(steps) - _MAX_STEPS) + view.recorder.dropped,
        "records": _records(view.recorder.of(RecordTraced), role),
        "offer": None if offer is None else offer.to_dict(),
        "choices": [
            {"what": made.what, "chosen": made.chosen, "reason": made.reason}
            for made in view.recorder.of(ChoiceMade)[:_MAX_STEPS]
        ],
        "verifications": _verifications(appraise(events, role, now=view.now)),
        "key_schedule": None if root is None else root.to_dict(Shown(view.reveal)),
        "states": {
            one.value: [list(hop) for hop in taken(events, one, recorder=role)] for one in (Role.CLIENT, Role.SERVER)
        },
        "links": [{"label": link.label, "url": link.url} for link in view.links],
    }


def _connection(completed: HandshakeCompleted | None) -> dict[str, object] | None:
    if completed is None:
        return None
    return {
        "version": "TLS 1.3",
        "cipher_suite": suite_name(completed.cipher_suite),
        "group": exchange_name(completed.group),
        "alpn": completed.alpn,
        "server_name": completed.server_name,
        "client_random": completed.client_random.hex(),
        "resumed": completed.resumed,
        "authenticated_at": completed.authenticated_at,
    }


def _exchange(exchange: Exchange) -> dict[str, object]:
    return {
        "protocol": exchange.protocol,
        "request": exchange.request,
        "request_headers": [list(header) for header in exchange.request_headers],
        "response": exchange.response,
        "response_headers": [list(header) for header in exchange.response_headers],
    }


def _steps(recorded: list[Recorded], role: Role) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = []
    left = _MAX_BYTES
    for seconds, event in recorded:
        step: dict[str, object] = {"seconds": round(seconds, 6), "event": type(event).__name__}
        step["sentence"] = describe(event)
        if isinstance(event, MessageTraced):
            sender = role if event.direction is Direction.SENT else role.peer
            step["message"] = handshake_type_name(event.message_type)
            step["from"] = sender.value
            step["epoch"] = event.epoch.name.lower()
            step["size"] = len(event.raw)
            step["fields"] = {field.name: field.value for field in message_fields(event)}
            left -= len(event.raw)
            step["bytes"] = event.raw.hex() if left >= 0 else None
        steps.append(step)
    return steps


def _records(records: tuple[RecordTraced, ...], role: Role) -> list[dict[str, object]]:
    """Return how many records there were of each kind, and of how many bytes."""
    counted: dict[tuple[str, str, int], list[int]] = {}
    for record in records:
        sender = role if record.direction is Direction.SENT else role.peer
        key = (sender.value, record.epoch.name.lower(), record.content_type)
        total = counted.setdefault(key, [0, 0])
        total[0] += 1
        total[1] += record.size
    return [
        {"from": sender, "epoch": epoch, "content_type": kind, "records": count, "bytes": size}
        for (sender, epoch, kind), (count, size) in counted.items()
    ]


def _verifications(found: Appraisal) -> dict[str, object]:
    return {
        "inferred": found.inferred,
        "why_not": found.why,
        "server_name": found.named,
        "chain": list(found.chain),
        "must_trust": found.vouching,
        "report": None if found.report is None else found.report.to_dict(),
    }
