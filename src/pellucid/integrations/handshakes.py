"""What the reporters of handshakes share: one that is over as a value, and when it is told of.

A reporter is a configuration's `trace` (every way of using Pellucid asks it for an observer per connection), or is
given to `SSLContext.on_handshake` by its own `on_handshake`. It keeps what it saw until the handshake is over, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pellucid.explain.diagnosis.diagnose import diagnose
from pellucid.explain.recorder import Recorder, tee
from pellucid.explain.text import escaped
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.messages.handshake import Certificate, ClientHello, ServerHello
from pellucid.registry import AlertDescription, ExtensionType, HandshakeType
from pellucid.trace import (
    AlertTraced,
    CertificateDecompressed,
    ChoiceMade,
    ClosedTraced,
    Direction,
    HandshakeCompleted,
    MessageTraced,
    Observer,
    Role,
    SignatureTraced,
    StateChanged,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TraceEvent,
    VerificationTraced,
)

__all__ = ["Handshake", "HandshakeReporter", "handshake_of", "several"]

_WARNINGS: Final = frozenset({AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED})
_SHOWN: Final = 200  # characters of what may be the peer's
_MESSAGES: Final = 200  # events of a handshake that are kept: a peer decides how many there are
_KEPT: Final = frozenset(
    {
        *(TcpConnecting, TcpConnectFailed, TcpConnected, MessageTraced, CertificateDecompressed, StateChanged),
        *(ChoiceMade, VerificationTraced, SignatureTraced, HandshakeCompleted, AlertTraced, ClosedTraced),
    }
)
"""what is kept until the handshake is over: what a diagnosis is made of, and no secret"""
_OUTCOMES: Final = {outcome.value: outcome for outcome in EarlyDataOutcome}
_log: Final = logging.getLogger("pellucid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One handshake that is over. Text of the peer's is escaped and bounded; nothing is secret.

    started_at:  when the record of it began, seconds since 1970; seconds: from its first message to its end.
    completed:   whether both Finished were sent and checked.
    code:        the diagnosis of one that failed, else ""; reason: the same in a sentence.
    alert:       the AlertDescription that ended it, None where none was sent; alert_sent: whether we sent it.
    cipher_suite, group: code points, None where they were not agreed on.
    server_name: what the client asked for, None where it did not say.
    early_data:  what became of 0-RTT data; None where there was none of it.
    certificates: of each end, DER, leaf first, as far as they were shown.
    """

    role: Role
    started_at: float
    seconds: float
    completed: bool
    code: str = ""
    reason: str = ""
    alert: int | None = None
    alert_sent: bool = False
    cipher_suite: int | None = None
    group: int | None = None
    alpn: str | None = None
    server_name: str | None = None
    resumed: bool = False
    early_data: EarlyDataOutcome | None = None
    certificates: dict[Role, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    client_hello: ClientHello | None = field(default=None, repr=False)
    server_hello: ServerHello | None = field(default=None, repr=False)


def handshake_of(recorder: Recorder) -> Handshake:
    """Return what a record tells of its connection's handshake, which is over."""
    seen = _Seen()
    for seconds, event in recorder.recorded:
        seen.take(seconds, event)
        if seen.done is not None:
            break
    role, done = seen.role or Role.SERVER, seen.done
    common: dict[str, Any] = {  # Any: each field's own type
        "role": role,
        "started_at": recorder.started_at,
        "seconds": seen.ended - (seen.ended if seen.begun is None else seen.begun),
        "early_data": seen.early_data,
        "certificates": {role if sent else role.peer: chain for sent, chain in seen.certificates.items()},
        "client_hello": seen.client_hello,
        "server_hello": seen.server_hello,
    }
    if done is None:
        found, alert = diagnose(recorder), seen.alert
        return Handshake(
            completed=False,
            code=found.code,
            reason=_bounded(found.message),
            alert=None if alert is None else alert.description,
            alert_sent=alert is not None and alert.direction is Direction.SENT,
            server_name=_asked_for(seen),
            **common,
        )
    return Handshake(
        completed=True,
        cipher_suite=done.cipher_suite,
        group=done.group,
        alpn=None if done.alpn is None else _bounded(done.alpn),
        server_name=None if done.server_name is None else _bounded(done.server_name),
        resumed=done.resumed,
        **common,
    )


class _Seen:
    """What was seen of a handshake, event by event. role: None for a server that heard no hello."""

    def __init__(self) -> None:
        self.role: Role | None = None
        self.begun: float | None = None
        self.ended = 0.0
        self.done: HandshakeCompleted | None = None
        self.alert: AlertTraced | None = None
        self.early_data: EarlyDataOutcome | None = None
        self.certificates: dict[bool, tuple[bytes, ...]] = {}
        self.client_hello: ClientHello | None = None
        self.server_hello: ServerHello | None = None
        self.host: str | None = None

    def take(self, seconds: float, event: TraceEvent) -> None:
        self.ended = seconds
        if isinstance(event, MessageTraced):
            self._begin(seconds)
            self._message(event)
        elif isinstance(event, StateChanged):
            self._begin(seconds)
            self.role = event.role
        elif isinstance(event, ChoiceMade):
            if event.what == "early_data":
                self.early_data = _OUTCOMES.get(event.reason)
        elif isinstance(event, CertificateDecompressed):
            self._certificate(event.body, sent=False)
        elif isinstance(event, HandshakeCompleted):
            self.role, self.done = event.role, event
        elif isinstance(event, TcpConnected):
            self.role = event.role
        elif isinstance(event, TcpConnecting):
            self.host = event.host
        elif isinstance(event, AlertTraced) and self.alert is None and event.description not in _WARNINGS:
            self.alert = event

    def _begin(self, seconds: float) -> None:
        if self.begun is None:
            self.begun = seconds

    def _message(self, event: MessageTraced) -> None:
        body = event.body
        if isinstance(body, Certificate):
            self._certificate(body, sent=event.direction is Direction.SENT)
        elif isinstance(body, ClientHello):
            self.client_hello = self.client_hello or body  # a second one answers a HelloRetryRequest
        elif isinstance(body, ServerHello):
            self.server_hello = body

    def _certificate(self, body: object, *, sent: bool) -> None:
        if isinstance(body, Certificate):
            self.certificates[sent] = tuple(entry.cert_data for entry in body.certificate_list)


def _asked_for(seen: _Seen) -> str | None:
    """Return whom the client of a failed handshake asked for, as its hello has it, else as it was connected to."""
    body = b"" if seen.client_hello is None else dict(seen.client_hello.extensions).get(ExtensionType.SERVER_NAME, b"")
    named = body[5:].decode("ascii", "backslashreplace") or seen.host  # ServerNameList with one host_name (RFC 6066 §3)
    return _bounded(named) if named else None


def _bounded(text: str) -> str:
    text = escaped(text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


# ---- telling ---------------------------------------------------------------------------------------------------------


class HandshakeReporter:
    """The base of what tells of handshakes: `trace` of a configuration, and a callback of `on_handshake`.

    What it raises is logged under `pellucid`: no connection breaks.
    """

    def __call__(self) -> Observer:
        """Return the observer of a new connection."""
        return _Watch(self.tell, self.later)

    def on_handshake(self, record: Recorder) -> None:
        """Tell of a record's handshake: for `SSLContext.on_handshake`, which tells nothing of what comes later."""
        _guarded(lambda: self.tell(handshake_of(record)))

    def tell(self, handshake: Handshake) -> None:
        """Take a handshake that is over."""

    def later(self, role: Role, event: TraceEvent) -> None:
        """Take an alert or a ticket that came or went after the handshake."""


class _Watch:
    """The observer of one connection. Of what comes after the handshake it keeps nothing."""

    def __init__(self, tell: Callable[[Handshake], None], later: Callable[[Role, TraceEvent], None]) -> None:
        self._recorder: Recorder | None = Recorder(_MESSAGES)
        self._tell = tell
        self._later = later
        self._role = Role.SERVER

    def __call__(self, event: TraceEvent) -> None:
        recorder = self._recorder
        if recorder is None:
            if isinstance(event, AlertTraced) or _is_ticket(event):
                _guarded(lambda: self._later(self._role, event))
            return
        if type(event) not in _KEPT:
            return
        recorder(event)
        ends = isinstance(event, (HandshakeCompleted, ClosedTraced))
        if ends or (isinstance(event, AlertTraced) and event.description not in _WARNINGS):
            self._recorder = None
            _guarded(lambda: self._over(recorder))

    def _over(self, recorder: Recorder) -> None:
        handshake = handshake_of(recorder)
        self._role = handshake.role
        self._tell(handshake)
        for event in filter(_is_ticket, recorder.events):  # a server's go out before its handshake is called complete
            self._later(self._role, event)


def _is_ticket(event: TraceEvent) -> bool:
    return isinstance(event, MessageTraced) and event.message_type == HandshakeType.NEW_SESSION_TICKET


def _guarded(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # the application's own, or its library's
        _log.error("a handshake could not be reported", exc_info=error)


def several(*traces: Callable[[], Observer | None] | None) -> Callable[[], Observer | None]:
    """Return one `trace` for a configuration that asks all of *traces* for an observer."""
    asked = tuple(trace for trace in traces if trace is not None)
    return lambda: tee(*(trace() for trace in asked))
