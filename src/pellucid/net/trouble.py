"""What the transport did to a connection, as an error that can be explained: it knows how the connection stood."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from typing import Final

from pellucid.connection import Connection
from pellucid.errors import Explained, InternalError, UsageError
from pellucid.net.operations import DeadlineExceeded

__all__ = [
    "ConnectionAborted",
    "ConnectionBroken",
    "ConnectionReset",
    "ConnectionUnreachable",
    "explained",
    "log_own_fault",
]

_log: Final = logging.getLogger("pellucid.server")


class ConnectionReset(Explained, ConnectionResetError):
    """The peer, or something on the way, reset the connection."""

    code = "TCP-RESET"


class ConnectionBroken(Explained, BrokenPipeError):
    """The peer takes nothing any more."""

    code = "TCP-RESET"


class ConnectionAborted(Explained, ConnectionAbortedError):
    """This system gave the connection up."""

    code = "TCP-RESET"


class ConnectionUnreachable(Explained, OSError):
    """The network lost the way to the peer."""

    code = "TCP-UNREACHABLE"


def explained(
    error: OSError, connection: Connection, *, peer: tuple[str, int] = ("", 0), seconds: float | None = None
) -> OSError:
    """Return *error*, or what stands for it, with what is known of *connection*; *error* itself if it is told already.

    peer: its address and port.   seconds: how long was waited, if the error is that the time was up.
    """
    known = error
    if isinstance(error, TimeoutError) and not isinstance(error, Explained):
        known = DeadlineExceeded(*error.args)
    elif type(error) is OSError and error.errno in _UNREACHABLE:
        known = ConnectionUnreachable(*error.args)
    else:
        for plain, ours in _KINDS:
            if isinstance(error, plain) and not isinstance(error, Explained):
                known = ours(*error.args)
                break
    if isinstance(known, Explained):
        _note(known, connection, peer, seconds)
    return known


_UNREACHABLE: Final = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})
_KINDS: Final = (
    (ConnectionResetError, ConnectionReset),
    (BrokenPipeError, ConnectionBroken),
    (ConnectionAbortedError, ConnectionAborted),
)


def _note(error: Explained, connection: Connection, peer: tuple[str, int], seconds: float | None) -> None:
    if error.circumstances is None and error.code != "USAGE":
        late = isinstance(error, DeadlineExceeded)
        if late and seconds is None and isinstance(error, DeadlineExceeded) and error.until is not None:
            seconds = error.until.seconds
        try:
            error.circumstances = connection.circumstances(seconds=seconds)
            if isinstance(error, ConnectionError):
                connection.transport_lost("reset")
            elif late and not connection.handshake_complete:
                connection.transport_lost("silence")
        except Exception as failure:  # noqa: BLE001  # a broken clock or observer: what the transport did stands
            error.add_note(f"then, while it was noted how things stood: {failure!r}")
    if error.circumstances is not None and not error.circumstances.address and peer[0]:
        error.circumstances = replace(error.circumstances, address=peer[0], port=peer[1])


def log_own_fault(error: BaseException) -> None:
    """Log *error* if it is this end's own and not its peer's: a resolver that raises, an answer that nobody awaits.

    Whoever runs a server has to see it; the peer sees internal_error alone.
    """
    if isinstance(error, InternalError | UsageError):
        _log.error("a connection ended for a reason of this end's own: %s", error.reason, exc_info=error.__cause__)
