"""The page as plain text, for curl: at most 80 columns, and of a length that a terminal bears."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pellucid.explain.ladder import FIELDS, LadderPrinter
from pellucid.explain.reveal import Shown
from pellucid.explain.sentences import choice_name
from pellucid.explain.snippets import bounded
from pellucid.explain.text import Line, cells, escaped, line, plain, wrap
from pellucid.explain.tree import key_schedule, tree_lines
from pellucid.trace import ChoiceMade, HandshakeCompleted, RecordTraced, StateChanged
from pellucid.verify.report import CheckGroup, Outcome
from pellucid.web.appraisal import Appraisal, appraise
from pellucid.web.checks import QUESTIONS, telling
from pellucid.web.lanes import not_kept, recorder_role
from pellucid.web.machine import taken
from pellucid.web.offer import offer_of
from pellucid.web.view import View

__all__ = ["WIDTH", "text"]

WIDTH: Final = 80
_MAX_EVENTS: Final = 400
_MAX_LISTED: Final = 12
_INDENT: Final = line("  ")
_ANSWERS: Final = {Outcome.PASSED: "yes", Outcome.FAILED: "NO"}


def text(view: View) -> str:
    """Return the connection as lines of text. Secrets stand in it only if the view reveals them."""
    lines = [*_head(view), *_ladder(view), *_exchange(view), *_offer(view), *_verifications(view)]
    lines += [*_keys(view), *_states(view), *_links(view)]
    return "\n".join(cut for one in lines for cut in _cut(one)) + "\n"


def _cut(one: str) -> list[str]:
    """Return *one* in pieces of at most WIDTH columns: a word that is longer is cut, what moves a cursor escaped."""
    pieces: list[str] = []
    one = escaped(one)
    while cells(one) > WIDTH:
        at = WIDTH
        while cells(one[:at]) > WIDTH:
            at -= 1
        pieces.append(one[:at])
        one = "    " + one[at:]
    return [*pieces, one]


def _section(title: str) -> list[str]:
    return ["", f"── {title} {'─' * (WIDTH - len(title) - 4)}"[:WIDTH], ""]


def _told(sentence: str, first: Line = _INDENT) -> list[str]:
    return [plain(one) for one in wrap(line(escaped(sentence)), WIDTH, first=first)]


def _rows(facts: Iterable[tuple[str, str]]) -> list[str]:
    facts = list(facts)
    column = max((len(name) for name, _ in facts), default=0)
    return [row for name, value in facts for row in _told(value, line(f"  {name:<{column}}  "))]


def _head(view: View) -> list[str]:
    completed = view.recorder.first(HandshakeCompleted)
    lead = "Your connection, step by step." if completed is not None else "The handshake was not completed."
    return [lead, ""]


def _ladder(view: View) -> list[str]:
    events = [event for event in view.recorder.events if not isinstance(event, (RecordTraced, StateChanged))]
    role = recorder_role(view.recorder.recorded)
    drawn: list[str] = []
    printer = LadderPrinter(lambda one: drawn.append(plain(one)), width=WIDTH, role=role, detail=FIELDS, meanings=True)
    for event in events[:_MAX_EVENTS]:
        printer(event)
    if len(events) > _MAX_EVENTS:
        drawn.append(f"  and {len(events) - _MAX_EVENTS} more events")
    if view.recorder.dropped:
        drawn += ["", *_told(not_kept(view.recorder.dropped))]
    return drawn


def _exchange(view: View) -> list[str]:
    exchange = view.exchange
    if exchange is None:
        return []
    lines = _section(exchange.protocol)
    for first, headers in (
        (exchange.request, exchange.request_headers),
        (exchange.response, exchange.response_headers),
    ):
        if first:
            lines += _told(first)
            lines += [row for name, value in headers for row in _told(f"{name}: {value}", line("    "))]
    return lines


def _offer(view: View) -> list[str]:
    offer = offer_of(view.recorder.events)
    if offer is None:
        return []
    facts = [("JA4", offer.ja4.fingerprint), ("GREASE values", str(offer.grease))]
    facts.append(("post-quantum", ", ".join(offer.post_quantum) or "no key share"))
    facts += [(heading, _some(names)) for heading, names in offer.lists() if names]
    lines = [*_section("What the client offered"), *_rows(facts)]
    made = view.recorder.of(ChoiceMade)[:_MAX_EVENTS]
    if made:
        chosen = [(choice_name(event.what), f"{event.chosen}: {event.reason}") for event in made]
        lines += [*_section("What was chosen, and why"), *_rows(chosen)]
    return lines


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MAX_LISTED])
    return shown if len(names) <= _MAX_LISTED else f"{shown} and {len(names) - _MAX_LISTED} more"


def _verifications(view: View) -> list[str]:
    found = appraise(view.recorder.events, recorder_role(view.recorder.recorded), now=view.now)
    lines = _section("The four verifications")
    if found.report is None:
        return [*lines, *_told(found.why)]
    if found.inferred:
        lines += [*_told("As the client must have made them, made here again over what was sent."), ""]
    for number, group in enumerate(CheckGroup, 1):
        answer = _answer(found, group)
        lines += _told(f"{number}. {QUESTIONS[group]} {answer}")
        for check in telling(group, found.report)[:_MAX_LISTED]:
            mark = {Outcome.PASSED: "✓", Outcome.FAILED: "✗"}.get(check.outcome, "·")
            lines += _told(f"{check.name}: {check.evidence}", line(f"     {mark} "))
        if group is CheckGroup.TRUST:
            lines += [row for name in found.chain for row in _told(name, line("       "))]
            if found.inferred:
                lines += _told(f"The client must trust {found.vouching}", line("       "))
    return lines


def _answer(found: Appraisal, group: CheckGroup) -> str:
    if found.report is None or (group is CheckGroup.NAME and found.inferred and found.named is None):
        return "not seen"
    return _ANSWERS.get(found.report.outcome(group), "not checked")


def _keys(view: View) -> list[str]:
    root = key_schedule(bounded(view.recorder.events))
    if root is None:
        return []
    lines = [plain(one) for one in tree_lines(root, WIDTH, Shown(view.reveal))]
    about = "Fingerprints stand at the right" + (
        ", the secrets beneath." if view.reveal else "; the secrets are hidden."
    )
    return [*_section("The keys"), *_told(about), "", *lines]


def _states(view: View) -> list[str]:
    lines: list[str] = []
    own = recorder_role(view.recorder.recorded)
    for role in (own.peer, own):
        hops = taken(view.recorder.events, role, recorder=own)
        if hops:
            lines += _told(f"{role.value}: {' → '.join([hops[0].source, *(hop.target for hop in hops)])}")
    return [*_section("The states"), *lines] if lines else []


def _links(view: View) -> list[str]:
    if not view.links:
        return []
    # Without the query: it names this connection, and whoever reads text comes again on another.
    rows = [(link.label, f"{link.url.partition('?')[0]}  {link.note}") for link in view.links]
    return [*_section("Take it with you"), *_told("Of the connection that asks:"), *_rows(rows)]
