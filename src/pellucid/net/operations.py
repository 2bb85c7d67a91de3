"""What the I/O script asks of a driver: the operations, the lock, the error of a deadline. No I/O here."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from pellucid.errors import Explained, UsageError
from pellucid.events import CredentialNeeded, FirstUseNeeded, SignatureNeeded, TicketNeeded, VerificationNeeded

__all__ = [
    "RECEIVE_SIZE",
    "Acquire",
    "Answer",
    "AnswerFailed",
    "Deadline",
    "DeadlineExceeded",
    "EndDeadline",
    "EndOutput",
    "KeepDeadline",
    "Lock",
    "Operation",
    "Pause",
    "Receive",
    "Send",
    "SendNow",
    "Steps",
    "Unacknowledged",
    "Until",
    "earlier",
    "nobody_awaits",
    "until",
]

RECEIVE_SIZE: Final = 2**16

T = TypeVar("T")

Pause = CredentialNeeded | SignatureNeeded | VerificationNeeded | TicketNeeded | FirstUseNeeded
"""An event that the connection waits at until it is answered."""


class DeadlineExceeded(Explained, TimeoutError):
    """The time was up: the call's own timeout, or that of the handshake. until: the deadline that it was."""

    code = "PEER-STALLED"
    until: Until | None = None


class Lock(Protocol):
    """A lock of the driver's kind; waiting for it is the operation `Acquire`."""

    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Acquire:
    """Wait for a lock."""

    lock: Lock


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for bytes and return at most RECEIVE_SIZE of them, b"" at the stream's end.

    or_writable: return None when there is room for output, if that comes first.
    """

    or_writable: bool = False


@dataclass(slots=True)  # not frozen: that would cost more than all else about it, at each write
class Send:
    """Wait for room, send what fits of *data*, return how many bytes that was: at least one."""

    data: memoryview


@dataclass(slots=True)
class SendNow:
    """Send what fits of *data* without waiting, return how many bytes that was: perhaps none."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class Deadline:
    """From now on operations fail with DeadlineExceeded after *seconds*, and no later than the call's own deadline.

    Returns the deadline set, an Until, for `KeepDeadline`.
    cleanup: after an error; the call's deadline counts no more, and a cancellation does not interrupt.
    """

    seconds: float
    what: str
    cleanup: bool = False


@dataclass(frozen=True, slots=True)
class KeepDeadline:
    """From now on operations fail with DeadlineExceeded at a deadline set before, or the call's if that is first."""

    until: Until


@dataclass(frozen=True, slots=True)
class EndDeadline:
    """From now on only the call's own deadline counts."""


@dataclass(frozen=True, slots=True)
class EndOutput:
    """Send the transport's end of stream (TCP: FIN); reading goes on."""


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """Return how many bytes the peer's transport has not acknowledged, our end of stream included; None: unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Ask whoever answers pauses: a key service, an async certificate resolver. Returns what `resume` takes.

    What the pause has to be awaited fails inside of the connection, as a function that is called there would: then an
    AnswerFailed is returned.
    """

    pause: Pause


@dataclass(frozen=True, slots=True)
class AnswerFailed:
    """The awaitable of a resolver, signer, verifier or store raised *error*."""

    error: Exception


def nobody_awaits(pause: Pause) -> UsageError:
    """Return what is raised where a pause meets nobody who answers it."""
    kind = type(pause).__name__
    if pause.answer is None:
        return UsageError(f"nobody is there to answer {kind}")
    return UsageError(
        f"{kind} has an answer that must be awaited, which nothing blocking does: use pellucid.aio or "
        "pellucid.asyncio, or give an `answer` that runs it"
    )


@dataclass(frozen=True, slots=True)
class Until:
    """A deadline in force. moment: by time.monotonic; what and seconds: for the message."""

    moment: float
    what: str
    seconds: float

    def error(self) -> DeadlineExceeded:
        exceeded = DeadlineExceeded(f"{self.what} took longer than {self.seconds:g} s")
        exceeded.until = self
        return exceeded


def until(operation: Deadline, now: float) -> Until:
    """Return the deadline that *operation* sets at *now*."""
    return Until(now + operation.seconds, operation.what, operation.seconds)


def earlier(own: Until, call: Until | None) -> Until:
    """Return which of the two deadlines comes first."""
    return own if call is None or own.moment < call.moment else call


Operation = (
    Acquire | Receive | Send | SendNow | Deadline | KeepDeadline | EndDeadline | EndOutput | Unacknowledged | Answer
)
Steps = Generator[Operation, Any, T]
