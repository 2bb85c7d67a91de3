"""What a verification found: every check with its evidence, the decisive failure, the alert to send.

Only values live here. No certificate is judged in this file.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pellucid.crypto.certificates import EndEntity
from pellucid.errors import InternalError, PeerError
from pellucid.registry import AlertDescription, CertificateType, alert_name, certificate_type_name
from pellucid.value import quickly_made
from pellucid.verify.scts import SignedCertificateTimestamp, readable_scts


class Outcome(enum.Enum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


class CheckGroup(enum.Enum):
    """The four questions asked of a peer's certificate; of a raw public key they are the same as far as they go."""

    VALIDITY = "certificate valid"
    NAME = "name matches"
    TRUST = "signed by a trusted CA"
    SIGNATURE = "CertificateVerify correct"


class Failure(enum.Enum):
    """Why a peer's certificate was refused. The values are stable: programs and documents may use them."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    REVOKED = "revoked"
    BAD_SIGNATURE = "bad-signature"
    SELF_SIGNED = "self-signed"
    MISSING_INTERMEDIATE = "missing-intermediate"
    UNKNOWN_CA = "unknown-ca"
    UNKNOWN_KEY = "unknown-key"
    NOT_ALLOWED = "not-allowed"
    KEY_CHANGED = "key-changed"
    NOT_A_CA = "not-a-ca"
    WRONG_NAME = "wrong-name"
    WRONG_PURPOSE = "wrong-purpose"
    WEAK_SIGNATURE = "weak-signature"
    WEAK_KEY = "weak-key"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    CONSTRAINT = "constraint"
    UNSUPPORTED = "unsupported"
    BAD_STAPLE = "bad-staple"
    STAPLE_MISSING = "staple-missing"
    REVOCATION_UNKNOWN = "revocation-unknown"
    WRONG_PIN = "wrong-pin"
    POLICY = "policy"


DECISIVE_ORDER: Final = tuple(Failure)
"""When several checks fail, the first in this order names the failure: what nothing else can repair comes first.

A certificate nobody vouches for says nothing, so trust comes before name, and name before dates: a wrong name on an
otherwise good certificate is WRONG_NAME, an expired one of a trusted CA is EXPIRED, an expired self-signed one is
SELF_SIGNED.
"""

ALERTS: Final = {
    Failure.TOO_LARGE: AlertDescription.BAD_CERTIFICATE,
    Failure.MALFORMED: AlertDescription.BAD_CERTIFICATE,
    Failure.REVOKED: AlertDescription.CERTIFICATE_REVOKED,
    Failure.BAD_SIGNATURE: AlertDescription.BAD_CERTIFICATE,
    Failure.SELF_SIGNED: AlertDescription.UNKNOWN_CA,
    Failure.MISSING_INTERMEDIATE: AlertDescription.UNKNOWN_CA,
    Failure.UNKNOWN_CA: AlertDescription.UNKNOWN_CA,
    Failure.UNKNOWN_KEY: AlertDescription.BAD_CERTIFICATE,
    Failure.NOT_ALLOWED: AlertDescription.BAD_CERTIFICATE,
    Failure.KEY_CHANGED: AlertDescription.BAD_CERTIFICATE,
    Failure.NOT_A_CA: AlertDescription.BAD_CERTIFICATE,
    Failure.WRONG_NAME: AlertDescription.BAD_CERTIFICATE,
    Failure.WRONG_PURPOSE: AlertDescription.UNSUPPORTED_CERTIFICATE,
    Failure.WEAK_SIGNATURE: AlertDescription.BAD_CERTIFICATE,
    Failure.WEAK_KEY: AlertDescription.BAD_CERTIFICATE,
    Failure.EXPIRED: AlertDescription.CERTIFICATE_EXPIRED,
    Failure.NOT_YET_VALID: AlertDescription.CERTIFICATE_EXPIRED,
    Failure.CONSTRAINT: AlertDescription.CERTIFICATE_UNKNOWN,
    Failure.UNSUPPORTED: AlertDescription.UNSUPPORTED_CERTIFICATE,
    Failure.BAD_STAPLE: AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE,
    Failure.STAPLE_MISSING: AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE,
    Failure.REVOCATION_UNKNOWN: AlertDescription.CERTIFICATE_UNKNOWN,
    Failure.WRONG_PIN: AlertDescription.BAD_CERTIFICATE,
    Failure.POLICY: AlertDescription.CERTIFICATE_UNKNOWN,
}
"""The alert that tells the peer (RFC 9846 §6.2)."""


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check and what it saw.

    evidence:    one plain sentence: which certificate, which name, which root.
    certificate: 0 is the leaf, n the n-th certificate sent after it; None: none in particular, or a root of ours.
    failure:     set exactly when the outcome is FAILED, except for a check that another one explains better.
    place:       where a certificate is from that was neither sent nor is a root of ours; "" for all others.
    """

    group: CheckGroup
    name: str
    outcome: Outcome
    evidence: str
    certificate: int | None = None
    failure: Failure | None = None
    place: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the check for JSON; with "place" where there is one."""
        return {
            "group": self.group.value,
            "name": self.name,
            "outcome": self.outcome.value,
            "evidence": self.evidence,
            "certificate": self.certificate,
            "failure": self.failure.value if self.failure else None,
            **({"place": self.place} if self.place else {}),
        }


_OF_NONE: Final = frozenset({"revocation", "trusted root", "verdict"})
"""checks that are of no certificate in particular, where those of other names that say of none are of a root"""


def names_of(checks: Sequence[Check]) -> tuple[str, ...]:
    """Return the checks' names to be read side by side: one made of several certificates says of which."""
    often = Counter((check.group, check.name) for check in checks)
    return tuple(f"{one.name}{_whose(one) if often[one.group, one.name] > 1 else ''}" for one in checks)


def _whose(check: Check) -> str:
    if check.place:
        return f" ({check.place})"
    match check.certificate:
        case None:
            return "" if check.name in _OF_NONE else " (root)"
        case 0:
            return " (leaf)"
        case number:
            return f" (certificate {number})"


class LazyChecks:
    """The explanation, written when first read. It is told the verdict and cannot change it."""

    __slots__ = ("_checks", "_explain")

    def __init__(self, explain: Callable[[], tuple[Check, ...]]) -> None:
        self._explain = explain
        self._checks: tuple[Check, ...] | None = None

    def read(self) -> tuple[Check, ...]:
        """Return the checks, computing them the first time."""
        if self._checks is None:
            self._checks = self._explain()
        return self._checks


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """The answer to a VerificationRequest (RFC 9846 §4.5.1.3, RFC 5280 §6, RFC 9525).

    accepted: the verdict.
    failure:  the decisive failure; None if there is none. Set on an accepted report only by a `dangerous_` verifier.
    summary:  one line that names the decisive failure, or the root that vouches for the peer.
    path:     the verified path as DER, leaf first, root last; empty if there is none. Of a raw public key: it alone.
    alert:    the AlertDescription to send if refused, else None.
    missing_intermediate_urls: where the leaf says its issuer can be fetched (AIA), when one seems to be missing.
    dangerous: nothing was demanded of the peer; `accepted` means nothing.
    certificate_type: what was judged, an X.509 chain or a raw public key (RFC 7250).
    serialized_scts: the SCTs that came with the leaf, as they came (RFC 6962 §3.3); `scts` reads them.
    presented: of a refusal: what the peer had sent, as DER, leaf first.
    on_proof:  what is to be done, and checked, once the peer has shown that it has the key: see `proven`.
    A verifier of one's own gives accepted, summary and path, or failure and alert, and adds checks with with_check.
    """

    accepted: bool
    summary: str
    failure: Failure | None = None
    path: tuple[bytes, ...] = ()
    alert: int | None = None
    missing_intermediate_urls: tuple[str, ...] = ()
    dangerous: bool = False
    certificate_type: int = CertificateType.X509
    serialized_scts: tuple[bytes, ...] = field(default=(), repr=False)
    presented: tuple[bytes, ...] = field(default=(), repr=False)
    explanation: LazyChecks = field(default_factory=lambda: LazyChecks(tuple), repr=False, compare=False)
    later: tuple[Check, ...] = field(default=(), repr=False)
    on_proof: tuple[Callable[[], Check], ...] = field(default=(), repr=False, compare=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order made. On an accepted report they are computed when first read."""
        return self.explanation.read() + self.later

    @property
    def scts(self) -> tuple[SignedCertificateTimestamp, ...]:
        """The SCTs that came with the leaf, those that can be read; not verified against any log."""
        return readable_scts(self.serialized_scts)

    def by_group(self) -> dict[CheckGroup, tuple[Check, ...]]:
        """Return the checks of each of the four groups; a group not looked at yet is empty."""
        checks = self.checks
        return {group: tuple(check for check in checks if check.group is group) for group in CheckGroup}

    def outcome(self, group: CheckGroup) -> Outcome:
        """Return FAILED if a check of *group* failed, else PASSED if one passed, else NOT_CHECKED."""
        outcomes = {check.outcome for check in self.checks if check.group is group}
        for outcome in (Outcome.FAILED, Outcome.PASSED):
            if outcome in outcomes:
                return outcome
        return Outcome.NOT_CHECKED

    def with_check(self, check: Check) -> VerificationReport:
        """Return the report with one more check, such as CertificateVerify's. A failed one makes it a refusal."""
        later = (*self.later, check)
        if check.outcome is not Outcome.FAILED:
            # Written out: dataclasses.replace takes three times as long, and this is on every handshake's way.
            return VerificationReport(
                accepted=self.accepted,
                summary=self.summary,
                failure=self.failure,
                path=self.path,
                alert=self.alert,
                missing_intermediate_urls=self.missing_intermediate_urls,
                dangerous=self.dangerous,
                certificate_type=self.certificate_type,
                serialized_scts=self.serialized_scts,
                presented=self.presented,
                explanation=self.explanation,
                later=later,
                on_proof=self.on_proof,
            )
        bad_proof = check.group is CheckGroup.SIGNATURE
        failure = check.failure or Failure.BAD_SIGNATURE
        if not self.accepted:
            return replace(self, later=later)
        return replace(
            self,
            later=later,
            accepted=False,
            failure=failure,
            summary=check.evidence,
            path=(),
            alert=AlertDescription.DECRYPT_ERROR if bad_proof else ALERTS[failure],
        )

    def proven(self) -> VerificationReport:
        """Return the report with the checks of `on_proof`, made now: the peer's CertificateVerify was right.

        Nothing is done for a report that is a refusal. What they raise ends the handshake.
        """
        report = self
        for act in self.on_proof:
            if report.accepted:
                report = report.with_check(act())
        return report

    def to_dict(self) -> dict[str, object]:
        """Return the report for JSON; certificates as hexadecimal DER."""
        return {
            "accepted": self.accepted,
            "dangerous": self.dangerous,
            "certificate_type": certificate_type_name(self.certificate_type),
            "failure": self.failure.value if self.failure else None,
            "summary": self.summary,
            "alert": alert_name(self.alert) if self.alert is not None else None,
            "path": [der.hex() for der in self.path],
            "missing_intermediate_urls": list(self.missing_intermediate_urls),
            "scts": [sct.to_dict() for sct in self.scts],
            "groups": {group.value: self.outcome(group).value for group in CheckGroup},
            "checks": [check.to_dict() for check in self.checks],
        }

    def lines(self) -> tuple[str, ...]:
        """Return the report as lines of text: each group, then its checks."""
        lines: list[str] = []
        for group, checks in self.by_group().items():
            lines.append(f"{group.value}: {self.outcome(group).value}")
            lines += [
                f"  {check.outcome.value}: {name}: {check.evidence}"
                for check, name in zip(checks, names_of(checks), strict=True)
            ]
        return tuple(lines)


class CertificateRejected(PeerError):
    """The peer's certificate was refused; *verification* says why. `str()` is one line, the checks are in `report`."""

    alert: int  # type: ignore[misc]  # PeerError's is the class's; here the report chooses it (RFC 9846 §6.2)

    def __init__(self, report: VerificationReport) -> None:
        super().__init__(report.summary, rfc="9846 §4.5.1.3")
        self.verification: VerificationReport = report
        self.alert = AlertDescription.CERTIFICATE_UNKNOWN if report.alert is None else report.alert


_PROOF: Final = object()


class VerifiedPeer:
    """Proof that a verifier accepted the peer's certificate or raw public key; only `verified_peer` makes one.

    leaf:   the end-entity certificate, or the RawPublicKey.
    chain:  the verified path as DER, leaf first; of a raw public key: it alone.
    report: the accepted report.
    """

    __slots__ = ("chain", "leaf", "report")

    leaf: EndEntity
    chain: tuple[bytes, ...]
    report: VerificationReport

    def __init__(self, proof: object, leaf: EndEntity, report: VerificationReport) -> None:
        if proof is not _PROOF:
            raise InternalError("a VerifiedPeer is made by verified_peer() alone")
        object.__setattr__(self, "leaf", leaf)
        object.__setattr__(self, "chain", report.path)
        object.__setattr__(self, "report", report)

    @property
    def certificate_type(self) -> int:
        """What the peer showed: a CertificateType (RFC 7250)."""
        return self.leaf.certificate_type

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"VerifiedPeer is immutable: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"VerifiedPeer is immutable: {name}")

    def __repr__(self) -> str:
        return f"VerifiedPeer({self.report.summary!r})"


def remembered_peer(leaf: EndEntity, path: tuple[bytes, ...], authenticated_at: float) -> VerifiedPeer:
    """Return the proof that *leaf* was accepted when the session began that is resumed now (RFC 9846 §2.2).

    path: the path accepted then.   authenticated_at: when that was, seconds since 1970.
    """
    evidence = f"as it was when the session began, at {int(authenticated_at)} seconds since 1970"

    def checks() -> tuple[Check, ...]:
        return tuple(
            Check(group=group, name="resumption", outcome=Outcome.PASSED, evidence=evidence, certificate=0)
            for group in CheckGroup
        )

    report = VerificationReport(
        accepted=True,
        summary="a session is resumed whose peer was verified",
        path=path,
        certificate_type=leaf.certificate_type,
        explanation=LazyChecks(checks),
    )
    return VerifiedPeer(_PROOF, leaf, report)


def verified_peer(leaf: EndEntity, report: VerificationReport) -> VerifiedPeer:
    """Return the proof that *report* accepted *leaf*. Raises CertificateRejected if it did not."""
    if not report.accepted:
        raise CertificateRejected(report)
    if not report.path or report.path[0] != leaf.der:
        raise InternalError("the report is about another certificate")
    return VerifiedPeer(_PROOF, leaf, report)
