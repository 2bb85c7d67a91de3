"""What `get_extra_info("ssl_object")` gives: the facts of a native connection, named as the ssl-shaped ones'."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pellucid.connection import Connection
from pellucid.errors import TLSError, UsageError
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_session import SSLSession
from pellucid.trace import Observer, Role
from pellucid.verify.report import VerifiedPeer

if TYPE_CHECKING:
    from pellucid.asyncio.protocol import Wire

__all__ = ["TransportFacts"]


class _Seen:
    """A wire, as `Facts` looks at an engine."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def connection(self) -> Connection:
        return self._wire.connection

    @property
    def negotiated(self) -> Negotiated | None:
        return self._wire.connection.negotiated or self._wire.accepted

    @property
    def early_bytes(self) -> int:
        return self._wire.early_bytes

    @property
    def later_certificates(self) -> tuple[bytes, ...]:
        return self._wire.later_certificates

    @property
    def own(self) -> Observer | None:
        return self._wire.observer

    @property
    def error(self) -> TLSError | None:
        error = self._wire.error
        return error if isinstance(error, TLSError) else None


class TransportFacts(Facts):
    """What is known of a connection of `pellucid.asyncio`: shaped like `ssl.SSLObject`, and what ours know beyond."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # Facts reads of its engine what _Seen has, and nothing else: a test goes through all of it.
        self._engine = cast(Engine, _Seen(wire))
        self.server_side = wire.connection.role is Role.SERVER
        self.server_hostname = wire.server_hostname

    # What is asked for each request of a server, without the detour: 1 µs of its 50.

    @property
    def negotiated(self) -> Negotiated | None:
        wire = self._wire
        return wire.connection.negotiated or wire.accepted

    @property
    def peer(self) -> VerifiedPeer | None:
        return self._wire.connection.peer

    @property
    def early_bytes(self) -> int:
        return self._wire.early_bytes

    @property
    def session(self) -> SSLSession | None:
        """None: sessions are kept and resumed by the configuration (`sessions`), without a hand of the caller's."""
        return None

    @session.setter
    def session(self, session: SSLSession | None) -> None:
        raise UsageError("the configuration keeps the sessions of these connections, and resumes them")

    @property
    def early_data(self) -> EarlyDataOutcome:
        """What became of early data, and why; unless it is ACCEPTED, it is for the caller to send it again."""
        negotiated = self.negotiated
        if self._wire.early_data_too_long or negotiated is None:
            return EarlyDataOutcome.TOO_LONG
        return negotiated.early_data

    def verify_client_post_handshake(self) -> None:
        """Server: ask for the client's certificate; `getpeercert` has it once it has come.

        Raises UsageError where it cannot be asked for: see `Connection.request_client_certificate`.
        """
        self._wire.connection.request_client_certificate()
        self._wire.send_pending()
