"""The evil peer: our own connection, whose messages and records a test changes before they are hashed and protected.

It is no second stack: it follows the rules with the real handshake code until a test says otherwise, so that what it
sends is under the right keys and, where a message is edited, over the right transcript.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pellucid import (
    NEED_DATA,
    AlertReceived,
    ClientConfig,
    Connection,
    Credential,
    HandshakeComplete,
    PeerError,
    ServerConfig,
    TLSError,
)
from pellucid.config import ClientAuthentication
from pellucid.handshake.actions import Action, SendMessage
from pellucid.messages.handshake import HEADER_LENGTH, message_type
from pellucid.record.protect import Keys
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType, NamedGroup, alert_name
from pellucid.registry import HandshakeType as H
from pellucid.sessions import MemorySessionStore
from pellucid.testing.ca import CA
from pellucid.transcript import Transcript

NAME = "evil.test"
X25519 = NamedGroup.X25519
Edit = Callable[[int, bytes], bytes]
"""(message type, message with header) → the bytes that take its place: none, another message, several."""


# ---- who they are ----------------------------------------------------------------------------------------------------


@functools.cache
def authority(name: str = "Evil test root") -> CA:
    return CA(name)


@functools.cache
def credential(kind: str = "p256", *names: str) -> Credential:
    issued = authority().issue(*(names or (NAME,)), key=kind)  # type: ignore[arg-type]
    return Credential.from_pem(issued.chain_pem, issued.key_pem)


@functools.cache
def _default_client() -> ClientConfig:
    return ClientConfig(trust=authority().trust, groups=(X25519, NamedGroup.SECP256R1), key_shares=(X25519,))


@functools.cache
def _default_server() -> ServerConfig:
    # Its Certificate travels as it is, for tests to edit; tickets are sent where a test is about them.
    return ServerConfig(credentials=(credential(),), certificate_compression=(), tickets=0, tickets_on_resumption=0)


@functools.cache
def _asking_server() -> ServerConfig:
    return server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust)


def client_config(**changes: Any) -> ClientConfig:
    return dataclasses.replace(_default_client(), **changes) if changes else _default_client()


def server_config(**changes: Any) -> ServerConfig:
    return dataclasses.replace(_default_server(), **changes) if changes else _default_server()


def asking_server(**changes: Any) -> ServerConfig:
    """A server that demands a client certificate."""
    return dataclasses.replace(_asking_server(), **changes) if changes else _asking_server()


def later_server(**changes: Any) -> ServerConfig:
    """A server that may ask for a client certificate after the handshake."""
    return server_config(client_trust=authority().trust, **changes)


def client_with_certificate(**changes: Any) -> ClientConfig:
    return client_config(credentials=(credential(),), **changes)


def early_pair(**changes: Any) -> tuple[ServerConfig, ClientConfig]:
    """A server that takes early data, and a client that has a session with it which allows that."""
    server = server_config(tickets=2, tickets_on_resumption=1, max_early_data=16_384)
    client = client_config(early_data=True, sessions=MemorySessionStore(), **changes)
    exchange(good_client(client), good_server(server))
    return server, client


# ---- the peer --------------------------------------------------------------------------------------------------------


class _EditedTranscript(Transcript):
    """Hashes what the evil peer sends, not what its handshake code believes it sends."""

    def __init__(self, peer: Evil) -> None:
        super().__init__()
        self._peer = peer

    def add(self, raw: bytes) -> None:
        if raw is not self._peer.received:
            raw = self._peer.edited(raw)
        if raw:
            super().add(raw)


class Evil(Connection):
    """One end that cheats.

    edit:    each of its handshake messages, before it is hashed and sent; asked once a message.
    rewrite: the list of things to do that a handler returned; a callable in it is called with the peer.
    """

    edit: Edit | None
    rewrite: Callable[[Evil, list[Action]], Iterable[Action | Callable[[Evil], None]]] | None
    received: bytes
    sent: list[bytes]
    coming: bytes

    def prepare(self, edit: Edit | None, rewrite: Any) -> Evil:
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

        self._handshake.receive = remember  # type: ignore[method-assign]
        return self

    def edited(self, raw: bytes) -> bytes:
        if self.edit is None:
            return raw
        if raw not in self._edits:
            self._edits[raw] = self.edit(message_type(raw), raw)
        return self._edits[raw]

    def _do(self, actions: list[Action]) -> None:
        if self._handshake.need:
            super()._do(actions)
            return
        todo = list(actions) if self.rewrite is None else list(self.rewrite(self, actions))
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

    # ---- what no honest peer can say ----

    def record(self, content_type: int, content: bytes) -> None:
        """One record under the present keys, whatever is in it."""
        self._writer.flush()
        self._writer._record(content_type, content)

    def plaintext(self, content_type: int, content: bytes, version: bytes = b"\x03\x03") -> None:
        """One unprotected record, keys or not."""
        self._writer.flush()
        self.wire(bytes((content_type,)) + version + len(content).to_bytes(2, "big") + content)

    def wire(self, data: bytes) -> None:
        self._writer._out.append(data)

    def sealed(self, inner: bytes, outer: int = ContentType.APPLICATION_DATA) -> None:
        """One record whose TLSInnerPlaintext is *inner* as it stands."""
        self._writer.flush()
        keys = self.writing_keys
        header = bytes((outer, 3, 3)) + (len(inner) + keys.tag_length).to_bytes(2, "big")
        nonce = (keys.iv ^ keys.sequence).to_bytes(12, "big")
        keys.sequence += 1
        self.wire(header + keys.aead.encrypt(nonce, inner, header))

    @property
    def writing_keys(self) -> Keys:
        keys = self._writer._keys
        assert keys is not None
        return keys


def evil_client(
    config: ClientConfig | None = None, *, edit: Edit | None = None, rewrite: Any = None, name: str = NAME
) -> Evil:
    peer = Evil.client(config or client_config(), name)
    assert isinstance(peer, Evil)
    return peer.prepare(edit, rewrite)


def evil_server(config: ServerConfig | None = None, *, edit: Edit | None = None, rewrite: Any = None) -> Evil:
    peer = Evil.server(config or server_config())
    assert isinstance(peer, Evil)
    return peer.prepare(edit, rewrite)


def good_client(config: ClientConfig | None = None, name: str = NAME) -> Connection:
    return Connection.client(config or client_config(), name)


def good_server(config: ServerConfig | None = None, **arguments: Any) -> Connection:
    return Connection.server(config or server_config(), **arguments)


# ---- edits -----------------------------------------------------------------------------------------------------------


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def replacing(kind: int, change: Callable[[bytes], bytes]) -> Edit:
    """Change every message of *kind* as a whole."""
    return lambda this, raw: change(raw) if this == kind else raw


def changing_body(kind: int, change: Callable[[Any], Any], *, which: int = 1) -> Edit:
    """Decode the *which*-th message of *kind*, change the value, encode it again."""
    from pellucid.messages.handshake import BODIES, handshake_message

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


def changing_extensions(kind: int, change: Callable[[list[Any]], Sequence[Any]], *, which: int = 1) -> Edit:
    return changing_body(
        kind, lambda body: dataclasses.replace(body, extensions=tuple(change(list(body.extensions)))), which=which
    )


def without(kind: int) -> Edit:
    return replacing(kind, lambda raw: b"")


# ---- bringing them together ------------------------------------------------------------------------------------------


def deliver(data: bytes, receiver: Connection, chunk: int | None = None) -> None:
    """Feed *data*, in pieces of *chunk* bytes; an error that comes is left for `next_event`."""
    step = chunk or len(data) or 1
    for at in range(0, len(data), step):
        if receiver._error is None:
            receiver.receive_data(data[at : at + step])


def exchange(first: Connection, second: Connection, *, chunk: int | None = None, rounds: int = 12) -> None:
    """Carry bytes between the two until both are silent. A peer that is never silent fails the test (attack A14)."""
    for _ in range(rounds):
        moved = False
        for sender, receiver in ((first, second), (second, first)):
            data = sender.data_to_send()
            if data:
                moved = True
                deliver(data, receiver, chunk)
        if not moved:
            return
    raise AssertionError("they never fall silent")


def drain(connection: Connection) -> tuple[list[Any], TLSError | None]:
    """All events, and the error after them."""
    seen: list[Any] = []
    try:
        while (event := connection.next_event()) is not NEED_DATA:
            seen.append(event)
    except TLSError as error:
        return seen, error
    return seen, None


def connected(first: Connection, second: Connection, *, chunk: int | None = None) -> None:
    """Let them shake hands, and take that event."""
    exchange(first, second, chunk=chunk)
    for connection in (first, second):
        seen, error = drain(connection)
        assert error is None, error
        assert [type(event) for event in seen] == [HandshakeComplete]


def refused(victim: Connection, evil: Connection | None, *alerts: int, chunk: int | None = None) -> PeerError:
    """Assert that *victim* refuses with one of *alerts*, that *evil* can read exactly that (attack G11), and that the
    error stays (attack A15). Without *evil* the victim's input must have been given already."""
    if evil is not None:
        exchange(victim, evil, chunk=chunk)
    _, error = drain(victim)
    assert error is not None, f"{victim.role.value} accepted it in state {victim.state}"
    assert isinstance(error, PeerError), repr(error)
    assert error.alert in alerts, f"{error} where {'/'.join(map(alert_name, alerts))} should be"
    if evil is None:
        sent = victim.data_to_send().removeprefix(b"\x14\x03\x03\x00\x01\x01")
        assert sent[0] in {ContentType.ALERT, ContentType.APPLICATION_DATA}
    else:
        _, heard = drain(evil)
        assert isinstance(heard, AlertReceived), f"the evil peer heard {heard!r}"
        assert heard.description == error.alert
    latched(victim, error)
    return error


def latched(connection: Connection, error: TLSError) -> None:
    """Assert that every method raises *error* again, or does nothing, and that nothing is sent (attack A15)."""
    for call in (
        lambda: connection.receive_data(b"\x17\x03\x03\x00\x01\x00"),
        lambda: connection.receive_data(b""),
        connection.next_event,
        lambda: connection.send_data(b"x"),
        lambda: connection.send_data(b"x" * 100_000),
        connection.send_key_update,
        lambda: connection.send_key_update(request_peer=True),
        lambda: connection.resume(None),
        lambda: connection.export_keying_material(b"label", b"", 32),
        connection.channel_binding,
    ):
        try:
            call()
        except TLSError as again:
            assert again is error, f"{again!r} after {error!r}"
        else:
            raise AssertionError("a method works after an error")
        assert connection.data_to_send() == b""
    connection.close()
    connection.start()
    connection.fail(A.INTERNAL_ERROR)
    assert connection.closed
    assert connection.data_to_send() == b""


def flight_of(kinds: Sequence[int]) -> str:
    names = {
        H.ENCRYPTED_EXTENSIONS: "EE",
        H.CERTIFICATE_REQUEST: "CR",
        H.CERTIFICATE: "CT",
        H.CERTIFICATE_VERIFY: "CV",
        H.FINISHED: "Fin",
    }
    return "+".join(names[kind] for kind in kinds) or "nothing"
