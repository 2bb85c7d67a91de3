"""pyOpenSSL over its memory BIOs: the OpenSSL that cryptography brings."""

from __future__ import annotations

import contextlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from OpenSSL._util import lib  # its own API chooses no group but NIST curves, and looks at no name

from bench.peers.interface import PLAIN, Certificates, How, NotAsAskedError

STEP = 2**16  # of 16 KiB to 1 MiB what suits it best
READ = 2**14


class PyOpenSSLStack:
    name = "pyOpenSSL"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.how = how
        self.session: SSL.Session | None = None
        self.client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.client.set_verify(SSL.VERIFY_PEER)
        store = self.client.get_cert_store()
        for root in x509.load_pem_x509_certificates(how.roots_pem or certificates.roots_pem):
            store.add_cert(crypto.X509.from_cryptography(root))
        self.server = SSL.Context(SSL.TLS_SERVER_METHOD)
        key: Any = load_pem_private_key(certificates.leaf.key_pem, None)
        chain = x509.load_pem_x509_certificates(certificates.leaf.chain_pem)
        self.server.use_certificate(chain[0])
        for one in chain[1:]:
            self.server.add_extra_chain_cert(one)
        self.server.use_privatekey(key)
        for context in (self.client, self.server):
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
            context.set_tls13_ciphersuites(how.suite.encode())
            if lib.SSL_CTX_set1_curves_list(context._context, how.group.encode()) != 1:
                raise NotAsAskedError(f"OpenSSL does not take {how.group}")
        if not how.resume:
            self.server.set_options(SSL.OP_NO_TICKET)
            self.server.set_session_cache_mode(SSL.SESS_CACHE_OFF)

    @classmethod
    def version(cls) -> str:
        return f"pyOpenSSL {SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()}"

    @classmethod
    def lacks(cls, how: How) -> str:
        return "no 0-RTT" if how.early else ""

    def pair(self) -> PyOpenSSLPair:
        return PyOpenSSLPair(self)


class PyOpenSSLPair:
    def __init__(self, stack: PyOpenSSLStack) -> None:
        self._stack = stack
        self.done = False
        self.client, self.server = SSL.Connection(stack.client), SSL.Connection(stack.server)
        self.client.set_connect_state()
        self.client.set_tlsext_host_name(stack.how.name.encode())
        name = stack.how.name.encode()
        if lib.X509_VERIFY_PARAM_set1_host(lib.SSL_get0_param(self.client._ssl), name, len(name)) != 1:
            raise NotAsAskedError("OpenSSL was not told whom to expect")
        self.server.set_accept_state()
        if stack.session is not None:
            self.client.set_session(stack.session)

    def client_turn(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.client.do_handshake()
        self._carry(self.client, self.server)

    def server_turn(self) -> None:
        try:
            self.server.do_handshake()
        except SSL.WantReadError:
            self._sent = self.server.bio_read(STEP)
            self.client.bio_write(self._sent)
            return
        self.done = True
        if self._stack.how.resume:
            self._carry(self.server, self.client)

    def _carry(self, sender: SSL.Connection, receiver: SSL.Connection) -> None:
        receiver.bio_write(sender.bio_read(STEP))

    def server_bytes(self) -> bytes:
        return self._sent

    def completed(self) -> None:
        if not self.done:
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.client.recv(1)
        if self._stack.session is not None and lib.SSL_session_reused(self.client._ssl) != 1:
            raise NotAsAskedError("it did not resume")
        self._stack.session = self.client.get_session()
        self.client.set_shutdown(SSL.SENT_SHUTDOWN)  # of a connection that goes without, OpenSSL resumes no session

    def send(self, data: bytes) -> None:
        client, server = self.client, self.server
        with memoryview(data) as view:
            for start in range(0, len(data), STEP):
                part = view[start : start + STEP]
                client.sendall(part)  # send takes a record at a time
                server.bio_write(client.bio_read(STEP + 4096))
                missing = len(part)
                while missing:
                    missing -= len(server.recv(READ))

    def ping_pong(self, data: bytes) -> None:
        client, server = self.client, self.server
        client.send(data)
        server.bio_write(client.bio_read(READ))
        server.send(server.recv(READ))
        client.bio_write(server.bio_read(READ))
        client.recv(READ)
