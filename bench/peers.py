"""Both stacks behind one interface: two ends in memory, made fresh for every handshake."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Protocol

import pellucid
from pellucid.explain.recorder import Recorder
from pellucid.limits import BULK_STEP
from pellucid.registry import CipherSuite, NamedGroup
from pellucid.testing.ca import CA, Issued

STEP = BULK_STEP  # as pellucid.net does


class Pair(Protocol):
    """A client and a server that talk through memory."""

    def handshake(self) -> None: ...
    def send(self, data: bytes) -> None:
        """Client to server: seal, carry, open all of it."""
        ...

    def ping_pong(self, data: bytes) -> None: ...
    def facts(self) -> str: ...


class Stack(Protocol):
    name: str

    def pair(self) -> Pair: ...
    def resumed_pair(self) -> Pair:
        """A pair whose client has a session of the last one; its handshake brings the next ticket."""
        ...


class Certificates:
    """A root, an intermediate and a leaf for localhost."""

    def __init__(self, key: str = "p256") -> None:
        self.root = CA("bench root")
        self.leaf: Issued = self.root.intermediate("bench intermediate").issue("localhost", key=key)


class StdlibStack:
    """Stdlib ssl over MemoryBIO. tickets: how many its server sends; ours sends as many."""

    name = "ssl"

    def __init__(self, certificates: Certificates, tickets: int = 0) -> None:
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.minimum_version = ssl.TLSVersion.TLSv1_3
        self.client.load_verify_locations(cadata=certificates.root.root_pem.decode())
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.minimum_version = ssl.TLSVersion.TLSv1_3
        self.server.num_tickets = tickets
        self._session: ssl.SSLSession | None = None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "server.pem"
            path.write_bytes(certificates.leaf.chain_pem + certificates.leaf.key_pem)
            self.server.load_cert_chain(path)

    def pair(self) -> StdlibPair:
        return StdlibPair(self.client, self.server)

    def resumed_pair(self) -> ResumedStdlibPair:
        return ResumedStdlibPair(self)


class StdlibPair:
    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
        self.server = server.wrap_bio(to_server, to_client, server_side=True)

    def handshake(self) -> None:
        done = [False, False]
        while not all(done):
            for i, end in enumerate((self.client, self.server)):
                try:
                    end.do_handshake()
                    done[i] = True
                except ssl.SSLWantReadError:
                    done[i] = False

    def taken_session(self) -> ssl.SSLSession:
        """Read the tickets that followed the handshake; return the session."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.read(1)
        if self.client.session is None:
            raise RuntimeError("ssl sent no ticket")
        return self.client.session

    def send(self, data: bytes) -> None:
        self.client.write(data)
        missing = len(data)
        while missing:
            missing -= len(self.server.read(min(missing, 262144)))

    def ping_pong(self, data: bytes) -> None:
        self.client.write(data)
        self.server.write(self.server.read(65536))
        self.client.read(65536)

    def facts(self) -> str:
        name, version, _ = self.client.cipher() or ("", "", 0)
        return f"{ssl.OPENSSL_VERSION}, {version}, {name}"


class ResumedStdlibPair(StdlibPair):
    """Its handshake resumes the last one's session, takes the new ticket, and keeps that for the next."""

    def __init__(self, stack: StdlibStack) -> None:
        if stack._session is None:
            first = StdlibPair(stack.client, stack.server)
            first.handshake()
            stack._session = first.taken_session()
        super().__init__(stack.client, stack.server, stack._session)
        self._stack = stack

    def handshake(self) -> None:
        super().handshake()
        if not self.client.session_reused:
            raise RuntimeError("ssl did not resume")
        self._stack._session = self.taken_session()


# `compare` runs trees of before there was such a thing, too.
SETTINGS = {field.name for field in fields(pellucid.ClientConfig)}
FORGETFUL = {"verdict_cache_seconds": 0} if "verdict_cache_seconds" in SETTINGS else {}


class PellucidStack:
    """The sans-I/O Connection, both ends; trace off. What stdlib does not do is off: it compresses no certificates,
    and verifies every chain every time."""

    name = "pellucid"

    def __init__(
        self, certificates: Certificates, tickets: int = 0, suite: int = CipherSuite.TLS_AES_128_GCM_SHA256
    ) -> None:
        credential = pellucid.Credential.from_pem(certificates.leaf.chain_pem, certificates.leaf.key_pem)
        groups = (NamedGroup.X25519, NamedGroup.SECP256R1)
        self.client = pellucid.ClientConfig(
            trust=certificates.root.trust, suites=(suite,), groups=groups, key_shares=(NamedGroup.X25519,), **FORGETFUL
        )
        self.server = pellucid.ServerConfig(
            credentials=(credential,),
            suites=(suite,),
            groups=groups,
            certificate_compression=(),
            tickets=tickets,
            tickets_on_resumption=tickets,
        )
        self._primed = False

    def pair(self) -> PellucidPair:
        return PellucidPair(self.client, self.server)

    def resumed_pair(self) -> ResumedPellucidPair:
        if not self._primed:
            first = ResumedPellucidPair(self.client, self.server)
            PellucidPair.handshake(first)
            first.take_tickets()
            self._primed = True
        return ResumedPellucidPair(self.client, self.server)


class RememberingStack(PellucidStack):
    """The same as it is by default: the client remembers that it accepted the server's chain."""

    name = "remembering"

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(certificates)
        self.client = replace(self.client, verdict_cache_seconds=600)


class RecordedStack(PellucidStack):
    """The same, with a recorder at either end."""

    name = "recorded"

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(certificates)
        self.client = replace(self.client, trace=Recorder)
        self.server = replace(self.server, trace=Recorder)


class PellucidPair:
    def __init__(self, client: pellucid.ClientConfig, server: pellucid.ServerConfig) -> None:
        self.client = pellucid.Connection.client(client, "localhost")
        self.server = pellucid.Connection.server(server)

    def handshake(self) -> None:
        client, server = self.client, self.server
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
        server.receive_data(client.data_to_send())
        for end in (client, server):
            if not isinstance(end.next_event(), pellucid.HandshakeComplete):
                raise RuntimeError("the handshake did not complete")

    def send(self, data: bytes) -> None:
        client, server = self.client, self.server
        missing = len(data)
        with memoryview(data) as view:
            for start in range(0, missing, STEP):
                client.send_data(view[start : start + STEP])
                server.receive_data(client.data_to_send())
                while (event := server.next_event()) is not pellucid.NEED_DATA:
                    missing -= len(event.data)
        if missing:
            raise RuntimeError("data is missing")

    def ping_pong(self, data: bytes) -> None:
        client, server = self.client, self.server
        client.send_data(data)
        server.receive_data(client.data_to_send())
        server.send_data(server.next_event().data)
        client.receive_data(server.data_to_send())
        if len(client.next_event().data) != len(data):
            raise RuntimeError("data is missing")

    def facts(self) -> str:
        negotiated = self.client.negotiated
        return f"TLSv1.3, {pellucid.registry.suite_name(negotiated.cipher_suite)}, {negotiated.group:#06x}"


class ResumedPellucidPair(PellucidPair):
    """Its handshake resumes the last one's session, takes the new ticket, and keeps that for the next."""

    def handshake(self) -> None:
        super().handshake()
        self.take_tickets()
        negotiated = self.client.negotiated
        if negotiated is None or not negotiated.resumed:
            raise RuntimeError("pellucid did not resume")

    def take_tickets(self) -> None:
        if not (tickets := self.server.data_to_send()):
            raise RuntimeError("pellucid sent no ticket")
        self.client.receive_data(tickets)
        while (event := self.client.next_event()) is not pellucid.NEED_DATA:
            if not isinstance(event, pellucid.TicketReceived):
                raise RuntimeError(f"{event} instead of a ticket")
