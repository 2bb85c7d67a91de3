"""Peers with the shape of Python's ssl: ssl itself, rtls (rustls), utls (BoringSSL); each over its own MemoryBIOs."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import ssl
from importlib import import_module
from importlib.metadata import version
from typing import Any

from bench.peers.interface import PLAIN, X25519, Certificates, How, NotAsAskedError, file_of

READ = 2**14  # what a read returns at most, a record's data; asking for more makes room in vain (ssl: 6 % of bulk)
OPENSSL_WITH_HYBRIDS = (3, 5)


class BioStack:
    """What the three have in common."""

    name: str
    tls: Any
    piece = 2**20
    """how much is written at once, of what suits the library best; measured with 16 KiB, 64 KiB, 256 KiB and 1 MiB"""

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        tls = self.tls
        self.how = how
        self.session: Any = None
        self._roots = (how.roots_pem or certificates.roots_pem).decode()
        self.server = self._context(tls.PROTOCOL_TLS_SERVER)
        self.new_client()
        with file_of(certificates.leaf.chain_pem + certificates.leaf.key_pem) as path:
            self.server.load_cert_chain(path)

    def _context(self, protocol: Any) -> Any:
        context = self.tls.SSLContext(protocol)
        context.minimum_version = self.tls.TLSVersion.TLSv1_3
        self.prepare(context)
        return context

    def new_client(self) -> None:
        """Make the client's configuration, roots and all."""
        self.client = self._context(self.tls.PROTOCOL_TLS_CLIENT)
        self.client.load_verify_locations(cadata=self._roots)

    def prepare(self, context: Any) -> None:
        """Have *context* take the suite and the group."""

    def pair(self) -> BioPair:
        return BioPair(self)


class BioPair:
    """Two objects over two MemoryBIOs that both share."""

    def __init__(self, stack: BioStack) -> None:
        tls = stack.tls
        self._stack = stack
        self._want_read = tls.SSLWantReadError
        self.to_server, self.to_client = tls.MemoryBIO(), tls.MemoryBIO()
        self.done = False
        more = {} if stack.session is None else {"session": stack.session}
        self.client = stack.client.wrap_bio(self.to_client, self.to_server, server_hostname=stack.how.name, **more)
        self.server = stack.server.wrap_bio(self.to_server, self.to_client, server_side=True)

    def client_turn(self) -> None:
        with contextlib.suppress(self._want_read):
            self.client.do_handshake()

    def server_turn(self) -> None:
        try:
            self.server.do_handshake()
        except self._want_read:
            return
        self.done = True

    def server_bytes(self) -> bytes:
        data = self.to_client.read()
        self.to_client.write(data)
        return bytes(data)

    def completed(self) -> None:
        # The last thing to come is the client's Finished: with that, both are.
        if not self.done:
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        with contextlib.suppress(self._want_read):
            self.client.read(1)
        if self._stack.session is not None and not self.client.session_reused:
            raise NotAsAskedError("it did not resume")
        self._stack.session = self.client.session
        if self._stack.session is None:
            raise NotAsAskedError("there was no ticket")

    def send(self, data: bytes) -> None:
        write, read, piece = self.client.write, self.server.read, self._stack.piece
        for start in range(0, len(data), piece):
            missing = write(data[start : start + piece])
            while missing:
                missing -= len(read(READ))

    def ping_pong(self, data: bytes) -> None:
        self.client.write(data)
        self.server.write(self.server.read(READ))
        self.client.read(READ)


class StdlibStack(BioStack):
    """Python's own ssl."""

    name = "ssl"
    tls = ssl

    @classmethod
    def version(cls) -> str:
        return ssl.OPENSSL_VERSION

    @classmethod
    def lacks(cls, how: How) -> str:
        if how.early:
            return "no 0-RTT"
        if how.group != X25519 and ssl.OPENSSL_VERSION_INFO < OPENSSL_WITH_HYBRIDS:
            return f"no {how.group} before OpenSSL 3.5"
        return ""

    def prepare(self, context: ssl.SSLContext) -> None:
        configure(context, self.how)
        if context.protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 1 if self.how.resume else 0


def configure(context: ssl.SSLContext, how: How) -> None:
    """Have stdlib's *context* take *how*'s suite and group, which Python lets nobody choose before 3.15.

    It asks OpenSSL itself: the context's address is the first thing in Python's object.
    """
    library = ctypes.CDLL(_ssl.__file__)
    address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    library.SSL_CTX_set_ciphersuites.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    if library.SSL_CTX_set_ciphersuites(address, how.suite.encode()) != 1:
        raise NotAsAskedError(f"OpenSSL does not take {how.suite}")
    library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    set_groups_list = 92  # SSL_CTRL_SET_GROUPS_LIST
    if library.SSL_CTX_ctrl(address, set_groups_list, 0, how.group.encode()) != 1:
        raise NotAsAskedError(f"OpenSSL does not take {how.group}")
    # That the object is what we take it for shows here, before anything is measured.
    if [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.3"] != [how.suite]:
        raise NotAsAskedError(f"ssl cannot be told to take {how.suite} here")


class RtlsStack(BioStack):
    """rustls with aws-lc-rs. It takes the suites and groups that it prefers."""

    name = "rtls"
    piece = 2**14  # of 1 MiB it takes the first 64 KiB, and what is not read at once it copies again and again

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.tls = import_module("rtls")
        super().__init__(certificates, how)

    @classmethod
    def version(cls) -> str:
        return f"rtls {version('rtls')}, {import_module('rtls').OPENSSL_VERSION}"

    @classmethod
    def lacks(cls, how: How) -> str:
        return "no sessions" if how.resume else ""


class UtlsStack(BioStack):
    """BoringSSL. Groups can be chosen, suites of TLS 1.3 cannot."""

    name = "utls"
    piece = 2**14  # 1 MiB: 390 µs in such pieces, 1800 in one

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.tls = import_module("utls")
        super().__init__(certificates, how)

    @classmethod
    def version(cls) -> str:
        return f"utls {version('utls')}, BoringSSL"

    @classmethod
    def lacks(cls, how: How) -> str:
        return "gives out no session that has a ticket" if how.resume else ""

    def prepare(self, context: Any) -> None:
        context.set_ecdh_curve("X25519" if self.how.group == X25519 else self.how.group)
