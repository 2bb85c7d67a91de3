"""What an OCSP response or a CRL said of one certificate, and whether it is new enough to be believed."""

from __future__ import annotations

import datetime
import enum
from typing import Final, NamedTuple

from cryptography import x509

from pellucid.verify.checks import moment
from pellucid.verify.paths import Candidate
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome


class Standing(enum.Enum):
    """UNKNOWN: there is no answer that can be believed. EXPIRED: there was one."""

    GOOD = "good"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """An answer, with one sentence of evidence."""

    standing: Standing
    evidence: str


class Staleness(NamedTuple):
    """Why an answer is not current. expired: it once was."""

    text: str
    expired: bool


class Currency(NamedTuple):
    """The moment of the verification, and how far clocks may differ (RFC 6960 §4.2.2.1, RFC 5280 §5.1.2.5).

    max_age_seconds: how long an answer is believed that does not say when the next one is due.
    """

    when: datetime.datetime
    skew_seconds: float
    max_age_seconds: float

    def problem(self, this_update: datetime.datetime, next_update: datetime.datetime | None) -> Staleness | None:
        """Return why an answer of that time is not current, or None if it is."""
        # In seconds: there is no date after the year 9999, which is what some responders call "never".
        now = self.when.timestamp()
        if this_update.timestamp() > now + self.skew_seconds:
            return Staleness(f"is of {moment(this_update)}, and it is {moment(self.when)}", expired=False)
        if next_update is None:
            if this_update.timestamp() + self.max_age_seconds < now - self.skew_seconds:
                return Staleness(
                    f"is of {moment(this_update)}, does not say when the next is due, and it is {moment(self.when)}",
                    expired=True,
                )
            return None
        if next_update.timestamp() < now - self.skew_seconds:
            return Staleness(f"expired on {moment(next_update)}; it is {moment(self.when)}", expired=True)
        return None


def ends_at(this_update: datetime.datetime, next_update: datetime.datetime | None, max_age_seconds: float) -> float:
    """Return when an answer of that time is out of date by its own words, seconds since 1970; no skew is allowed."""
    return this_update.timestamp() + max_age_seconds if next_update is None else next_update.timestamp()


def reason_name(reason: x509.ReasonFlags | None) -> str:
    """Return the reason in parentheses, as the RFCs spell it; nothing for none or "unspecified"."""
    if reason is None or reason is x509.ReasonFlags.unspecified:
        return ""
    return f" ({reason.value})"


def revocation_check(about: Candidate, outcome: Outcome, evidence: str, failure: Failure | None = None) -> Check:
    """Return one check of the revocation of *about*; a certificate may have several, one for each source."""
    return Check(
        group=CheckGroup.VALIDITY,
        name="revocation",
        outcome=outcome,
        evidence=evidence,
        certificate=about.index,
        failure=failure,
    )


def _not_checked(evidence: str) -> tuple[Check, ...]:
    outcome = Outcome.NOT_CHECKED
    return (Check(group=CheckGroup.VALIDITY, name="revocation", outcome=outcome, evidence=evidence, certificate=0),)


NOT_ASKED: Final = _not_checked("neither OCSP nor CRLs were consulted: no response was stapled, and no CRLs were given")
NOT_REACHED: Final = _not_checked("not looked at, for the certificates are refused for another reason")
