"""Errors that are both ours and the standard library's: programs written for `ssl` catch what they know.

The classes are made of two parents, one of `pellucid.errors` and its twin of `ssl`; the report and the notes stay.
`ssl` is here for the shape: nothing of it runs.
"""

from __future__ import annotations

import ssl
from typing import Final

from pellucid.errors import AlertReceived, InternalError, PeerError, TLSError, TruncatedStream, UsageError
from pellucid.registry import alert_name
from pellucid.verify.names import is_ip
from pellucid.verify.report import CertificateRejected, Failure

__all__ = ["ConfigurationError", "HostNameError", "PlaintextFirst", "WantRead", "WantWrite", "ZeroReturn", "ssl_error"]


class ConfigurationError(UsageError, ssl.SSLError, ValueError):
    """A setting that cannot be honoured, with the reason. Nothing was changed."""

    library: str = None  # type: ignore[assignment]  # as of Python's own SSLErrors: there, and None

    def __init__(self, reason: str) -> None:
        UsageError.__init__(self, reason)
        OSError.__init__(self, int(ssl.SSL_ERROR_SSL), reason)  # aiohttp shows `strerror` and nothing else


class HostNameError(ConfigurationError, UnicodeError):
    """A server_hostname that is no host name: a UnicodeError too, which is what `ssl` raises from Python 3.13 on."""


class WantRead(TLSError, ssl.SSLWantReadError):
    """More bytes of the peer are needed. errno: SSL_ERROR_WANT_READ."""

    def __init__(self) -> None:
        OSError.__init__(self, int(ssl.SSL_ERROR_WANT_READ), "The operation did not complete (read)")
        self.reason = "The operation did not complete (read)"

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # redis-py looks the class up in a table
        return ssl.SSLWantReadError


class WantWrite(TLSError, ssl.SSLWantWriteError):
    """The socket takes no more now: call again with the same data. errno: SSL_ERROR_WANT_WRITE."""

    def __init__(self) -> None:
        OSError.__init__(self, int(ssl.SSL_ERROR_WANT_WRITE), "The operation did not complete (write)")
        self.reason = "The operation did not complete (write)"

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # redis-py looks the class up in a table
        return ssl.SSLWantWriteError


class ZeroReturn(UsageError, ssl.SSLZeroReturnError):
    """This end said close_notify: nothing more is written. errno: SSL_ERROR_ZERO_RETURN."""

    def __init__(self) -> None:
        text = "TLS/SSL connection has been closed (EOF): this end has said close_notify"
        OSError.__init__(self, int(ssl.SSL_ERROR_ZERO_RETURN), text)
        self.reason = text


class PlaintextFirst(TLSError, ssl.SSLError):
    """Somebody sent data and hung up before TLS began: it is thrown away, for it came through no handshake.

    A socket whose peer has left looks like one that was never connected; what waits in it must not be read as if TLS
    had protected it (CVE-2023-40217).
    """

    library: str = None  # type: ignore[assignment]  # as of Python's own SSLErrors: there, and None

    def __init__(self, number: int) -> None:
        OSError.__init__(self, number, "Closed before TLS handshake with data in recv buffer.")
        self.reason = "Closed before TLS handshake with data in recv buffer."


# OpenSSL's X509_V_ERR_* numbers, which programs compare `verify_code` with.
_VERIFY_CODES: Final = {
    Failure.MALFORMED: 1,
    Failure.REVOCATION_UNKNOWN: 3,
    Failure.BAD_SIGNATURE: 7,
    Failure.NOT_YET_VALID: 9,
    Failure.EXPIRED: 10,
    Failure.SELF_SIGNED: 18,
    Failure.UNKNOWN_CA: 20,
    Failure.MISSING_INTERMEDIATE: 20,
    Failure.REVOKED: 23,
    Failure.NOT_A_CA: 24,
    Failure.WRONG_PURPOSE: 26,
    Failure.CONSTRAINT: 47,
    Failure.NOT_ALLOWED: 28,  # X509_V_ERR_CERT_REJECTED
    Failure.KEY_CHANGED: 28,
    Failure.WRONG_PIN: 28,
    Failure.POLICY: 28,
    Failure.WRONG_NAME: 62,
    Failure.WEAK_KEY: 66,
    Failure.WEAK_SIGNATURE: 68,
    Failure.STAPLE_MISSING: 73,
    Failure.BAD_STAPLE: 74,
}
_UNSPECIFIED: Final = 1
_NAME_MISMATCH: Final = 62
_ADDRESS_MISMATCH: Final = 64

_VERIFY_MESSAGES: Final = {
    1: "unspecified certificate verification error",
    3: "unable to get certificate CRL",
    7: "certificate signature failure",
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    20: "unable to get local issuer certificate",
    23: "certificate revoked",
    24: "invalid CA certificate",
    26: "unsuitable certificate purpose",
    28: "certificate rejected",
    47: "permitted subtree violation",
    66: "EE certificate key too weak",
    68: "CA signature digest algorithm too weak",
    73: "OCSP verification needed",
    74: "OCSP verification failed",
}
"""OpenSSL's words for these numbers, which programs look for."""

# OpenSSL's names for what went wrong, which programs find in `reason` and in the text: of alerts by their number, of
# our own findings by their class or code. What is not here is called as its alert is.
_OLD_ALERTS: Final = (10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47)  # OpenSSL knows them from SSL 3.0
_ALERT_NAMES: Final = {
    **{code: f"SSLV3_ALERT_{alert_name(code).upper()}" for code in _OLD_ALERTS},
    90: "TLSV1_ALERT_USER_CANCELLED",
    109: "TLSV13_ALERT_MISSING_EXTENSION",
    110: "TLSV1_UNSUPPORTED_EXTENSION",
    111: "TLSV1_CERTIFICATE_UNOBTAINABLE",
    112: "TLSV1_UNRECOGNIZED_NAME",
    113: "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
    114: "TLSV1_BAD_CERTIFICATE_HASH_VALUE",
    116: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
}
_CODE_NAMES: Final = {
    "TLS-NO-COMMON-SUITE": "NO_SHARED_CIPHER",
    "TLS-NO-COMMON-GROUP": "NO_SUITABLE_KEY_SHARE",
    "TLS-NO-COMMON-SCHEME": "NO_SUITABLE_SIGNATURE_ALGORITHM",
    "TLS-BAD-RECORD-MAC": "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
    "TLS-RECORD-OVERFLOW": "PACKET_LENGTH_TOO_LONG",
    "TLS-VERSION": "UNSUPPORTED_PROTOCOL",
    "TLS-CLIENT-CERT-REQUIRED": "PEER_DID_NOT_RETURN_A_CERTIFICATE",
}


class Twin(TLSError):
    """What our errors that are `ssl`'s too have in common: texts as OpenSSL gives them, ours behind.

    reason:  OpenSSL's name, such as CERTIFICATE_VERIFY_FAILED.   library: "SSL".   words: ours, without OpenSSL's.
    """

    library: str = "SSL"
    _words: str = ""

    @property
    def words(self) -> str:
        return self._words

    def __str__(self) -> str:
        return str(self.strerror)


def ssl_error(error: TLSError) -> TLSError:
    """Return *error* as one that is an `ssl.SSLError` too: same class, alert, report, notes and cause.

    `str()` begins as OpenSSL's would, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has
    expired", for programs look for these words; our own follow.
    """
    if isinstance(error, ssl.SSLError):
        return error
    kind, number = _twin_of(error)
    twin = _merged_classes.get(type(error)) or _merged(type(error), kind)
    copy = twin.__new__(twin)
    copy.__dict__.update(error.__dict__)
    copy._words = error.reason
    if copy._notes is not None:
        copy._notes = list(copy._notes)  # each tells its diagnosis once
    if isinstance(error, CertificateRejected) and isinstance(copy, ssl.SSLCertVerificationError):
        copy.verify_code, copy.verify_message = _verdict(error)
        copy.reason = "CERTIFICATE_VERIFY_FAILED"
        gap = " " if copy.verify_message.endswith(".") else ": "
        text = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {copy.verify_message}{gap}{error.reason}"
    elif isinstance(error, TruncatedStream):
        copy.reason = "UNEXPECTED_EOF_WHILE_READING"
        text = f"[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol: {error.reason}"
    elif (name := _openssl_name(error)) is None:
        copy.reason = text = error.reason
        copy.library = None  # type: ignore[assignment]  # as above
    else:
        copy.reason = name
        section = f" (RFC {error.rfc})" if isinstance(error, PeerError) and error.rfc else ""
        text = f"[SSL: {name}] {name.lower().replace('_', ' ')}: {error.reason}{section}"
    OSError.__init__(copy, number, text)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    return copy


def _twin_of(error: TLSError) -> tuple[type[ssl.SSLError], int]:
    if isinstance(error, CertificateRejected):
        return ssl.SSLCertVerificationError, int(ssl.SSL_ERROR_SSL)
    if isinstance(error, TruncatedStream):
        return ssl.SSLEOFError, int(ssl.SSL_ERROR_EOF)
    return ssl.SSLError, int(ssl.SSL_ERROR_SSL)


def _verdict(error: CertificateRejected) -> tuple[int, str]:
    """Return OpenSSL's number and words for why a certificate was refused."""
    failure = error.verification.failure
    code = _UNSPECIFIED if failure is None else _VERIFY_CODES.get(failure, _UNSPECIFIED)
    if code != _NAME_MISMATCH:
        return code, _VERIFY_MESSAGES[code]
    name = "" if error.circumstances is None else error.circumstances.server_name
    if is_ip(name):
        return _ADDRESS_MISMATCH, f"IP address mismatch, certificate is not valid for {name!r}."
    return code, f"Hostname mismatch, certificate is not valid for {name!r}."


def _openssl_name(error: TLSError) -> str | None:
    """Return OpenSSL's name for *error*; None for what it has none for: the caller's faults."""
    if isinstance(error, AlertReceived):
        code = error.description
        return _ALERT_NAMES.get(code, f"TLSV1_ALERT_{alert_name(code).upper()}")
    if isinstance(error, PeerError):
        if error.first_bytes:
            return "WRONG_VERSION_NUMBER"  # what OpenSSL says of a peer that does not speak TLS
        return _CODE_NAMES.get(error.code, alert_name(error.alert).upper())
    return "INTERNAL_ERROR" if isinstance(error, InternalError) else None


_merged_classes: dict[type[TLSError], type[Twin]] = {}
"""one for each class of our errors that was met"""


def _merged(ours: type[TLSError], theirs: type[ssl.SSLError]) -> type[Twin]:
    names = {"__doc__": ours.__doc__, "__module__": ours.__module__}
    return _merged_classes.setdefault(ours, type(ours.__name__, (Twin, ours, theirs), names))
