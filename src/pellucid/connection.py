"""Connection: TLS 1.3 over a byte stream, without I/O. The handshake decides, records carry, this file is between.

Bytes come in by `receive_data` and go out by `data_to_send`; what happened is told by `next_event`.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import Final

from pellucid import schedule
from pellucid.carrier import FATAL, WARNING, observer_of
from pellucid.config import ClientConfig, ServerConfig
from pellucid.crypto.provider import Buffer
from pellucid.errors import AlertReceived, DecodeError, IllegalParameter, UnexpectedMessage, UsageError
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    Event,
    NeedData,
)
from pellucid.handshake import client as client_side
from pellucid.handshake import client_hello, post_handshake
from pellucid.handshake import server as server_side
from pellucid.handshake.actions import (
    Need,
)
from pellucid.handshake.core import Context, Handshake
from pellucid.handshake.offer import first_offer
from pellucid.handshake.server_flight import WaitClientHello
from pellucid.handshake.states import ClientState, ServerState
from pellucid.handshaking import Handshaking
from pellucid.limits import FULL_RECORD, MAX_CIPHERTEXT, RECORD_HEADER
from pellucid.record.reader import Record
from pellucid.registry import AlertDescription, ContentType, content_type_name
from pellucid.sessions.client import SessionKey
from pellucid.trace import ClosedTraced, Direction, Epoch, Observer, Role
from pellucid.verify.names import normalize_server_name

_SENT: Final = Direction.SENT  # on Python 3.11 an Enum's attribute costs 0.1 µs each time
_INITIAL: Final = Epoch.INITIAL
_FEW_EVENTS: Final = 64

_key_of: Final = functools.lru_cache(maxsize=256)(SessionKey)
"""The same for every connection to a server: a dataclass hashes its fields anew, and so takes 2 µs each time."""


class Connection(Handshaking):
    """One end of one TLS 1.3 connection.

    Not for two threads at once; net/ shows how to share it. After an error every call raises that error again, and
    nothing but its alert is left to send.
    """

    @classmethod
    def client(
        cls, config: ClientConfig, server_name: str, *, port: int = 0, trace: Observer | None = None
    ) -> Connection:
        """Return the client's end. The ClientHello is ready in `data_to_send`.

        server_name: host name or address that the server's certificate must be for.
        port:        where the server is; with its name it says whose sessions may be resumed. 0: not known.
        Raises UsageError without trust, a verifier or an external PSK, and for an impossible name.
        """
        if not isinstance(config, ClientConfig):
            raise UsageError(f"a client takes a ClientConfig, not {type(config).__name__}")
        if config.peer_verifier is None and not config.psks:
            raise UsageError("a client needs trust, a verifier, or an external PSK: nobody could be verified")
        context = Context(Role.CLIENT, config, observer_of(config, trace), port)
        handshake = Handshake(context, client_side.TABLE, ClientState.START, None)
        connection = cls(Role.CLIENT, context, handshake, context.trace)
        key = _key_of(host=normalize_server_name(server_name), port=port, scope=config.session_scope)
        connection._session_key = key

        def begin() -> None:
            # Only now: a ticket is used once, and its age is counted.
            session = None if config.session_store is None else config.session_store.take(key, config.provider.now())
            offer = first_offer(config, server_name, session)
            connection._offers_session = session is not None
            connection._do(handshake.begin(client_hello.begin(context, offer), "ClientHello sent"))
            if offer.offers_early_data:
                connection._do(handshake.begin(client_hello.begin_early_data(context, offer), "early data offered"))

        connection._start = begin
        return connection

    @classmethod
    def server(cls, config: ServerConfig, *, peer_address: str = "", trace: Observer | None = None) -> Connection:
        """Return the server's end. peer_address: what the cookies of HelloRetryRequests are bound to."""
        if not isinstance(config, ServerConfig):
            raise UsageError(f"a server takes a ServerConfig, not {type(config).__name__}")
        context = Context(Role.SERVER, config, observer_of(config, trace))
        phase = WaitClientHello(peer_address=peer_address)
        handshake = Handshake(context, server_side.TABLE, ServerState.START, phase)
        return cls(Role.SERVER, context, handshake, context.trace)

    # ---- bytes in, events out --------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer; b"" is the end of its stream.

        What is wrong with them is raised by `next_event`, after the good that came before. Raises that error again
        once it has been raised.
        """
        if (
            self._receiving
            and len(data) <= FULL_RECORD
            and not self._events
            and (plaintext := self.open_record(data)) is not None
        ):
            # As in a round trip: half the time of the general way below, which it equals.
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
        if self.negotiated is None:
            self._reader.handshake_bytes += len(data)
        incoming = self._incoming
        begin = 0
        if incoming and self._receiving and len(data) > MAX_CIPHERTEXT:
            begin = self._complete_record(data)
            if self._error is not None:
                return
        source: bytes | bytearray = incoming
        if incoming:
            incoming += data if not begin else data[begin:]
            begin = 0
        else:
            source = data if isinstance(data, bytes) else bytes(data)
        offset = self._consume(source, begin)
        if source is incoming:
            del incoming[:offset]
        elif offset < len(source):
            incoming += source[offset:]

    def receive_from(self, buffer: bytearray, start: int, end: int) -> None:
        """Take buffer[start:end] from the peer: equals `receive_data`, and keeps nothing of *buffer*.

        Bulk data is opened where it lies: the other copies all of it first, once or twice, some 0.5 µs for each record
        and copy beside the 6 to 7 that opening takes. The beginning of a cut record that came before is put in front of
        it: the bytes before *start* are free for that, RECEIVE_HEADROOM of them if nothing is ever to be copied.
        """
        incoming = self._incoming
        if not self._receiving or self._message or len(incoming) > start:
            self.receive_data(bytes(memoryview(buffer)[start:end]))
            return
        if incoming:
            before = start - len(incoming)
            buffer[before:start] = incoming
            incoming.clear()
            start = before
        offset = self._consume(buffer, start, end)
        if offset < end:
            with memoryview(buffer) as view:
                incoming += view[offset:end]

    def _complete_record(self, data: Buffer) -> int:
        """Complete the record that is cut in `_incoming` and take it; return how much of *data* that took.

        Bulk data ends in a cut record nearly every time. What follows it is then read where it lies: appending all of
        *data* to a few bytes would copy it once more (5 % of a transfer over loopback).
        """
        incoming = self._incoming
        begin = max(0, RECORD_HEADER - len(incoming))
        incoming += data[:begin]
        missing = RECORD_HEADER + (incoming[3] << 8 | incoming[4]) - len(incoming)
        if missing > 0:  # at most 64 KiB; whether a record may be so long is said below
            incoming += data[begin : begin + missing]
            begin += missing
        del incoming[: self._consume(incoming)]
        return min(begin, len(data))

    def next_event(self) -> Event | NeedData:
        """Return what happened next, or NEED_DATA. Raises PeerError, AlertReceived, TruncatedStream, InternalError."""
        events = self._events
        if events:
            if len(events) > _FEW_EVENTS and type(events) is list:
                # To take the first of a long list moves all others; an idle connection keeps 700 bytes of a deque.
                events = self._events = deque(events)
            event = events[0]
            del events[0]
            return event
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

    def resume(self, answer: object, need: Need | None = None) -> None:
        """Answer a pause: what CredentialNeeded, SignatureNeeded or VerificationNeeded asked for.

        need: the event's. After the handshake several may be open; without it the oldest is answered.
        """
        self._check_usable()
        if self._handshake.need is None:
            self._resume_aside(answer, need)
            return
        if need is not None and need is not self._handshake.need:
            raise UsageError("nobody waits for that answer")

        def go_on() -> None:
            self._do(self._handshake.resume(answer))
            self._messages()

        self._guarded(go_on)
        if self._error is None and self._incoming:
            offset = self._consume(self._incoming)
            del self._incoming[:offset]
        if self._peer_ended and self._error is None and not self._peer_closed:
            self._end_of_stream()

    def resume_with_error(self, error: Exception, need: Need | None = None) -> None:
        """End the connection because what was asked for cannot be had, as if the function asked had raised *error*.

        A PeerError's alert is sent, internal_error for any other; `next_event` raises what the connection ended with.
        Raises UsageError if nobody waits for the answer.
        """
        self._check_usable()
        waiting = [self._handshake.need, *(aside.need for aside in self._asides)]
        if not any(one is not None and (need is None or one is need) for one in waiting):
            raise UsageError("nobody waits for that answer")
        self._failed(error)

    def _resume_aside(self, answer: object, need: Need | None) -> None:
        waiting = [aside for aside in self._asides if need is None or aside.need is need]
        if not waiting:
            raise UsageError("the handshake is not paused" if need is None else "nobody waits for that answer")
        aside = waiting[0]
        self._asides.remove(aside)
        handshake = self._handshake
        self._guarded(lambda: self._do(handshake.begin(aside.resume(handshake.phase, answer), "the answer is there")))

    # ---- what the application wants --------------------------------------------------------------------------------

    def send_data(self, data: Buffer) -> None:
        """Protect application data. UsageError before the handshake is complete and after `close`."""
        writer = self._writer
        if self._sending and (record := writer.one_record(data)) is not None:
            writer.out.append(record)
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

    def seal(self, data: Buffer) -> bytes:
        """Protect application data and return all that is to be sent: equals `send_data` and `data_to_send`.

        Raises what `send_data` does. A message that fits into one record takes two thirds of the time of the two.
        """
        if self._sending and not self._writer.out:
            record = self._writer.one_record(data)
            if record is not None:
                return record
        self.send_data(data)
        return self.data_to_send()

    def _before_sending(self) -> None:
        self._check_usable()
        if self.negotiated is None and not self._answers_early:
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

    def request_client_certificate(self, *, required: bool = False) -> bytes:
        """Server: ask for the client's certificate now (RFC 9846 §4.7.2); PeerAuthenticated tells of the answer.

        Data flows on meanwhile, and what came before the answer came from somebody who had not shown it.
        required: an answer without a certificate ends the connection with certificate_required.
        returns:  the request's context, which the event names.
        raises:   UsageError unless the client offered it and the configuration has client_trust or a verifier, under an
                  external PSK, after `close`, and while MAX_OPEN_CERTIFICATE_REQUESTS are open.
        """
        self._check_usable()
        config = self._context.config
        if self.negotiated is None or not isinstance(config, ServerConfig):
            raise UsageError("a server asks for a certificate, after the handshake is complete")
        if self._sent_close or self._peer_closed:
            raise UsageError("a certificate is asked for after close")
        handshake = self._handshake
        step = post_handshake.request(self._context, handshake.phase, self.negotiated, required=required)
        self._guarded(lambda: self._do(handshake.begin(step, "CertificateRequest sent")))
        self._check_usable()
        return post_handshake.last_request(handshake.phase)

    def close(self) -> None:
        """Send close_notify (RFC 9846 §6.1). Reading goes on until the peer closes. A second call does nothing.

        Before the handshake is complete nothing can be read: then the connection is over, as after an error.
        """
        if self.closed:
            return
        if self._update_owed:
            self._send_key_update(request_peer=False)
        self._sent_close = self._context.closed = True
        self._sending = False
        # A server that took early data may have answered it, and be done.
        gives_up = not self.handshake_complete and (self.role is Role.CLIENT or self._early_suite is None)
        if gives_up:
            # §6.1: user_canceled must be followed by close_notify.
            self._writer.alert(WARNING, AlertDescription.USER_CANCELED)
            self._tell_alert(Direction.SENT, AlertDescription.USER_CANCELED, "")
        self._writer.alert(WARNING, AlertDescription.CLOSE_NOTIFY)
        if self._trace is not None:
            self._tell_alert(Direction.SENT, AlertDescription.CLOSE_NOTIFY, "")
            self._trace(ClosedTraced(direction=Direction.SENT, how="close_notify"))
        if gives_up:
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

    # ---- records ---------------------------------------------------------------------------------------------------

    def _consume(self, data: bytes | bytearray, offset: int = 0, end: int | None = None) -> int:
        """Work through the records in data[offset:end]; return how far. Stops at a cut record, a pause, an error, a
        close.
        """
        reader = self._reader
        size = len(data) if end is None else end
        if self._start is not None:
            self.start()
        try:
            while offset < size and not self._peer_closed and self._handshake.need is None:
                if self._receiving and not self._message:
                    plaintext, offset, error = reader.application_data(data, offset, size)
                    if plaintext:
                        self._patience.progress()
                        self._events.append(ApplicationData(plaintext))
                    if error is not None:
                        raise error
                    if offset == size:
                        break
                    if plaintext:
                        continue
                found = reader.next_record(data, offset, size)
                if found is None:
                    break
                record, offset = found
                if record is not None:
                    self._record(record)
                elif self._message:
                    raise UnexpectedMessage("early data inside a handshake message", rfc="9846 §5.1")
        except Exception as error:  # noqa: BLE001  # see _guarded
            self._failed(error)
        return offset if self._error is None else size

    def _record(self, record: Record) -> None:
        content_type, content, protected = record
        if not protected and self._reader.epoch is not _INITIAL:
            self._plaintext_under_keys(content_type)
        if self._message and content_type != ContentType.HANDSHAKE:
            raise UnexpectedMessage(f"{content_type_name(content_type)} inside a handshake message", rfc="9846 §5.1")
        if content_type == ContentType.HANDSHAKE:
            if not content:
                raise UnexpectedMessage("an empty handshake record", rfc="9846 §5.1", code="TLS-EMPTY-RECORDS")
            self._message += content
            self._messages()
        elif content_type == ContentType.APPLICATION_DATA:
            if self.negotiated is None:
                self._early_data(content)
            elif not self._receiving:
                raise UnexpectedMessage("application data between the messages of an answer", rfc="9846 §4.7.2")
            elif content:
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
        raise UnexpectedMessage(
            f"an unprotected {content_type_name(content_type)} record", rfc="9846 §5.2", code="TLS-UNPROTECTED"
        )

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
        retried = isinstance(phase, WaitClientHello) and phase.retry is not None
        return retried or (isinstance(config, ServerConfig) and config.cookie_key is not None)

    def _alert(self, content: bytes) -> None:
        if not content:
            raise UnexpectedMessage("an empty alert record", rfc="9846 §5.4", code="TLS-EMPTY-RECORDS")
        if len(content) != 2:
            raise DecodeError(f"an alert record of {len(content)} bytes, not 2", rfc="9846 §5.1")
        level, description = content
        self._tell_alert(Direction.RECEIVED, description, "")
        if level not in {WARNING, FATAL}:
            raise IllegalParameter(f"an alert of level {level}", rfc="9846 §6")
        if description == AlertDescription.USER_CANCELED:
            self._patience.user_canceled()
            return
        if description != AlertDescription.CLOSE_NOTIFY:
            raise AlertReceived(description)
        if self.negotiated is None:
            # Not a clean end: there is no authenticated stream that could have ended (attack G10). If the peer said why
            # it goes, before it said that it does, that is the news.
            raise AlertReceived(AlertDescription.USER_CANCELED if self._patience.canceled else description)
        self._peer_closed = True
        self._receiving = False
        self._events.append(CloseNotify())
        if self._trace is not None:
            self._trace(ClosedTraced(direction=Direction.RECEIVED, how="close_notify"))
