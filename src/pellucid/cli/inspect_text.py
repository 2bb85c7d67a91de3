"""An examination as lines for a terminal: the verdict with its reasons first, then what was found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pellucid.explain.text import Line, Span, escaped, line, plain, wrap
from pellucid.inspection import Examination, Facts, Verdict
from pellucid.inspection.facts import (
    CertificateFacts,
    ChainFacts,
    Failed,
    GroupFacts,
    Offered,
    StapleFacts,
    TicketFacts,
    Timing,
)
from pellucid.verify.report import Outcome, VerificationReport, names_of

__all__ = ["brief_lines", "full_lines"]

_STYLES: Final = {
    Verdict.GOOD: "good",
    Verdict.FAIR: "warn",
    Verdict.POOR: "bad",
    Verdict.BROKEN: "bad",
}
_CHECK_MARKS: Final = {
    Outcome.PASSED: Span("✓", "good"),
    Outcome.FAILED: Span("✗", "bad"),
    Outcome.NOT_APPLICABLE: Span("·", "muted"),
    Outcome.NOT_CHECKED: Span("·", "muted"),
}
_REASON_MARKS: Final = {
    Verdict.GOOD: Span("·", "muted"),
    Verdict.FAIR: Span("●", "warn"),
    Verdict.POOR: Span("✗", "bad"),
    Verdict.BROKEN: Span("✗", "bad"),
}
_LABEL_WIDTH: Final = 14
_DAY: Final = 86_400


class Value(NamedTuple):
    """A line beside a label. mark: what it begins with; where it is broken, the rest stands under its text."""

    text: Line
    mark: Line = ()


Row = tuple[str, list[Value]]
"""A label, and what stands beside it."""


def brief_lines(examination: Examination, width: int) -> Iterator[Line]:
    """Yield the verdict, what was agreed, and the reasons that count."""
    negotiated = examination.facts.negotiated
    agreed = ""
    if negotiated is not None:
        agreed = f"{negotiated.group}, {negotiated.cipher_suite}"
    yield _headline(examination, agreed)
    for reason in examination.judgement.reasons:
        if reason.verdict is not Verdict.GOOD:
            yield from _reason(reason.verdict, reason.text, reason.rfc, width)


def full_lines(examination: Examination, width: int) -> Iterator[Line]:
    """Yield everything."""
    facts = examination.facts
    made = f"{facts.connections} connection{'' if facts.connections == 1 else 's'} in {facts.seconds:.1f} s"
    yield _headline(examination, made)
    for reason in examination.judgement.reasons:
        yield from _reason(reason.verdict, reason.text, reason.rfc, width)
    yield line()
    for label, values in _rows(facts):
        for index, value in enumerate(values):
            head = line(Span(f"  {label if index == 0 else '':<{_LABEL_WIDTH}}", "name"))
            yield from wrap(value.text, width, first=(*head, *value.mark))


def _headline(examination: Examination, more: str) -> Line:
    verdict = examination.judgement.verdict
    target = examination.target
    how = f" ({target.starttls})" if target.starttls else ""
    parts: list[str | Span] = [Span(escaped(str(target)), "strong"), how, "  ", Span(verdict.value, _STYLES[verdict])]
    if more:
        parts += ["  ", Span(more, "muted")]
    return line(*parts)


def _reason(verdict: Verdict, text: str, rfc: str, width: int) -> list[Line]:
    section = f" (RFC {rfc})" if rfc else ""
    return wrap(line(escaped(text) + section), width, first=line("  ", _REASON_MARKS[verdict], " "))


def _rows(facts: Facts) -> Iterator[Row]:
    if facts.address is not None:
        host, port = facts.address
        round_trip = facts.timing.round_trip if facts.timing is not None else None
        away = "" if round_trip is None else f", {_time(round_trip)} there and back"
        yield "address", [_beside(f"{host} port {port}{away}")]
    if (agreed := facts.negotiated) is not None:
        words = (agreed.cipher_suite, agreed.group, agreed.signature_scheme, agreed.alpn)
        yield "agreed", [_beside(", ".join(escaped(word) for word in words if word))]
    for problem in (facts.failed, facts.refused, facts.afterwards):
        if problem is not None:
            yield from _diagnosed(problem)
    if facts.timing is not None:
        yield "time, bytes", _timing(facts.timing)
    if facts.chain is not None:
        yield "certificates", [_certificate(one) for one in facts.chain.certificates]
        yield "checks", _checks(facts.chain.report)
        yield "valid until", [_beside(_end(facts.chain))]
    if facts.staple is not None:
        yield "OCSP staple", [_beside(_staple(facts.staple))]
        embedded = facts.chain is not None and facts.chain.certificates[0].embedded_scts
        where = [f"{facts.scts} in the handshake"] if facts.scts else []
        where += ["in the certificate"] if embedded else []
        yield "SCTs", [_beside(f"{' and '.join(where)}; they are not verified" if where else "none")]
    yield from _offers(facts)
    yield from _sessions(facts)
    yield from _behaviour(facts)


def _diagnosed(problem: Failed) -> Iterator[Row]:
    yield "diagnosis", [_beside(Span(problem.code, "bad"), f": {problem.title}; phase: {problem.phase}")]
    yield "cause", [_beside(escaped(problem.cause))]
    yield "help", [_beside(escaped(remedy)) for remedy in problem.remedy]


def _timing(timing: Timing) -> list[Value]:
    preamble = "" if timing.preamble is None else f"STARTTLS in {_time(timing.preamble)}, "
    stages = f"connected in {_time(timing.connect)}, {preamble}shaken in {_time(timing.handshake)}"
    lines = [_beside(f"{stages}; {timing.sent} bytes sent, {timing.received} received")]
    for flight in timing.flights:
        arrow = "→" if flight.sender == "client" else "←"
        names = _folded(flight.messages)
        lines.append(
            Value(
                line(Span(names, "muted")),
                line(Span(f"{arrow} ", flight.sender), f"{flight.size:>5} bytes at {_time(flight.seconds):>8}  "),
            )
        )
    return lines


def _folded(names: tuple[str, ...]) -> str:
    return f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names)


def _certificate(one: CertificateFacts) -> Value:
    signed = f", signed with {one.signed_with}" if one.signed_with else ""
    return _beside(escaped(one.subject), Span(f" ({one.key}{signed}), issued by {escaped(one.issuer)}", "muted"))


def _checks(report: VerificationReport) -> list[Value]:
    values = []
    for group, checks in report.by_group().items():
        missing = "" if checks else ": not looked at"
        values.append(Value(line(Span(group.value, "strong"), missing), line(_CHECK_MARKS[report.outcome(group)], " ")))
        for check, name in zip(checks, names_of(checks), strict=True):
            mark = line("  ", _CHECK_MARKS[check.outcome], " ")
            values.append(Value(line(Span(f"{name}: ", "name"), escaped(check.evidence)), mark))
    return values


def _end(chain: ChainFacts) -> str:
    leaf = chain.certificates[0]
    try:
        day = datetime.fromtimestamp(leaf.not_after, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):
        day = "for ever"
    if chain.seconds_left is None:
        return day
    return f"{day}; the whole chain for {chain.seconds_left / _DAY:.0f} days"


def _staple(staple: StapleFacts) -> str:
    if not staple.size:
        return "none"
    if staple.outcome == Outcome.PASSED.value:
        return f"{staple.size} bytes, verified: good"
    return f"{staple.size} bytes, {staple.outcome}: {escaped(staple.evidence)}"


def _beside(*parts: str | Span) -> Value:
    return Value(line(*parts))


# ---- what is accepted ------------------------------------------------------------------------------------------------


def _offers(facts: Facts) -> Iterator[Row]:
    if facts.groups is not None:
        lines = [
            _beside(f"{group.name:<20}", Span(f"{group.bits} bits", "muted"), Span(_quantum(group), "good"))
            for group in facts.group_details
        ]
        yield "groups", [*lines, *_order(facts.groups)]
    if facts.suites is not None:
        yield "suites", [*(_beside(name) for name in facts.suites.accepted), *_order(facts.suites)]
    if facts.schemes is not None:
        yield "signs with", [_beside(", ".join(facts.schemes.accepted) or "nothing"), *_order(facts.schemes)]
    if facts.retry is not None:
        yield "retry", [_beside(_retry(facts))]
    if facts.alpn is not None:
        told = {None: "", "ignored": "; others are ignored"}.get(facts.alpn.unknown, f"; others: {facts.alpn.unknown}")
        yield "ALPN", [_beside((", ".join(map(escaped, facts.alpn.accepted)) or "none") + told)]
    if facts.compression is not None:
        taken = ", ".join(
            f"{one.algorithm} ({facts.compression.size} → {one.size} bytes)" for one in facts.compression.accepted
        )
        yield "compression", [_beside(taken or f"none of {', '.join(facts.compression.tried)}")]


def _quantum(group: GroupFacts) -> str:
    return ", post-quantum" if group.post_quantum else ""


def _order(offered: Offered) -> Iterator[Value]:
    words = {"server": "in the server's order", "client": "in the client's order", "mixed": "in an order of its own"}
    notes = [words[offered.preference]] if offered.preference else []
    if offered.unknown:
        notes.append(f"not found out: {', '.join(offered.unknown)}")
    if offered.ending not in (None, "ignored"):
        notes.append(f"others: {offered.ending}")
    if notes:
        yield _beside(Span("; ".join(notes), "muted"))


def _retry(facts: Facts) -> str:
    retry = facts.retry
    if retry is None:
        return ""
    every = facts.groups is not None and len(retry.asks_for) == len(facts.groups.accepted)
    asked = "every group it accepts" if every else ", ".join(retry.asks_for) or "no group"
    cookie = f", with a cookie of {retry.cookie_size} bytes" if retry.cookie else ", without a cookie"
    failing = f"; fails for {', '.join(retry.fails_for)}" if retry.fails_for else ""
    return f"HelloRetryRequest for {asked}{cookie}{failing}" + ("; it asks everybody" if retry.always else "")


# ---- sessions --------------------------------------------------------------------------------------------------------


def _sessions(facts: Facts) -> Iterator[Row]:
    found = facts.resumption
    if found is not None:
        yield "tickets", [_beside(_tickets(found.tickets))]
        if found.tickets:
            exchange = ", with a key exchange" if found.key_exchange else ""
            words = [{True: f"yes{exchange}", False: "no", None: "not found out"}[found.resumed]]
            if found.ticket_again is not None:
                words.append("a ticket is taken twice" if found.ticket_again else "a ticket is taken once")
            if found.psk_ke is not None:
                words.append("without a key exchange too (psk_ke)" if found.psk_ke else "never without a key exchange")
            if found.tickets_on_resumption is not None:
                words.append(
                    f"{found.tickets_on_resumption or 'no'} new ticket{'' if found.tickets_on_resumption == 1 else 's'}"
                )
            yield "resumes", [_beside("; ".join(words))]
    early = facts.early_data
    if early is not None:
        offered = f"{early.offered} bytes offered; " if early.offered else ""
        again = {True: "; the same bytes again too", False: "; the same bytes not again", None: ""}[early.again]
        yield "0-RTT", [_beside(f"{offered}{early.reason}{again}")]


def _tickets(tickets: tuple[TicketFacts, ...]) -> str:
    if not tickets:
        return "none"
    sizes = sorted({ticket.size for ticket in tickets})
    lives = sorted({ticket.lifetime for ticket in tickets})
    span = " or ".join(_duration(one) for one in lives)
    size = f"{sizes[0]} bytes" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} bytes"
    return f"{len(tickets)} of {size}, good for {span}"


def _duration(seconds: int) -> str:
    for unit, size in (("days", _DAY), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


# ---- behaviour -------------------------------------------------------------------------------------------------------


def _behaviour(facts: Facts) -> Iterator[Row]:
    if facts.key_update is not None:
        yield (
            "KeyUpdate",
            [_beside(f"{facts.key_update.outcome or 'not found out'}, {escaped(facts.key_update.detail)}")],
        )
    if facts.negotiated is not None:
        limit = facts.negotiated.record_size_limit
        yield "record limit", [_beside("not negotiated" if limit is None else f"{limit} bytes")]
    if (names := facts.names) is not None:
        unknown, none = names.unknown_name or "not found out", names.no_name or "not tried"
        yield "other names", [_beside(f"unknown: {unknown}; none: {none}")]
    if (wanted := facts.client_certificate) is not None:
        how = {True: "required", False: "optional", None: "asked for"}[wanted.required]
        named = f", of {wanted.authorities} CAs" if wanted.authorities else ""
        yield "client cert", [_beside(f"{how}{named}" if wanted.requested else "not asked for")]
    if (raw := facts.raw_public_key) is not None:
        shown = f"yes, SHA-256 {raw.sha256}" if raw.supported else f"no: {escaped(raw.detail)}"
        yield "raw key", [_beside(shown)]


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def text_of(examination: Examination, width: int = 80) -> str:
    """Return the examination as plain text."""
    return "\n".join(plain(one) for one in full_lines(examination, width))
