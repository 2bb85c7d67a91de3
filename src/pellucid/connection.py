"""Connection: TLS 1.3 over a byte stream, without I/O. The handshake decides, records carry, this file is between.

Bytes come in by `receive_data` and go out by `data_to_send`; what happened is told by `next_event`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pellucid import schedule
from pellucid.config import ClientConfig, ServerConfig
from pellucid.crypto.provider import Buffer
from pellucid.errors import (
    AlertReceived,
    DecodeError,
    IllegalParameter,
    InternalError,
    PeerError,
    TLSError,
    TruncatedStream,
    UnexpectedMessage,
    UsageError,
)
from pellucid.events import (
    NEED_DATA,
    PAUSES,
    ApplicationData,
    CloseNotify,
    Event,
    HandshakeComplete,
    KeyUpdated,
    NeedData,
    TicketReceived,
)
from pellucid.handshake import client as client_side
from pellucid.handshake import server as server_side
from pellucid.handshake.actions import (
    Action,
    Complete,
    InstallKeys,
    LimitRecords,
    Negotiated,
    PeerKeyUpdated,
    SendChangeCipherSpec,
    SendMessage,
    TicketIssued,
    ends_peer_flight,
)
from pellucid.handshake.connected import Connected, send_key_update
from pellucid.handshake.core import Context, Handshake
from pellucid.handshake.offer import first_offer
from pellucid.handshake.states import CLIENT_ARROWS, SERVER_ARROWS, ClientState, ServerState
from pellucid.limits import (
    MAX_EPOCH,
    MAX_SEQUENCE,
    SMALL_RECORD,
)
from pellucid.record.patience import Patience
from pellucid.record.reader import Record, RecordReader
from pellucid.record.reassembly import take_message
from pellucid.record.writer import RecordWriter
from pellucid.registry import AlertDescription, ContentType, content_type_name
from pellucid.trace import (
    AlertTraced,
    ClosedTraced,
    Direction,
    Epoch,
    HandshakeCompleted,
    Observer,
    Role,
)

_WARNING: Final = 1
_FATAL: Final = 2


class Connection:
    """One end of one TLS 1.3 connection.

    Not for two threads at once; net/ shows how to share it. After an error every call raises that error again, and
    nothing but its alert is left to send.
    """

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
        self._events: deque[Event] = deque()
        self._error: TLSError | None = None
        self._exporter_secret: bytes | None = None
        self._receiving = False
        """the handshake is complete, nothing has gone wrong, the peer has not closed"""
        self._sending = False
        """the handshake is complete, nothing has gone wrong, we have not closed and owe no KeyUpdate"""
        self._update_owed = False
        self._sent_close = False
        self._peer_closed = False
        self._peer_ended = False
        """the peer's stream has ended; during a pause what came before that waits to be read"""
        self._patience = Patience()

    @classmethod
    def client(cls, config: ClientConfig, server_name: str, *, trace: Observer | None = None) -> Connection:
        """Return the client's end. The ClientHello is ready in `data_to_send`.

        server_name: host name or address that the server's certificate must be for.
        Raises UsageError without trust or a verifier, and for an impossible name.
        """
        if config.peer_verifier is None:
            raise UsageError("a client needs trust, or a verifier: nobody could be verified")
        context = Context(Role.CLIENT, config, _observer(config, trace))
        handshake = Handshake(context, CLIENT_ARROWS, client_side.HANDLERS, ClientState.START, None)
        connection = cls(Role.CLIENT, context, handshake, context.trace)
        offer = first_offer(config, server_name)
        connection._start = lambda: connection._do(
            handshake.begin(client_side.begin(context, offer), "ClientHello sent")
        )
        return connection

    @classmethod
    def server(cls, config: ServerConfig, *, peer_address: str = "", trace: Observer | None = None) -> Connection:
        """Return the server's end. peer_address: what the cookies of HelloRetryRequests are bound to."""
        context = Context(Role.SERVER, config, _observer(config, trace))
        phase = server_side.WaitClientHello(peer_address=peer_address)
        handshake = Handshake(context, SERVER_ARROWS, server_side.HANDLERS, ServerState.START, phase)
        return cls(Role.SERVER, context, handshake, context.trace)

    # ---- what it knows ---------------------------------------------------------------------------------------------

    @property
    def handshake_complete(self) -> bool:
        return self.negotiated is not None

    @property
    def peer_closed(self) -> bool:
        """Whether the peer's close_notify has come."""
        return self._peer_closed

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent: we closed, or failed."""
        return self._sent_close or self._error is not None

    @property
    def state(self) -> str:
        """Where the state machine waits, as RFC 9846 App. A names it."""
        return str(self._handshake.state.value)

    # ---- bytes in, events out --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Client: produce the ClientHello. `data_to_send` does it too; a second call does nothing."""
        if self._start is not None:
            start, self._start = self._start, None
            self._guarded(start)

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer; b"" is the end of its stream.

        What is wrong with them is raised by `next_event`, after the good that came before. Raises that error again
        once it has been raised.
        """
        if self._receiving and len(data) <= SMALL_RECORD and not self._incoming and not self._message:
            # One short record, as in a round trip: half the time of the general way below, which it equals.
            plaintext = self._reader.whole_small_record(data)
            if plaintext is not None:
                if self._patience.tried:
                    self._patience.progress()
                self._events.append(ApplicationData(plaintext))
                return
        if self._error is not None:
            if not self._events:
                raise self._error
            return
        if self._peer_closed:
            return  # §6.1: what follows a close_notify is ignored
        if not data:
            self._end_of_stream()
            return
        incoming = self._incoming
        source: bytes | bytearray = incoming
        if incoming:
            incoming += data
        else:
            source = data if isinstance(data, bytes) else bytes(data)
        offset = self._consume(source)
        if source is incoming:
            del incoming[:offset]
        elif offset < len(source):
            incoming += source[offset:]

    def next_event(self) -> Event | NeedData:
        """Return what happened next, or NEED_DATA. Raises PeerError, AlertReceived, TruncatedStream, InternalError."""
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return NEED_DATA

    def data_to_send(self) -> bytes:
        """Return all that is to be sent to the peer, b"" if nothing is. After an error: the alert."""
        if self._start is not None:
            self.start()
        elif self._update_owed and not self.closed:
            self._guarded(lambda: self._send_key_update(request_peer=False))
        return self._writer.take()

    def resume(self, answer: object) -> None:
        """Answer a pause: what CredentialNeeded, SignatureNeeded or VerificationNeeded asked for."""
        self._check_usable()
        if self._handshake.need is None:
            raise UsageError("the handshake is not paused")

        def go_on() -> None:
            self._do(self._handshake.resume(answer))
            self._messages()

        self._guarded(go_on)
        if self._error is None and self._incoming:
            offset = self._consume(self._incoming)
            del self._incoming[:offset]
        if self._peer_ended and self._error is None and not self._peer_closed:
            self._end_of_stream()

    # ---- what the application wants --------------------------------------------------------------------------------

    def send_data(self, data: Buffer) -> None:
        """Protect application data. UsageError before the handshake is complete and after `close`."""
        writer = self._writer
        if self._sending and len(data) <= SMALL_RECORD and writer.small_application_data(data):
            return
        if not self._sending:
            self._before_sending()
        with memoryview(data) as view:
            if view.format != "B" or view.ndim != 1:
                self.send_data(view.tobytes())  # its length is not that of its bytes
                return
            at, total = 0, len(view)
            while at < total:
                if not (left := writer.records_left()):
                    self._send_key_update(request_peer=False)
                    left = writer.records_left()
                step = min(writer.step, left * writer.fragment)
                writer.application_data(view[at : at + step])
                at += step

    def _before_sending(self) -> None:
        self._check_usable()
        if self.negotiated is None:
            raise UsageError("application data before the handshake is complete")
        if self._sent_close:
            raise UsageError("application data after close")
        if self._update_owed:
            self._send_key_update(request_peer=False)

    def send_key_update(self, *, request_peer: bool = False) -> None:
        """Go to our next key (RFC 9846 §4.7.3); with *request_peer* ask the peer to do the same.

        Asking again before the peer has answered is not allowed: then only our own key changes.
        """
        self._check_usable()
        if self.negotiated is None or self._sent_close:
            raise UsageError("KeyUpdate before the handshake is complete, or after close")
        self._send_key_update(request_peer=request_peer)

    def close(self) -> None:
        """Send close_notify (RFC 9846 §6.1). Reading goes on until the peer closes. A second call does nothing.

        Before the handshake is complete nothing can be read: then the connection is over, as after an error.
        """
        if self.closed:
            return
        if self._update_owed:
            self._send_key_update(request_peer=False)
        self._sent_close = True
        self._sending = False
        if not self.handshake_complete:
            # §6.1: user_canceled must be followed by close_notify.
            self._writer.alert(_WARNING, AlertDescription.USER_CANCELED)
            self._tell_alert(Direction.SENT, AlertDescription.USER_CANCELED, "")
        self._writer.alert(_WARNING, AlertDescription.CLOSE_NOTIFY)
        if self._trace is not None:
            self._tell_alert(Direction.SENT, AlertDescription.CLOSE_NOTIFY, "")
            self._trace(ClosedTraced(direction=Direction.SENT, how="close_notify"))
        if not self.handshake_complete:
            self._latch(UsageError("the connection was closed before its handshake was complete"), None)

    def fail(self, description: int) -> None:
        """Give up for a reason of the caller's own: send this error alert, and be unusable from then on."""
        if self._error is None:
            error = UsageError("the connection was given up")
            self._latch(error, description)

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return TLS-Exporter(label, context, length) (RFC 9846 §7.5). UsageError before completion."""
        self._check_usable()
        if self._exporter_secret is None or self.negotiated is None:
            raise UsageError("there is no exporter before the handshake is complete")
        suite = self._context.config.suite_table[self.negotiated.cipher_suite]
        return schedule.export_keying_material(suite, self._exporter_secret, label, context, length)

    def channel_binding(self) -> bytes:
        """Return the `tls-exporter` channel binding (RFC 9266): 32 bytes, the same on both ends."""
        return self.export_keying_material(b"EXPORTER-Channel-Binding", b"", 32)

    # ---- errors ----------------------------------------------------------------------------------------------------

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
        self._start = None
        self._receiving = self._sending = False
        self._update_owed = False
        self._incoming.clear()
        self._message.clear()
        self._exporter_secret = None
        if alert is not None and not self._sent_close:
            try:
                self._writer.alert(_FATAL, alert)
                self._tell_alert(Direction.SENT, alert, error.reason)
            except Exception as failure:  # noqa: BLE001  # a broken observer or padding policy: the first error stands
                error.add_note(f"then, while the peer was told of it: {failure!r}")
        # §6.2: the keys and secrets of a failed connection are forgotten; what is left to send is sealed already.
        self._reader.forget()
        self._writer.forget()
        self._handshake.forget()

    def _end_of_stream(self) -> None:
        self._peer_ended = True
        if self._handshake.need is not None and self._incoming:
            return  # what came before the end is read first, when the pause is over
        state = "" if self.handshake_complete else f" during the handshake, in state {self.state}"

        def end() -> None:
            if self._trace is not None:
                self._trace(ClosedTraced(direction=Direction.RECEIVED, how="truncated"))
            raise TruncatedStream(f"the connection ended without close_notify{state}")

        self._guarded(end)

    def _tell_alert(self, direction: Direction, description: int, reason: str) -> None:
        if self._trace is not None:
            epoch = self._writer.epoch if direction is Direction.SENT else self._reader.epoch
            self._trace(AlertTraced(direction=direction, epoch=epoch, description=description, reason=reason))

    # ---- records ---------------------------------------------------------------------------------------------------

    def _consume(self, data: bytes | bytearray) -> int:
        """Work through the records in *data*; return how far. Stops at a cut record, a pause, an error, a close."""
        offset = 0
        reader = self._reader
        size = len(data)
        if self._start is not None:
            self.start()
        try:
            while offset < size and not self._peer_closed and self._handshake.need is None:
                if self.negotiated is not None and not self._message:
                    plaintext, offset, error = reader.application_data(data, offset)
                    if plaintext:
                        self._patience.progress()
                        self._events.append(ApplicationData(plaintext))
                    if error is not None:
                        raise error
                    if offset == size:
                        break
                    if plaintext:
                        continue
                found = reader.next_record(data, offset)
                if found is None:
                    break
                record, offset = found
                self._record(record)
        except Exception as error:  # noqa: BLE001  # see _guarded
            self._failed(error)
        return offset if self._error is None else size

    def _record(self, record: Record) -> None:
        content_type, content, protected = record
        if not protected and self._reader.epoch is not Epoch.INITIAL:
            self._plaintext_under_keys(content_type)
        if self._message and content_type != ContentType.HANDSHAKE:
            raise UnexpectedMessage(f"{content_type_name(content_type)} inside a handshake message", rfc="9846 §5.1")
        if content_type == ContentType.HANDSHAKE:
            if not content:
                raise UnexpectedMessage("an empty handshake record", rfc="9846 §5.1")
            self._message += content
            self._messages()
        elif content_type == ContentType.APPLICATION_DATA:
            if self.negotiated is None:
                raise UnexpectedMessage("application data before the handshake is complete", rfc="9846 §5")
            if content:
                self._patience.progress()
                self._events.append(ApplicationData(content))
        elif content_type == ContentType.ALERT:
            self._alert(content)
        elif content_type == ContentType.CHANGE_CIPHER_SPEC:
            self._changed_cipher_spec(content, protected=protected)
        else:
            raise UnexpectedMessage(f"a record of type {content_type_name(content_type)}", rfc="9846 §5")

    def _plaintext_under_keys(self, content_type: int) -> None:
        """Only the dummy change_cipher_spec may come unprotected now, or the error alert of a peer that got no keys."""
        if content_type == ContentType.CHANGE_CIPHER_SPEC:
            return
        if content_type == ContentType.ALERT and not self._reader.opened_any and self.negotiated is None:
            return
        raise UnexpectedMessage(f"an unprotected {content_type_name(content_type)} record", rfc="9846 §5.2")

    def _changed_cipher_spec(self, content: bytes, *, protected: bool) -> None:
        """Drop the dummy of middlebox compatibility mode, where it may stand (RFC 9846 §5)."""
        if protected or content != b"\x01" or self.negotiated is not None:
            raise UnexpectedMessage("a change_cipher_spec that is not the compatibility mode's", rfc="9846 §5")
        if self._handshake.state is ServerState.START and not self._answered_before():
            raise UnexpectedMessage("a change_cipher_spec before the ClientHello", rfc="9846 §5")
        self._patience.change_cipher_spec()

    def _answered_before(self) -> bool:
        """Whether a ClientHello has been seen; a stateless server cannot know, and must not mind (§4.3.2)."""
        phase, config = self._handshake.phase, self._context.config
        retried = isinstance(phase, server_side.WaitClientHello) and phase.retry is not None
        return retried or (isinstance(config, ServerConfig) and config.cookie_key is not None)

    def _alert(self, content: bytes) -> None:
        if len(content) != 2:
            raise DecodeError(f"an alert record of {len(content)} bytes, not 2", rfc="9846 §5.1")
        level, description = content
        self._tell_alert(Direction.RECEIVED, description, "")
        if level not in {_WARNING, _FATAL}:
            raise IllegalParameter(f"an alert of level {level}", rfc="9846 §6")
        if description == AlertDescription.USER_CANCELED:
            self._patience.user_canceled()
            return
        if description != AlertDescription.CLOSE_NOTIFY:
            raise AlertReceived(description)
        if self.negotiated is None:
            # Not a clean end: there is no authenticated stream that could have ended (attack G10).
            raise AlertReceived(description)
        self._peer_closed = True
        self._receiving = False
        self._incoming.clear()
        self._events.append(CloseNotify())
        if self._trace is not None:
            self._trace(ClosedTraced(direction=Direction.RECEIVED, how="close_notify"))

    # ---- handshake messages ----------------------------------------------------------------------------------------

    def _messages(self) -> None:
        """Hand whole handshake messages to the state machine, one at a time (RFC 9846 §4, §5.1)."""
        handshake = self._handshake
        while handshake.need is None:
            raw = take_message(self._message, handshake.expects, handshake.state)
            if raw is None:
                return
            self._context.epoch = self._reader.epoch
            self._do(handshake.receive(raw))

    def _do(self, actions: list[Action]) -> None:
        """Carry out what the state machine wants done."""
        if handshake_need := self._handshake.need:
            self._events.append(PAUSES[type(handshake_need)](handshake_need))
            return
        if self._message and any(map(ends_peer_flight, actions)):
            # Nothing under the old key may be left, whole or in part (§5.1; the bug class of 2025-26).
            raise UnexpectedMessage("handshake data runs across a key change, or past a hello", rfc="9846 §5.1")
        for action in actions:
            if isinstance(action, SendMessage):
                self._writer.handshake(action.raw)
            elif isinstance(action, InstallKeys):
                if action.direction is Direction.SENT:
                    self._writer.install(action.secret)
                else:
                    self._reader.install(action.secret)
            elif isinstance(action, SendChangeCipherSpec):
                # §E.4: a server's follows its first message at once, a client's goes with its second flight.
                self._writer.change_cipher_spec(at_once=self.role is Role.SERVER)
            elif isinstance(action, Complete):
                self._completed(action)
            elif isinstance(action, LimitRecords):
                self._writer.restrict(action.sending)
                self._reader.restrict(action.receiving)
            elif isinstance(action, PeerKeyUpdated):
                self._peer_key_updated(action.generation, requested=action.requested)
            else:
                self._ticket_received(action)
        self._writer.flush()

    def _ticket_received(self, issued: TicketIssued) -> None:
        self._patience.ticket()
        self._events.append(TicketReceived(issued.ticket))

    def _completed(self, complete: Complete) -> None:
        negotiated = complete.negotiated
        self.negotiated = negotiated
        self._receiving = self._sending = True
        after = self._context.config.suite_table[negotiated.cipher_suite].rekey_after
        self._writer.limit = (MAX_SEQUENCE if after is None else after) - 1  # one left for the KeyUpdate itself (§5.5)
        self._exporter_secret = complete.exporter_secret
        self._events.append(HandshakeComplete(negotiated))
        if self._trace is not None:
            self._trace(
                HandshakeCompleted(
                    role=self.role,
                    cipher_suite=negotiated.cipher_suite,
                    group=negotiated.group,
                    alpn=negotiated.alpn,
                    server_name=negotiated.server_name,
                    client_random=negotiated.client_random,
                )
            )

    # ---- KeyUpdate -------------------------------------------------------------------------------------------------

    def _peer_key_updated(self, generation: int, *, requested: bool) -> None:
        self._patience.key_update()
        phase = self._handshake.phase
        last = isinstance(phase, Connected) and phase.sending.generation >= MAX_EPOCH  # §4.7.3: then ignored
        if requested and not self._sent_close and not last:
            # Sent when something is sent next: any number of requests in between get one answer (attack G2).
            self._update_owed = True
            self._sending = False
        self._events.append(KeyUpdated(generation))

    def _send_key_update(self, *, request_peer: bool) -> None:
        self._update_owed = False
        self._sending = not self.closed
        phase = self._handshake.phase
        if not isinstance(phase, Connected):
            raise InternalError("KeyUpdate outside the connected phase")
        step = send_key_update(self._context, phase, request_peer=request_peer)
        # Our secret has moved on: if the message cannot be sent, there is no going on under either key.
        self._guarded(lambda: self._do(self._handshake.begin(step, "KeyUpdate sent")))
        self._check_usable()


def _observer(config: ClientConfig | ServerConfig, trace: Observer | None) -> Observer | None:
    if trace is not None or config.trace is None:
        return trace
    return config.trace()
