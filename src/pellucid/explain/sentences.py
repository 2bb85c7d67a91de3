"""Any event in one plain sentence: what happened, and why it matters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from pellucid.explain.text import escaped
from pellucid.registry import AlertDescription as A
from pellucid.registry import (
    CertificateType,
    ContentType,
    alert_name,
    content_type_name,
    exchange_name,
    group_name,
    handshake_type_name,
    scheme_name,
    suite_name,
)
from pellucid.registry import HandshakeType as H
from pellucid.trace import (
    AlertTraced,
    CertificateDecompressed,
    ChoiceMade,
    ClosedTraced,
    Direction,
    EarlyDataTraced,
    Epoch,
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    OutsideDrawn,
    RecordTraced,
    Role,
    SecretDerived,
    SharedSecretComputed,
    SignatureTraced,
    StateChanged,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TcpPacket,
    TraceEvent,
    VerificationTraced,
)
from pellucid.verify.report import Outcome, VerificationReport

__all__ = ["ALERTS", "DESCRIBERS", "MESSAGES", "choice_name", "describe", "moment", "protection", "seconds", "signing"]

MESSAGES: Final = {
    H.CLIENT_HELLO: "the client says what it can do, and sends its half of the key exchange",
    H.SERVER_HELLO: "the server picks one of each and sends its half: from here on all is encrypted",
    H.HELLO_RETRY_REQUEST: "the server asks the client to try again, with what it names",
    H.ENCRYPTED_EXTENSIONS: "the server answers the rest of the offer, the first message nobody else can read",
    H.CERTIFICATE_REQUEST: "the server asks the client to show a certificate too",
    H.CERTIFICATE: "who this is, and who vouches for it; not believed yet",
    H.CERTIFICATE_VERIFY: "a signature over the whole conversation: the proof that the certificate's key is here",
    H.FINISHED: "a checksum of the conversation so far, under a key only the two ends have: nothing was changed",
    H.NEW_SESSION_TICKET: "a ticket with which the client may come back faster",
    H.END_OF_EARLY_DATA: "the data sent before the handshake was done ends here",
    H.KEY_UPDATE: "the sender goes on with a fresh key; the old one is thrown away",
    H.COMPRESSED_CERTIFICATE: "a Certificate message, compressed: who this is, in fewer bytes",
    H.MESSAGE_HASH: "stands for the first ClientHello in the hash after a retry",
}
"""Handshake message → what it is for."""

ALERTS: Final = {
    A.CLOSE_NOTIFY: "nothing more will be sent, and nothing was cut off",
    A.BAD_RECORD_MAC: "a record did not open: it was changed on the way, or the keys differ",
    A.UNEXPECTED_MESSAGE: "a message came at the wrong moment",
    A.RECORD_OVERFLOW: "a record was too long",
    A.HANDSHAKE_FAILURE: "the two ends have nothing in common that both accept",
    A.BAD_CERTIFICATE: "the certificate is not right",
    A.UNSUPPORTED_CERTIFICATE: "the certificate is of a kind that cannot be used here",
    A.CERTIFICATE_REVOKED: "the certificate was withdrawn by its issuer",
    A.CERTIFICATE_EXPIRED: "the certificate is not valid today",
    A.CERTIFICATE_UNKNOWN: "the certificate was refused for another reason",
    A.ILLEGAL_PARAMETER: "a message held a value that may not stand there",
    A.UNKNOWN_CA: "nobody trusted vouches for the certificate",
    A.ACCESS_DENIED: "the certificate is good, but its owner may not come in",
    A.DECODE_ERROR: "a message was not well-formed",
    A.DECRYPT_ERROR: "a signature or a Finished was wrong",
    A.PROTOCOL_VERSION: "the two ends speak no common version",
    A.INTERNAL_ERROR: "something went wrong at the sender, not on the way",
    A.USER_CANCELED: "somebody pressed a button",
    A.MISSING_EXTENSION: "something that has to be said was not",
    A.UNSUPPORTED_EXTENSION: "an answer came to a question nobody asked",
    A.UNRECOGNIZED_NAME: "the server does not know the name it was called by",
    A.CERTIFICATE_REQUIRED: "the server wants a client certificate and got none",
    A.BAD_CERTIFICATE_STATUS_RESPONSE: "the certificate came without a good answer on whether it was revoked",
    A.NO_APPLICATION_PROTOCOL: "the two ends speak no common application protocol",
}
"""Alert → what it means. Others are told by their names."""

_PROTECTION: Final = {
    Epoch.INITIAL: "in the open",
    Epoch.EARLY: "early-data keys",
    Epoch.HANDSHAKE: "handshake keys",
    Epoch.APPLICATION: "application keys",
}


def protection(epoch: Epoch) -> str:
    """Return which keys protect what is sent in *epoch*."""
    return _PROTECTION[epoch]


def describe(event: TraceEvent) -> str:
    """Return one sentence on *event*, without a secret in it; its name for one of a type not in the table."""
    sentence = DESCRIBERS.get(type(event))
    return f"{type(event).__name__}." if sentence is None else sentence(event)


def seconds(value: float) -> str:
    """Return a duration as people say it: "34 µs", "4.4 ms", "1.20 s"."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s"


def moment(seconds_since_1970: float | None) -> str:
    """Return a time as people say it: "2026-09-21 14:13 UTC"."""
    if seconds_since_1970 is None:
        return "an unknown time"
    try:
        return datetime.fromtimestamp(seconds_since_1970, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):  # a session is read from a file: any number may stand there
        return f"second {seconds_since_1970:.0f} since 1970"


def _tcp_connecting(event: TcpConnecting) -> str:
    where = "" if event.host == event.address else f" for {escaped(event.host)}"
    return f"Knocks at {event.address} port {event.port}{where} (attempt {event.attempt})."


def _tcp_connect_failed(event: TcpConnectFailed) -> str:
    return f"{event.address} port {event.port} does not answer: {event.reason} after {seconds(event.seconds)}."


def _tcp_packet(event: TcpPacket) -> str:
    options = ", ".join(f"{name} {value}".strip() for name, value in event.options if name != "no-operation")
    return f"TCP {'-'.join(event.flags)} {event.direction.value}" + (f" with {options}." if options else ".")


def _tcp_connected(event: TcpConnected) -> str:
    took = "" if event.seconds is None else f" in {seconds(event.seconds)}"
    trip = "" if event.info is None else f"; a round trip takes {seconds(event.info.rtt_seconds)}"
    verb = "Connected to" if event.seconds is not None else "Accepted"
    return f"{verb} {event.peer_address} port {event.peer_port} over TCP{took}{trip}; nothing is secret yet."


def _record(event: RecordTraced) -> str:
    if not event.opened:
        return f"A record of {event.size} bytes {event.direction.value} that does not open: nobody here can read it."
    if event.content_type == ContentType.CHANGE_CIPHER_SPEC:
        return f"A dummy change_cipher_spec is {event.direction.value}: it means nothing, and soothes old middleboxes."
    padding = f" and {event.padding_size} of padding" if event.padding_size else ""
    number = "" if event.sequence is None else f", number {event.sequence} under its key"
    early = event.epoch is Epoch.EARLY and event.content_type == ContentType.APPLICATION_DATA
    replay = ", which may be replayed" if early else ""
    return (
        f"A record of {event.size} bytes {event.direction.value} {_under(event.epoch)}{number}: "
        f"{event.content_size} bytes of {content_type_name(event.content_type)}{padding}{replay}."
    )


def _under(epoch: Epoch) -> str:
    return _PROTECTION[epoch] if epoch is Epoch.INITIAL else f"under the {_PROTECTION[epoch]}"


def _message(event: MessageTraced) -> str:
    name = handshake_type_name(event.message_type)
    meaning = MESSAGES.get(event.message_type, "a message of a type with no name here")
    return f"{name} {event.direction.value} {_under(event.epoch)}, {len(event.raw)} bytes: {meaning}."


def _decompressed(event: CertificateDecompressed) -> str:
    return (
        f"The peer's certificate was compressed with {escaped(event.name)}: {event.compressed_size} bytes travelled "
        f"for {event.size}."
    )


def _early_data(event: EarlyDataTraced) -> str:
    whose = "before the server has answered" if event.direction is Direction.SENT else "before the handshake is done"
    return f"Early data {event.direction.value}, {event.size} bytes {whose}: it may be replayed."


def _state(event: StateChanged) -> str:
    return f"The {event.role.value} goes from {event.old} to {event.new} ({event.cause})."


_CHOICES: Final = {
    "psk": "pre-shared key",
    "psk_offer": "pre-shared key offered",
    "early_data_offer": "early data",
    "alpn": "application protocol (ALPN)",
    "ocsp_response": "OCSP response",
    "peer_ocsp_response": "OCSP response",
    "scts": "SCTs",
    "peer_scts": "SCTs",
}


def choice_name(what: str) -> str:
    """Return what a ChoiceMade was about, in words: "cipher suite", "application protocol (ALPN)"."""
    return _CHOICES.get(what) or what.replace("_", " ")


def _choice(event: ChoiceMade) -> str:
    name = choice_name(event.what)
    what = f"{name[:1].upper()}{name[1:]}"
    because = "" if event.reason == event.chosen else f", because {escaped(event.reason)}"
    return f"{what}: {escaped(event.chosen)}{because}."


def _shared_secret(event: SharedSecretComputed) -> str:
    return (
        f"The key exchange ({group_name(event.group)}) gives a secret of {len(event.secret)} bytes, fingerprint "
        f"{event.secret.fingerprint()}: the peer computes the same, and it never travels."
    )


def _secret(event: SecretDerived) -> str:
    how = f"by {event.method}" + (f' with the label "{event.label}"' if event.label else "")
    source = "" if event.parent is None else f" from {event.parent}"
    return f"{event.name} is derived{source} {how}, fingerprint {event.secret.fingerprint()}."


def _keys(event: KeysInstalled) -> str:
    whose = "What is sent" if event.direction is Direction.SENT else "What comes in"
    again = f", the {event.generation}. update" if event.generation else ""
    return (
        f"{whose} from here on is protected by {suite_name(event.cipher_suite)} under the "
        f"{_PROTECTION[event.epoch]}{again} ({event.secret_name})."
    )


_DRAWN: Final = {
    "random": "random bytes",
    "now": "the time",
    "public": "a fresh key share",
    "shared_secret": "the result of a key exchange",
    "signature": "a signature by our key",
    "session": "what is kept of an earlier connection",
    "ticket": "a fresh ticket",
    "first use": "whether this early data is seen for the first time",
}


def _drawn(event: OutsideDrawn) -> str:
    what = _DRAWN.get(event.what, event.what)
    return f"Takes {what} from outside ({len(event.value)} bytes), and notes it for a replay."


def _verification(event: VerificationTraced) -> str:
    if not isinstance(event.report, VerificationReport):
        return "The peer's certificates were judged by a verifier of another kind."
    what = "certificate" if event.report.certificate_type == CertificateType.X509 else "raw public key"
    if not event.report.accepted:
        return f"The peer's {what} is refused: {escaped(event.report.summary)}."
    if event.report.certificate_type != CertificateType.X509:
        return f"The peer's {what} is believed: {escaped(event.report.summary)}."
    return f"The peer's certificate is believed: {escaped(event.report.summary)}. {_revocation(event.report)}"


def _revocation(report: VerificationReport) -> str:
    """Whether an accepted certificate was looked up among the revoked ones, and where."""
    checks = [check for check in report.checks if check.name == "revocation"]
    good = [check for check in checks if check.outcome is Outcome.PASSED]
    if good:
        return f"It is not revoked: {escaped(good[0].evidence)}."
    return "Whether it was revoked was not checked" + (f": {escaped(checks[0].evidence)}." if checks else ".")


def signing(event: SignatureTraced, role: Role) -> str:
    """Return the sentence of `describe`, but of what *role*, whose trace it is, signed itself that it did so.

    It does so before its flight goes out: nobody has seen the message yet that the proof stands in.
    """
    if event.signer is not role or event.what != "CertificateVerify":
        return _signature(event)
    key = f"its certificate's private key ({scheme_name(event.scheme)})"
    return f"The {role.value} signs the conversation with {key}: its CertificateVerify will show it."


def _signature(event: SignatureTraced) -> str:
    scheme = f" ({scheme_name(event.scheme)})" if event.scheme else ""
    meaning = {
        ("CertificateVerify", True): "it holds the certificate's private key",
        ("CertificateVerify", False): "it does not hold the certificate's private key",
        ("Finished", True): "both ends saw the same conversation",
        ("Finished", False): "the two ends did not see the same conversation",
    }.get((event.what, event.valid), "both ends know the same secret" if event.valid else "they do not agree")
    verdict = "right" if event.valid else "wrong"
    return f"The {event.signer.value}'s {event.what}{scheme} is {verdict}: {meaning}."


def _completed(event: HandshakeCompleted) -> str:
    protocol = f", speaking {escaped(event.alpn)}" if event.alpn else ""
    again = ""
    if event.resumed:
        again = f". It resumed a session, without certificates: they were verified at {moment(event.authenticated_at)}"
    return (
        f"The handshake is complete: {suite_name(event.cipher_suite)}, {exchange_name(event.group)}{protocol}; "
        f"data may flow{again}."
    )


def _alert(event: AlertTraced) -> str:
    meaning = ALERTS.get(event.description)
    reason = f" ({escaped(event.reason)})" if event.reason else ""
    about = f": {meaning}" if meaning else ""
    return f"Alert {alert_name(event.description)} {event.direction.value} {_under(event.epoch)}{about}{reason}."


def _closed(event: ClosedTraced) -> str:
    whose = "our" if event.direction is Direction.SENT else "the peer's"
    end = {
        "close_notify": "with close_notify: it is whole",
        "alert": "with an alert",
        "truncated": "without close_notify: what came may have been cut off",
        "reset": "by a reset of the transport",
        "silence": "for nothing came any more, and nobody waits",
    }.get(event.how, event.how)
    return f"The end of {whose} data, {end}."


DESCRIBERS: Final[dict[type[TraceEvent], Callable[[Any], str]]] = {  # Any: each takes its own event
    TcpConnecting: _tcp_connecting,
    TcpConnectFailed: _tcp_connect_failed,
    TcpPacket: _tcp_packet,
    TcpConnected: _tcp_connected,
    RecordTraced: _record,
    MessageTraced: _message,
    CertificateDecompressed: _decompressed,
    StateChanged: _state,
    EarlyDataTraced: _early_data,
    ChoiceMade: _choice,
    SharedSecretComputed: _shared_secret,
    SecretDerived: _secret,
    KeysInstalled: _keys,
    OutsideDrawn: _drawn,
    VerificationTraced: _verification,
    SignatureTraced: _signature,
    HandshakeCompleted: _completed,
    AlertTraced: _alert,
    ClosedTraced: _closed,
}
"""Event type → its sentence; a test holds it complete."""
