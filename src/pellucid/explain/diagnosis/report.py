"""A Diagnosis: what happened, what was checked, why, what can be done; as lines, text and JSON. Nothing is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pellucid.explain.text import Line, Span, escaped, line, plain, wrap
from pellucid.verify.report import Outcome, VerificationReport

__all__ = ["SCHEMA", "AlertFound", "Diagnosis", "Finding"]

SCHEMA: Final = 1
_MARKS: Final = {
    Outcome.PASSED: Span("✔", "good"),
    Outcome.FAILED: Span("✘", "bad"),
    Outcome.NOT_APPLICABLE: Span("·", "muted"),
    Outcome.NOT_CHECKED: Span("·", "muted"),
}


class AlertFound(NamedTuple):
    """An alert. sent_by: "client" or "server"."""

    sent_by: str
    name: str

    def __str__(self) -> str:
        return f"the {self.sent_by} sent {self.name}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, or one step of the connection, and what was seen of it."""

    name: str
    outcome: Outcome
    evidence: str

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "outcome": self.outcome.value, "evidence": self.evidence}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What went wrong with one connection.

    code, title:  from the table of codes; `pellucid explain CODE` tells more of it.
    message:      the error's own line.
    phase:        "dns", "tcp", "client hello", …, "certificate", "finished", "application data"; "call" for none.
    where:        "example.org port 443" or what is known of it; "" for nothing.
    alert:        who told whom.
    checks:       what was examined, in order, with what was seen.
    cause:        the likely one, in a sentence or two.   remedy: what can be done, the likeliest first.
    evidence:     what else is known: times, bytes, states, addresses.
    verification: the report on the peer's certificates, if they were examined.
    """

    code: str
    title: str
    message: str
    phase: str
    where: str = ""
    alert: AlertFound | None = None
    checks: tuple[Finding, ...] = ()
    cause: str
    remedy: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    verification: VerificationReport | None = field(default=None, repr=False)

    def lines(self, width: int = 80) -> list[Line]:
        """Return the diagnosis as lines of at most *width* columns; each reads the same without its styles."""
        lines = wrap(line(Span(f"error[{self.code}]", "bad"), Span(f": {self.title}", "strong")), width, rest=_blank(4))
        place = " · ".join(part for part in (self.where, self.phase) if part)
        if place:
            lines += wrap(line(escaped(place)), width, first=line("  ", Span("-->", "name"), " "))
        if self.checks:
            lines.append(_BAR)
            for check in self.checks:
                text = line(Span(f"{check.name}: ", "name"), escaped(check.evidence))
                first = line(" ", Span("|", "name"), " ", _MARKS[check.outcome], " ")
                lines += wrap(text, width, first=first, rest=line(" ", Span("|", "name"), "     "))
        lines.append(_BAR)
        if self.alert is not None:
            lines += _item("alert", str(self.alert), width)
        for one in self.evidence:
            lines += _item("seen", one, width)
        lines += _item("cause", self.cause, width)
        for one in self.remedy:
            lines += _item("help", one, width)
        lines += _item("note", f"`pellucid explain {self.code}` tells more", width)
        return lines

    def text(self, width: int = 80) -> str:
        """Return `lines` as plain text."""
        return "\n".join(plain(one) for one in self.lines(width))

    def __str__(self) -> str:
        return f"{self.code}: {self.title}"

    def to_dict(self) -> dict[str, object]:
        """Return the diagnosis for JSON; "schema" counts up when a key changes its meaning or goes away."""
        return {
            "schema": SCHEMA,
            "code": self.code,
            "title": self.title,
            "message": self.message,
            "phase": self.phase,
            "where": self.where,
            "alert": None if self.alert is None else {"sent_by": self.alert.sent_by, "name": self.alert.name},
            "checks": [check.to_dict() for check in self.checks],
            "cause": self.cause,
            "remedy": list(self.remedy),
            "evidence": list(self.evidence),
            "verification": None if self.verification is None else self.verification.to_dict(),
        }


def _blank(size: int) -> Line:
    return line(" " * size)


_BAR: Final = line(" ", Span("|", "name"))


def _item(kind: str, text: str, width: int) -> list[Line]:
    style = "good" if kind == "help" else "strong"
    first = line(" ", Span("=", "name"), " ", Span(f"{kind}:", style), " ")
    return wrap(line(escaped(text)), width, first=first, rest=_blank(6 + len(kind)))
