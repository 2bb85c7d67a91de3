"""The lanes: client on the left, server on the right, each message an arrow between them, in the order of time.

One bold sentence a step; fields, bytes and what an end worked out are behind a click.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from pellucid.explain.fields import message_fields
from pellucid.explain.recorder import Recorded
from pellucid.explain.sentences import ALERTS, MESSAGES, describe, protection, seconds, signing
from pellucid.explain.spans import message_spans, record_spans
from pellucid.explain.text import escaped
from pellucid.registry import ContentType, alert_name, handshake_type_name
from pellucid.trace import (
    AlertTraced,
    CertificateDecompressed,
    ChoiceMade,
    ClosedTraced,
    Direction,
    EarlyDataTraced,
    Epoch,
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    Role,
    SecretDerived,
    SharedSecretComputed,
    SignatureTraced,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TcpPacket,
    TraceEvent,
    VerificationTraced,
)
from pellucid.verify.report import VerificationReport
from pellucid.web.html import Child, Markup, h
from pellucid.web.octets import MAX_BYTES, Budget, octets
from pellucid.web.view import Exchange

__all__ = [
    "MAX_ROWS",
    "Numbered",
    "Seen",
    "exchange_rows",
    "not_kept",
    "record_row",
    "recorder_role",
    "rows",
    "unseen_packets",
]

MAX_ROWS: Final = 250
"""So many rows stand in one list: a peer decides how many messages it sends."""
_MAX_NOTES: Final = 60


class Numbered(NamedTuple):
    """An event with its place in the recording. number: from 0."""

    number: int
    seconds: float
    event: TraceEvent


Seen = set[tuple[Epoch, Direction | None]]
"""Changes of keys that were told of; None: of both directions at once."""


def recorder_role(recorded: Iterable[Recorded]) -> Role:
    """Return whose trace it is; the server's if it does not say."""
    for _seconds, event in recorded:
        if isinstance(event, SignatureTraced):
            continue
        if (role := getattr(event, "role", None)) is not None and isinstance(role, Role):
            return role
        if isinstance(event, MessageTraced) and event.message_type == 1:
            return Role.CLIENT if event.direction is Direction.SENT else Role.SERVER
    return Role.SERVER


def rows(events: Sequence[Numbered], role: Role, budget: Budget, seen: Seen) -> list[Markup]:
    """Return the rows of *events*, MAX_ROWS at most.

    role: whose trace it is.   seen: the changes of keys that were told of; those told of here are added.
    """
    drawn: list[Markup] = []
    left_out = 0
    told = (one for one in events if type(one.event) in _THEMES)
    for theme, group in groupby(told, key=lambda one: _THEMES[type(one.event)]):
        several = list(group)
        for some in [several] if theme in {"choices", "secrets"} else [[one] for one in several]:
            if len(drawn) >= MAX_ROWS:
                left_out += len(some)
            elif (row := _row(theme, some, role, budget, seen)) is not None:
                drawn.append(row)
    if left_out:
        drawn.append(h("li", {"class": "work"}, h("p", h("strong", f"And {left_out} more events, not drawn here."))))
    return drawn


_THEMES: Final[dict[type[TraceEvent], str]] = {
    TcpConnecting: "note",
    TcpConnectFailed: "bad",
    TcpPacket: "packet",
    TcpConnected: "note",
    MessageTraced: "message",
    CertificateDecompressed: "note",
    ChoiceMade: "choices",
    SharedSecretComputed: "secrets",
    SecretDerived: "secrets",
    KeysInstalled: "keys",
    EarlyDataTraced: "early",
    VerificationTraced: "verdict",
    SignatureTraced: "verdict",
    HandshakeCompleted: "milestone",
    AlertTraced: "alert",
    ClosedTraced: "note",
}
"""What a row looks like. Records and changes of state have no row: they are drawn elsewhere."""


def _row(theme: str, some: list[Numbered], role: Role, budget: Budget, seen: Seen) -> Markup | None:
    _number, at, event = some[0]
    if isinstance(event, KeysInstalled):
        return _keys(event, role, seen)
    if isinstance(event, MessageTraced):
        return _message(some[0], event, role, budget)
    if isinstance(event, TcpPacket):
        return _packet(event, role)
    if isinstance(event, AlertTraced):
        name = f"Alert {alert_name(event.description)}"
        meaning = ALERTS.get(event.description, "something is wrong")
        reason = _facts([("because", escaped(event.reason))]) if event.reason else ()
        return _arrow(name, event.direction, event.epoch, role, at, story=meaning, kind="alert", inside=reason)
    if isinstance(event, EarlyDataTraced):
        story = "data of the application, before the handshake was done: it may be replayed"
        return _arrow("early data", event.direction, Epoch.EARLY, role, at, story=story, size=event.size)
    if theme in {"choices", "secrets"}:
        title = _choices(some, role) if theme == "choices" else _secrets(some, role)
        return _work(title, role, [describe(one.event) for one in some])
    bad = theme == "bad" or (theme == "verdict" and not _good(event))
    kind = "bad" if bad else {"verdict": "good", "milestone": "good milestone"}.get(theme, "")
    title = signing(event, role) if isinstance(event, SignatureTraced) else describe(event)
    return _work(title, role, (), kind=kind)


def _good(event: TraceEvent) -> bool:
    if isinstance(event, VerificationTraced):
        return isinstance(event.report, VerificationReport) and event.report.accepted
    return not isinstance(event, SignatureTraced) or event.valid


# ---- arrows ------------------------------------------------------------------------------------------------------


def _arrow(
    name: str,
    direction: Direction,
    epoch: Epoch,
    role: Role,
    at: float | None,
    *,
    story: str,
    size: int | None = None,
    kind: str = "",
    inside: Child = (),
    anchor: str | None = None,
) -> Markup:
    sender = role if direction is Direction.SENT else role.peer
    facts: list[Child] = []
    if size is not None:
        facts.append(h("span", {"class": "size"}, f"{size:,} byte{'' if size == 1 else 's'}"))
    facts.append(h("span", {"class": "chip"}, "TCP" if kind.startswith("tcp") else protection(epoch)))
    if at is not None:
        facts.append(h("span", {"class": "time"}, f"+{seconds(at)}"))
    colour = "ep-tcp" if kind.startswith("tcp") else f"ep-{epoch.name.lower()}"
    return h(
        "li",
        {"class": f"msg to-{sender.peer.value} {colour} {kind}".strip(), "id": anchor},
        h(
            "div",
            {"class": "arrow"},
            h("span", {"class": "name"}, name),
            h("span", {"class": "away"}, f" from {sender.value} to {sender.peer.value}, "),
            h("span", {"class": "shaft", "aria-hidden": "true"}),
        ),
        h("p", {"class": "about"}, facts),
        h("p", {"class": "story"}, h("strong", _sentence(story))),
        inside,
    )


def _message(one: Numbered, event: MessageTraced, role: Role, budget: Budget) -> Markup:
    name = handshake_type_name(event.message_type)
    story = MESSAGES.get(event.message_type, "a message of a type with no name here")
    fields = message_fields(event, limit=3)
    inside: list[Child] = []
    if fields:
        inside.append(_facts((field.name, field.value) for field in fields))
    if budget.messages > 0:
        size = len(event.raw)
        # Anybody may send a server as much as fits into a message; a client has chosen whom it listens to.
        asked_for = role is Role.CLIENT or event.direction is Direction.SENT or size <= MAX_BYTES
        spans = message_spans(event.raw, event.message_type) if asked_for else ()
        inside.append(
            h(
                "details",
                {"class": "bytes"},
                h("summary", f"Open {name}: {size:,} bytes" + (", field by field" if spans else "")),
                None if spans else h("p", {"class": "quiet"}, "So long a message is not explained field by field."),
                octets(event.raw, spans, name, budget),
            )
        )
    return _arrow(
        name,
        event.direction,
        event.epoch,
        role,
        one.seconds,
        story=story,
        size=len(event.raw),
        inside=inside,
        anchor=f"m{one.number}",
    )


_PACKETS: Final = {
    ("SYN",): "shall we talk? I count my bytes from here",
    ("SYN", "ACK"): "yes; and I count mine from here",
    ("ACK",): "I hear you: connected",
}


def _packet(event: TcpPacket, role: Role) -> Markup:
    name = "-".join(event.flags)
    options = [(n, v or "yes") for n, v in event.options if n not in {"no-operation", "end of options"}]
    facts = [("sequence", str(event.sequence)), ("window", str(event.window)), *options]
    return _arrow(
        name,
        event.direction,
        Epoch.INITIAL,
        role,
        event.seconds,
        story=_PACKETS.get(event.flags, f"a TCP segment with {name}"),
        size=len(event.raw) or None,
        kind="tcp",
        inside=_facts(facts, "flowing"),
    )


def unseen_packets(events: Iterable[TraceEvent], role: Role) -> list[Markup]:
    """Return the packets of a TCP handshake that must have followed the one that was kept: all were not captured."""
    events = tuple(events)
    kept = [event.flags for event in events if isinstance(event, TcpPacket)]
    if not kept or not any(isinstance(event, TcpConnected) for event in events):
        return []
    from_server = Direction.SENT if role is Role.SERVER else Direction.RECEIVED
    from_client = Direction.RECEIVED if role is Role.SERVER else Direction.SENT
    directions = {("SYN",): from_client, ("SYN", "ACK"): from_server, ("ACK",): from_client}
    return [
        _arrow(
            "-".join(flags),
            directions[flags],
            Epoch.INITIAL,
            role,
            None,
            story=f"{story} (it went by unseen: without it there would be no connection)",
            kind="tcp unseen",
        )
        for flags, story in _PACKETS.items()
        if flags not in kept
    ]


def _facts(facts: Iterable[tuple[str, str]], kind: str = "") -> Markup:
    return h(
        "dl", {"class": f"facts {kind}".strip()}, [h("div", h("dt", name), h("dd", value)) for name, value in facts]
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.?!' else '.'}"


# ---- what an end did ---------------------------------------------------------------------------------------------


def _work(title: str, role: Role, notes: Sequence[str], *, kind: str = "") -> Markup:
    shown = [h("li", note) for note in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        shown.append(h("li", f"and {len(notes) - _MAX_NOTES} more"))
    steps = f"{len(notes)} step{'' if len(notes) == 1 else 's'}"
    return h(
        "li",
        {"class": f"work at-{role.value} {kind}".strip()},
        h("p", {"class": "story"}, h("strong", title)),
        h("details", h("summary", f"Open: {steps}"), h("ul", {"class": "notes"}, shown)) if notes else None,
    )


def _keys(event: KeysInstalled, role: Role, seen: Seen) -> Markup | None:
    """Say that an end changes its keys; of the handshake's once, for both ends take them together."""
    sender = role if event.direction is Direction.SENT else role.peer
    change = (event.epoch, event.direction if event.epoch is Epoch.APPLICATION else None)
    if event.generation:
        text = f"The {sender.value} goes on with fresh keys: generation {event.generation}"
    elif change in seen:
        return None
    elif event.epoch is Epoch.APPLICATION:
        text = f"From here on the {sender.value} sends under {protection(event.epoch)}"
    elif event.epoch is Epoch.EARLY:
        text = f"Early data is under keys of its own: {protection(event.epoch)}"
    else:
        text = f"From here on: {protection(event.epoch)}"
    seen.add(change)
    return h("li", {"class": f"change ep-{event.epoch.name.lower()}"}, h("p", h("strong", text)))


_WHATS: Final = {
    "alpn": "which protocol to speak",
    "certificate_compression": "whether to compress its certificate",
    "credential": "which certificate to show",
    "early_data": "whether to take early data",
    "ocsp_response": "whether to staple an OCSP response",
    "post_handshake_auth": "whether to ask for a certificate later",
    "psk": "whether to resume",
    "retry": "to ask for another key share",
    "scts": "whether to add SCTs",
    "signature_scheme": "how to sign",
    "tickets": "how many tickets to give out",
}


def _choices(some: list[Numbered], role: Role) -> str:
    made = {one.event.what: one.event.chosen for one in some if isinstance(one.event, ChoiceMade)}
    chosen = [escaped(made[what]) for what in ("cipher_suite", "group", "alpn", "signature_scheme") if what in made]
    named = [name for name in chosen if name != "none"]
    who = f"The {role.value}"
    if "cipher_suite" in made or len(named) > 1:
        return f"{who} picks one of everything that is offered: {', '.join(named)}."
    whats = ", ".join(_WHATS.get(what) or f"on its {what.replace('_', ' ')}" for what in list(made)[:4])
    return f"{who} decides {whats}."


def _secrets(some: list[Numbered], role: Role) -> str:
    names = [one.event.name for one in some if isinstance(one.event, SecretDerived)]
    count = len(names)
    if any(isinstance(one.event, SharedSecretComputed) for one in some):
        more = f", and derives {count} secrets from it" if count else ""
        return (
            f"The {role.value} mixes its half of the key exchange with the {role.peer.value}'s{more}. "
            f"The {role.peer.value} gets the same; the secret itself never travels."
        )
    what = names[0] if count == 1 else f"{count} more secrets"
    return f"The {role.value} derives {what}."


def record_row(role: Role, records: Sequence[RecordTraced], budget: Budget, *, dropped: int = 0) -> Markup | None:
    """Return how many records of application data there were, with the first of each end as it travelled.

    dropped: how many events were not kept: then there may have been more.
    """
    told: list[str] = []
    opened: list[Markup] = []
    for direction in (Direction.RECEIVED, Direction.SENT) if role is Role.SERVER else Direction:
        some = [r for r in records if r.direction is direction and r.content_type == ContentType.APPLICATION_DATA]
        if not some:
            continue
        sender = (role if direction is Direction.SENT else role.peer).value
        many = f"{len(some)} record{'' if len(some) == 1 else 's'}"
        told.append(f"{many} of {sum(record.size for record in some):,} bytes from the {sender}")
        first = some[0]
        if first.raw and budget.messages > 0:
            name = f"the {sender}'s first record"
            drawn = octets(first.raw, record_spans(first), name, budget)
            title = f"Open {name} as it travelled: {len(first.raw):,} bytes"
            opened.append(h("details", {"class": "bytes"}, h("summary", title), drawn))
    if not told:
        return None
    so_far = "So far it took at least" if dropped else "So far it took"
    text = f"{so_far} {' and '.join(told)}. Each is sealed by itself, and tells a listener no more than its size."
    return h("li", {"class": "work"}, h("p", {"class": "story"}, h("strong", text)), opened)


def not_kept(dropped: int) -> str:
    """Return what to say of *dropped* events: a record has its bounds, and a connection has not."""
    many = "1 event" if dropped == 1 else f"{dropped:,} events, most of them records of data"
    return f"The record of this connection is full. Not told of: {many}."


# ---- the HTTP exchange ---------------------------------------------------------------------------------------------


def exchange_rows(exchange: Exchange, role: Role) -> list[Markup]:
    """Return request and response as arrows, with their headers."""
    lines: list[tuple[str, Direction, tuple[tuple[str, str], ...], str]] = []
    received, sent = (
        (Direction.RECEIVED, Direction.SENT) if role is Role.SERVER else (Direction.SENT, Direction.RECEIVED)
    )
    lines.append((exchange.request, received, exchange.request_headers, "this is what was asked for"))
    if exchange.response:
        lines.append((exchange.response, sent, exchange.response_headers, "and this is the answer: the page you read"))

    def draw(line: str, direction: Direction, headers: tuple[tuple[str, str], ...], story: str) -> Markup:
        return _arrow(
            line,
            direction,
            Epoch.APPLICATION,
            role,
            None,
            story=story,
            inside=h("details", h("summary", f"Open: {len(headers)} headers"), _facts(headers)) if headers else (),
        )

    return [draw(*line) for line in lines]
