"""A connection that breaks the rules on purpose: our own, bent at its seams.

It is no second stack. It follows the rules with the real handshake code until it is told otherwise, so that what it
sends is under the right keys and, where a message is edited, over the right transcript. Nothing that is not under
`pellucid.testing` imports it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pellucid.config import ClientConfig, ServerConfig
from pellucid.connection import Connection
from pellucid.errors import TLSError, UsageError
from pellucid.handshake.actions import Action, SendMessage
from pellucid.limits import RECORD_HEADER
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, Extension, handshake_message, message_type
from pellucid.record.protect import Keys
from pellucid.registry import ContentType
from pellucid.trace import Direction, Epoch, MessageTraced, Observer, RecordTraced, TraceEvent
from pellucid.transcript import Transcript

__all__ = [
    "BentConnection",
    "Edit",
    "Rewrite",
    "Step",
    "after_message",
    "before_message",
    "changing_body",
    "changing_extensions",
    "message",
    "replacing",
    "without",
]

Edit = Callable[[int, bytes], bytes]
"""(message type, message with header) → the bytes that take its place: none, another message, several."""
Step = Callable[["BentConnection"], Any]
"""something that the peer does between its messages; what it returns is dropped"""
Rewrite = Callable[["BentConnection", list[Action]], Iterable["Action | Step"]]
"""what a handler wants done → what is done instead, in order"""


class _EditedTranscript(Transcript):
    """Hashes what the peer sends, not what its handshake code believes it sends."""

    def __init__(self, peer: BentConnection) -> None:
        super().__init__()
        self._peer = peer

    def add(self, raw: bytes) -> None:
        if raw is not self._peer.received:
            raw = self._peer.edited(raw)
        if raw:
            super().add(raw)


class BentConnection(Connection):
    """One end that cheats. Make it with `bent_client` or `bent_server`.

    edit:     each of its handshake messages, before it is hashed and sent; asked once a message.
    rewrite:  the list of things to do that a handler returned; a callable in it is called with the connection.
    received: the message of the peer's that came last, with its header.
    sent:     what it sent, edited, in order.
    """

    edit: Edit | None
    rewrite: Rewrite | None
    received: bytes
    sent: list[bytes]

    @classmethod
    def bent_client(
        cls,
        config: ClientConfig,
        server_name: str,
        *,
        port: int = 0,
        edit: Edit | None = None,
        rewrite: Rewrite | None = None,
        trace: Observer | None = None,
    ) -> BentConnection:
        """Return the client's end; arguments as `Connection.client` has them."""
        return _bent(cls.client(config, server_name, port=port, trace=trace), edit, rewrite)

    @classmethod
    def bent_server(
        cls,
        config: ServerConfig,
        *,
        peer_address: str = "",
        edit: Edit | None = None,
        rewrite: Rewrite | None = None,
        trace: Observer | None = None,
    ) -> BentConnection:
        """Return the server's end; arguments as `Connection.server` has them."""
        return _bent(cls.server(config, peer_address=peer_address, trace=trace), edit, rewrite)

    def edited(self, raw: bytes) -> bytes:
        """Return what takes the place of *raw*: the same whenever it is asked."""
        if self.edit is None:
            return raw
        if raw not in self._edits:
            self._edits[raw] = self.edit(message_type(raw), raw)
        return self._edits[raw]

    # ---- what no honest peer can say ----

    def record(self, content_type: int, content: bytes) -> None:
        """Send one record under the present keys, whatever is in it."""
        self._writer.flush()
        self._writer._record(content_type, content)

    def plaintext(self, content_type: int, content: bytes, version: bytes = b"\x03\x03") -> None:
        """Send one unprotected record, keys or not."""
        self._writer.flush()
        self.wire(bytes((content_type,)) + version + len(content).to_bytes(2, "big") + content)

    def wire(self, data: bytes, *, sequence: int | None = None) -> None:
        """Send *data*, a record, as it stands. sequence: its number, if it is sealed."""
        self._writer.out.append(data)
        trace = self._writer._trace
        if trace is not None:
            trace(
                RecordTraced(
                    direction=Direction.SENT,
                    epoch=Epoch.INITIAL if sequence is None else self._writer.epoch,
                    content_type=data[0],
                    size=len(data),
                    content_size=len(data) - RECORD_HEADER,
                    padding_size=0,
                    sequence=sequence,
                    raw=data,
                )
            )

    def sealed(self, inner: bytes, outer: int = ContentType.APPLICATION_DATA) -> None:
        """Send one record whose TLSInnerPlaintext is *inner* as it stands."""
        self._writer.flush()
        keys = self.writing_keys
        header = bytes((outer, 3, 3)) + (len(inner) + keys.tag_length).to_bytes(2, "big")
        nonce = (keys.iv ^ keys.sequence).to_bytes(12, "big")
        keys.sequence += 1
        self.wire(header + keys.aead.encrypt(nonce, inner, header), sequence=keys.sequence - 1)

    def spoiled(self, content_type: int, content: bytes) -> None:
        """Send one record that does not open: a bit of its tag is flipped."""
        self._writer.flush()
        kept, self._writer.out = self._writer.out, []
        tracing, self._writer._trace = self._writer._trace, None
        self._writer._record(content_type, content)
        record = self._writer.take()
        self._writer.out, self._writer._trace = kept, tracing
        self.wire(record[:-1] + bytes((record[-1] ^ 1,)), sequence=self.writing_keys.sequence - 1)

    @property
    def writing_keys(self) -> Keys:
        """What it seals with. Raises UsageError before there are keys."""
        keys = self._writer._keys
        if keys is None:
            raise UsageError("there are no keys to write with yet")
        return keys

    # ---- the seams ----

    def _bend(self, edit: Edit | None, rewrite: Rewrite | None) -> None:
        self.edit = edit
        self.rewrite = rewrite
        self.received = b""
        self.sent = []
        self._edits: dict[bytes, bytes] = {}
        self._context.transcript = _EditedTranscript(self)
        receive = self._handshake.receive

        def remember(raw: bytes) -> list[Action]:
            self.received = raw
            return receive(raw)

        self._handshake.receive = remember  # type: ignore[method-assign]  # the seam of this one connection
        if self._context.trace is not None:
            self._context.trace = self._telling(self._context.trace)

    def _telling(self, observer: Observer) -> Observer:
        """Return what tells *observer* of the messages that are sent, not of those they take the place of."""

        def tell(event: TraceEvent) -> None:
            if isinstance(event, MessageTraced) and event.direction is Direction.SENT:
                raw = self.edited(event.raw)
                if not raw:
                    return
                if raw != event.raw:
                    event = dataclasses.replace(event, message_type=message_type(raw), raw=raw, body=_body(raw, event))
            observer(event)

        return tell

    def _do(self, actions: list[Action]) -> None:
        if self._handshake.need:
            super()._do(actions)
            return
        todo: list[Action | Step] = list(actions)
        if self.rewrite is not None:
            todo = list(self.rewrite(self, actions))
        for action in todo:
            if isinstance(action, SendMessage):
                raw = self.edited(action.raw)
                if raw:
                    self.sent.append(raw)
                    self._writer.handshake(raw)
            elif callable(action):
                action(self)
            else:
                super()._do([action])
        self._writer.flush()


def _body(raw: bytes, honest: MessageTraced) -> object:
    """Return what *raw* says, as far as it can be read: else what the honest message would have said."""
    try:
        return BODIES[message_type(raw)].decode(raw[HEADER_LENGTH:])
    except (TLSError, KeyError):
        return honest.body


def _bent(connection: Connection, edit: Edit | None, rewrite: Rewrite | None) -> BentConnection:
    if not isinstance(connection, BentConnection):
        raise UsageError("only a bent connection can be bent")
    connection._bend(edit, rewrite)
    return connection


# ---- edits -----------------------------------------------------------------------------------------------------------


def message(kind: int, body: bytes) -> bytes:
    """Return *body* with the header of a handshake message of *kind*."""
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def replacing(kind: int, change: Callable[[bytes], bytes]) -> Edit:
    """Change every message of *kind* as a whole."""
    return lambda this, raw: change(raw) if this == kind else raw


def without(*kinds: int) -> Edit:
    """Leave out every message of *kinds*."""
    return lambda this, raw: b"" if this in kinds else raw


def changing_body(kind: int, change: Callable[[Any], Any], *, which: int = 1) -> Edit:
    """Decode the *which*-th message of *kind*, change the value, encode it again."""
    seen = 0

    def edit(this: int, raw: bytes) -> bytes:
        nonlocal seen
        if this != kind:
            return raw
        seen += 1
        if seen != which:
            return raw
        return handshake_message(change(BODIES[kind].decode(raw[HEADER_LENGTH:])))

    return edit


def changing_extensions(kind: int, change: Callable[[list[Extension]], Sequence[Extension]], *, which: int = 1) -> Edit:
    """Change the list of extensions of the *which*-th message of *kind*."""
    return changing_body(
        kind, lambda body: dataclasses.replace(body, extensions=tuple(change(list(body.extensions)))), which=which
    )


# ---- rewrites --------------------------------------------------------------------------------------------------------


def before_message(kind: int, *steps: Step) -> Rewrite:
    """Do *steps* just before the message of *kind*, on a record boundary."""
    return _around(kind, steps, ())


def after_message(kind: int, *steps: Step) -> Rewrite:
    """Do *steps* just after the message of *kind*, on a record boundary."""
    return _around(kind, (), steps)


def _around(kind: int, before: Sequence[Step], after: Sequence[Step]) -> Rewrite:
    def rewrite(_: BentConnection, actions: list[Action]) -> list[Action | Step]:
        out: list[Action | Step] = []
        for action in actions:
            here = isinstance(action, SendMessage) and message_type(action.raw) == kind
            out += [*(before if here else ()), action, *(after if here else ())]
        return out

    return rewrite
