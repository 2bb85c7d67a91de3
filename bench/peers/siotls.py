"""siotls: another TLS 1.3 in pure Python without I/O, over cryptography."""

from __future__ import annotations

from importlib.metadata import version

import siotls
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from siotls import TLSConfiguration, TLSConnection
from siotls.iana import CipherSuites, NamedGroup, SignatureScheme
from siotls.pem import decode_pem_certificate_chain, decode_pem_private_key
from siotls.trust import get_truststore  # noqa: F401  # it must be imported before a backend is
from siotls.trust.backends.openssl import OpensslTrustStore

from bench.peers.interface import PLAIN, SUITES, X25519, Certificates, How, NotAsAskedError

siotls.crypto.install("openssl")

PIECE = 2**14 - 18  # it pads beyond what it takes itself where a record is fuller

SCHEMES = (SignatureScheme.ecdsa_secp256r1_sha256, SignatureScheme.rsa_pss_rsae_sha256)


class SiotlsStack:
    name = "siotls"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.how = how
        both = {
            "cipher_suites": [CipherSuites(SUITES[how.suite])],
            "key_exchanges": [NamedGroup.x25519],
            "signature_algorithms": SCHEMES,
        }
        roots = x509.load_pem_x509_certificates(how.roots_pem or certificates.roots_pem)
        store = OpensslTrustStore([root.public_bytes(Encoding.DER) for root in roots])
        self.client = TLSConfiguration("client", truststore=store, **both)
        self.server = TLSConfiguration(
            "server",
            private_key=decode_pem_private_key(certificates.leaf.key_pem),
            certificate_chain=decode_pem_certificate_chain(certificates.leaf.chain_pem),
            **both,
        )

    @classmethod
    def version(cls) -> str:
        return f"siotls {version('siotls')}, cryptography"

    @classmethod
    def lacks(cls, how: How) -> str:
        if how.resume:
            return "no sessions"
        return "" if how.group == X25519 else f"no {how.group}"

    def pair(self) -> SiotlsPair:
        return SiotlsPair(self)


class SiotlsPair:
    def __init__(self, stack: SiotlsStack) -> None:
        self.client = TLSConnection(stack.client, server_hostname=stack.how.name)
        self.server = TLSConnection(stack.server)
        self.server.initiate_connection()
        self._to_server = self._to_client = b""

    def client_turn(self) -> None:
        if self._to_client:
            self.client.receive_data(self._to_client)
        else:
            self.client.initiate_connection()
        self._to_server = bytes(self.client.data_to_send())

    def server_turn(self) -> None:
        self.server.receive_data(self._to_server)
        self._to_client = bytes(self.server.data_to_send())

    def server_bytes(self) -> bytes:
        return self._to_client

    def completed(self) -> None:
        if not (self.client.is_connected() and self.server.is_connected()):
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        raise NotAsAskedError("no sessions")

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            self.client.send_data(data[start : start + PIECE])
        self.server.receive_data(self.client.data_to_send())
        if len(self.server.data_to_read()) != len(data):
            raise NotAsAskedError("data is missing")

    def ping_pong(self, data: bytes) -> None:
        self.client.send_data(data)
        self.server.receive_data(self.client.data_to_send())
        self.server.send_data(bytes(self.server.data_to_read()))
        self.client.receive_data(self.server.data_to_send())
        if len(self.client.data_to_read()) != len(data):
            raise NotAsAskedError("data is missing")
