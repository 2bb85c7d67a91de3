"""Between records and the state machine: handshake messages in, what is to be done out. Use `Connection`."""

from __future__ import annotations

from typing import Final

from pellucid.errors import UnexpectedMessage, UsageError
from pellucid.events import (
    PAUSES,
    CertificateRequested,
    HandshakeComplete,
    KeyUpdated,
    PeerAuthenticated,
    TicketReceived,
)
from pellucid.extraction import Detachable
from pellucid.handshake import post_handshake
from pellucid.handshake.actions import (
    Action,
    AnswerEarly,
    AnswerOnly,
    Authenticated,
    CertificateAsked,
    ClientAnswered,
    Complete,
    InstallKeys,
    LimitRecords,
    PauseAside,
    PeerKeyUpdated,
    SendChangeCipherSpec,
    SendMessage,
    TicketIssued,
    ends_peer_flight,
)
from pellucid.handshake.connected import Connected, send_key_update
from pellucid.limits import MAX_EPOCH
from pellucid.record.reassembly import take_message
from pellucid.trace import Direction

__all__ = ["Handshaking"]

_SENT: Final = Direction.SENT  # on Python 3.11 an Enum's attribute costs 0.1 µs each time


class Handshaking(Detachable):
    """What of a connection hands messages to its state machine and carries out what that wants. Use `Connection`."""

    # ---- handshake messages ----------------------------------------------------------------------------------------

    def _messages(self) -> None:
        """Hand whole handshake messages to the state machine, one at a time (RFC 9846 §4, §5.1)."""
        handshake, message = self._handshake, self._message
        while message and handshake.need is None:
            raw = take_message(message, handshake.expected, handshake.state)
            if raw is None:
                return
            self._context.epoch = self._reader.epoch
            actions = handshake.receive(raw)
            if actions or handshake.need is not None:
                self._do(actions)

    def _do(self, actions: list[Action]) -> None:
        """Carry out what the state machine wants done."""
        if (need := self._handshake.need) is not None:
            self._events.append(PAUSES[type(need)](need))
            return
        if self._message and any(map(ends_peer_flight, actions)):
            # Nothing under the old key may be left, whole or in part (§5.1; the bug class of 2025-26).
            raise UnexpectedMessage(
                "handshake data runs across a key change, or past a hello", rfc="9846 §5.1", code="TLS-KEY-CHANGE"
            )
        writer = self._writer
        for action in actions:
            if isinstance(action, SendMessage):
                writer.handshake(action.raw)
            elif isinstance(action, InstallKeys):
                end = writer if action.direction is _SENT else self._reader
                end.install(action.secret)
            elif isinstance(action, SendChangeCipherSpec):
                writer.change_cipher_spec(at_once=action.at_once)
            elif isinstance(action, Complete):
                self._completed(action)
            elif isinstance(action, AnswerEarly):
                self._do_early(action)
            elif isinstance(action, LimitRecords):
                writer.restrict(action.sending)
                self._reader.restrict(action.receiving)
            elif isinstance(action, PeerKeyUpdated):
                self._peer_key_updated(action.generation, requested=action.requested)
            elif isinstance(action, TicketIssued):
                self._ticket_received(action)
            elif isinstance(action, (ClientAnswered, CertificateAsked, AnswerOnly, PauseAside)):
                self._do_later(action)
            else:
                self._do_early(action)
        writer.flush()

    def _ticket_received(self, issued: TicketIssued) -> None:
        self._patience.ticket()
        store = self._context.config.session_store
        if issued.session is not None and store is not None and self._session_key is not None:
            store.put(self._session_key, issued.session)
        self._events.append(TicketReceived(issued.ticket))

    def _do_later(self, action: ClientAnswered | CertificateAsked | AnswerOnly | PauseAside) -> None:
        """Carry out what concerns authentication after the handshake (RFC 9846 §4.7.2)."""
        if isinstance(action, PauseAside):
            self._asides.append(action)
            self._events.append(PAUSES[type(action.need)](action.need))
        elif isinstance(action, CertificateAsked):
            self._patience.certificate_request()
            self._events.append(CertificateRequested(action.request))
        elif isinstance(action, AnswerOnly):
            self._receiving = not action.begins
        else:
            client = action.authentication
            if isinstance(client, Authenticated):
                self._authenticated = client.peer
                self._events.append(PeerAuthenticated(client.peer, action.request_context, client.presented))
            else:
                self._events.append(PeerAuthenticated(None, action.request_context))

    def _completed(self, complete: Complete) -> None:
        negotiated = complete.negotiated
        self.negotiated = negotiated
        if self._offers_session and not negotiated.resumed:
            self._discard_sessions()  # RFC 9149 §3: those of the same server will not be taken either
        self._receiving = True
        self._sending = not self.closed
        self._early_left = 0
        self._early_exporter_secret = None
        self._limit_records(self._context.config.suite_table[negotiated.cipher_suite])
        self._exporter_secret = complete.exporter_secret
        self._events.append(HandshakeComplete(negotiated))
        if not post_handshake.may_follow(self._handshake.phase):
            self._context.transcript.let_go()
        self._tell_completed(complete)

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
        phase = self._handshake.phase
        if not isinstance(phase, Connected):
            raise UsageError("the key is used up, and there is no KeyUpdate before the handshake is complete")
        self._update_owed = False
        self._sending = not self.closed
        step = send_key_update(self._context, phase, request_peer=request_peer)
        # Our secret has moved on: if the message cannot be sent, there is no going on under either key.
        self._guarded(lambda: self._do(self._handshake.begin(step, "KeyUpdate sent")))
        self._check_usable()
