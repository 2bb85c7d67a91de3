"""The handshake as a ladder: client on the left, server on the right, every message an arrow between them.

`ladder` draws what was recorded; `LadderPrinter` is an observer that draws each step as it happens. Both give lines of
`explain.text`; secrets never stand in them, only fingerprints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pellucid.explain.fields import message_fields
from pellucid.explain.recorder import Recorded
from pellucid.explain.sentences import MESSAGES as MEANINGS
from pellucid.explain.sentences import describe, protection, signing
from pellucid.explain.text import Line, Span, cells, line, wrap
from pellucid.registry import alert_name, handshake_type_name
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
from pellucid.verify.report import VerificationReport

__all__ = ["FIELDS", "MESSAGES", "NOTES", "WORK", "LadderPrinter", "arrow", "between", "heads", "ladder"]

MESSAGES: Final = 0
"""detail: arrows alone"""
FIELDS: Final = 1
"""detail: and their fields, and what was found right or wrong (-v)"""
NOTES: Final = 2
"""detail: and every choice, secret and key (-vv)"""
WORK: Final = 3
"""detail: and every record and change of state (-vvv)"""

_DETAIL: Final[dict[type[TraceEvent], int]] = {
    MessageTraced: MESSAGES,
    AlertTraced: MESSAGES,
    EarlyDataTraced: MESSAGES,
    CertificateDecompressed: FIELDS,
    TcpConnected: FIELDS,
    TcpConnectFailed: FIELDS,
    VerificationTraced: FIELDS,
    SignatureTraced: FIELDS,
    HandshakeCompleted: FIELDS,
    ClosedTraced: FIELDS,
    SharedSecretComputed: FIELDS,
    TcpConnecting: NOTES,
    TcpPacket: NOTES,
    ChoiceMade: NOTES,
    SecretDerived: NOTES,
    KeysInstalled: NOTES,
    RecordTraced: WORK,
    StateChanged: WORK,
}
"""From which detail on an event is drawn."""

_RESUMING: Final = frozenset({"psk", "early_data", "early_data_offer"})
"""The choices that are drawn with the messages: whether and why a session was resumed."""

_LOCK: Final = "🔒"
_GOOD: Final = "✓"
_BAD: Final = "✗"
_NAME_WIDTH: Final = 13
_LIST_LIMIT: Final = 3


def ladder(
    events: Iterable[TraceEvent | Recorded],
    *,
    width: int = 80,
    role: Role | None = None,
    detail: int = FIELDS,
    meanings: bool = False,
) -> list[Line]:
    """Return the ladder of *events*, header included.

    role:   whose trace it is; None: found out from the events, the client's if they do not say.
    detail: MESSAGES, FIELDS, NOTES or WORK: how much is drawn beside the arrows.
    meanings: whether each message is followed by what it is for.
    """
    plain = [event.event if isinstance(event, Recorded) else event for event in events]
    lines: list[Line] = []
    printer = LadderPrinter(lines.append, width=width, role=role or _role_of(plain), detail=detail, meanings=meanings)
    for event in plain:
        printer(event)
    return lines


def _role_of(events: Iterable[TraceEvent]) -> Role:
    for event in events:
        if isinstance(event, (TcpConnected, StateChanged, HandshakeCompleted)):
            return event.role
    return Role.CLIENT


def heads(width: int, client: str = "client", server: str = "server") -> Line:
    """Return the line that stands over the two bars."""
    blanks = " " * max(1, width - 4 - cells(client) - cells(server))
    return line("  ", Span(client, "client"), blanks, Span(server, "server"))


def arrow(width: int, name: Span, about: Line, *, to_server: bool) -> Line:
    """Return `├─ name ──────── about ─▶│`, or the same to the left."""
    head, tail = ("├─ ", " ─▶│") if to_server else ("│◀─ ", " ─┤")
    fixed = 2 + len(head) + cells(name.text) + 2 + sum(cells(span.text) for span in about) + len(tail) + 2
    dashes = "─" * max(1, width - fixed)
    return line("  ", Span(head, "muted"), name, Span(f" {dashes} ", "muted"), *about, Span(tail, "muted"))


def between(width: int, content: Line) -> Line:
    """Return *content* between the two bars."""
    blanks = " " * max(0, width - 6 - sum(cells(span.text) for span in content))
    return line("  ", Span("│", "muted"), *content, blanks, Span("│", "muted"))


class LadderPrinter:
    """An observer that draws each step as it happens.

    write: takes each line, such as `cli.output.Output.talk`, which writes to standard error.
    The others are `ladder`'s. For connections that come one after the other, make one printer for each.
    """

    def __init__(
        self,
        write: Callable[[Line], None],
        *,
        width: int = 80,
        role: Role = Role.CLIENT,
        detail: int = FIELDS,
        meanings: bool = False,
    ) -> None:
        self._write = write
        self._width = width
        self._role = role
        self._detail = detail
        self._meanings = meanings
        self._begun = False
        self._epochs: set[Epoch] = set()

    def __call__(self, event: TraceEvent) -> None:
        if isinstance(event, KeysInstalled) and FIELDS <= self._detail < NOTES:
            self._keys(event)
            return
        if self._detail_of(event) > self._detail:
            return
        if not self._begun:
            self._begun = True
            self._write(heads(self._width))
        match event:
            case MessageTraced():
                self._message(event)
            case AlertTraced():
                self._arrow(f"Alert {alert_name(event.description)}", event.direction, event.epoch, None, "bad")
                if self._detail >= FIELDS:
                    self._note(describe(event), "●", "bad")
            case EarlyDataTraced():
                self._arrow("early data", event.direction, Epoch.EARLY, event.size, "strong")
                if self._detail >= FIELDS:
                    self._note(describe(event), "●", "warn")
            case CertificateDecompressed():
                self._note(describe(event), "●", "muted")
                self._fields(event)
            case VerificationTraced():
                self._verification(event)
            case SignatureTraced():
                told = signing(event, self._role)
                self._note(told, _GOOD if event.valid else _BAD, "good" if event.valid else "bad")
            case HandshakeCompleted():
                self._note(describe(event), _GOOD, "good")
            case TcpConnectFailed():
                self._note(describe(event), _BAD, "bad")
            case _:
                self._note(describe(event), "●", "muted")

    def _detail_of(self, event: TraceEvent) -> int:
        """From which detail on *event* is drawn: what there was to say of a session, with the messages."""
        if isinstance(event, ChoiceMade) and event.what in _RESUMING:
            nothing = event.what == "psk" and event.chosen == "none" and self._role is Role.SERVER
            return NOTES if nothing else FIELDS
        return _DETAIL.get(type(event), WORK)

    # ---- the drawing -----------------------------------------------------------------------------------------------

    def _message(self, event: MessageTraced) -> None:
        name = handshake_type_name(event.message_type)
        self._arrow(name, event.direction, event.epoch, len(event.raw), "strong")
        if self._detail < FIELDS:
            return
        if self._meanings and (meaning := MEANINGS.get(event.message_type)):
            self._note(f"{meaning[0].upper()}{meaning[1:]}.", "", "strong")
        self._fields(event)

    def _fields(self, event: MessageTraced | CertificateDecompressed) -> None:
        for field in message_fields(event, limit=_LIST_LIMIT if self._detail < NOTES else None):
            content = line(field.value)
            first = line("  ", Span(f"{field.name:<{_NAME_WIDTH - 1}} ", "name"))
            for one in wrap(content, self._width - 8, first=first):
                self._inside(one)

    def _arrow(self, name: str, direction: Direction, epoch: Epoch, size: int | None, style: str) -> None:
        to_server = (direction is Direction.SENT) is (self._role is Role.CLIENT)
        locked = epoch is not Epoch.INITIAL
        keys = Span(f"{_LOCK} {protection(epoch)}" if locked else protection(epoch), "lock" if locked else "open")
        amount = "" if size is None else f"{size} bytes · "
        self._write(arrow(self._width, Span(name, style), line(amount, keys), to_server=to_server))

    def _inside(self, content: Line) -> None:
        self._write(between(self._width, content))

    def _note(self, text: str, mark: str, style: str) -> None:
        """Draw what happened at our end: nothing of it travelled."""
        first = line(" ", Span(mark, style), " ") if mark else line("  ")
        for one in wrap(line(text if mark else Span(text, style)), self._width - 7, first=first):
            self._inside(one)

    def _keys(self, event: KeysInstalled) -> None:
        """Say once for each epoch that the keys change; in more detail every key is told of anyway."""
        if event.epoch not in self._epochs:
            self._epochs.add(event.epoch)
            self._note(f"{_LOCK} from here on: {protection(event.epoch)}", "", "lock")

    def _verification(self, event: VerificationTraced) -> None:
        report = event.report
        accepted = isinstance(report, VerificationReport) and report.accepted
        self._note(describe(event), _GOOD if accepted else _BAD, "good" if accepted else "bad")
