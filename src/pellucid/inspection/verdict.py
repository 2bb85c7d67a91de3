"""The verdict: four words, each with its reasons. Facts go in, nothing is asked of anybody. docs/guides/inspect.md.

"broken": a client that verifies gets no TLS 1.3, or the examination itself failed.
"poor": it works, and breaks a rule or will break soon.
"fair": it works, and lacks what clients of today hope for.   "good": nothing is to be said against it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pellucid.inspection.facts import Facts
from pellucid.registry import CipherSuite, NamedGroup, group_name, suite_name

__all__ = ["Judgement", "Reason", "Verdict", "judge"]

INTERNAL: Final = "TLS-INTERNAL"
_DAY: Final = 86_400
_POOR_DAYS: Final = 3
_FAIR_DAYS: Final = 14
_MAX_TICKET_LIFETIME: Final = 604_800
_FIRST_WINDOW: Final = 14_600  # bytes that a server may send before it hears from the client (RFC 6928)


class Verdict(enum.Enum):
    """How good a server is; the worst of its reasons."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    BROKEN = "broken"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Verdict).index(self)

    @property
    def fine(self) -> bool:
        return self in {Verdict.GOOD, Verdict.FAIR}


@dataclass(frozen=True, slots=True)
class Reason:
    """verdict: what it makes of the whole, "good" for what is only worth knowing. code: stable, for programs.

    rfc: where the rule is written, "" where there is none.
    """

    verdict: Verdict
    code: str
    text: str
    rfc: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The worst of the *reasons*, which stand in order, the worst first."""

    verdict: Verdict
    reasons: tuple[Reason, ...]


def judge(facts: Facts) -> Judgement:
    """Return what is to be thought of a server with these *facts*."""
    reasons = sorted(
        (reason for rule in _RULES for reason in rule(facts)), key=lambda reason: reason.verdict.rank, reverse=True
    )
    worst = max((reason.verdict for reason in reasons), key=lambda verdict: verdict.rank, default=Verdict.GOOD)
    return Judgement(worst, tuple(reasons))


def _handshake(facts: Facts) -> Iterator[Reason]:
    if facts.failed is not None and facts.failed.code == INTERNAL:
        text = f"internal error: {facts.failed.message}: it is not the server's, which may be fine"
        yield Reason(Verdict.BROKEN, "internal-error", text)
    elif facts.failed is not None:
        yield Reason(Verdict.BROKEN, "no-handshake", f"{facts.failed.message} ({facts.failed.code})")
        if facts.raw_public_key is not None and facts.raw_public_key.supported:
            yield Reason(Verdict.GOOD, "raw-key-only", "it shows a raw public key, and no certificate", "7250")


def _certificate(facts: Facts) -> Iterator[Reason]:
    chain = facts.chain
    if chain is None:
        return
    if not chain.report.accepted:
        code = f" ({facts.refused.code})" if facts.refused is not None else ""
        yield Reason(Verdict.BROKEN, "certificate-refused", f"{chain.report.summary}{code}", "9846 §4.5.1.3")
    if chain.report.accepted and chain.seconds_left is not None:
        days = chain.seconds_left / _DAY
        if days <= _FAIR_DAYS:
            verdict = Verdict.POOR if days <= _POOR_DAYS else Verdict.FAIR
            text = (
                f"a certificate ends in {days:.0f} days"
                if days >= 2
                else f"a certificate ends in {days * 24:.0f} hours"
            )
            yield Reason(verdict, "certificate-ends-soon", text)
    if chain.needless:
        text = f"{chain.needless} of the {len(chain.certificates)} certificates sent are not needed"
        yield Reason(Verdict.FAIR, "chain-needless", text, "9846 §4.5.1")


def _agreed(facts: Facts) -> Iterator[Reason]:
    if facts.groups is not None and facts.groups.accepted and not facts.groups.unknown:
        if not any(group.post_quantum for group in facts.group_details):
            text = "no group resists a quantum computer: what is recorded today can be read then"
            yield Reason(Verdict.FAIR, "no-post-quantum-group", text)
        if (name := group_name(NamedGroup.SECP256R1)) not in facts.groups.accepted:
            yield Reason(Verdict.FAIR, "mandatory-group", f"{name} is not accepted, which all must have", "9846 §9.1")
    if facts.suites is not None and facts.suites.accepted:
        name = suite_name(CipherSuite.TLS_AES_128_GCM_SHA256)
        if name not in (*facts.suites.accepted, *facts.suites.unknown):
            yield Reason(Verdict.FAIR, "mandatory-suite", f"{name} is not accepted, which all must have", "9846 §9.1")
        short = suite_name(CipherSuite.TLS_AES_128_CCM_8_SHA256)
        if short in facts.suites.accepted:
            yield Reason(Verdict.FAIR, "short-tag", f"{short} is accepted, whose tag has 8 bytes", "9846 §B.4")


def _retry(facts: Facts) -> Iterator[Reason]:
    retry = facts.retry
    if retry is None:
        return
    if retry.fails_for:
        text = f"no HelloRetryRequest for {', '.join(retry.fails_for)}: clients that send another share fail"
        yield Reason(Verdict.POOR, "no-retry", text, "9846 §4.2.1")
    if retry.always:
        yield Reason(Verdict.GOOD, "always-retries", "every client is asked again, for a cookie: a round trip more")


def _resumption(facts: Facts) -> Iterator[Reason]:
    found = facts.resumption
    if found is None:
        return
    if found.tickets and found.resumed is False:
        yield Reason(Verdict.FAIR, "tickets-not-taken", "it gives tickets, and does not take them back", "9846 §4.7.1")
    if not found.tickets:
        yield Reason(Verdict.GOOD, "no-tickets", "it gives no tickets: nothing is resumed")
    if any(ticket.lifetime > _MAX_TICKET_LIFETIME for ticket in found.tickets):
        yield Reason(Verdict.POOR, "ticket-lifetime", "a ticket lives for more than 7 days", "9846 §4.7.1")
    if found.psk_ke:
        text = "sessions are resumed without a key exchange where a client wants to: no forward secrecy"
        yield Reason(Verdict.FAIR, "psk-ke", text, "9846 §4.3.9")
    early = facts.early_data
    if early is not None and early.again:
        text = "the same early data is taken twice: who recorded it can have it done again"
        yield Reason(Verdict.POOR, "early-data-replayed", text, "9846 §8")
    if early is not None and early.offered and early.again is None:
        text = f"tickets allow {early.offered} bytes of 0-RTT data, which can be replayed"
        yield Reason(Verdict.GOOD, "early-data-offered", text, "9846 §8")


def _behaviour(facts: Facts) -> Iterator[Reason]:
    update = facts.key_update
    if update is not None and update.outcome == "ignored":
        text = "it was asked for a KeyUpdate and went on with its old key"
        yield Reason(Verdict.POOR, "key-update-ignored", text, "9846 §4.7.3")
    if update is not None and update.outcome == "refused":
        yield Reason(Verdict.POOR, "key-update-refused", f"it ends at a KeyUpdate: {update.detail}", "9846 §4.7.3")
    alpn = facts.alpn
    if alpn is not None and alpn.accepted and alpn.unknown == "ignored":
        text = "a client none of whose protocols it speaks is not told so"
        yield Reason(Verdict.GOOD, "alpn-ignored", text, "7301 §3.2")
    if facts.timing is not None and facts.timing.received > _FIRST_WINDOW:
        text = f"{facts.timing.received} bytes before the client's answer: a round trip more"
        yield Reason(Verdict.FAIR, "long-flight", text, "6928")
    if facts.client_certificate is not None and facts.client_certificate.required:
        yield Reason(Verdict.GOOD, "wants-certificate", "it wants a certificate of its clients: --cert FILE shows one")


def _afterwards(facts: Facts) -> Iterator[Reason]:
    broke = facts.afterwards
    if broke is None or (facts.key_update is not None and facts.key_update.outcome == "refused"):
        return
    if broke.code == "PEER-TRUNCATED":
        text = "it ends connections without close_notify: what is cut off cannot be told from what is whole"
        yield Reason(Verdict.FAIR, "no-close-notify", text, "9846 §6.1")
    elif broke.code == "TCP-RESET":
        yield Reason(Verdict.FAIR, "reset", "it resets the connection instead of closing it", "9846 §6.1")
    else:
        yield Reason(Verdict.POOR, "breaks-afterwards", f"after the handshake: {broke.message} ({broke.code})")


def _gaps(facts: Facts) -> Iterator[Reason]:
    for question, why in facts.unknown:
        yield Reason(Verdict.GOOD, "not-found-out", f"{question}: {why}")
    for name, offered in (("groups", facts.groups), ("suites", facts.suites), ("signature schemes", facts.schemes)):
        if offered is not None and offered.unknown:
            yield Reason(Verdict.GOOD, "not-found-out", f"{name}: {', '.join(offered.unknown)} could not be tried")


_RULES: Final[tuple[Callable[[Facts], Iterator[Reason]], ...]] = (
    _handshake,
    _certificate,
    _agreed,
    _retry,
    _resumption,
    _behaviour,
    _afterwards,
    _gaps,
)
