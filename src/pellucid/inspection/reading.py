"""What one watched connection tells: its flights, its certificates, what the server's messages say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeVar

from pellucid.crypto.certificates import PARSE_ERRORS, parse_certificate
from pellucid.crypto.credentials import certificate_names, extension_value
from pellucid.errors import PeerError
from pellucid.explain.recorder import Recorder
from pellucid.inspection.facts import (
    CertificateFacts,
    ChainFacts,
    ClientCertificateFacts,
    Flight,
    NegotiatedFacts,
    StapleFacts,
    TicketFacts,
    Timing,
)
from pellucid.inspection.probing import Answer
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    EncryptedExtensions,
    Extension,
    NewSessionTicket,
    ServerHello,
)
from pellucid.registry import (
    HandshakeType,
    certificate_type_name,
    group_name,
    handshake_type_name,
    scheme_name,
    suite_name,
)
from pellucid.trace import (
    CertificateDecompressed,
    Direction,
    HandshakeCompleted,
    MessageTraced,
    RecordTraced,
    TraceEvent,
)
from pellucid.verify.report import CheckGroup, Outcome

__all__ = [
    "chain_of",
    "client_certificate_of",
    "cookie_size",
    "negotiated_of",
    "staple_of",
    "tickets_of",
    "timing_of",
]

T = TypeVar("T")
_SCT_LIST: Final = "1.3.6.1.4.1.11129.2.4.2"  # RFC 6962 §3.3
_TLS_FEATURE: Final = "1.3.6.1.5.5.7.1.24"  # RFC 7633 §4
_STATUS_REQUEST: Final = b"\x02\x01\x05"  # an INTEGER, of a TLS feature: status_request


def messages(recorder: Recorder, kind: type) -> Iterator[MessageTraced]:
    """Yield the messages received whose body is a *kind*."""
    for event in recorder.of(MessageTraced):
        if event.direction is Direction.RECEIVED and isinstance(event.body, kind):
            yield event


# ---- time and bytes --------------------------------------------------------------------------------------------------


def timing_of(answer: Answer) -> Timing | None:
    """Return how long the stages took and what each flight had; None without a handshake."""
    recorder = answer.recorder
    if recorder is None:
        return None
    flights = _flights(recorder)
    hello = next((seconds for seconds, event in recorder.recorded if _is(event, HandshakeType.CLIENT_HELLO)), None)
    finished = next(
        (seconds for seconds, event in recorder.recorded if _is(event, HandshakeType.FINISHED, Direction.RECEIVED)),
        None,
    )
    if hello is None or finished is None:
        return None
    return Timing(
        connect=answer.times.get("connect", 0.0),
        preamble=answer.times.get("preamble"),
        handshake=finished - hello,
        round_trip=answer.times.get("round_trip"),
        flights=tuple(flights),
    )


def _is(event: TraceEvent, message_type: int, direction: Direction = Direction.SENT) -> bool:
    return isinstance(event, MessageTraced) and event.message_type == message_type and event.direction is direction


def _flights(recorder: Recorder) -> list[Flight]:
    """Return the handshake's flights: a side's messages until the other's first. Tickets and data are not of it."""
    begun = next((seconds for seconds, event in recorder.recorded if _is(event, HandshakeType.CLIENT_HELLO)), 0.0)
    flights: list[Flight] = []
    names: list[str] = []
    sender, size, last = "client", 0, 0.0
    for seconds, event in recorder.recorded:
        if isinstance(event, HandshakeCompleted):
            break
        if not isinstance(event, (MessageTraced, RecordTraced)):
            continue
        side = "client" if event.direction is Direction.SENT else "server"
        if side != sender:
            if names or size:
                flights.append(Flight(sender=sender, messages=tuple(names), size=size, seconds=last))
            sender, names, size = side, [], 0
        if isinstance(event, RecordTraced):
            size += event.size
        else:
            names.append(handshake_type_name(event.message_type))
        last = seconds - begun
    if sender == "client" and names:
        flights.append(Flight(sender=sender, messages=tuple(names), size=size, seconds=last))
    return flights


# ---- certificates ----------------------------------------------------------------------------------------------------


def chain_of(answer: Answer, now: float) -> ChainFacts | None:
    """Return the server's chain; None if it showed none."""
    recorder, report, request = answer.recorder, answer.witness.report, answer.witness.request
    if recorder is None or report is None or request is None:
        return None
    peer = None if answer.negotiated is None else answer.negotiated.peer
    if peer is not None:
        report = replace(report, later=peer.report.later)  # with CertificateVerify, which comes after the chain
    sent = (request.leaf.der, *request.intermediates)
    certificates = tuple(_certificate(der) for der in sent)
    path = report.path
    needed = [one for one in certificates if one.sha256 in {hashlib.sha256(der).hexdigest() for der in path[:-1]}]
    if len(path) == 1:  # the leaf is trusted itself
        needed = list(certificates[:1])
    shown = next(messages(recorder, Certificate), None)
    size = 0 if shown is None else len(shown.raw)
    for event in recorder.of(CertificateDecompressed):
        size = event.size
    return ChainFacts(
        certificates=certificates,
        report=report,
        needless=len(sent) - len(needed) if path else 0,
        size=size,
        names_matched=report.outcome(CheckGroup.NAME) is Outcome.PASSED,
        seconds_left=min(one.not_after for one in needed) - now if needed else None,
    )


def _certificate(der: bytes) -> CertificateFacts:
    try:
        return _readable(der)
    except (*PARSE_ERRORS, PeerError) as error:  # some of it is parsed only when it is looked at
        return _unreadable(der, str(error))


def _readable(der: bytes) -> CertificateFacts:
    parsed = parse_certificate(der)
    certificate = parsed.x509
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=certificate_names(parsed),
        key=parsed.key_algorithm,
        signed_with=certificate.signature_algorithm_oid._name,
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        sha256=hashlib.sha256(der).hexdigest(),
        size=len(der),
        self_issued=certificate.subject == certificate.issuer,
        embedded_scts=extension_value(parsed, _SCT_LIST) is not None,
        must_staple=_STATUS_REQUEST in (extension_value(parsed, _TLS_FEATURE) or b""),
    )


def _unreadable(der: bytes, reason: str) -> CertificateFacts:
    return CertificateFacts(
        subject=f"unreadable: {reason}",
        issuer="",
        names=(),
        key="",
        signed_with="",
        serial="",
        not_before=0.0,
        not_after=0.0,
        sha256=hashlib.sha256(der).hexdigest(),
        size=len(der),
        self_issued=False,
        embedded_scts=False,
        must_staple=False,
    )


def staple_of(answer: Answer) -> StapleFacts:
    """Return the stapled OCSP response and what the check of it said."""
    report, request = answer.witness.report, answer.witness.request
    staple = None if request is None else request.ocsp_response
    if report is None or staple is None:
        return StapleFacts(size=0, outcome=Outcome.NOT_CHECKED.value, evidence="none was stapled")
    for check in report.checks:
        if check.name == "revocation":
            return StapleFacts(size=len(staple), outcome=check.outcome.value, evidence=check.evidence)
    return StapleFacts(size=len(staple), outcome=Outcome.NOT_CHECKED.value, evidence="it was not looked at")


# ---- what messages say -----------------------------------------------------------------------------------------------


def negotiated_of(answer: Answer) -> NegotiatedFacts | None:
    """Return what was agreed; None without a handshake."""
    negotiated = answer.negotiated
    if negotiated is None:
        return None
    return NegotiatedFacts(
        cipher_suite=suite_name(negotiated.cipher_suite),
        group=None if negotiated.group is None else group_name(negotiated.group),
        signature_scheme=None if negotiated.signature_scheme is None else scheme_name(negotiated.signature_scheme),
        alpn=negotiated.alpn,
        certificate_type=certificate_type_name(negotiated.server_certificate_type or 0),
        record_size_limit=_record_size_limit(answer),
    )


def _record_size_limit(answer: Answer) -> int | None:
    if answer.recorder is None:
        return None
    for message in messages(answer.recorder, EncryptedExtensions):
        return _carried(message.body.extensions, x.RECORD_SIZE_LIMIT)  # type: ignore[attr-defined]
    return None


def _carried(extensions: tuple[Extension, ...], body: x.Body[T]) -> T | None:
    """Return what *body*'s extension carries; None where there is none, or none that can be read.

    A message is on record before it is judged: one that ended its connection is there too, and that is told elsewhere.
    """
    data = next((one.extension_data for one in extensions if one.extension_type == body.extension_type), None)
    try:
        return None if data is None else body.codec.decode_all(data, "")
    except PeerError:
        return None


def cookie_size(answer: Answer) -> int | None:
    """Return the size of the cookie in the server's HelloRetryRequest, 0 without one; None if it sent none."""
    if answer.recorder is None:
        return None
    for message in messages(answer.recorder, ServerHello):
        if message.message_type == HandshakeType.HELLO_RETRY_REQUEST:
            cookie = _carried(message.body.extensions, x.COOKIE)  # type: ignore[attr-defined]
            return 0 if cookie is None else len(cookie)
    return None


def client_certificate_of(answer: Answer) -> ClientCertificateFacts:
    """Return whether the server asked for a certificate, and for which."""
    if answer.recorder is not None:
        for message in messages(answer.recorder, CertificateRequest):
            asked: tuple[Extension, ...] = message.body.extensions  # type: ignore[attr-defined]
            authorities, schemes = _carried(asked, x.CERTIFICATE_AUTHORITIES), _carried(asked, x.SIGNATURE_ALGORITHMS)
            return ClientCertificateFacts(
                requested=True,
                required=None,
                authorities=0 if authorities is None else len(authorities),
                schemes=() if schemes is None else tuple(map(scheme_name, schemes)),
            )
    return ClientCertificateFacts(requested=False, required=False, authorities=0, schemes=())


def tickets_of(answer: Answer) -> tuple[TicketFacts, ...]:
    """Return the tickets that came."""
    if answer.recorder is None:
        return ()
    found = []
    for message in messages(answer.recorder, NewSessionTicket):
        body = message.body
        if isinstance(body, NewSessionTicket):
            found.append(
                TicketFacts(
                    lifetime=body.ticket_lifetime,
                    size=len(body.ticket),
                    max_early_data=_carried(body.extensions, x.MAX_EARLY_DATA_SIZE) or 0,
                )
            )
    return tuple(found)
