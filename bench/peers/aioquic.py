"""aioquic.tls: the handshake that QUIC has; no records, so no application data and no protection of the handshake."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.peers.interface import PLAIN, SUITES, X25519, Certificates, How, NotAsAskedError

ROOM = 2**14


class AioquicStack:
    name = "aioquic.tls"

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None:
        self.how = how
        self.chain = x509.load_pem_x509_certificates(certificates.leaf.chain_pem)
        self.key: Any = load_pem_private_key(certificates.leaf.key_pem, None)
        self.roots = how.roots_pem or certificates.roots_pem
        self.tickets: dict[bytes, tls.SessionTicket] = {}
        self.ticket: tls.SessionTicket | None = None

    @classmethod
    def version(cls) -> str:
        return f"aioquic {version('aioquic')}, without QUIC"

    @classmethod
    def lacks(cls, how: How) -> str:
        if how.early:
            return "early data is QUIC's"
        return "" if how.group == X25519 else f"no {how.group}"

    def pair(self) -> AioquicPair:
        return AioquicPair(self)


class AioquicPair:
    def __init__(self, stack: AioquicStack) -> None:
        how = stack.how
        suites = [tls.CipherSuite(SUITES[how.suite])]
        self._stack = stack
        self.client = tls.Context(is_client=True, cadata=stack.roots, cipher_suites=suites, server_name=how.name)
        self.server = tls.Context(is_client=False, cipher_suites=suites)
        for end in (self.client, self.server):
            end._supported_groups = [tls.Group.X25519]
        self.server.certificate, *self.server.certificate_chain = stack.chain
        self.server.certificate_private_key = stack.key
        if how.resume:
            self.client.session_ticket = stack.ticket
            self.client.new_session_ticket_cb = self._take
            self.server.new_session_ticket_cb = self._issued
            self.server.get_session_ticket_cb = lambda ticket: stack.tickets.pop(ticket, None)
        self._to_server = self._to_client = b""
        self._hello = b""

    def _take(self, ticket: tls.SessionTicket) -> None:
        self._stack.ticket = ticket

    def _issued(self, ticket: tls.SessionTicket) -> None:
        self._stack.tickets[ticket.ticket] = ticket

    def _turn(self, end: tls.Context, data: bytes) -> bytes:
        buffers = {epoch: Buffer(capacity=ROOM) for epoch in tls.Epoch}
        end.handle_message(data, buffers)
        if not self._hello and end is self.server:
            self._hello = buffers[tls.Epoch.INITIAL].data
        return b"".join(buffer.data for buffer in buffers.values())

    def client_turn(self) -> None:
        self._to_server = self._turn(self.client, self._to_client)

    def server_turn(self) -> None:
        self._to_client = self._turn(self.server, self._to_server)

    def server_bytes(self) -> bytes:
        return b"\x16\x03\x03" + len(self._hello).to_bytes(2, "big") + self._hello  # as in a record

    def completed(self) -> None:
        done = (tls.State.CLIENT_POST_HANDSHAKE, tls.State.SERVER_POST_HANDSHAKE)
        if (self.client.state, self.server.state) != done:
            raise NotAsAskedError("the handshake did not complete")

    def take_ticket(self) -> None:
        if self._stack.ticket is not None and not self.client.session_resumed:
            raise NotAsAskedError("it did not resume")
        self._turn(self.client, self._to_client)

    def send(self, data: bytes) -> None:
        raise NotAsAskedError("no records")

    def ping_pong(self, data: bytes) -> None:
        raise NotAsAskedError("no records")
