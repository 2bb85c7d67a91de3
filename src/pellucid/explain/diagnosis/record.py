"""What a record says went wrong: the error that ended its connection, made again from the events, and how it stood."""

from __future__ import annotations

import errno
import os
from typing import Final

from pellucid.config import DEFAULT_GROUPS, DEFAULT_SCHEMES, DEFAULT_SUITES
from pellucid.errors import AlertReceived, Circumstances, Explained, PeerError, TruncatedStream
from pellucid.explain.recorder import Recorder
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Certificate, ClientHello
from pellucid.registry import AlertDescription, HandshakeType
from pellucid.trace import (
    AlertTraced,
    ClosedTraced,
    Direction,
    Epoch,
    HandshakeCompleted,
    MessageTraced,
    RecordTraced,
    StateChanged,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    VerificationTraced,
)
from pellucid.verify.report import VerificationReport

__all__ = ["NothingWrong", "Retold", "circumstances_in", "failure_in"]


class Retold(PeerError):
    """An error that was seen in a record only. alert: the one that we sent."""

    alert: int  # type: ignore[misc]  # PeerError's is the class's; here the record has it

    def __init__(self, reason: str, *, alert: int, code: str) -> None:
        super().__init__(reason, code=code)
        self.alert = alert


class _Lost(Explained, OSError):
    """What the transport did, as far as a record tells."""


class NothingWrong(Exception):
    """The record is of a connection with which nothing went wrong."""


def failure_in(recorder: Recorder) -> BaseException:
    """Return the error that ended the recorded connection; NothingWrong if none did."""
    error = _ended_by(recorder)
    if isinstance(error, Explained) and error.circumstances is None:
        error.circumstances = circumstances_in(recorder)
    return error


def _ended_by(recorder: Recorder) -> BaseException:
    lost: BaseException | None = None
    for event in recorder.events:
        if isinstance(event, AlertTraced) and event.description not in _NO_ERRORS:
            if event.direction is Direction.RECEIVED:
                return AlertReceived(event.description)
            return _sent(recorder, event)
        if isinstance(event, ClosedTraced) and event.direction is Direction.RECEIVED:
            if event.how in _TRANSPORT:  # it says more than that the stream then ended
                lost = _lost(*_TRANSPORT[event.how])
            elif event.how == "truncated" and lost is None:
                lost = TruncatedStream()
        elif isinstance(event, HandshakeCompleted):
            lost = None  # a call ran out of time, and the next one went on
    if lost is not None:
        return lost
    if (gone := _left(recorder)) is not None:
        return gone
    failed = recorder.of(TcpConnectFailed)
    if failed and recorder.first(TcpConnected) is None:
        return _unconnected(failed)
    closed = any(isinstance(event, (AlertTraced, ClosedTraced)) for event in recorder.events)
    begun = recorder.first(MessageTraced) is not None or recorder.first(StateChanged) is not None
    if begun and not closed and recorder.first(HandshakeCompleted) is None:
        return _lost("PEER-STALLED", "the record ends in the middle of the handshake")
    return NothingWrong()


def _left(recorder: Recorder) -> AlertReceived | None:
    """Return the error of a peer that said that it goes, in the middle of the handshake."""
    said: list[int] = []
    for event in recorder.events:
        if isinstance(event, HandshakeCompleted):
            return None
        if isinstance(event, AlertTraced) and event.direction is Direction.RECEIVED:
            said.append(event.description)
    return AlertReceived(said[0]) if AlertDescription.CLOSE_NOTIFY in said else None


_NO_ERRORS: Final = frozenset({AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED})
_TRANSPORT: Final = {
    "reset": ("TCP-RESET", "the connection was reset"),
    "silence": ("PEER-STALLED", "nothing came any more"),
}


def _sent(recorder: Recorder, event: AlertTraced) -> Retold:
    error = Retold(event.reason, alert=event.description, code=event.code)
    seen = recorder.first(VerificationTraced)
    if seen is not None and isinstance(seen.report, VerificationReport) and not seen.report.accepted:
        error.verification = seen.report
    return error


def _lost(code: str, text: str) -> _Lost:
    error = _Lost(text)
    error.code = code
    return error


_REASONS: Final = {os.strerror(code): code for code in (errno.ECONNREFUSED, errno.ETIMEDOUT)}


def _unconnected(failed: tuple[TcpConnectFailed, ...]) -> _Lost:
    codes = {_REASONS.get(one.reason) for one in failed}
    tried = "; ".join(f"{one.address} port {one.port}: {one.reason}" for one in failed)
    code = "TCP-TIMEOUT" if codes == {errno.ETIMEDOUT} else "TCP-UNREACHABLE"
    return _lost("TCP-REFUSED" if errno.ECONNREFUSED in codes else code, f"cannot connect: {tried}")


def circumstances_in(recorder: Recorder) -> Circumstances:
    """Return how the recorded connection stood at the end of the record."""
    states, completed = recorder.of(StateChanged), recorder.first(HandshakeCompleted)
    connected, connecting = recorder.first(TcpConnected), recorder.first(TcpConnecting)
    closed = [event for event in recorder.of(ClosedTraced) if event.direction is Direction.RECEIVED]
    role = connected.role if connected is not None else completed.role if completed is not None else None
    role = states[0].role if states else role
    messages = recorder.of(MessageTraced)
    received = sum(len(one.raw) for one in messages if one.direction is Direction.RECEIVED and one.epoch < _APPLICATION)
    name = (completed is not None and completed.server_name) or (connecting.host if connecting is not None else "")
    return Circumstances(
        role="" if role is None else role.value,
        state=states[-1].new if states else "START",
        complete=completed is not None,
        server_name=name,
        address="" if connected is None else connected.peer_address,
        port=connected.peer_port if connected is not None else connecting.port if connecting is not None else 0,
        received=received,
        records=sum(
            one.direction is Direction.RECEIVED and one.epoch is _APPLICATION for one in recorder.of(RecordTraced)
        ),
        partial=closed[-1].partial if closed else 0,
        narrowed=_narrowed(messages),
        showed_certificate=any(map(_shows_certificate, messages)),
        seconds=None if not recorder.recorded else recorder.recorded[-1].seconds - recorder.recorded[0].seconds,
    )


_APPLICATION: Final = Epoch.APPLICATION


def _shows_certificate(event: MessageTraced) -> bool:
    body = event.body
    return event.direction is Direction.SENT and isinstance(body, Certificate) and bool(body.certificate_list)


def _narrowed(messages: tuple[MessageTraced, ...]) -> tuple[str, ...]:
    for event in messages:
        hello = event.body
        if event.message_type == HandshakeType.CLIENT_HELLO and isinstance(hello, ClientHello):
            if event.direction is not Direction.SENT:
                return ()
            decoded = x.decode_extensions(x.M.CH, hello.extensions)
            groups, schemes = decoded.get(x.SUPPORTED_GROUPS), decoded.get(x.SIGNATURE_ALGORITHMS)
            offered = {
                "groups": (DEFAULT_GROUPS, groups or ()),
                "suites": (DEFAULT_SUITES, hello.cipher_suites),
                "schemes": (DEFAULT_SCHEMES, schemes or ()),
            }
            return tuple(name for name, (usual, here) in offered.items() if not set(usual) <= set(here))
    return ()
