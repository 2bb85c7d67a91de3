"""The evil peers of the tests and what they meet: good ones, certificates, ways to bring two together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
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
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType, NamedGroup, alert_name
from pellucid.registry import HandshakeType as H
from pellucid.sessions import MemorySessionStore
from pellucid.testing.bent import BentConnection as Evil
from pellucid.testing.bent import Edit as Edit
from pellucid.testing.bent import before_message as before_message
from pellucid.testing.bent import changing_body as changing_body
from pellucid.testing.bent import changing_extensions as changing_extensions
from pellucid.testing.bent import message as message
from pellucid.testing.bent import replacing as replacing
from pellucid.testing.bent import without as without
from pellucid.testing.ca import CA

NAME = "evil.test"
X25519 = NamedGroup.X25519


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


# ---- the peers -------------------------------------------------------------------------------------------------------


def evil_client(
    config: ClientConfig | None = None, *, edit: Edit | None = None, rewrite: Any = None, name: str = NAME
) -> Evil:
    return Evil.bent_client(config or client_config(), name, edit=edit, rewrite=rewrite)


def evil_server(config: ServerConfig | None = None, *, edit: Edit | None = None, rewrite: Any = None) -> Evil:
    return Evil.bent_server(config or server_config(), edit=edit, rewrite=rewrite)


def good_client(config: ClientConfig | None = None, name: str = NAME) -> Connection:
    return Connection.client(config or client_config(), name)


def good_server(config: ServerConfig | None = None, **arguments: Any) -> Connection:
    return Connection.server(config or server_config(), **arguments)


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
