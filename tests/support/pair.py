"""Two ends and the bytes between them: cheap certificates, chunkings, and what came out."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

from pellucid import (
    NEED_DATA,
    ApplicationData,
    ClientConfig,
    Connection,
    Credential,
    HandshakeComplete,
    ServerConfig,
    TLSError,
)
from pellucid.config import ClientAuthentication
from pellucid.registry import NamedGroup
from pellucid.testing.ca import CA, Issued, KeyKind
from pellucid.trace import Observer

NAME = "pair.test"

Chunking = Callable[[bytes], Iterator[bytes]]
"""How what one end sent reaches the other: bytes → the pieces that `receive_data` is given."""


# ---- who they are ----------------------------------------------------------------------------------------------------


@functools.cache
def authority() -> CA:
    """The one CA of the session: making keys is what takes time."""
    return CA("Pair test root").intermediate("Pair test intermediate")


@functools.cache
def credential(kind: KeyKind = "p256", *names: str) -> Credential:
    """A credential for NAME, or *names*, made once a session."""
    leaf = issued(kind, *names)
    return Credential.from_pem(leaf.chain_pem, leaf.key_pem)


@functools.cache
def issued(kind: KeyKind = "p256", *names: str) -> Issued:
    """What `credential` of the same arguments is made of."""
    return authority().issue(*(names or (NAME,)), key=kind)


def client_config(**changes: Any) -> ClientConfig:
    """A client that trusts `authority` and shares one x25519 key. changes: as ClientConfig takes them."""
    return dataclasses.replace(_client_config(), **changes) if changes else _client_config()


def server_config(**changes: Any) -> ServerConfig:
    return dataclasses.replace(_server_config(), **changes) if changes else _server_config()


def asking_server_config(**changes: Any) -> ServerConfig:
    """A server that demands a client certificate of `authority`."""
    return server_config(
        **{"client_authentication": ClientAuthentication.REQUIRED, "client_trust": authority().trust} | changes
    )


@functools.cache
def _client_config() -> ClientConfig:
    groups = (NamedGroup.X25519, NamedGroup.SECP256R1)
    return ClientConfig(trust=authority().trust, groups=groups, key_shares=(NamedGroup.X25519,))


@functools.cache
def _server_config() -> ServerConfig:
    # Without tickets, which most tests would count among the events, and with its Certificate as it is.
    return ServerConfig(credentials=(credential(),), certificate_compression=(), tickets=0, tickets_on_resumption=0)


# ---- how bytes arrive ------------------------------------------------------------------------------------------------


def as_sent(data: bytes) -> Iterator[bytes]:
    """Record by record."""
    at = 0
    while at < len(data):
        stop = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        yield data[at:stop]
        at = stop


def one_byte_at_a_time(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def all_at_once(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def random_cuts(seed: int) -> Chunking:
    """Pieces of 1 to 5,000 bytes, the short ones more often; the same for the same *seed*."""
    source = random.Random(seed)

    def chunking(data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = source.choice((1, 2, 4, 5, 6, 21, 22, source.randint(1, 100), source.randint(1, 5000)))
            yield data[at : at + size]
            at += size

    return chunking


CHUNKINGS: dict[str, Chunking] = {
    "as sent": as_sent,
    "one byte at a time": one_byte_at_a_time,
    "all at once": all_at_once,
}


# ---- bringing them together ------------------------------------------------------------------------------------------


def deliver(data: bytes, receiver: Connection, chunking: Chunking = all_at_once) -> None:
    """Feed *data*; an error that comes stays for `events_of`."""
    for piece in chunking(data):
        if receiver._error is not None:
            return
        receiver.receive_data(piece)


def pump(first: Connection, second: Connection, chunking: Chunking = all_at_once, *, rounds: int = 20) -> None:
    """Carry bytes between the two until both are silent; that they never are fails the test."""
    for _ in range(rounds):
        moved = False
        for sender, receiver in ((first, second), (second, first)):
            if data := sender.data_to_send():
                moved = True
                deliver(data, receiver, chunking)
        if not moved:
            return
    raise AssertionError(f"they are not silent after {rounds} rounds")


def events_of(connection: Connection) -> tuple[list[Any], TLSError | None]:
    """Return what happened until NEED_DATA, and the error that came after it, if one did."""
    seen: list[Any] = []
    try:
        while (event := connection.next_event()) is not NEED_DATA:
            seen.append(event)
    except TLSError as error:
        return seen, error
    return seen, None


def data_of(events: list[Any]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ApplicationData))


@dataclasses.dataclass(slots=True)
class Pair:
    """A client and a server, and how bytes pass between them."""

    client: Connection
    server: Connection
    chunking: Chunking = all_at_once

    @classmethod
    def of(
        cls,
        client: ClientConfig | None = None,
        server: ServerConfig | None = None,
        *,
        chunking: Chunking = all_at_once,
        name: str = NAME,
        client_trace: Observer | None = None,
        server_trace: Observer | None = None,
    ) -> Pair:
        return cls(
            Connection.client(client or client_config(), name, trace=client_trace),
            Connection.server(server or server_config(), trace=server_trace),
            chunking,
        )

    def pump(self) -> None:
        pump(self.client, self.server, self.chunking)

    def connect(self) -> Pair:
        """Shake hands; both must have completed, and nothing else may have happened."""
        self.pump()
        for connection in (self.client, self.server):
            events, error = events_of(connection)
            if error is not None:
                raise error
            assert [type(event) for event in events] == [HandshakeComplete], events
        return self

    def send(self, sender: Connection, data: bytes) -> tuple[list[Any], TLSError | None]:
        """Send *data* from one end; return what the other end saw."""
        receiver = self.server if sender is self.client else self.client
        sender.send_data(data)
        deliver(sender.data_to_send(), receiver, self.chunking)
        return events_of(receiver)
