"""`pellucid get --session-file`: the store of sessions, and what is told of resumption and of early data."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pellucid.cli.common import CommandFailed
from pellucid.errors import UsageError
from pellucid.explain.recorder import Recorder
from pellucid.explain.text import Line, Span, escaped, line
from pellucid.net.session_file import FileSessionStore
from pellucid.trace import ChoiceMade

__all__ = ["EarlyReport", "instant", "session_facts", "session_file", "session_lines"]


@dataclass(slots=True)
class EarlyReport:
    """What became of early data, on the last connection that it could have gone on.

    sent:      bytes of it.   too_early: the server answered 425, and the request was made again.
    reason:    why nothing was sent, or why it was rejected; "accepted".
    """

    sent: int = 0
    accepted: bool = False
    too_early: bool = False
    reason: str = field(default="no request was made straight to a server")


def session_file(path: Path | None) -> FileSessionStore | None:
    """Return the store in *path*. Raises CommandFailed if that is no file for it."""
    try:
        return None if path is None else FileSessionStore(path)
    except UsageError as error:
        closed = f"if nobody did, close it to them: chmod 600 {shlex.quote(str(path))}"
        hints = (closed,) if "others may open it" in error.reason else ()
        raise CommandFailed(error.reason, code=26, hints=hints) from error


def session_lines(recorders: Sequence[Recorder], early: EarlyReport | None) -> Iterator[Line]:
    """Yield what the ladder does not say: why no session was resumed, and what became of early data."""
    chosen = _session_choice(recorders)
    if chosen is not None and chosen.chosen == "none":
        yield line(Span("● ", "muted"), f"no session was resumed: {escaped(chosen.reason)}")
    if early is not None:
        fate = f"{early.sent} bytes went early: " if early.sent else "nothing went early: "
        again = "; the server found it too early (425), and it was asked again" if early.too_early else ""
        yield line(Span("● ", "muted"), f"{fate}{early.reason}{again}")


def session_facts(recorders: Sequence[Recorder], early: EarlyReport | None) -> dict[str, object]:
    """Return the same for JSON."""
    chosen = _session_choice(recorders)
    return {
        "resumption": None if chosen is None else chosen.reason,
        "early_data": None
        if early is None
        else {
            "sent": early.sent,
            "accepted": early.accepted,
            "too_early": early.too_early,
            "reason": early.reason,
        },
    }


def instant(seconds: float | None) -> str | None:
    """Return seconds since 1970 as RFC 3339 has them; they come from a file, and may be of no year there is."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return None


def _session_choice(recorders: Sequence[Recorder]) -> ChoiceMade | None:
    """Return what was said last of a session: that one was resumed, or why none was."""
    choices = [event for recorder in recorders for event in recorder.of(ChoiceMade)]
    return next((event for event in reversed(choices) if event.what in {"psk", "psk_offer"}), None)
