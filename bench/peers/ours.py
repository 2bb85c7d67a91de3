"""Pellucid: the sans-I/O Connection, both ends, trace off unless asked for."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import cryptography
from cryptography.hazmat.backends.openssl import backend

import pellucid
from bench.peers.interface import GROUPS, PLAIN, SUITES, Certificates, How, NotAsAskedError
from pellucid.explain.recorder import Recorder
from pellucid.limits import MAX_PLAINTEXT
from pellucid.registry import NamedGroup

try:
    from pellucid.record.bulk import RECORDS, lent_sealer, return_sealer
except ModuleNotFoundError:
    # An older commit that `bench compare` has no adapter for: its handshakes are compared, its bulk data is not.
    RECORDS = 16

# Data goes the way that it goes in pellucid.net and pellucid.asyncio: sealed into lent memory, opened where it came.
STEP = RECORDS * MAX_PLAINTEXT

CACHE = "verdict_cache_seconds"
"""the argument of ClientConfig that has it remember verdicts on chains; an older commit has none"""


def has_cache() -> bool:
    """Return whether this Pellucid remembers verdicts."""
    return any(one.name == CACHE for one in fields(pellucid.ClientConfig))


class PellucidStack:
    """What stdlib does not do is off: it compresses no certificates, and checks each chain anew."""

    name = "pellucid"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        credential = pellucid.Credential.from_pem(certificates.leaf.chain_pem, certificates.leaf.key_pem)
        share = GROUPS[how.group]
        groups = (share, NamedGroup.SECP256R1)
        suites = (SUITES[how.suite],)
        self.how = how
        self._roots = how.roots_pem or certificates.roots_pem
        self._settings: dict[str, Any] = {
            "suites": suites,
            "groups": groups,
            "key_shares": (share,),
            "early_data": how.early > 0,
            **({} if how.cached or not has_cache() else {CACHE: 0}),
        }
        self.new_client()
        tickets = 1 if how.resume else 0
        self.server = pellucid.ServerConfig(
            credentials=(credential,),
            suites=suites,
            groups=groups,
            certificate_compression=(),
            tickets=tickets,
            tickets_on_resumption=tickets,
            max_early_data=how.early,
        )

    def new_client(self) -> None:
        """Make the client's configuration, roots and all."""
        self.client = pellucid.ClientConfig(trust=pellucid.TrustStore.from_pem(self._roots), **self._settings)

    @classmethod
    def version(cls) -> str:
        openssl = backend.openssl_version_text()
        return f"Pellucid {pellucid.__version__}, cryptography {cryptography.__version__}, {openssl}"

    @classmethod
    def lacks(cls, how: How) -> str:
        return "no verdict cache" if how.cached and not has_cache() else ""

    def pair(self) -> PellucidPair:
        return PellucidPair(self)


class RecordedStack(PellucidStack):
    """The same, with a recorder at either end."""

    name = "recorded"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        super().__init__(certificates, how)
        self.client = replace(self.client, trace=Recorder)
        self.server = replace(self.server, trace=Recorder)


class PellucidPair:
    def __init__(self, stack: PellucidStack) -> None:
        self._how = stack.how
        self.client = pellucid.Connection.client(stack.client, stack.how.name)
        self.server = pellucid.Connection.server(stack.server)
        self._to_server = self._to_client = b""
        self._early = 0

    def client_turn(self) -> None:
        if self._to_client:
            self.client.receive_data(self._to_client)
        elif self._how.early:
            self.client.start()
            if self.client.early_data_left >= self._how.early:
                self.client.send_early_data(bytes(self._how.early))
                self._early = self._how.early
        self._to_server = self.client.data_to_send()

    def server_turn(self) -> None:
        self.server.receive_data(self._to_server)
        self._to_client = self.server.data_to_send()

    def server_bytes(self) -> bytes:
        return self._to_client

    def completed(self) -> None:
        early = 0
        while isinstance(event := self.server.next_event(), pellucid.EarlyData | pellucid.EarlyDataAccepted):
            if isinstance(event, pellucid.EarlyData):
                early += len(event.data)
        if early != self._early:
            raise NotAsAskedError(f"{early} bytes of early data came, {self._early} were sent")
        first = self.client.next_event()
        if not (isinstance(event, pellucid.HandshakeComplete) and isinstance(first, pellucid.HandshakeComplete)):
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        # What the server sent in its last turn is the ticket.
        if not self._to_client:
            raise NotAsAskedError("there was no ticket")
        self.client.receive_data(self._to_client)
        while (event := self.client.next_event()) is not pellucid.NEED_DATA:
            if not isinstance(event, pellucid.TicketReceived):
                raise NotAsAskedError(f"{event} instead of a ticket")

    def send(self, data: bytes) -> None:
        client, server = self.client, self.server
        missing = len(data)
        if missing <= MAX_PLAINTEXT:
            if server.open_record(client.seal(data)) != data:
                raise NotAsAskedError("data is missing")
            return
        with memoryview(data) as view:
            for start in range(0, missing, STEP):
                sealer = lent_sealer()
                size = client.seal_into(view[start : start + STEP], sealer)
                server.receive_from(sealer.room, 0, size)
                return_sealer(sealer)
                while (event := server.next_event()) is not pellucid.NEED_DATA:
                    missing -= len(event.data)
        if missing:
            raise NotAsAskedError("data is missing")

    def ping_pong(self, data: bytes) -> None:
        client, server = self.client, self.server
        came = server.open_record(client.seal(data))
        if came is None or client.open_record(server.seal(came)) != data:
            raise NotAsAskedError("data is missing")
