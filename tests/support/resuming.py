"""Sessions for tests: two ends that have met, a clock that is turned by hand, and external PSKs of both ends."""

from __future__ import annotations

import dataclasses
from typing import Any

from pellucid import ClientConfig, Connection, ServerConfig, TLSError
from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.sessions.client import ClientSession, MemorySessionStore
from pellucid.sessions.psk import ExternalPsk
from pellucid.trace import Role
from tests.support.pair import NAME, Pair, client_config, deliver, events_of, server_config
from tests.support.wiretap import Wiretap, tapped

KEY = bytes(range(32))


class Clock:
    """Seconds since 1970, turned by hand. It starts now, so that certificates made for tests are valid."""

    def __init__(self) -> None:
        self.now = PYCA.now()

    def __call__(self) -> float:
        return self.now

    @property
    def provider(self) -> CryptoProvider:
        return dataclasses.replace(PYCA, now=self)


def resuming_client(**changes: Any) -> ClientConfig:
    """A client with a store of its own."""
    return client_config(**{"sessions": MemorySessionStore()} | changes)


def resuming_server(**changes: Any) -> ServerConfig:
    return server_config(**{"tickets": 2, "tickets_on_resumption": 1} | changes)


def early_client(**changes: Any) -> ClientConfig:
    return resuming_client(early_data=True, **changes)


def early_server(**changes: Any) -> ServerConfig:
    return resuming_server(**{"max_early_data": 16_384} | changes)


def external(role: Role, name: str = "external", **changes: Any) -> ExternalPsk:
    return ExternalPsk.plain(name.encode(), KEY, role=role, **changes)


def sessions_of(client: ClientConfig) -> list[ClientSession]:
    """What the client keeps, the oldest first."""
    store = client.sessions
    assert isinstance(store, MemorySessionStore)
    return [session for _, sessions in store.items() for session in sessions]


def settle(pair: Pair) -> tuple[list[Any], list[Any]]:
    """Let them talk until both are silent; return what each end saw. An error of either fails the test."""
    pair.pump()
    seen = []
    for end in (pair.client, pair.server):
        events, error = events_of(end)
        if error is not None:
            raise error
        seen.append(events)
    return seen[0], seen[1]


def meet(client: ClientConfig, server: ServerConfig, name: str = NAME) -> None:
    """A first connection, so that the client has sessions."""
    settle(Pair.of(client, server, name=name))


def met(client: ClientConfig, server: ServerConfig, **arguments: Any) -> tuple[Pair, Wiretap]:
    """A second connection after a first, before either end has spoken, and what will be heard of it."""
    meet(client, server)
    return tapped(client, server, **arguments)


def first_flight(client: Connection, early: bytes = b"") -> bytes:
    """The ClientHello, and *early* after it as early data."""
    client.start()
    if early:
        client.send_early_data(early)
    return client.data_to_send()


def answer(server: Connection, flight: bytes) -> tuple[list[Any], TLSError | None]:
    """What a server makes of a client's *flight*."""
    deliver(flight, server)
    return events_of(server)
