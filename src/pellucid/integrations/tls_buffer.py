"""TLS between two buffers, in the shape of PEP 748: bytes of the network in and out, the application's beside them.

No I/O and nothing of the `ssl` module. A context holds a configuration and makes buffers; a buffer is one connection.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from typing import Final, overload

from pellucid.config import ClientConfig, ConfigSource, ServerConfig, current_config
from pellucid.connection import Connection
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.provider import Buffer
from pellucid.errors import InternalError, TLSError, TruncatedStream, UsageError
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    CredentialNeeded,
    EarlyData,
    FirstUseNeeded,
    SignatureNeeded,
    TicketNeeded,
    VerificationNeeded,
)
from pellucid.net.load import system_trust
from pellucid.registry import AlertDescription
from pellucid.trace import Observer
from pellucid.verify.report import VerificationReport, VerifiedPeer

__all__ = [
    "ClientContext",
    "RaggedEOF",
    "ServerContext",
    "TLSBuffer",
    "TLSVersion",
    "WantReadError",
    "WantWriteError",
]

Pause = CredentialNeeded | SignatureNeeded | VerificationNeeded | TicketNeeded | FirstUseNeeded
Answer = Callable[[Pause], object]

_MAX_INCOMING: Final = 2**18  # of the network's, not yet worked on: a peer cannot make it more
_MAX_OUTGOING: Final = 2**20  # from here on nothing more is written before some of it is taken
_MAX_WRITE: Final = 2**17  # of one call


class TLSVersion(enum.Enum):
    """The versions that are spoken: PEP 748's name and value."""

    TLSv1_3 = "TLSv1.3"


class WantReadError(TLSError):
    """Bytes of the network are needed: `process_incoming`. Or, from that, there is no room: `read` first."""

    def __init__(self, reason: str = "more bytes of the peer are needed") -> None:
        super().__init__(reason)


class WantWriteError(TLSError):
    """There is no room for what would be sent: `process_outgoing` first."""

    def __init__(self) -> None:
        super().__init__("what is to be sent must be taken before more can be written")


class RaggedEOF(TruncatedStream):
    """The peer's stream ended without close_notify: what was read may not be all that it had to say."""


class ClientContext:
    """Makes the client's ends of connections.

    configuration: whom to trust, what to offer. Without trust and verifier: the system's roots.
    answer: answers the pauses of a signer, resolver or verifier that said PENDING.
    """

    def __init__(self, configuration: ClientConfig, *, answer: Answer | None = None) -> None:
        self._configuration = configuration
        self._answer = answer

    @property
    def configuration(self) -> ClientConfig:
        return self._configuration

    def create_buffer(self, server_hostname: str, *, port: int = 0, trace: Observer | None = None) -> TLSBuffer:
        """Return a new connection to *server_hostname*, the name that the certificate must be for.

        port: with the name it says whose sessions may be resumed. Raises UsageError for a name that cannot be one.
        """
        config = self._configuration
        if config.trust is None and config.verifier is None and not config.external_psks:
            self._configuration = config = _with_system_trust(config)
        return TLSBuffer(Connection.client(config, server_hostname, port=port, trace=trace), self, self._answer)


class ServerContext:
    """Makes the server's ends of connections. configuration: a ServerConfig, or a source that is asked for each."""

    def __init__(self, configuration: ServerConfig | ConfigSource, *, answer: Answer | None = None) -> None:
        current_config(configuration)
        self._configuration = configuration
        self._answer = answer

    @property
    def configuration(self) -> ServerConfig:
        """The configuration; of a source, what it has now."""
        return current_config(self._configuration)

    def create_buffer(self, *, peer_address: str = "", trace: Observer | None = None) -> TLSBuffer:
        """Return a new connection. peer_address: what the cookies of HelloRetryRequests are bound to."""
        connection = Connection.server(self.configuration, peer_address=peer_address, trace=trace)
        return TLSBuffer(connection, self, self._answer)


class TLSBuffer:
    """One connection in memory. `ClientContext.create_buffer` and `ServerContext.create_buffer` make them.

    The network's bytes go in by `process_incoming` and come out of `process_outgoing`: after every other call there may
    be some, the alert after an error included. Not for two threads at once. An error is raised again by every call.
    Early data, where a server's configuration takes it, is read once the handshake is complete: then it is no replay.
    """

    def __init__(
        self, connection: Connection, context: ClientContext | ServerContext, answer: Answer | None = None
    ) -> None:
        self._connection = connection
        self._context = context
        self._answer = answer
        self._incoming = bytearray()
        self._ended = False
        self._plain = bytearray()
        self._outgoing = bytearray()
        self._peer_closed = False
        self._error: TLSError | None = None

    # ---- the application's side ------------------------------------------------------------------------------------

    def do_handshake(self) -> None:
        """Shake hands and verify the peer. Raises WantReadError until that is done, and the peer's errors."""
        self._connection.start()
        self._work()
        if not self._connection.handshake_complete:
            self._check()
            if self._peer_closed:
                raise RaggedEOF("the peer closed the connection before the handshake was complete")
            raise WantReadError

    @overload
    def read(self, amt: int, buffer: None = None) -> bytes: ...

    @overload
    def read(self, amt: int, buffer: bytearray | memoryview) -> int: ...

    def read(self, amt: int, buffer: bytearray | memoryview | None = None) -> bytes | int:
        """Return 1 to *amt* bytes, or how many were put into *buffer*; b"" or 0 after the peer's close_notify.

        Raises WantReadError where there are none yet, RaggedEOF where the stream ended without close_notify.
        """
        if amt < 0:
            raise ValueError("a negative number of bytes cannot be read")
        if buffer is not None:
            with memoryview(buffer) as given, given.cast("B") as view:
                data = self.read(min(amt, view.nbytes))
                view[: len(data)] = data
                return len(data)
        if not self._plain:
            self.do_handshake()
        if not self._plain and amt:
            self._check()
            if not self._peer_closed:
                raise WantReadError
        data = bytes(self._plain[:amt])
        del self._plain[:amt]
        return data

    def write(self, buf: Buffer) -> int:
        """Protect bytes of *buf*; return how many: all, or 128 KiB of more. Shakes hands first, as `do_handshake`.

        Raises WantWriteError while a MiB is waiting to be taken, UsageError after `shutdown`.
        """
        if not self._connection.handshake_complete:
            self.do_handshake()
        self._check()
        if self.outgoing_bytes_buffered() >= _MAX_OUTGOING:
            raise WantWriteError
        with memoryview(buf) as given, given.cast("B") as view, view[:_MAX_WRITE] as piece:
            self._guarded(lambda: self._connection.send_data(piece))
            self._check()
            return len(piece)

    def shutdown(self) -> None:
        """Say close_notify: nothing more is written. What the peer still sends can be read. Again: nothing happens."""
        self._guarded(self._connection.close)

    # ---- the network's side ----------------------------------------------------------------------------------------

    def process_incoming(self, data_from_network: Buffer) -> None:
        """Keep bytes of the network for the next call of the other side; b"" is the end of the stream.

        Raises WantReadError, and keeps nothing, while 256 KiB are kept that nobody read.
        """
        size = memoryview(data_from_network).nbytes
        if not size:
            self._ended = True
            return
        if self.incoming_bytes_buffered() + len(self._plain) + size > _MAX_INCOMING and (self._incoming or self._plain):
            raise WantReadError("there is no room for more: read first")
        self._incoming += data_from_network

    def incoming_bytes_buffered(self) -> int:
        """Return how many bytes of the network nobody has worked on."""
        return len(self._incoming)

    def process_outgoing(self, amount_bytes_for_network: int) -> bytes:
        """Return up to so many bytes for the network, b"" if there are none."""
        if amount_bytes_for_network < 0:
            raise ValueError("a negative number of bytes cannot be taken")
        self._collect()
        data = bytes(self._outgoing[:amount_bytes_for_network])
        del self._outgoing[:amount_bytes_for_network]
        return data

    def outgoing_bytes_buffered(self) -> int:
        """Return how many bytes wait for `process_outgoing`."""
        self._collect()
        return len(self._outgoing)

    # ---- facts -----------------------------------------------------------------------------------------------------

    @property
    def context(self) -> ClientContext | ServerContext:
        return self._context

    @property
    def connection(self) -> Connection:
        """The connection itself, and all that it knows."""
        return self._connection

    @property
    def peer(self) -> VerifiedPeer | None:
        return self._connection.peer

    @property
    def report(self) -> VerificationReport | None:
        """What was found of the peer's certificates."""
        peer = self._connection.peer
        return None if peer is None else peer.report

    def cipher(self) -> int | None:
        """Return the code point of the cipher suite; None before the handshake is complete."""
        negotiated = self._connection.negotiated
        return None if negotiated is None else negotiated.cipher_suite

    def negotiated_protocol(self) -> bytes | None:
        """Return the application protocol (ALPN) that both ends have; None without one."""
        negotiated = self._connection.negotiated
        return None if negotiated is None or negotiated.alpn is None else negotiated.alpn.encode()

    @property
    def negotiated_tls_version(self) -> TLSVersion | None:
        return None if self._connection.negotiated is None else TLSVersion.TLSv1_3

    def getpeercert(self) -> bytes | None:
        """Return the peer's certificate as DER; None if it showed none, or a raw public key."""
        peer = self._connection.peer
        return peer.leaf.der if peer is not None and isinstance(peer.leaf, X509Certificate) else None

    # ---- within ----------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        self._guarded(lambda: self._outgoing.extend(self._connection.data_to_send()))

    def _work(self) -> None:
        """Hand on what came, and take what happened. An error is kept: the data before it is read first."""
        data = bytes(self._incoming)
        self._incoming.clear()
        if data:
            self._guarded(lambda: self._connection.receive_data(data))
        if self._ended and not self._peer_closed:
            self._guarded(lambda: self._connection.receive_data(b""))
        self._guarded(self._take_events)

    def _take_events(self) -> None:
        while (event := self._connection.next_event()) is not NEED_DATA:
            if isinstance(event, ApplicationData | EarlyData):
                self._plain += event.data
            elif isinstance(event, CloseNotify):
                self._peer_closed = True
            elif isinstance(event, Pause):
                self._resume(event)

    def _resume(self, pause: Pause) -> None:
        if self._answer is None:
            awaits = "; what must be awaited, pellucid.asyncio and pellucid.aio await" if pause.answer else ""
            self._connection.fail(AlertDescription.INTERNAL_ERROR)
            raise UsageError(f"nobody answers {type(pause).__name__}: give the context an `answer`{awaits}")
        try:
            value = self._answer(pause)
        except Exception as error:
            self._connection.fail(AlertDescription.INTERNAL_ERROR)
            raise InternalError(f"{type(error).__name__} while answering {type(pause).__name__}") from error
        self._connection.resume(value, pause.need)

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do *work*, and keep what is wrong with the connection; the caller's own mistakes are raised at once."""
        try:
            work()
        except UsageError:
            raise
        except TruncatedStream as error:
            if self._error is None:
                self._error = RaggedEOF(error.reason)
                self._error.__cause__ = error
        except TLSError as error:
            if self._error is None:
                self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def _with_system_trust(config: ClientConfig) -> ClientConfig:
    return replace(config, trust=system_trust())
