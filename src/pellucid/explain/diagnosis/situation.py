"""An error with all that is known around it: its code, its phase, who waited where for what."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Final

from pellucid.errors import AlertReceived, Circumstances, Explained, InternalError, PeerError, TruncatedStream
from pellucid.explain.diagnosis.certificates import Refusal, refusal
from pellucid.explain.diagnosis.codes_alerts import alert_code
from pellucid.explain.diagnosis.inside import said
from pellucid.explain.diagnosis.record import NothingWrong
from pellucid.explain.recorder import Recorder
from pellucid.handshake.states import CLIENT_ARROWS, SERVER_ARROWS
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType, handshake_type_name
from pellucid.verify.report import VerificationReport

__all__ = ["Situation", "awaited", "phase_of", "situation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What there is to explain."""

    error: BaseException
    code: str
    known: Circumstances
    refusal: Refusal | None = None
    verification: VerificationReport | None = None
    recorder: Recorder | None = None

    @property
    def client(self) -> bool:
        return self.known.role != "server"

    @property
    def peer(self) -> str:
        """What to call the peer."""
        return "server" if self.client else "client"

    @property
    def host(self) -> str:
        return self.known.server_name if self.client else ""


def situation_of(error: BaseException, known: Circumstances, recorder: Recorder | None) -> Situation:
    """Return the situation of *error*, which is ours or a socket's. known: how the connection stood."""
    verification = error.verification if isinstance(error, PeerError) else None
    refused = None
    if isinstance(verification, VerificationReport) and not verification.accepted and _is_about_it(error):
        refused = refusal(verification, known.server_name if known.role != "server" else "", known.now)
    code = refused.code if refused is not None else _code_of(error, known)
    return Situation(
        error=error,
        code=code,
        known=known,
        refusal=refused,
        verification=verification if isinstance(verification, VerificationReport) else None,
        recorder=recorder,
    )


def _is_about_it(error: BaseException) -> bool:
    """Whether the verification is what failed: a wrong CertificateVerify has a report too, and is the graver news."""
    return not (isinstance(error, Explained) and error.code == "TLS-BAD-CERTIFICATE-VERIFY")


def _code_of(error: BaseException, known: Circumstances) -> str:
    if isinstance(error, AlertReceived):
        return _alert_code(error.description, known)
    if isinstance(error, TruncatedStream):
        return "PEER-TRUNCATED" if known.complete or known.partial else "PEER-CLOSED-EARLY"
    if isinstance(error, Explained) and error.code:
        return error.code
    if isinstance(error, InternalError):
        return "TLS-INTERNAL"
    if isinstance(error, NothingWrong):
        return "OK"
    return _plain_code(error, known)


_DIRECT: Final = {
    A.PROTOCOL_VERSION: "TLS-VERSION",
    A.UNRECOGNIZED_NAME: "TLS-UNKNOWN-NAME",
    A.CERTIFICATE_REQUIRED: "TLS-CLIENT-CERT-REQUIRED",
    A.NO_APPLICATION_PROTOCOL: "TLS-NO-ALPN",
    A.CLOSE_NOTIFY: "PEER-CLOSED-EARLY",
}
"""alerts that say all there is to say"""
_ABOUT_CERTIFICATES: Final = frozenset(
    {
        A.BAD_CERTIFICATE,
        A.UNSUPPORTED_CERTIFICATE,
        A.CERTIFICATE_REVOKED,
        A.CERTIFICATE_EXPIRED,
        A.CERTIFICATE_UNKNOWN,
        A.UNKNOWN_CA,
        A.ACCESS_DENIED,
        A.BAD_CERTIFICATE_STATUS_RESPONSE,
    }
)
_NARROWED: Final = {
    ("groups",): "TLS-NO-COMMON-GROUP",
    ("suites",): "TLS-NO-COMMON-SUITE",
    ("schemes",): "TLS-NO-COMMON-SCHEME",
}


def _alert_code(description: int, known: Circumstances) -> str:
    if description in _DIRECT:
        return _DIRECT[description]
    if known.role == "client":
        if known.complete and known.showed_certificate and description in _ABOUT_CERTIFICATES:
            return "TLS-CLIENT-CERT-REFUSED"  # the server looks at it after our handshake is complete
        nothing_common = description in {A.HANDSHAKE_FAILURE, A.INSUFFICIENT_SECURITY}
        if nothing_common and not known.complete and known.narrowed in _NARROWED:
            return _NARROWED[known.narrowed]
    return alert_code(description)


_UNREACHABLE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN}
)


def _plain_code(error: BaseException, known: Circumstances) -> str:
    """Return the code of an error of the standard library's."""
    if isinstance(error, socket.gaierror):
        return "DNS-NOT-FOUND"
    if isinstance(error, ConnectionRefusedError):
        return "TCP-REFUSED"
    if isinstance(error, ConnectionAbortedError) and "handshake is taking longer" in said(error):
        return "PEER-STALLED"  # asyncio's own words
    if isinstance(error, ConnectionResetError) and not error.args and not known.complete:
        return "PEER-CLOSED-EARLY"  # asyncio's way to say that the stream ended during the handshake
    if isinstance(error, ConnectionError):
        return "TCP-RESET"
    if isinstance(error, TimeoutError):
        return _timeout_code(error, known)
    return "TCP-UNREACHABLE" if isinstance(error, OSError) and error.errno in _UNREACHABLE else "UNKNOWN"


def _timeout_code(error: TimeoutError, known: Circumstances) -> str:
    if known.role:
        return "PEER-STALLED"
    # A socket says "timed out": of ours it would have been an error of ours, so it was still connecting. Who cancels
    # what takes too long, as asyncio does, does not know what it was.
    return "TCP-TIMEOUT" if type(error) is TimeoutError and error.args else "TIMEOUT"


# ---- phases --------------------------------------------------------------------------------------------------------

_PHASES: Final = {
    "client": {
        "START": "client hello",
        "WAIT_SH": "server hello",
        "WAIT_EE": "encrypted extensions",
        "WAIT_CERT_CR": "certificate",
        "WAIT_CERT": "certificate",
        "WAIT_CV": "certificate verify",
        "WAIT_FINISHED": "finished",
    },
    "server": {
        "START": "client hello",
        "WAIT_EOED": "early data",
        "WAIT_CERT": "client certificate",
        "WAIT_CV": "client certificate verify",
        "WAIT_FINISHED": "client finished",
    },
}
_BY_CODE: Final = {
    "DNS-NOT-FOUND": "dns",
    "DNS-TIMEOUT": "dns",
    "TCP-REFUSED": "tcp",
    "TCP-TIMEOUT": "tcp",
    "TCP-UNREACHABLE": "tcp",
    "TIMEOUT": "call",
    "PEER-STARTTLS": "starttls",
    "USAGE": "call",
    "UNKNOWN": "call",
}


def phase_of(code: str, known: Circumstances) -> str:
    """Return where on its way the connection was."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code.startswith("X509-"):
        return "client certificate" if known.role == "server" else "certificate"
    if not known.role:
        return "tcp" if code.startswith("TCP-") else ""
    return _PHASES[known.role].get(known.state, "application data")


def awaited(known: Circumstances) -> str:
    """Return which messages may come in the state that the connection is in: "ServerHello"."""
    if known.complete:
        return "data"
    table = CLIENT_ARROWS if known.role == "client" else SERVER_ARROWS
    messages = [message for state, message in table if state == known.state and message not in _RARELY]
    return " or ".join(map(handshake_type_name, messages))


_RARELY: Final = frozenset({HandshakeType.HELLO_RETRY_REQUEST, HandshakeType.COMPRESSED_CERTIFICATE})
"""what stands for another message: that one is what is waited for"""
