"""What both directions of a connection share: its parts, and the first error, which stands.

After it every call raises it again; nothing but its alert is left to send, and keys and secrets are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pellucid.config import ClientConfig, ServerConfig, narrowed
from pellucid.crypto.provider import Suite
from pellucid.errors import AlertReceived, Circumstances, InternalError, PeerError, TLSError, TruncatedStream
from pellucid.events import Event
from pellucid.handshake.actions import Complete, Negotiated, PauseAside
from pellucid.handshake.core import Context, Handshake
from pellucid.record.patience import Patience
from pellucid.record.reader import RecordReader
from pellucid.record.reassembly import lacking
from pellucid.record.writer import RecordWriter
from pellucid.registry import AlertDescription
from pellucid.sessions.client import SessionKey
from pellucid.trace import AlertTraced, ClosedTraced, Direction, HandshakeCompleted, Observer, Role, unwatched
from pellucid.verify.report import VerifiedPeer

WARNING: Final = 1
FATAL: Final = 2


class Carrier:
    """The parts of one end of a connection. Use `Connection`."""

    def __init__(self, role: Role, context: Context[Any], handshake: Handshake[Any], trace: Observer | None) -> None:
        """Use `Connection.client` or `Connection.server`."""
        config = context.config
        record_trace = trace if config.trace_records else None
        self.role = role
        self.negotiated: Negotiated | None = None
        """What was agreed; None until the handshake is complete."""
        self._context = context
        self._handshake = handshake
        self._trace = trace
        self._start: Callable[[], None] | None = None
        self._reader = RecordReader(context.provider.tag_error, record_trace)
        self._writer = RecordWriter(config.padding, record_trace, b"\x03\x01" if role is Role.CLIENT else b"\x03\x03")
        self._incoming = bytearray()
        self._message = bytearray()  # handshake bytes that are not a whole message yet
        self._events: list[Event] | deque[Event] = []
        self._error: TLSError | None = None
        self._exporter_secret: bytes | None = None
        self._early_exporter_secret: bytes | None = None
        self._early_suite: Suite | None = None
        self._early_left = 0
        """bytes of early data that may still be sent, by a client, or come, at a server"""
        self._early_protocol: str | None = None
        self._session_key: SessionKey | None = None
        """client: where this server's sessions are kept"""
        self._offers_session = False
        """client: the ClientHello offers to resume one of them"""
        self._receiving = False
        """the handshake is complete, nothing has gone wrong, the peer has not closed"""
        self._sending = False
        """application data may be sent, nothing has gone wrong, we have not closed and owe no KeyUpdate"""
        self._answers_early = False
        """server: data may be sent before the client's Finished (half-RTT)"""
        self._update_owed = False
        self._asides: list[PauseAside] = []
        """pauses that stop nothing else, oldest first"""
        self._authenticated: VerifiedPeer | None = None
        """server: who the client is by its last answer after the handshake"""
        self._sent_close = False
        self._peer_closed = False
        self._peer_ended = False
        """the peer's stream has ended; during a pause what came before that waits to be read"""
        self._patience = Patience()

    # ---- what it knows ---------------------------------------------------------------------------------------------

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """What this connection was made with."""
        config: ClientConfig | ServerConfig = self._context.config
        return config

    @property
    def handshake_complete(self) -> bool:
        return self.negotiated is not None

    @property
    def peer(self) -> VerifiedPeer | None:
        """Who the peer is: by its last answer to `request_client_certificate`, else by the handshake; None: unknown."""
        if self._authenticated is not None:
            return self._authenticated
        return None if self.negotiated is None else self.negotiated.peer

    @property
    def peer_closed(self) -> bool:
        """Whether the peer's close_notify has come."""
        return self._peer_closed

    @property
    def cut_record(self) -> tuple[int, int]:
        """(bytes of a cut record that are here, bytes that it lacks): its whole, or until its length is known."""
        return len(self._incoming), lacking(self._incoming)

    @property
    def trailing_data(self) -> bytes:
        """What followed the peer's close_notify in the same call: no TLS. Later bytes are not kept."""
        return bytes(self._incoming) if self._peer_closed else b""

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent: we closed, or failed."""
        return self._sent_close or self._error is not None

    @property
    def state(self) -> str:
        """Where the state machine waits, as RFC 9846 App. A names it."""
        return str(self._handshake.state.value)

    # ---- errors ----------------------------------------------------------------------------------------------------

    def circumstances(self, *, first_bytes: bytes = b"", seconds: float | None = None) -> Circumstances:
        """Return what is known of the connection at this moment, for an error that ends it."""
        negotiated, key, present = self.negotiated, self._session_key, self._reader.present
        return Circumstances(
            role=self.role.value,
            state=self.state,
            complete=negotiated is not None,
            server_name=key.host if key is not None else (negotiated and negotiated.server_name) or "",
            port=key.port if key is not None else 0,
            received=self._reader.handshake_bytes,
            records=0 if present is None else present[1],
            partial=len(self._incoming) + len(self._message),
            epoch=self._reader.epoch,
            narrowed=narrowed(self._context.config),
            showed_certificate=negotiated is not None and bool(negotiated.local_certificates),
            now=self._context.provider.now(),
            seconds=seconds,
            first_bytes=first_bytes,
        )

    def _check_usable(self) -> None:
        if self._error is not None:
            raise self._error

    def _guarded(self, work: Callable[[], Any]) -> None:
        """Run *work*; latch whatever it raises, and let the alert be sent."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  # all that a plugged-in verifier, signer or observer may raise
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, PeerError):
            self._latch(error, error.alert)
        elif isinstance(error, (AlertReceived, TruncatedStream)):
            self._latch(error, None)
        elif isinstance(error, TLSError):
            self._latch(error, AlertDescription.INTERNAL_ERROR)
        else:
            wrapped = InternalError(f"{type(error).__name__} inside the handshake")
            wrapped.__cause__ = error
            self._latch(wrapped, AlertDescription.INTERNAL_ERROR)

    def _latch(self, error: TLSError, alert: int | None) -> None:
        if self._error is not None:
            return  # the first error stands, and has told the peer
        self._error = error
        if error.circumstances is None:
            try:
                error.circumstances = self.circumstances(first_bytes=getattr(error, "first_bytes", b""))
            except Exception as failure:  # noqa: BLE001  # a broken clock: the first error stands
                error.add_note(f"then, while it was noted how things stood: {failure!r}")
        self._start = None
        self._receiving = self._sending = False
        self._update_owed = False
        self._incoming.clear()
        self._message.clear()
        for aside in self._asides:
            if aside.need.answer is not None:
                aside.need.answer.close()
        self._asides.clear()
        self._exporter_secret = None
        self._early_exporter_secret = None
        self._early_left = 0
        if alert is not None and not self._sent_close:
            try:
                self._writer.alert(FATAL, alert)
                self._tell_alert(Direction.SENT, alert, error.reason, error.code)
            except Exception as failure:  # noqa: BLE001  # a broken observer or padding policy: the first error stands
                error.add_note(f"then, while the peer was told of it: {failure!r}")
        self._forget_sessions(error)
        # §6.2: the keys and secrets of a failed connection are forgotten; what is left to send is sealed already.
        self._reader.forget()
        self._writer.forget()
        self._handshake.forget()

    def _end_of_stream(self) -> None:
        self._peer_ended = True
        if self._handshake.need is not None and self._incoming:
            return  # what came before the end is read first, when the pause is over
        state = "" if self.handshake_complete else f" during the handshake, in state {self.state}"
        partial = len(self._incoming) + len(self._message)
        cut = f", {partial} bytes into a record or message" if partial else ""

        def end() -> None:
            if self._trace is not None:
                self._trace(ClosedTraced(direction=Direction.RECEIVED, how="truncated", partial=partial))
            raise TruncatedStream(f"the connection ended without close_notify{state}{cut}")

        self._guarded(end)

    def transport_lost(self, how: str) -> None:
        """Tell the trace that the transport is gone, or silent: "reset", "silence". Whoever carries the bytes knows."""
        if self._trace is not None:
            self._trace(ClosedTraced(direction=Direction.RECEIVED, how=how))

    def _tell_alert(self, direction: Direction, description: int, reason: str, code: str = "") -> None:
        if self._trace is not None:
            epoch = self._writer.epoch if direction is Direction.SENT else self._reader.epoch
            self._trace(
                AlertTraced(direction=direction, epoch=epoch, description=description, reason=reason, code=code)
            )

    def _forget_sessions(self, error: TLSError) -> None:
        """§6.2: an error alert ends the session too; what is kept of this server is not used again."""
        if isinstance(error, PeerError | AlertReceived):
            self._discard_sessions()

    def _discard_sessions(self) -> None:
        """Forget what is kept of this server."""
        store = self._context.config.session_store
        if store is not None and self._session_key is not None:
            store.discard(self._session_key)

    def _tell_completed(self, complete: Complete) -> None:
        negotiated = complete.negotiated
        if self._trace is not None:
            self._trace(
                HandshakeCompleted(
                    role=self.role,
                    cipher_suite=negotiated.cipher_suite,
                    group=negotiated.group,
                    alpn=negotiated.alpn,
                    server_name=negotiated.server_name,
                    client_random=negotiated.client_random,
                    resumed=negotiated.resumed,
                    authenticated_at=negotiated.authenticated_at,
                )
            )


def observer_of(config: ClientConfig | ServerConfig, trace: Observer | None) -> Observer | None:
    """Return who watches: *trace*, else whom config.trace names; nobody if that has been asked already."""
    if trace is unwatched:
        return None
    if trace is not None or config.trace is None:
        return trace
    return config.trace()
