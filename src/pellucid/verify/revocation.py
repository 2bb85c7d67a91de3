"""Whether a certificate on an accepted path was revoked: the policy, the staple and the CRLs together.

A policy fails closed: what it demands and does not get refuses the peer, with the reason. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from pellucid.errors import UsageError
from pellucid.limits import MAX_STAPLE, REVOCATION_CLOCK_SKEW_SECONDS, REVOCATION_MAX_AGE_SECONDS
from pellucid.verify.crls import RevocationLists, parse_crls
from pellucid.verify.findings import Case
from pellucid.verify.ocsp import read_staple, staple_ends
from pellucid.verify.paths import Candidate, verify_link
from pellucid.verify.report import Check, Failure, Outcome
from pellucid.verify.status import NOT_ASKED, Currency, Finding, Standing, revocation_check

Handling = Literal["reject", "accept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPolicy:
    """What is asked about revocation, and what follows where there is no answer (RFC 6960, RFC 6066 §8, RFC 5280 §6.3).

    A staple that comes is always verified: one that says "revoked", or is not right, refuses the peer (RFC 6066 §8).

    crls:               CRLs in memory, each DER or PEM; parsed once, here. What one of them lists is refused.
    crl_depth:          "chain": CRLs are asked about every certificate but the root; "leaf": about the leaf alone.
    missing_crl:        what happens, if CRLs were given, to a certificate that none of them answers for.
    expired_crl:        what happens where all that answer are past their nextUpdate; "accept" takes them as current.
                        What an expired CRL lists is refused either way. A staple that says "good" stands in for both.
    require_staple:     refuse every peer that staples nothing.
    honour_must_staple: refuse one that staples nothing though its certificate promises to (TLS feature, RFC 7633).
    clock_skew_seconds: how far the clocks of CAs and this one may differ.
    max_age_seconds:    how long a status is believed that does not say when the next one is due.
    max_staple_bytes:   the longest OCSP response that is looked at.
    Raises UsageError for what is no CRL and for values that cannot be.
    """

    crls: tuple[bytes, ...] = field(default=(), repr=False)
    crl_depth: Literal["leaf", "chain"] = "chain"
    missing_crl: Handling = "reject"
    expired_crl: Handling = "reject"
    require_staple: bool = False
    honour_must_staple: bool = True
    clock_skew_seconds: float = REVOCATION_CLOCK_SKEW_SECONDS
    max_age_seconds: float = REVOCATION_MAX_AGE_SECONDS
    max_staple_bytes: int = MAX_STAPLE
    lists: RevocationLists = field(init=False, repr=False, compare=False)
    """*crls*, parsed"""
    session_identity: bytes = field(init=False, repr=False, compare=False)
    """32 bytes: what sessions are bound to, so that none outlives the policy under which its peer was accepted"""

    def __post_init__(self) -> None:
        if isinstance(self.crls, (str, bytes)):
            raise UsageError("crls is a tuple of bytes: each one CRL, or PEM text")
        object.__setattr__(self, "crls", tuple(self.crls))
        if self.crl_depth not in {"leaf", "chain"}:
            raise UsageError(f"crl_depth is {self.crl_depth!r}; 'leaf' and 'chain' are possible")
        for name, value in (("missing_crl", self.missing_crl), ("expired_crl", self.expired_crl)):
            if value not in get_args(Handling):
                raise UsageError(f"{name} is {value!r}; 'reject' and 'accept' are possible")
        if not all(value >= 0 for value in (self.clock_skew_seconds, self.max_age_seconds, self.max_staple_bytes)):
            raise UsageError("clock_skew_seconds, max_age_seconds and max_staple_bytes are not negative")
        object.__setattr__(self, "lists", parse_crls(self.crls))
        object.__setattr__(self, "session_identity", self._identity())

    def _identity(self) -> bytes:
        digest = hashlib.sha256(repr(self).encode())
        for crl in self.crls:
            digest.update(hashlib.sha256(crl).digest())
        return digest.digest()


DEFAULT_REVOCATION: Final = RevocationPolicy()
"""What comes is verified, must-staple is honoured, and nothing else is demanded."""


def revocation_checks(
    policy: RevocationPolicy, case: Case, path: tuple[Candidate, ...], staple: bytes | None, *, promised: bool
) -> tuple[Check, ...]:
    """Return the checks of an accepted *path*, leaf first; a FAILED one refuses it.

    promised: the leaf is must-staple, and was asked for its staple.
    """
    judge = _Judge(policy, case, path)
    checks = [*judge.staple(staple, promised=promised)]
    if policy.lists.lists:
        answered = any(check.outcome is Outcome.PASSED for check in checks)
        checks += judge.listed(leaf_is_answered_for=answered)
    return tuple(checks) or NOT_ASKED


def believed_until(policy: RevocationPolicy, case: Case, path: tuple[Candidate, ...], staple: bytes | None) -> float:
    """Return until when what `revocation_checks` accepted stands, seconds since 1970; infinity where no answer ends.

    At the nextUpdate of the staple and of each CRL of an issuer on *path*: clock skew is not added.
    """
    ends = [policy.lists.ends({one.issuer for one in path}, policy.max_age_seconds)]
    if staple is not None:
        ends.append(_Judge(policy, case, path).staple_ends(staple))
    return min(ends)


class _Judge:
    def __init__(self, policy: RevocationPolicy, case: Case, path: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._case = case
        self._path = path
        self._currency = Currency(case.when, policy.clock_skew_seconds, policy.max_age_seconds)

    def staple(self, staple: bytes | None, *, promised: bool) -> list[Check]:
        """What the staple says; nothing if there is none and none is demanded."""
        policy, leaf = self._policy, self._path[0]
        demanded = policy.require_staple or (policy.honour_must_staple and promised)
        if staple is None:
            if not demanded:
                return []
            why = "the policy demands one" if policy.require_staple else "its certificate promises one (must-staple)"
            text = f"no OCSP response was stapled to {leaf.label}, and {why}"
            return [revocation_check(leaf, Outcome.FAILED, text, Failure.STAPLE_MISSING)]
        issuer = self._issuer_of(leaf)
        if issuer is None:
            text = f"{leaf.label} is trusted itself and its issuer is not: what is stapled to it proves nothing"
            failure = Failure.BAD_STAPLE if demanded else None
            return [revocation_check(leaf, Outcome.FAILED if failure else Outcome.NOT_CHECKED, text, failure)]
        finding = read_staple(
            staple, leaf, issuer, self._currency, policy.max_staple_bytes, lambda other: self._ask(other, issuer)
        )
        return [_from(leaf, finding, Failure.BAD_STAPLE)]

    def staple_ends(self, staple: bytes) -> float:
        """Until when *staple*, which was accepted, is current."""
        issuer = self._issuer_of(self._path[0])
        if issuer is None:
            return math.inf  # it proved nothing
        return staple_ends(staple, self._path[0], issuer, self._policy.max_age_seconds)

    def listed(self, *, leaf_is_answered_for: bool) -> list[Check]:
        """What the CRLs say, of each certificate but the root; a good staple stands in for a missing CRL."""
        if len(self._path) == 1:
            text = f"{self._path[0].label} is trusted itself: CRLs are not asked about it"
            return [revocation_check(self._path[0], Outcome.NOT_CHECKED, text)]
        checks: list[Check] = []
        last = 1 if self._policy.crl_depth == "leaf" else len(self._path) - 1
        for about, issuer in zip(self._path[:last], self._path[1:], strict=False):
            finding = self._ask_lists(about, issuer)
            answered = leaf_is_answered_for and about is self._path[0]
            missing_is_fine = finding.standing is Standing.UNKNOWN and self._policy.missing_crl == "accept"
            checks.append(_from(about, finding, None if answered or missing_is_fine else Failure.REVOCATION_UNKNOWN))
        return checks

    def _ask(self, about: Candidate, issuer: Candidate) -> Finding | None:
        return self._ask_lists(about, issuer) if self._policy.lists.lists else None

    def _ask_lists(self, about: Candidate, issuer: Candidate) -> Finding:
        fine = self._policy.expired_crl == "accept"
        return self._policy.lists.ask(about, issuer, self._currency, expired_is_fine=fine)

    def _issuer_of(self, leaf: Candidate) -> Candidate | None:
        return self._path[1] if len(self._path) > 1 else self._issuer_of_anchor(leaf)

    def _issuer_of_anchor(self, leaf: Candidate) -> Candidate | None:
        """Return who issued a leaf that is trusted itself, if that one is trusted too.

        What the peer sent does not count: for a given signature anybody can make a key under which it verifies.
        """
        roots = [leaf, *(Candidate(root, None) for root in self._case.trust.with_subject(leaf.issuer))]
        for root in roots:
            if root.subject == leaf.issuer and verify_link(leaf.certificate, root.certificate) is True:
                return root
        return None


def _from(about: Candidate, finding: Finding, unknown: Failure | None) -> Check:
    """unknown: what an answer that is none means; None: nothing."""
    if finding.standing is Standing.GOOD:
        return revocation_check(about, Outcome.PASSED, finding.evidence)
    if finding.standing is Standing.REVOKED:
        return revocation_check(about, Outcome.FAILED, finding.evidence, Failure.REVOKED)
    return revocation_check(about, Outcome.FAILED if unknown else Outcome.NOT_CHECKED, finding.evidence, unknown)
