"""Meetings of a client and a server that remember each other: what was resumed, what became of early data."""

from __future__ import annotations

import dataclasses
from typing import Any

from pellucid import ClientConfig, Connection, HandshakeComplete, ServerConfig, TLSError
from pellucid.crypto.pyca import PYCA
from pellucid.events import EarlyData, TicketReceived
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from pellucid.registry import CipherSuite as CS
from pellucid.sessions import ExternalPsk, MemorySessionStore
from pellucid.trace import Observer, Role
from tests.support import pair
from tests.support.pair import NAME, Chunking, all_at_once, data_of, events_of
from tests.support.resuming import KEY, resuming_client, resuming_server
from tests.support.sessions import Clock

SUITES = {"sha256": CS.TLS_AES_128_GCM_SHA256, "sha384": CS.TLS_AES_256_GCM_SHA384}
client, server = resuming_client, resuming_server


def asking(**changes: Any) -> ServerConfig:
    """The same, demanding a client certificate."""
    return pair.asking_server_config(**{"tickets": 2, "tickets_on_resumption": 1} | changes)


def kept(config: ClientConfig) -> int:
    """How many sessions the client's store has."""
    store = config.sessions
    assert isinstance(store, MemorySessionStore)
    return len(store)


def clock(ahead: float = 0.0) -> Clock:
    """A clock that stands at present, when the tests' certificates are good."""
    return Clock(round(PYCA.now()) + ahead)


def psks(
    identity: bytes = b"a key", key: bytes = KEY, *, hash_name: str = "sha256", kind: str = "plain"
) -> tuple[ExternalPsk, ExternalPsk]:
    """The client's and the server's value of one external PSK."""
    ends = []
    for role in (Role.CLIENT, Role.SERVER):
        if kind == "plain":
            ends.append(ExternalPsk.plain(identity, key, role=role, hash_name=hash_name))
        else:
            ends.append(
                ExternalPsk.imported(
                    identity, key, client="the client", server="the server", role=role, hash_name=hash_name
                )
            )
    return ends[0], ends[1]


@dataclasses.dataclass(slots=True)
class Meeting:
    """Two ends after their handshake, and what they told."""

    client: Connection
    server: Connection
    told: dict[Role, list[Any]]
    errors: dict[Role, TLSError | None]

    @property
    def negotiated(self) -> Negotiated:
        """What the client agreed to; both have completed, without an error, and have the same keys."""
        for role, error in self.errors.items():
            if error is not None:
                raise AssertionError(f"{role.value}: {error!r}") from error
        agreed, other = self.client.negotiated, self.server.negotiated
        assert agreed is not None, f"the client waits in {self.client.state}, the server in {self.server.state}"
        assert other is not None
        assert self.client.channel_binding() == self.server.channel_binding()
        assert (agreed.resumed, agreed.cipher_suite, agreed.alpn, agreed.psk_identity, agreed.group) == (
            other.resumed,
            other.cipher_suite,
            other.alpn,
            other.psk_identity,
            other.group,
        )
        return agreed

    @property
    def resumed(self) -> bool:
        return self.negotiated.resumed

    @property
    def early_data(self) -> tuple[EarlyDataOutcome, EarlyDataOutcome]:
        """What became of early data for the client, and for the server."""
        assert self.server.negotiated is not None
        return self.negotiated.early_data, self.server.negotiated.early_data

    @property
    def early(self) -> bytes:
        """The early data that the server took."""
        return b"".join(event.data for event in self.told[Role.SERVER] if isinstance(event, EarlyData))

    @property
    def tickets(self) -> int:
        return sum(isinstance(event, TicketReceived) for event in self.told[Role.CLIENT])

    def pump(self, chunking: Chunking = all_at_once) -> Meeting:
        """Carry what is to be carried, and note what was told."""
        pair.pump(self.client, self.server, chunking)
        for end in (self.client, self.server):
            seen, self.errors[end.role] = events_of(end)
            self.told[end.role] += seen
        return self

    def speak(self) -> Meeting:
        """Send something each way; it must arrive."""
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            sender.send_data(b"after the handshake")
            pair.deliver(sender.data_to_send(), receiver)
            seen, error = events_of(receiver)
            assert error is None, error
            assert data_of(seen) == b"after the handshake"
        return self


def begin(
    ours: ClientConfig,
    theirs: ServerConfig,
    *,
    name: str = NAME,
    port: int = 0,
    client_trace: Observer | None = None,
    server_trace: Observer | None = None,
) -> Meeting:
    """Two ends that have not spoken yet."""
    return Meeting(
        Connection.client(ours, name, port=port, trace=client_trace),
        Connection.server(theirs, trace=server_trace),
        {role: [] for role in Role},
        dict.fromkeys(Role),
    )


def meet(
    ours: ClientConfig,
    theirs: ServerConfig,
    *,
    chunking: Chunking = all_at_once,
    early: bytes = b"",
    **how: Any,
) -> Meeting:
    """Let them shake hands, the client sending *early* with its ClientHello."""
    meeting = begin(ours, theirs, **how)
    if early:
        meeting.client.send_early_data(early)
    meeting.pump(chunking)
    if not any(meeting.errors.values()):
        for role in Role:
            assert sum(isinstance(event, HandshakeComplete) for event in meeting.told[role]) == 1
    return meeting
