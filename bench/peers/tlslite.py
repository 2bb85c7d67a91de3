"""tlslite-ng: TLS in pure Python down to the primitives, over sockets; here over two that are in memory.

It verifies no chain by itself: its checker does, with cryptography, as it offers.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from bench.peers.interface import AES_128, AES_256, CHACHA, HYBRID, PLAIN, Certificates, How, NotAsAskedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of asyncore, which it imports where there is one
    from tlslite import errors
    from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
    from tlslite.session import Session

CIPHERS = {AES_128: "aes128gcm", AES_256: "aes256gcm", CHACHA: "chacha20-poly1305"}


class Wire:
    """What one end has sent and the other not yet read, as a socket that never waits."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.far: Wire = self

    def send(self, data: bytes) -> int:
        self.far.incoming += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise BlockingIOError(11, "nothing has come")
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        return data


class TlsliteStack:
    name = "tlslite-ng"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.how = how
        self.session: Session | None = None
        self.chain = X509CertChain()
        self.chain.parsePemList(certificates.leaf.chain_pem.decode())
        self.key = parsePEMKey(certificates.leaf.key_pem.decode(), private=True)
        self.store = Store(x509.load_pem_x509_certificates(how.roots_pem or certificates.roots_pem))
        self.client_settings, self.server_settings = self._settings(), self._settings()
        if how.resume:
            self.server_settings.ticketKeys = [bytearray(secrets.token_bytes(32))]
        self.server_settings.ticket_count = 1

    def _settings(self) -> HandshakeSettings:
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 4)
        settings.cipherNames = [CIPHERS[self.how.suite]]
        settings.eccCurves = ["x25519", "secp256r1"]
        settings.keyShares = ["x25519"]
        return settings

    @classmethod
    def version(cls) -> str:
        return f"tlslite-ng {version('tlslite-ng')}, its own primitives; chains are verified by cryptography"

    @classmethod
    def lacks(cls, how: How) -> str:
        if how.early:
            return "no 0-RTT"
        return "no X25519MLKEM768 without kyber-py" if how.group == HYBRID else ""

    def check(self, connection: Any) -> None:
        """Verify the server's chain and name."""
        if connection.resumed:
            return
        leaf, *others = [
            x509.load_der_x509_certificate(bytes(one.bytes)) for one in connection.session.serverCertChain.x509List
        ]
        verifier = PolicyBuilder().store(self.store).build_server_verifier(x509.DNSName(self.how.name))
        try:
            verifier.verify(leaf, others)
        except VerificationError as error:
            raise errors.TLSAuthenticationError(str(error)) from error

    def pair(self) -> TlslitePair:
        return TlslitePair(self)


class TlslitePair:
    def __init__(self, stack: TlsliteStack) -> None:
        self._stack = stack
        wires = Wire(), Wire()
        wires[0].far, wires[1].far = wires[1], wires[0]
        self._to_client = wires[0]
        self.client, self.server = (TLSConnection(wire) for wire in wires)
        self._done = [False, False]
        how = stack.how
        self._steps: list[Generator[int]] = [
            self.client.handshakeClientCert(
                settings=stack.client_settings,
                serverName=how.name,
                session=stack.session,
                checker=stack.check,
                async_=True,
            ),
            self.server.handshakeServerAsync(
                certChain=stack.chain, privateKey=stack.key, settings=stack.server_settings
            ),
        ]

    def _turn(self, end: int) -> None:
        for waits in self._steps[end]:
            if waits == 0:
                return
        self._done[end] = True

    def client_turn(self) -> None:
        self._turn(0)

    def server_turn(self) -> None:
        self._turn(1)

    def server_bytes(self) -> bytes:
        return bytes(self._to_client.incoming)

    def completed(self) -> None:
        if not all(self._done):
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        if self._stack.session is not None and not self.client.resumed:
            raise NotAsAskedError("it did not resume")
        next(self.client.readAsync(1, 1))
        self._stack.session = self.client.session
        if not self.client.tickets:
            raise NotAsAskedError("there was no ticket")

    def send(self, data: bytes) -> None:
        self._carry(self.client, self.server, data)

    def ping_pong(self, data: bytes) -> None:
        self._carry(self.client, self.server, data)
        self._carry(self.server, self.client, data)

    def _carry(self, sender: TLSConnection, receiver: TLSConnection, data: bytes) -> None:
        sender.write(data)
        missing = len(data)
        while missing:
            missing -= len(receiver.read(max=missing, min=1))
