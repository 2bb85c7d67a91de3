"""Errors that are both ours and the standard library's: programs written for `ssl` catch what they know.

The classes are made of two parents, one of `pellucid.errors` and its twin of `ssl`; the report and the notes stay.
`ssl` is here for the shape: nothing of it runs.
"""

from __future__ import annotations

import ssl
from typing import Final

from pellucid.errors import PeerError, TLSError, TruncatedStream, UsageError
from pellucid.verify.report import CertificateRejected, Failure, VerificationReport

__all__ = ["ConfigurationError", "WantRead", "WantWrite", "ZeroReturn", "ssl_error"]


class ConfigurationError(UsageError, ssl.SSLError, ValueError):
    """A setting that cannot be honoured, with the reason. Nothing was changed."""

    def __init__(self, reason: str) -> None:
        UsageError.__init__(self, reason)


class WantRead(TLSError, ssl.SSLWantReadError):
    """More bytes of the peer are needed. errno: SSL_ERROR_WANT_READ."""

    def __init__(self) -> None:
        OSError.__init__(self, int(ssl.SSL_ERROR_WANT_READ), "more bytes of the peer are needed")
        self.reason = "more bytes of the peer are needed"

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # redis-py looks the class up in a table
        return ssl.SSLWantReadError


class WantWrite(TLSError, ssl.SSLWantWriteError):
    """The socket takes no more now: call again with the same data. errno: SSL_ERROR_WANT_WRITE."""

    def __init__(self) -> None:
        OSError.__init__(self, int(ssl.SSL_ERROR_WANT_WRITE), "the socket takes no more now")
        self.reason = "the socket takes no more now"

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # redis-py looks the class up in a table
        return ssl.SSLWantWriteError


class ZeroReturn(UsageError, ssl.SSLZeroReturnError):
    """This end said close_notify: nothing more is written. errno: SSL_ERROR_ZERO_RETURN."""

    def __init__(self) -> None:
        OSError.__init__(self, int(ssl.SSL_ERROR_ZERO_RETURN), "this end of the connection is closed")
        self.reason = "this end of the connection is closed"


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
    Failure.WRONG_NAME: 62,
    Failure.WEAK_KEY: 66,
    Failure.WEAK_SIGNATURE: 68,
    Failure.STAPLE_MISSING: 73,
    Failure.BAD_STAPLE: 74,
}
_UNSPECIFIED: Final = 1


def ssl_error(error: TLSError) -> TLSError:
    """Return *error* as one that is an `ssl.SSLError` too: same class, words, alert, report, notes and cause."""
    if isinstance(error, ssl.SSLError):
        return error
    kind, number = _twin_of(error)
    twin = _merged_classes.get(type(error)) or _merged(type(error), kind)
    copy = twin.__new__(twin)
    OSError.__init__(copy, number, error.reason)
    copy.__dict__.update(error.__dict__)
    if copy._notes is not None:
        copy._notes = list(copy._notes)  # each tells its diagnosis once
    if isinstance(copy, ssl.SSLCertVerificationError):
        verification = error.verification if isinstance(error, PeerError) else None
        failure = verification.failure if isinstance(verification, VerificationReport) else None
        copy.verify_code = _VERIFY_CODES.get(failure, _UNSPECIFIED) if failure else _UNSPECIFIED
        copy.verify_message = error.reason
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    return copy


def _twin_of(error: TLSError) -> tuple[type[ssl.SSLError], int]:
    if isinstance(error, CertificateRejected):
        return ssl.SSLCertVerificationError, int(ssl.SSL_ERROR_SSL)
    if isinstance(error, TruncatedStream):
        return ssl.SSLEOFError, int(ssl.SSL_ERROR_EOF)
    return ssl.SSLError, int(ssl.SSL_ERROR_SSL)


_merged_classes: dict[type[TLSError], type[TLSError]] = {}
"""one for each class of our errors that was met"""


def _merged(ours: type[TLSError], theirs: type[ssl.SSLError]) -> type[TLSError]:
    names = {"__doc__": ours.__doc__, "__module__": ours.__module__}
    return _merged_classes.setdefault(ours, type(ours.__name__, (ours, theirs), names))
