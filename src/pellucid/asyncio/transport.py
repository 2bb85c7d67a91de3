"""What the protocol of a user is given: a transport in asyncio's shape, with the facts of its TLS connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pellucid.asyncio.facts import TransportFacts
from pellucid.connection import Connection
from pellucid.errors import UsageError

if TYPE_CHECKING:
    from pellucid.asyncio.protocol import Wire

__all__ = ["Transport"]


class Transport(asyncio.Transport):
    """A TLS connection as one of asyncio's transports.

    `get_extra_info` knows "ssl_object" (what all is known of the connection: `negotiated`, `peer`, `report`, and what
    `ssl.SSLObject` tells), "sslcontext" (the configuration), "peercert", "cipher", "compression", and what the
    transport below knows: "socket", "peername", "sockname".

    Unlike asyncio's own TLS, `can_write_eof` is true: `write_eof` sends close_notify, and reading goes on (RFC 9846
    §6.1). The peer's close_notify calls `eof_received`, and a stream that ends without one is lost with
    TruncatedStream.
    """

    __slots__ = ("_facts", "_wire")

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        self._facts: TransportFacts | None = None

    # ---- facts -------------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection without I/O. What it is told to send leaves with the next write, or `flush`."""
        return self._wire.connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # Any: asyncio's
        """Return what is known under *name*, else *default*."""
        if name in {"ssl_object", "peercert", "cipher"}:
            if self._facts is None:  # an idle connection of whom nobody asks has none
                self._facts = TransportFacts(self._wire)
            if name == "ssl_object":
                return self._facts
            return self._facts.cipher() if name == "cipher" else self._facts.getpeercert()
        if name == "sslcontext":
            return self._wire.config
        if name == "compression":
            return default
        return self._wire.lower.get_extra_info(name, default)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._wire.reading

    def pause_reading(self) -> None:
        """Have nothing delivered until `resume_reading`. What waits meanwhile is one read's at most: 256 KiB."""
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._wire.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._wire.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the user's protocol. Raises UsageError once the connection is lost."""
        protocol = self._wire.protocol
        if protocol is None:
            raise UsageError("the connection has no protocol")
        return protocol

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal and send *data*, or keep it until there is room."""
        self._wire.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write them as one: small ones share a record."""
        self._wire.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send close_notify behind what was written; reading goes on. The transport stays open until `close`."""
        self._wire.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._wire.limit_write_buffer(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._wire.write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._wire.write_buffer_size()

    def flush(self) -> None:
        """Send what the connection has been told to send: a KeyUpdate, a CertificateRequest."""
        self._wire.send_pending()

    def key_update(self, *, request_peer: bool = False) -> None:
        """Change the sending key, and have the peer change its own if *request_peer* (RFC 9846 §4.7.3)."""
        self._wire.connection.send_key_update(request_peer=request_peer)
        self._wire.send_pending()

    def request_client_certificate(self, *, required: bool = False) -> None:
        """Server: ask for the client's certificate (RFC 9846 §4.7.2); `ssl_object.peer` has it once it has come."""
        self._wire.connection.request_client_certificate(required=required)
        self._wire.send_pending()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._wire.closing

    def close(self) -> None:
        """Send what was written and close_notify, wait a little for the peer's, close. What comes is thrown away."""
        self._wire.close()

    def abort(self) -> None:
        """Close at once, without close_notify: the peer sees a truncated stream."""
        self._wire.abort()

    def __repr__(self) -> str:
        return f"<pellucid.asyncio.Transport {self._wire.life} over {self._wire.lower!r}>"
