"""The exception tree: whose fault it was, which alert says so, which section demands it.

Bytes from a peer raise nothing but PeerError, AlertReceived and TruncatedStream.
Nothing else of the house is imported here but the registry.
"""

from __future__ import annotations

from typing import ClassVar

from pellucid.registry import AlertDescription, alert_name

__all__ = [
    "AccessDenied",
    "AlertReceived",
    "BadCertificate",
    "BadRecordMac",
    "CertificateRequired",
    "DecodeError",
    "DecryptError",
    "HandshakeFailure",
    "IllegalParameter",
    "InsufficientSecurity",
    "InternalError",
    "MissingExtension",
    "NoApplicationProtocol",
    "PeerError",
    "ProtocolVersion",
    "RecordOverflow",
    "TLSError",
    "TruncatedStream",
    "UnexpectedMessage",
    "UnrecognizedName",
    "UnsupportedCertificate",
    "UnsupportedExtension",
    "UsageError",
]


class TLSError(OSError):
    """Anything that went wrong in TLS. An OSError, so that code which expects a broken socket copes.

    `str()` is one line; longer explanations are in `__notes__`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class PeerError(TLSError):
    """The peer broke a rule; *alert* is what it is told (RFC 9846 §6.2).

    alert:  AlertDescription code point, 0..255.
    reason: one line: what the peer did and what was allowed. Never carries a secret.
    rfc:    the rule, e.g. "9846 §4.3.8".
    """

    alert: ClassVar[int] = AlertDescription.INTERNAL_ERROR

    def __init__(self, reason: str, *, rfc: str = "") -> None:
        super().__init__(reason)
        self.rfc = rfc
        self.report: object | None = None
        """the VerificationReport, where the peer's certificates had been examined"""

    def __str__(self) -> str:
        section = f" (RFC {self.rfc})" if self.rfc else ""
        return f"{alert_name(self.alert)}: {self.reason}{section}"


class UnexpectedMessage(PeerError):
    alert = AlertDescription.UNEXPECTED_MESSAGE


class BadRecordMac(PeerError):
    alert = AlertDescription.BAD_RECORD_MAC


class RecordOverflow(PeerError):
    alert = AlertDescription.RECORD_OVERFLOW


class HandshakeFailure(PeerError):
    alert = AlertDescription.HANDSHAKE_FAILURE


class BadCertificate(PeerError):
    alert = AlertDescription.BAD_CERTIFICATE


class UnsupportedCertificate(PeerError):
    alert = AlertDescription.UNSUPPORTED_CERTIFICATE


class IllegalParameter(PeerError):
    alert = AlertDescription.ILLEGAL_PARAMETER


class AccessDenied(PeerError):
    alert = AlertDescription.ACCESS_DENIED


class DecodeError(PeerError):
    alert = AlertDescription.DECODE_ERROR


class DecryptError(PeerError):
    alert = AlertDescription.DECRYPT_ERROR


class ProtocolVersion(PeerError):
    alert = AlertDescription.PROTOCOL_VERSION


class InsufficientSecurity(PeerError):
    alert = AlertDescription.INSUFFICIENT_SECURITY


class MissingExtension(PeerError):
    alert = AlertDescription.MISSING_EXTENSION


class UnsupportedExtension(PeerError):
    alert = AlertDescription.UNSUPPORTED_EXTENSION


class UnrecognizedName(PeerError):
    alert = AlertDescription.UNRECOGNIZED_NAME


class CertificateRequired(PeerError):
    alert = AlertDescription.CERTIFICATE_REQUIRED


class NoApplicationProtocol(PeerError):
    alert = AlertDescription.NO_APPLICATION_PROTOCOL


class AlertReceived(TLSError):
    """The peer gave up on us with an error alert (RFC 9846 §6.2).

    description: AlertDescription code point, 0..255; unknown ones are errors too.
    """

    def __init__(self, description: int) -> None:
        super().__init__(f"the peer sent the alert {alert_name(description)}")
        self.description = description


class TruncatedStream(TLSError):
    """The transport ended without close_notify: what came may be cut short (RFC 9846 §6.1)."""

    def __init__(self, reason: str = "the connection ended without close_notify") -> None:
        super().__init__(reason)


class UsageError(TLSError):
    """The caller's fault: a call that cannot be made now, or a value that cannot be. Nothing is sent."""


class InternalError(TLSError):
    """Our fault, or that of something plugged into us (a signer, a resolver). internal_error is sent."""
