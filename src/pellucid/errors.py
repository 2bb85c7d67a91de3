"""The exception tree: whose fault it was, which alert says so, which section demands it.

Bytes from a peer raise nothing but PeerError, AlertReceived and TruncatedStream.
Nothing else of the house is imported here but the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pellucid.registry import AlertDescription, alert_name

__all__ = [
    "AccessDenied",
    "AlertReceived",
    "BadCertificate",
    "BadRecordMac",
    "CertificateRequired",
    "Circumstances",
    "DecodeError",
    "DecryptError",
    "Explained",
    "Explanation",
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
    "explain_with",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What was known of a connection at the moment when it failed: made then, and never before.

    role:      "client" or "server".   state: where it waited, as RFC 9846 App. A names it.
    complete:  whether the handshake was.   server_name: whom a client wanted, "" if that is not known.
    address, port: where the peer is, as far as that is known: "" and 0 else.
    received:  bytes of the peer's during the handshake.   records: opened under the keys of that moment.
    partial:   bytes of a record or message that was not all there.   epoch: of the keys that records open with.
    narrowed:  what was offered less of than the default: "groups", "suites", "schemes".
    showed_certificate: whether this end had shown one.
    now:       the provider's time, seconds since 1970.   seconds: how long was waited, where that ended it.
    """

    role: str = ""
    state: str = ""
    complete: bool = False
    server_name: str = ""
    address: str = ""
    port: int = 0
    received: int = 0
    records: int = 0
    partial: int = 0
    epoch: int = 0
    narrowed: tuple[str, ...] = ()
    showed_certificate: bool = False
    now: float | None = None
    seconds: float | None = None
    first_bytes: bytes = field(default=b"", repr=False)
    """what the peer sent, if that is no TLS: at most 64 bytes"""


class Explanation(Protocol):
    """What an error's `report` is; pellucid.explain makes it (a `Diagnosis`)."""

    @property
    def code(self) -> str: ...
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _NoReport:
    """What stands for a report that could not be made. why: what went wrong with that."""

    code: str
    why: str

    def text(self) -> str:
        return f"error[{self.code}]\n(no diagnosis: {self.why})"

    def to_dict(self) -> dict[str, object]:
        return {"code": self.code, "why": self.why}

    def __str__(self) -> str:
        return f"{self.code} (no diagnosis: {self.why})"


_explainer: Callable[[BaseException], Explanation] | None = None


def explain_with(explainer: Callable[[BaseException], Explanation]) -> None:
    """Have *explainer* make the reports of errors: the layer that can explain stands above this one."""
    global _explainer  # noqa: PLW0603  # set once, when the package is imported
    _explainer = explainer


class Explained(Exception):
    """An error that can be explained at length: `report` has it, and the notes, which a traceback prints.

    Both are made when first asked for. `str()` stays one line.
    """

    circumstances: Circumstances | None = None
    """of the connection, where there was one"""
    code: str = ""
    """the diagnosis's, where it is known where the error is raised; `report.code` is there for every error"""
    _report: Explanation | None = None
    _notes: list[str] | None = None
    _told: bool = False
    """whether the diagnosis stands among the notes"""

    @property
    def report(self) -> Explanation:
        """The Diagnosis: what happened, every check, the likely cause, what can be done (`pellucid.explain`).

        Asking for it fails for no reason of ours: where it cannot be made just now, as when no file can be opened any
        more to load what makes it, there is the code alone, and why.
        """
        try:
            return self._made_report()
        except Exception as failure:  # noqa: BLE001  # whoever handles this error is not to meet another
            return _NoReport(self.code or "UNKNOWN", repr(failure))

    def _made_report(self) -> Explanation:
        if self._report is None:
            if _explainer is None:
                raise RuntimeError("nobody explains errors: import pellucid")
            self._report = _explainer(self)
        return self._report

    @property
    def __notes__(self) -> list[str]:
        notes = self._own_notes()
        if not self._told:
            self._told = True
            try:
                report = self._made_report()
                if report.code != "UNKNOWN":  # that more bytes are wanted is no failure
                    notes.insert(0, report.text())
            except Exception as error:  # noqa: BLE001  # whoever prints a traceback gets this one, not another
                notes.insert(0, f"(no diagnosis: {error!r})")
        return notes

    @__notes__.setter
    def __notes__(self, notes: list[str]) -> None:
        self._notes = notes
        self._told = True  # whoever sets the notes says what they are: those of another error have its diagnosis

    @__notes__.deleter
    def __notes__(self) -> None:
        self._notes = None
        self._told = True

    def add_note(self, note: str, /) -> None:
        """Add *note* behind the diagnosis, which need not be made yet."""
        if not isinstance(note, str):
            raise TypeError(f"a note is a str, not {type(note).__name__}")
        self._own_notes().append(note)

    def _own_notes(self) -> list[str]:
        if self._notes is None:
            self._notes = []
        return self._notes


class TLSError(Explained, OSError):
    """Anything that went wrong in TLS. An OSError, so that code which expects a broken socket copes.

    `str()` is one line; `report` and `__notes__` have the long explanation.
    """

    reason: str = ""

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        if code:
            self.code = code

    @property
    def words(self) -> str:
        """What happened, in one line: `reason`, except where that is what another library calls it."""
        return self.reason

    def __str__(self) -> str:
        return self.reason


class PeerError(TLSError):
    """The peer broke a rule; *alert* is what it is told (RFC 9846 §6.2).

    alert:  AlertDescription code point, 0..255.
    reason: one line: what the peer did and what was allowed. Never carries a secret.
    rfc:    the rule, e.g. "9846 §4.3.8".
    code:   the diagnosis's, where the class's does not fit.
    """

    alert: ClassVar[int] = AlertDescription.INTERNAL_ERROR
    # Of the class, so that those of an application that has its own way to make them can be explained too.
    rfc: str = ""
    first_bytes: bytes = b""
    """at most 64 bytes of what the peer sent, if that is no TLS"""
    verification: object | None = None
    """the VerificationReport, where the peer's certificates had been examined"""

    def __init__(self, reason: str, *, rfc: str = "", code: str = "") -> None:
        super().__init__(reason, code=code)
        self.rfc = rfc

    def __str__(self) -> str:
        section = f" (RFC {self.rfc})" if self.rfc else ""
        return f"{alert_name(self.alert)}: {self.reason}{section}"


class UnexpectedMessage(PeerError):
    alert = AlertDescription.UNEXPECTED_MESSAGE
    code = "TLS-UNEXPECTED-MESSAGE"


class BadRecordMac(PeerError):
    alert = AlertDescription.BAD_RECORD_MAC
    code = "TLS-BAD-RECORD-MAC"


class RecordOverflow(PeerError):
    alert = AlertDescription.RECORD_OVERFLOW
    code = "TLS-RECORD-OVERFLOW"


class HandshakeFailure(PeerError):
    alert = AlertDescription.HANDSHAKE_FAILURE
    code = "TLS-NO-COMMON-SCHEME"


class BadCertificate(PeerError):
    alert = AlertDescription.BAD_CERTIFICATE
    code = "X509-MALFORMED"


class UnsupportedCertificate(PeerError):
    alert = AlertDescription.UNSUPPORTED_CERTIFICATE
    code = "X509-UNSUPPORTED"


class IllegalParameter(PeerError):
    alert = AlertDescription.ILLEGAL_PARAMETER
    code = "TLS-ILLEGAL-PARAMETER"


class AccessDenied(PeerError):
    alert = AlertDescription.ACCESS_DENIED
    code = "X509-REFUSED"


class DecodeError(PeerError):
    alert = AlertDescription.DECODE_ERROR
    code = "TLS-DECODE"


class DecryptError(PeerError):
    alert = AlertDescription.DECRYPT_ERROR
    code = "TLS-BAD-FINISHED"


class ProtocolVersion(PeerError):
    alert = AlertDescription.PROTOCOL_VERSION
    code = "TLS-VERSION"


class InsufficientSecurity(PeerError):
    alert = AlertDescription.INSUFFICIENT_SECURITY
    code = "TLS-NO-COMMON-SUITE"


class MissingExtension(PeerError):
    alert = AlertDescription.MISSING_EXTENSION
    code = "TLS-MISSING-EXTENSION"


class UnsupportedExtension(PeerError):
    alert = AlertDescription.UNSUPPORTED_EXTENSION
    code = "TLS-UNSOLICITED-EXTENSION"


class UnrecognizedName(PeerError):
    alert = AlertDescription.UNRECOGNIZED_NAME
    code = "TLS-UNKNOWN-NAME"


class CertificateRequired(PeerError):
    alert = AlertDescription.CERTIFICATE_REQUIRED
    code = "TLS-CLIENT-CERT-REQUIRED"


class NoApplicationProtocol(PeerError):
    alert = AlertDescription.NO_APPLICATION_PROTOCOL
    code = "TLS-NO-ALPN"


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

    code = "USAGE"


class InternalError(TLSError):
    """Our fault, or that of something plugged into us (a signer, a resolver). internal_error is sent."""

    code = "TLS-INTERNAL"
