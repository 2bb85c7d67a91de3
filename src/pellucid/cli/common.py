"""What the commands share: exit codes (curl's), how an error is told, where key log and capture file go."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from pellucid.errors import AlertReceived, InternalError, PeerError, TLSError, TruncatedStream, UsageError
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.pcapng import PcapngWriter
from pellucid.explain.text import escaped
from pellucid.registry import AlertDescription as A
from pellucid.verify.report import CertificateRejected, Failure, VerificationReport

__all__ = [
    "EXIT_CODES",
    "CommandFailed",
    "OutputClosed",
    "exit_code",
    "fail",
    "hints_for",
    "keylog_option",
    "keylog_path",
    "pcapng_option",
    "pcapng_writer",
]

EXIT_CODES: Final = {
    0: "everything went well",
    1: "an error in pellucid itself",
    2: "the command line was wrong, or an extra is missing",
    6: "the host name could not be resolved",
    7: "no connection could be made",
    22: "the server answered with an HTTP error (400 or above)",
    23: "the output could not be written",
    26: "a file could not be read",
    28: "it took too long",
    35: "the TLS handshake failed",
    47: "there were too many redirects, or one led away from HTTPS",
    56: "the connection broke while data was received",
    58: "the server refused the client's certificate, or it could not be used",
    60: "the server's certificate was refused",
    77: "the trusted certificates could not be read",
    82: "the revocation lists could not be read",
    90: "the server's key is none of those that are pinned",
    130: "interrupted",
}
"""The exit codes, with curl's numbers and meanings wherever curl has one."""


class CommandFailed(Exception):
    """A command ends with an exit code and a sentence. hints: what can be done about it, one line each."""

    def __init__(self, message: str, *, code: int = 1, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.hints = hints


class OutputClosed(CommandFailed):
    """Whoever read standard output has gone, as `| head` does: nobody is left to be told."""

    def __init__(self) -> None:
        super().__init__("standard output was closed", code=23)


_CLIENT_CERTIFICATE_ALERTS: Final = frozenset(
    {
        A.CERTIFICATE_REQUIRED,
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

_AFTER_HANDSHAKE: Final = frozenset({A.BAD_RECORD_MAC, A.RECORD_OVERFLOW})


def exit_code(error: BaseException) -> int:
    """Return the exit code that tells what *error* was, from the table above."""
    for kind, answer in _CODES:
        if isinstance(error, kind):
            return answer if isinstance(answer, int) else answer(error)
    return 1


def _from_alert(error: BaseException) -> int:
    description = error.description if isinstance(error, AlertReceived) else -1
    if description in _CLIENT_CERTIFICATE_ALERTS:
        return 58
    return 56 if description in _AFTER_HANDSHAKE else 35


def _from_os_error(error: BaseException) -> int:
    code = error.errno if isinstance(error, OSError) else None
    if code in {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
        return 7
    return 26 if code in {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR} else 56


def _from_rejection(error: BaseException) -> int:
    report = error.verification if isinstance(error, CertificateRejected) else None
    return 90 if report is not None and report.failure is Failure.WRONG_PIN else 60


_CODES: Final[tuple[tuple[type[BaseException], int | Callable[[BaseException], int]], ...]] = (
    (CommandFailed, lambda error: error.code if isinstance(error, CommandFailed) else 1),
    (click.UsageError, 2),
    (click.Abort, 130),
    (KeyboardInterrupt, 130),
    (CertificateRejected, _from_rejection),
    (AlertReceived, _from_alert),
    (PeerError, 35),
    (TruncatedStream, 56),
    (UsageError, 2),
    (InternalError, 1),
    (TLSError, 35),
    (socket.gaierror, 6),
    (TimeoutError, 28),
    (ConnectionRefusedError, 7),
    (BrokenPipeError, 23),
    (OSError, _from_os_error),
)
"""The first that fits counts: subclasses before their bases."""


_FAILURE_HINTS: Final = {
    Failure.SELF_SIGNED: "if you know this certificate, trust it: --cacert FILE",
    Failure.UNKNOWN_CA: "if you know the CA, trust its certificate: --cacert FILE",
    Failure.MISSING_INTERMEDIATE: "the server should send the certificates between its own and the root",
    Failure.UNKNOWN_KEY: "if you know this key, trust it: --pubkey FILE",
    Failure.WRONG_PIN: "if the server has new keys, have their pins by a way that you trust: --pinnedpubkey",
    Failure.WRONG_NAME: "use a name the certificate is for, or check that this is the server you meant",
    Failure.EXPIRED: "the server's certificate has to be renewed; check this machine's clock too",
    Failure.NOT_YET_VALID: "check this machine's clock",
    Failure.REVOKED: "its CA has withdrawn the certificate: do not go on",
    Failure.BAD_STAPLE: "the server should send a fresh OCSP response; check this machine's clock too",
    Failure.STAPLE_MISSING: "the server should send (staple) an OCSP response with its certificate",
}


def hints_for(error: BaseException) -> tuple[str, ...]:
    """Return what the user can do about *error*, one line each; often nothing."""
    if isinstance(error, CommandFailed):
        return error.hints
    if (
        isinstance(error, PeerError)
        and isinstance(error.verification, VerificationReport)
        and error.verification.failure
    ):
        hint = _FAILURE_HINTS.get(error.verification.failure)
        return (hint,) if hint else ()
    if isinstance(error, AlertReceived):
        if error.description == A.PROTOCOL_VERSION:
            return ("the server does not speak TLS 1.3, and nothing older is spoken here",)
        if error.description in _CLIENT_CERTIFICATE_ALERTS:
            return ("the server wants another client certificate: --cert FILE",)
    if isinstance(error, ConnectionRefusedError):
        return ("nothing listens there: check host and port",)
    if isinstance(error, PeerError) and error.code == "PEER-PLAIN-HTTP":
        return ("the port may be for plain HTTP: try another",)
    if isinstance(error, PeerError) and error.code == "PEER-NOT-TLS":
        return ("another protocol answers there: check the port",)
    return ()


def fail(error: BaseException, *, diagnosed: bool = False) -> int:
    """Tell of *error* on standard error, with its hints; return the exit code.

    diagnosed: a diagnosis was shown, which has said all that can be done but for what the command itself knows.
    """
    if isinstance(error, OutputClosed):
        # What is still buffered would be written, and fail, when the interpreter leaves.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error.code
    if isinstance(error, click.ClickException) and not isinstance(error, click.UsageError):
        lines = [f"pellucid: {error.format_message()}"]
    elif isinstance(error, click.UsageError):
        error.show()
        return 2
    elif isinstance(error, (KeyboardInterrupt, click.Abort)):
        lines = ["pellucid: interrupted"]
    elif exit_code(error) == 1 and not isinstance(error, CommandFailed):
        lines = [f"pellucid: internal error: {type(error).__name__}: {error}"]
    else:
        lines = [f"pellucid: {error}"]
    for text in (*lines, *(() if diagnosed and not isinstance(error, CommandFailed) else _told(error))):
        print("\n".join(escaped(part) for part in text.splitlines()), file=sys.stderr)
    return exit_code(error)


def _told(error: BaseException) -> Iterator[str]:
    for hint in hints_for(error):
        yield f"hint: {hint}"


# ---- the key log and the capture file -------------------------------------------------------------------------------

keylog_option = click.option(
    "--keylog",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append the connection's secrets to FILE (RFC 9850), for Wireshark. [env: SSLKEYLOGFILE]",
)


def keylog_path(option: Path | None) -> Path | None:
    """Return where secrets are to be logged: *option*, else SSLKEYLOGFILE; None for nowhere.

    Raises CommandFailed if that file cannot be written. The environment is honoured by the command line alone.
    """
    path = option
    if path is None and (named := os.environ.get("SSLKEYLOGFILE")):
        path = Path(named)
    if path is not None:
        try:
            KeyLogWriter(path)
        except OSError as error:
            raise CommandFailed(f"cannot write the key log {path}: {error.strerror or error}", code=23) from error
    return path


pcapng_option = click.option(
    "--pcapng",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the connections, with their secrets, to FILE: Wireshark opens it decrypted.",
)


@contextlib.contextmanager
def pcapng_writer(option: Path | None) -> Iterator[PcapngWriter | None]:
    """Give what writes the capture file, None if none is wanted. It sees connections with `trace_records` only.

    Raises CommandFailed if the file cannot be written, then or later.
    """
    if option is None:
        yield None
        return
    try:
        writer = PcapngWriter(option)
    except OSError as error:
        raise _no_capture(option, error) from error
    try:
        yield writer
    finally:
        writer.close()
    if writer.problem is not None:
        raise _no_capture(option, writer.problem)


def _no_capture(path: Path, error: OSError) -> CommandFailed:
    return CommandFailed(f"cannot write the capture file {path}: {error.strerror or error}", code=23)
