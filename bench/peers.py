"""Both stacks behind one interface: two ends in memory, made fresh for every handshake."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Protocol

import pellucid
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


class Certificates:
    """A root, an intermediate and a leaf for localhost."""

    def __init__(self, key: str = "p256") -> None:
        self.root = CA("bench root")
        self.leaf: Issued = self.root.intermediate("bench intermediate").issue("localhost", key=key)


class StdlibStack:
    """Stdlib ssl over MemoryBIO. Tickets are off: our server sends none either."""

    name = "ssl"

    def __init__(self, certificates: Certificates) -> None:
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.minimum_version = ssl.TLSVersion.TLSv1_3
        self.client.load_verify_locations(cadata=certificates.root.root_pem.decode())
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.minimum_version = ssl.TLSVersion.TLSv1_3
        self.server.num_tickets = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "server.pem"
            path.write_bytes(certificates.leaf.chain_pem + certificates.leaf.key_pem)
            self.server.load_cert_chain(path)

    def pair(self) -> StdlibPair:
        return StdlibPair(self.client, self.server)


class StdlibPair:
    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, server_hostname="localhost")
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


class PellucidStack:
    """The sans-I/O Connection, both ends; trace off."""

    name = "pellucid"

    def __init__(self, certificates: Certificates, suite: int = CipherSuite.TLS_AES_128_GCM_SHA256) -> None:
        credential = pellucid.Credential.from_pem(certificates.leaf.chain_pem, certificates.leaf.key_pem)
        groups = (NamedGroup.X25519, NamedGroup.SECP256R1)
        self.client = pellucid.ClientConfig(
            trust=certificates.root.trust, suites=(suite,), groups=groups, key_shares=(NamedGroup.X25519,)
        )
        self.server = pellucid.ServerConfig(credentials=(credential,), suites=(suite,), groups=groups)

    def pair(self) -> PellucidPair:
        return PellucidPair(self.client, self.server)


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
