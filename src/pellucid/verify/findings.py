"""The explanation of a verdict: every check of the four groups along the best path there is.

It is written when a verification failed or somebody reads the report, and never changes what was decided.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from pellucid.value import internal_value
from pellucid.verify.checks import (
    authority_checks,
    constraints_check,
    dates_check,
    extension,
    extensions_check,
    issuer_key_check,
    key_check,
    leaf_checks,
    name_check,
    purpose_check,
    signature_algorithm_check,
    version_check,
)
from pellucid.verify.names import ReferenceName, listing, presented_names, shown
from pellucid.verify.paths import Candidate, Path, Search, display_name, find_paths, verify_link
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome
from pellucid.verify.request import Purpose
from pellucid.verify.scts import readable_scts
from pellucid.verify.status import NOT_REACHED
from pellucid.verify.strictness import DEFAULT_STRICTNESS, Strictness
from pellucid.verify.trust import TrustStore

# What upstream wraps its reason in: nothing that the other checks do not say.
_NO_PATH: Final = "all candidates exhausted with no interior errors"
"""pyca/cryptography's words where no certificate was wrong, and none led further"""
_NOISE: Final = re.compile(r"^validation failed: |candidates exhausted: | \(encountered processing <.*>\)$", re.DOTALL)


@internal_value
class Case:
    """A request, parsed: what the verdict and the explanation are about. when: UTC, whole seconds."""

    leaf: Candidate
    presented: tuple[Candidate, ...]
    trust: TrustStore
    purpose: Purpose
    reference: ReferenceName | None
    when: datetime.datetime
    scts: tuple[bytes, ...]
    strictness: Strictness = DEFAULT_STRICTNESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All checks along one path."""

    path: Path
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(check.failure for check in self.checks if check.failure is not None)


def find(case: Case) -> list[Findings]:
    """Return the findings for a refused *case* along each path there is, fewest failures first; never empty."""
    search = find_paths(case.leaf, case.presented, case.trust)
    findings = [_along(case, path, _trust_checks(case, search, path), NOT_REACHED) for path in search.paths]
    return sorted(findings, key=lambda found: len(found.failures))


def moments_of_validity(case: Case) -> list[datetime.datetime]:
    """Return, for each path to a root, the moment nearest to now at which all of it was valid, if there is one."""
    paths = [path for path in find_paths(case.leaf, case.presented, case.trust).paths if path.anchored]
    return [moment for path in paths if (moment := common_moment(path, case.when)) is not None]


def common_moment(path: Path, when: datetime.datetime) -> datetime.datetime | None:
    """Return the moment nearest to *when* at which all certificates of *path* were valid; None if there is none."""
    certificates = [one.certificate for one in path.certificates]
    start = max(one.not_valid_before_utc for one in certificates)
    end = min(one.not_valid_after_utc for one in certificates)
    return min(max(when, start), end) if start <= end else None


def beyond_limits(case: Case, excused: Callable[[Findings], bool]) -> Findings | None:
    """Return the findings along a path to a root that is not for the leaf's names; None if there is no such path.

    case: with every root that is trusted for anything.   excused: whether what failed on a path would not refuse it.
    """
    for found in find(case):
        passed = tuple(check for check in found.checks if check.outcome is not Outcome.FAILED)
        findings = Findings(path=found.path, checks=passed) if excused(found) else found
        root = findings.path.certificates[-1]
        limits = case.trust.limits_of(root.der)
        if findings.path.anchored and limits is not None:
            alternatives = extension(case.leaf, x509.SubjectAlternativeName)
            names = listing(presented_names(tuple(alternatives))) if alternatives is not None else "nobody"
            text = f"{root.label} is trusted for {limits} only (TrustStore.only_for); the certificate is for {names}"
            check = _refusal("limits of the root", Failure.POLICY, text, root)
            return Findings(path=findings.path, checks=(*findings.checks, check))
    return None


def missing_issuer_urls(case: Case) -> tuple[str, ...]:
    """Return where the last certificate of the longest path says that its issuer's is; () if a root was reached.

    As they stand in the certificate: for a fetcher, not for people. At most four.
    """
    (path, *_) = find_paths(case.leaf, case.presented, case.trust).paths
    last = path.certificates[-1]
    return () if path.anchored or last.self_issued else _ca_issuers(last)


def explain_accepted(
    case: Case, path: tuple[x509.Certificate, ...], text: str, revocation: tuple[Check, ...]
) -> tuple[Check, ...]:
    """Return the checks of an accepted *case* along the verified *path*; *text* says who accepted it."""
    whole = Path(certificates=candidates_of(case, path), anchored=True)
    checks = _along(case, whole, (_root_check(case, whole),), revocation, accepted=True).checks
    return (*checks, verdict_check(text, accepted=True))


def candidates_of(case: Case, path: tuple[x509.Certificate, ...]) -> tuple[Candidate, ...]:
    """Return the certificates of a verified *path* as candidates: who sent them, or that they are roots of ours."""
    by_der = {candidate.der: candidate for candidate in (case.leaf, *case.presented)}
    candidates: list[Candidate] = []
    for certificate in path:
        fresh = Candidate(certificate, None)
        candidates.append(fresh if fresh.der in case.trust else by_der.get(fresh.der, fresh))
    if candidates[0].der == case.leaf.der:
        candidates[0] = case.leaf
    return tuple(candidates)


def verdict_check(
    text: str, *, accepted: bool, failure: Failure | None = None, group: CheckGroup = CheckGroup.TRUST
) -> Check:
    """Return pyca/cryptography's verdict as a check.

    failure: only when no other check explains a refusal.   group: that of the check that does.
    """
    return Check(
        group=group,
        name="verdict",
        outcome=Outcome.PASSED if accepted else Outcome.FAILED,
        evidence=shown_verdict(text) if accepted else f"the path is refused: {shown_verdict(text)}",
        failure=failure,
    )


def shown_verdict(text: str) -> str:
    """Return pyca/cryptography's *text*, which quotes the peer's names, in one line without escape sequences."""
    text = _NOISE.sub("", text).replace(_NO_PATH, "no path leads to a trusted root")
    cut = text if len(text) <= 200 else text[:199] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def issuer_urls(leaf: Candidate) -> tuple[str, ...]:
    """Return where *leaf* says its issuer's certificate is (RFC 5280 §4.2.2.1); escaped, at most four."""
    return tuple(map(shown, _ca_issuers(leaf)))


def _ca_issuers(candidate: Candidate) -> tuple[str, ...]:
    access = extension(candidate, x509.AuthorityInformationAccess)
    if access is None:
        return ()
    return tuple(
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    )[:4]


def _along(
    case: Case, path: Path, trust_checks: tuple[Check, ...], revocation: tuple[Check, ...], *, accepted: bool = False
) -> Findings:
    leaf = path.certificates[0]
    strictness = case.strictness
    checks = list(leaf_checks(leaf, case.purpose, trusted=leaf.der in case.trust, strictness=strictness))
    checks.append(dates_check(leaf, case.when, strictness))
    unread = [issuer for issuer in path.certificates[1:] if accepted and issuer.extensions is None]
    for position, issuer in enumerate(path.certificates[1:], 1):
        top = position == len(path.certificates) - 1
        checks += [
            version_check(issuer),
            extensions_check(issuer, accepted=accepted),
            dates_check(issuer, case.when, strictness),
            key_check(issuer),
            signature_algorithm_check(issuer, anchor=top and (path.anchored or issuer.self_issued)),
        ]
        if issuer not in unread:
            checks.append(purpose_check(issuer, case.purpose, strictness, is_leaf=False))
        if issuer.place:
            checks.append(_supplied_check(issuer))
    checks += revocation
    checks += _transparency_checks(case)
    checks.append(_name_check(case, leaf))
    below = 0
    for issuer in path.certificates[1:]:
        if issuer not in unread:
            checks += authority_checks(issuer, below)
        checks += [
            check
            for check in (issuer_key_check(issuer, accepted=accepted), constraints_check(issuer))
            if check is not None
        ]
        below += not issuer.self_issued
    return Findings(path=path, checks=(*checks, *trust_checks))


def _name_check(case: Case, leaf: Candidate) -> Check:
    if case.purpose is Purpose.CLIENT_AUTH or not case.strictness.dangerous_skip_name_check:
        return name_check(leaf, case.reference)
    alternatives = extension(leaf, x509.SubjectAlternativeName)
    names = listing(presented_names(tuple(alternatives))) if alternatives is not None else "nobody"
    return Check(
        group=CheckGroup.NAME,
        name="subject alternative name",
        outcome=Outcome.NOT_CHECKED,
        evidence=f"given up (dangerous_skip_name_check); the certificate is for {names}",
        certificate=0,
    )


def _supplied_check(issuer: Candidate) -> Check:
    return Check(
        group=CheckGroup.TRUST,
        name="intermediate",
        outcome=Outcome.PASSED,
        evidence=f"{issuer.label} was not sent by the peer",
        place=issuer.place,
    )


def _transparency_checks(case: Case) -> tuple[Check, ...]:
    """Say how many SCTs there are, if any (RFC 6962 §3.3): without a list of logs there is no more to say."""
    embedded = extension(case.leaf, x509.PrecertificateSignedCertificateTimestamps)
    inside = len(embedded) if embedded is not None else 0
    if not case.scts and not inside:
        return ()
    unread = len(case.scts) - len(readable_scts(case.scts))
    skipped = f" ({unread} of them cannot be read)" if unread else ""
    text = f"SCTs: {len(case.scts)} came with the handshake{skipped}, {inside} are in the leaf; no list of logs is kept"
    return (
        Check(
            group=CheckGroup.VALIDITY,
            name="certificate transparency",
            outcome=Outcome.NOT_CHECKED,
            evidence=text,
            certificate=0,
        ),
    )


def _trust_checks(case: Case, search: Search, path: Path) -> tuple[Check, ...]:
    if path.anchored:
        return (_root_check(case, path),)
    bad = [(child, issuer) for child, issuer in search.bad_links if child.der == path.certificates[-1].der]
    if not bad:
        return (_unanchored_check(case, path),)
    child, issuer = bad[0]
    if verify_link(child.certificate, issuer.certificate) is False:
        text = f"the signature of {child.label} was not made with the key of {issuer.label}"
        return (_refusal("signature", Failure.BAD_SIGNATURE, text, child),)
    text = f"the signature of {child.label} cannot be checked with the key of {issuer.label}"
    return (key_check(issuer), _refusal("signature", Failure.UNSUPPORTED, text, child))


def _root_check(case: Case, path: Path) -> Check:
    root = path.certificates[-1]
    links = len(path.certificates) - 1
    signed = f"{links} signature{' leads' if links == 1 else 's lead'} to" if links else "the leaf is itself"
    known = f"a trusted root (of {len(case.trust)}, {case.trust.origin})"
    named = display_name(root.certificate.subject) if root.subject else "a certificate whose subject cannot be read"
    return Check(
        group=CheckGroup.TRUST,
        name="trusted root",
        outcome=Outcome.PASSED,
        evidence=f"{signed} {named}, {known}",
        certificate=root.index,
    )


def _unanchored_check(case: Case, path: Path) -> Check:
    """Tell apart why no root was reached: self-signed, a root that is not trusted, or an issuer nobody has."""
    last = path.certificates[-1]
    roots = f"the trusted roots ({len(case.trust)}, {case.trust.origin})"
    if last.self_issued:
        if last.index == 0:
            return _refusal("trusted root", Failure.SELF_SIGNED, f"{last.label} is self-signed and not trusted", last)
        return _refusal(
            "trusted root",
            Failure.UNKNOWN_CA,
            f"{last.label}, at the top of what was sent, is a root that is not among {roots}",
            last,
        )
    issuer = display_name(last.certificate.issuer) if last.issuer else "an issuer whose name cannot be read"
    if last.index == 0 and _points_upwards(last, case.trust):
        return _refusal(
            "trusted root",
            Failure.MISSING_INTERMEDIATE,
            f"the intermediate {issuer}, which issued {last.label}, was not sent and is not among {roots}",
            last,
        )
    return _refusal(
        "trusted root",
        Failure.UNKNOWN_CA,
        f"{issuer}, which issued {last.label}, is not among {roots} and was not sent",
        last,
    )


def _points_upwards(leaf: Candidate, trust: TrustStore) -> bool:
    """Whether *leaf* itself says that its issuer is an intermediate: where to fetch it, or under which trusted root."""
    if issuer_urls(leaf):
        return True
    identifier = extension(leaf, x509.AuthorityKeyIdentifier)
    if identifier is None or identifier.authority_cert_issuer is None:
        return False
    return any(
        isinstance(name, x509.DirectoryName) and trust.with_subject(name.value.public_bytes())
        for name in identifier.authority_cert_issuer
    )


def _refusal(name: str, failure: Failure, evidence: str, about: Candidate) -> Check:
    return Check(
        group=CheckGroup.TRUST,
        name=name,
        outcome=Outcome.FAILED,
        evidence=evidence,
        certificate=about.index,
        failure=failure,
    )
