"""What both kinds of stream tell of their connection."""

from __future__ import annotations

import socket

from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.handshake.actions import Negotiated
from pellucid.net.script import Script
from pellucid.net.setup import socket_address
from pellucid.verify.report import VerifiedPeer

__all__ = ["StreamFacts"]


class StreamFacts:
    """The properties of a blocking or async stream. sock: None where there is no socket to ask."""

    def __init__(self, script: Script, sock: socket.socket | None) -> None:
        self._script = script
        self._local_address = ("", 0) if sock is None else socket_address(sock.getsockname)
        self._peer_address = ("", 0) if sock is None else socket_address(sock.getpeername)

    @property
    def connection(self) -> Connection:
        """The connection without I/O. It is not safe for threads: leave it alone while others read or write."""
        return self._script.connection

    @property
    def negotiated(self) -> Negotiated:
        """What was agreed on: cipher_suite, group, alpn, server_name, … Raises UsageError before the handshake."""
        negotiated = self._script.connection.negotiated
        if negotiated is None:
            raise UsageError("nothing is negotiated before the handshake is complete")
        return negotiated

    @property
    def peer(self) -> VerifiedPeer | None:
        """The peer's verified certificates; None for a client that showed none, in the handshake or after it."""
        connection = self._script.connection
        return self.negotiated.peer if connection.peer is None else connection.peer

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return *length* bytes that only the two ends know (RFC 9846 §7.5)."""
        return self._script.call(lambda: self._script.connection.export_keying_material(label, context, length))

    def channel_binding(self) -> bytes:
        """Return this connection's tls-exporter channel binding (RFC 9266 §2): 32 bytes."""
        return self._script.call(self._script.connection.channel_binding)

    @property
    def local_address(self) -> tuple[str, int]:
        """(address, port); ("", 0) where the transport has none."""
        return self._local_address

    @property
    def peer_address(self) -> tuple[str, int]:
        return self._peer_address

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._script.closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        (local, local_port), (peer, peer_port) = self._local_address, self._peer_address
        return f"<{type(self).__name__} {local} port {local_port} to {peer} port {peer_port}, {state}>"
