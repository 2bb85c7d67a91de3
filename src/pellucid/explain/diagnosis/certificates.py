"""From the report on refused certificates to a code: what the verdict calls one thing has several causes."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Final

from pellucid.explain.diagnosis.products import interceptor
from pellucid.verify.facts import CertificateFacts, certificate_facts
from pellucid.verify.report import Check, Failure, Outcome, VerificationReport

__all__ = ["BUILT", "Refusal", "refusal"]

BUILT: Final = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
"""No clock that is right shows an earlier time than this. To be moved on with each release."""

_CODES: Final = {
    Failure.TOO_LARGE: "X509-TOO-LARGE",
    Failure.MALFORMED: "X509-MALFORMED",
    Failure.REVOKED: "X509-REVOKED",
    Failure.BAD_SIGNATURE: "X509-BAD-SIGNATURE",
    Failure.SELF_SIGNED: "X509-SELF-SIGNED",
    Failure.MISSING_INTERMEDIATE: "X509-MISSING-INTERMEDIATE",
    Failure.UNKNOWN_CA: "X509-UNKNOWN-CA",
    Failure.UNKNOWN_KEY: "X509-UNKNOWN-KEY",
    Failure.NOT_ALLOWED: "X509-NOT-ALLOWED",
    Failure.KEY_CHANGED: "X509-KEY-CHANGED",
    Failure.NOT_A_CA: "X509-NOT-A-CA",
    Failure.WRONG_NAME: "X509-WRONG-NAME",
    Failure.WRONG_PURPOSE: "X509-WRONG-PURPOSE",
    Failure.WEAK_SIGNATURE: "X509-WEAK-SIGNATURE",
    Failure.WEAK_KEY: "X509-WEAK-KEY",
    Failure.EXPIRED: "X509-EXPIRED",
    Failure.NOT_YET_VALID: "X509-NOT-YET-VALID",
    Failure.CONSTRAINT: "X509-REFUSED",
    Failure.UNSUPPORTED: "X509-UNSUPPORTED",
    Failure.BAD_STAPLE: "X509-STAPLE-INVALID",
    Failure.STAPLE_MISSING: "X509-STAPLE-MISSING",
    Failure.REVOCATION_UNKNOWN: "X509-REVOCATION-UNKNOWN",
    Failure.WRONG_PIN: "X509-PIN-MISMATCH",
    Failure.POLICY: "X509-POLICY",
}
_STALE: Final = re.compile(r"not current|expired on|and it is \d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused certificate, looked at again.

    decisive: the check that named the failure, None for a verifier of the application's own.
    chain:    what the peer sent, as far as it can be read, leaf first.
    product:  whose CA has the issuer's name, "" if it is no known one's.
    """

    code: str
    report: VerificationReport
    decisive: Check | None
    chain: tuple[CertificateFacts, ...]
    product: str = ""


def refusal(report: VerificationReport, host: str, now: float | None) -> Refusal:
    """Return what *report*, a refusal, comes down to. host: whom the certificate should be for, "" if nobody."""
    chain = tuple(facts for facts in map(certificate_facts, report.presented) if facts is not None)
    decisive = next((one for one in report.checks if one.failure is not None and one.failure is report.failure), None)
    code = "X509-REFUSED" if report.failure is None else _CODES[report.failure]
    product = ""
    match report.failure:
        case Failure.EXPIRED | Failure.NOT_YET_VALID if _is_the_clock(report, chain, now):
            code = "X509-CLOCK"
        case Failure.WRONG_NAME:
            code = _name_code(chain, host, decisive)
        case Failure.UNKNOWN_CA | Failure.SELF_SIGNED | Failure.MISSING_INTERMEDIATE:
            names = (facts.issuer_whole for facts in chain)
            product = next((found for found in map(interceptor, names) if found is not None), "")
            code = "X509-PROXY" if product else code
        case Failure.WRONG_PURPOSE if decisive is not None and decisive.name == "key usage":
            code = "X509-KEY-USAGE"
        case Failure.NOT_A_CA if decisive is not None and decisive.name == "CA key usage":
            code = "X509-KEY-USAGE"
        case Failure.CONSTRAINT | Failure.UNSUPPORTED if decisive is not None:
            code = _policy_code(decisive, code)
        case Failure.BAD_STAPLE if decisive is not None and _STALE.search(decisive.evidence):
            code = "X509-STAPLE-STALE"
    return Refusal(code=code, report=report, decisive=decisive, chain=chain, product=product)


_ABANDONED: Final = datetime.timedelta(days=3 * 365)
"""after its end a certificate is rather met by a clock that is ahead than still in use"""


def _is_the_clock(report: VerificationReport, chain: tuple[CertificateFacts, ...], now: float | None) -> bool:
    """Whether a wrong clock explains the dates better than the certificates do.

    It shows a time before this was built; or everything on the path, the root too, begins later; or everything has
    ended, and that long ago: a private CA and its leaf that were made on one day end on one day, too.
    """
    if now is not None and now < BUILT.timestamp():
        return True
    dates = [check for check in report.checks if check.name == "dates"]
    refused = {check.certificate for check in dates if check.outcome is Outcome.FAILED and not check.place}
    all_of_them = None in refused and len(dates) >= 2 and all(check.outcome is Outcome.FAILED for check in dates)
    if not all_of_them or report.failure is Failure.NOT_YET_VALID:
        return all_of_them
    here = None if now is None else datetime.datetime.fromtimestamp(now, datetime.UTC)
    return here is not None and bool(chain) and here - chain[0].not_after > _ABANDONED


def _name_code(chain: tuple[CertificateFacts, ...], host: str, decisive: Check | None) -> str:
    if not chain:
        missing = decisive is not None and "no subject alternative name" in decisive.evidence
        return "X509-NO-SAN" if missing else "X509-WRONG-NAME"
    names = chain[0].names
    if not names:
        return "X509-NO-SAN"
    host = host.lower().rstrip(".")
    for name in names:
        label, dot, parent = name.lower().partition(".")
        near = host == parent or host.endswith(f".{parent}")
        if "*" in label and dot and near:
            return "X509-WILDCARD"
    return "X509-WRONG-NAME"


def _policy_code(decisive: Check, code: str) -> str:
    text = decisive.evidence.lower()
    if decisive.name == "path length" or "path length" in text or "too deep" in text or "depth" in text:
        return "X509-PATH-TOO-LONG"
    if "name constraint" in text or "subtree" in text:
        return "X509-NAME-CONSTRAINT"
    return "X509-UNKNOWN-CRITICAL" if "critical" in text else code
