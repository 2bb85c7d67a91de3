"""What both kinds of stream tell of their connection."""

from __future__ import annotations

import socket

from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from pellucid.net.script import Script
from pellucid.net.setup import socket_address
from pellucid.net.trouble import explained
from pellucid.verify.report import VerifiedPeer

__all__ = ["StreamFacts"]


class StreamFacts:
    """The properties of a blocking or async stream. sock: None where there is no socket to ask."""

    def __init__(self, script: Script, sock: socket.socket | None) -> None:
        self._script = script
        self._local_address = ("", 0) if sock is None else socket_address(sock.getsockname)
        self._peer_address = ("", 0) if sock is None else socket_address(sock.getpeername)
        self._lost: tuple[OSError, OSError] | None = None
        """what the transport said, and what is raised for it, each time"""

    def _told(self, error: OSError) -> OSError:
        """Return what to raise for *error*: itself, or an error that can be explained (`report`)."""
        if self._lost is not None and self._lost[0] is error:
            return self._lost[1]
        told = explained(error, self._script.connection, peer=self._peer_address)
        if told is not error:
            self._lost = (error, told)
        return told

    @property
    def connection(self) -> Connection:
        """The connection without I/O. It is not safe for threads: leave it alone while others read or write."""
        return self._script.connection

    @property
    def negotiated(self) -> Negotiated:
        """What was agreed on: cipher_suite, group, alpn, server_name, … Raises UsageError before the handshake.

        While a server reads early data: what will have been agreed once the handshake is complete.
        """
        negotiated = self._script.connection.negotiated or self._script.accepted
        if negotiated is None:
            raise UsageError("nothing is negotiated before the handshake is complete")
        return negotiated

    @property
    def peer(self) -> VerifiedPeer | None:
        """The peer's verified certificates; None for a client that showed none, in the handshake or after it."""
        connection = self._script.connection
        return self.negotiated.peer if connection.peer is None else connection.peer

    @property
    def handshake_complete(self) -> bool:
        """Whether the peer's Finished is in. False while early data is read: it may be a replay (RFC 9846 §8)."""
        return self._script.complete

    @property
    def early_data(self) -> EarlyDataOutcome:
        """What became of early data, and why. For a client: of that which it was given; unless it is ACCEPTED, none of
        it reached the server's application, and it is for the caller to send it again (RFC 9846 §4.3.10).
        """
        return EarlyDataOutcome.TOO_LONG if self._script.early_data_too_long else self.negotiated.early_data

    @property
    def early_bytes_read(self) -> int:
        """Server: how many of the bytes read so far came as early data: the first ones. No read mixes them with others.

        Until `handshake_complete` they may be somebody's replay of what the client sent once.
        """
        return self._script.early_bytes_read

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return *length* bytes that only the two ends know (RFC 9846 §7.5)."""
        return self._script.call(lambda: self._script.connection.export_keying_material(label, context, length))

    def export_early_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return *length* bytes by the early exporter, while early data is under way (RFC 9846 §7.5)."""
        return self._script.call(lambda: self._script.connection.export_early_keying_material(label, context, length))

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
