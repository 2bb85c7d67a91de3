"""Everything that two ends say to each other: each message, and each record opened with the keys that they tell of.

The records are opened here anew, from the wire's bytes and the keys that were installed, so that what the record layer
says of itself is not what a test believes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pellucid import ClientConfig, Connection, ServerConfig
from pellucid.crypto.pyca import PYCA
from pellucid.registry import ContentType
from pellucid.trace import Direction, KeysInstalled, MessageTraced, Role, TraceEvent
from tests.support.pair import NAME, Pair, as_sent, client_config, server_config

SUITES = {suite.code: suite for suite in PYCA.suites}


class Said(NamedTuple):
    """One handshake message, by whom."""

    role: Role
    kind: int
    raw: bytes
    body: Any


class Sent(NamedTuple):
    """One record that *role* sent, opened. number: how many went before it under its key; key: the secret's name, or
    "" in the open; padding: what stands behind the content type."""

    role: Role
    key: str
    number: int
    wire: bytes
    content_type: int
    content: bytes
    padding: bytes

    @property
    def outer_type(self) -> int:
        return self.wire[0]

    @property
    def version(self) -> bytes:
        return self.wire[1:3]


class _Tapped(Connection):
    """A connection whose output is kept."""

    def data_to_send(self) -> bytes:
        data = super().data_to_send()
        self.tap.wires[self.role].append(data)
        return data

    tap: Wiretap


@dataclass(slots=True)
class Wiretap:
    """What was told by both ends' observers, and what went over the wire."""

    events: list[tuple[Role, TraceEvent]] = field(default_factory=list)
    wires: dict[Role, list[bytes]] = field(default_factory=lambda: {role: [] for role in Role})

    def said(self, role: Role | None = None) -> list[Said]:
        """The messages in the order in which they were made: of both ends, or of one."""
        return [
            Said(who, event.message_type, event.raw, event.body)
            for who, event in self.events
            if isinstance(event, MessageTraced) and event.direction is Direction.SENT and role in {None, who}
        ]

    def kinds(self, role: Role | None = None) -> list[int]:
        return [message.kind for message in self.said(role)]

    def one(self, kind: int, role: Role | None = None, *, which: int = 0) -> Any:
        """The body of the *which*-th message of *kind*."""
        return [message.body for message in self.said(role) if message.kind == kind][which]

    def keys(self, role: Role) -> list[KeysInstalled]:
        """The keys that *role* sends under, one after the other."""
        return [
            event
            for who, event in self.events
            if who is role and isinstance(event, KeysInstalled) and event.direction is Direction.SENT
        ]

    def sent(self, role: Role) -> list[Sent]:
        """The records that *role* sent. One that does not open under its key, or the next, is an AssertionError."""
        return list(self._sent(role))

    def _sent(self, role: Role) -> Iterator[Sent]:
        keys = iter(self.keys(role))
        key: KeysInstalled | None = None
        number = 0
        for wire in as_sent(b"".join(self.wires[role])):
            if wire[0] != ContentType.APPLICATION_DATA:
                yield Sent(role, "", number, wire, wire[0], wire[5:], b"")
                continue
            inner = None if key is None else _opened(key, number, wire)
            while inner is None:
                key, number = next(keys, None), 0
                assert key is not None, "a record opens under no key that is left"
                inner = _opened(key, number, wire)
            content = inner.rstrip(b"\0")
            name = "" if key is None else key.secret_name
            yield Sent(role, name, number, wire, content[-1], content[:-1], inner[len(content) :])
            number += 1


def _opened(key: KeysInstalled, number: int, wire: bytes) -> bytes | None:
    """The TLSInnerPlaintext of a record, or None if it is not the *number*-th under *key*."""
    aead = SUITES[key.cipher_suite].aead(key.key.reveal())
    nonce = (int.from_bytes(key.iv.reveal(), "big") ^ number).to_bytes(12, "big")
    try:
        return aead.decrypt(nonce, wire[5:], wire[:5])
    except PYCA.tag_error:
        return None


def tapped(
    client: ClientConfig | None = None, server: ServerConfig | None = None, name: str = NAME, **arguments: Any
) -> tuple[Pair, Wiretap]:
    """A pair that has not spoken yet, and what will be heard of it."""
    tap = Wiretap()
    ends = (
        _Tapped.client(client or client_config(), name, trace=lambda event: tap.events.append((Role.CLIENT, event))),
        _Tapped.server(server or server_config(), trace=lambda event: tap.events.append((Role.SERVER, event))),
    )
    for end in ends:
        assert isinstance(end, _Tapped)
        end.tap = tap
    return Pair(*ends, **arguments), tap


def messages_in(records: list[Sent]) -> list[tuple[str, list[bytes]]]:
    """The handshake messages of one end, as (key, those under it); a message that no record ends with is left whole
    in the last place, so that it shows."""
    found: list[tuple[str, list[bytes]]] = []
    for record in records:
        if record.content_type != ContentType.HANDSHAKE:
            continue
        if not found or found[-1][0] != record.key:
            found.append((record.key, []))
        found[-1][1].append(record.content)
    return [(key, split_messages(b"".join(pieces))) for key, pieces in found]


def split_messages(data: bytes) -> list[bytes]:
    """Cut *data* into handshake messages by their headers; the last may be short."""
    messages, at = [], 0
    while at < len(data):
        stop = at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        messages.append(data[at:stop])
        at = stop
    return messages
