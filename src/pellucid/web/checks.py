"""The four verifications, drawn: each question with its answer, then the evidence."""

from __future__ import annotations

from typing import Final

from pellucid.verify.report import Check, CheckGroup, Outcome, VerificationReport
from pellucid.web.appraisal import Appraisal
from pellucid.web.html import Child, Markup, h

__all__ = ["QUESTIONS", "checks", "telling"]

QUESTIONS: Final = {
    CheckGroup.VALIDITY: "Is the certificate valid?",
    CheckGroup.NAME: "Is it for the name that was asked for?",
    CheckGroup.TRUST: "Does a trusted CA vouch for it?",
    CheckGroup.SIGNATURE: "Is the server the one it was issued to?",
}
"""The four questions (RFC 9846 §4.5.1.3, §4.5.2; RFC 5280 §6; RFC 9525)."""

_ABOUT: Final = {
    CheckGroup.VALIDITY: "Dates, key, algorithms, purpose.",
    CheckGroup.NAME: "A certificate is good for the names that stand in it, and for no other.",
    CheckGroup.TRUST: "Each certificate is signed by the next; the last by a root that the client has of its own.",
    CheckGroup.SIGNATURE: "Anybody can copy a certificate. Only the owner of its key can sign this very conversation.",
}
_MARKS: Final = {
    Outcome.PASSED: ("yes", "good"),
    Outcome.FAILED: ("no", "bad"),
    Outcome.NOT_APPLICABLE: ("does not apply", "quiet"),
    Outcome.NOT_CHECKED: ("not checked", "quiet"),
}
_MAX_CHECKS: Final = 40


def telling(group: CheckGroup, report: VerificationReport) -> tuple[Check, ...]:
    """Return the checks of *group* that say something: what passed and what failed before what does not apply."""
    order = [Outcome.FAILED, Outcome.PASSED, Outcome.NOT_CHECKED, Outcome.NOT_APPLICABLE]
    return tuple(sorted(report.by_group()[group], key=lambda check: order.index(check.outcome)))


def checks(appraisal: Appraisal) -> Markup:
    """Return the questions as a list of cards; what there is to say instead where nothing was judged."""
    report = appraisal.report
    if report is None:
        chain = _chain(appraisal) if appraisal.chain else None
        return h("div", h("p", h("strong", appraisal.why)), chain)
    cards = [_card(number, group, appraisal, report) for number, group in enumerate(CheckGroup, 1)]
    return h("ol", {"class": "cards"}, cards)


def _card(number: int, group: CheckGroup, appraisal: Appraisal, report: VerificationReport) -> Markup:
    answer, kind = _MARKS[report.outcome(group)]
    about: Child = _ABOUT[group]
    extra: list[Child] = []
    if group is CheckGroup.NAME and appraisal.inferred:
        if appraisal.named is None:
            answer, kind = "not seen", "quiet"
            extra.append(
                h("p", "The client named no server (it does so for an IP address), so what it asked for is not seen.")
            )
        else:
            extra.append(h("p", "It asked for ", h("b", appraisal.named), "."))
    if group is CheckGroup.TRUST:
        if appraisal.inferred and kind == "good":
            answer = "yes, if the client trusts its end"
            extra.append(
                h("p", "Which roots the client has is its own affair. It must trust: ", h("b", appraisal.vouching), ".")
            )
        extra.append(_chain(appraisal))
    found = telling(group, report)
    return h(
        "li",
        {"class": f"card {kind}"},
        h("h3", h("span", {"class": "number"}, number), QUESTIONS[group]),
        h("p", {"class": f"answer {kind}"}, h("strong", answer)),
        h("p", {"class": "quiet"}, about),
        extra,
        _evidence(found) if found else None,
    )


def _chain(appraisal: Appraisal) -> Markup:
    return h("ol", {"class": "chain"}, [h("li", name) for name in appraisal.chain[:12]])


def _evidence(found: tuple[Check, ...]) -> Markup:
    shown = [
        h(
            "li",
            {"class": _MARKS[check.outcome][1]},
            h("b", check.name),
            ": ",
            check.evidence,
            f" ({_MARKS[check.outcome][0]})" if check.outcome is not Outcome.PASSED else None,
        )
        for check in found[:_MAX_CHECKS]
    ]
    count = f"{len(found)} check{'' if len(found) == 1 else 's'}"
    return h("details", h("summary", f"Open: {count}"), h("ul", {"class": "evidence"}, shown))
