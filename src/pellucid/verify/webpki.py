"""The verifier of X.509 certificates, servers' and clients': limits, our decisive checks, pyca/cryptography's verdict.

A certificate is accepted when both accept it: our checks of the leaf (checks.py) and the verdict here, by the policy
in policy.py. A leaf in the trust store needs no issuer; its name, dates, key and purpose are checked like any other's.
Ed25519 and Ed448 issuers: see `_edwards_verdict`.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pellucid.crypto.certificates import PARSE_ERRORS, X509Certificate
from pellucid.errors import UsageError
from pellucid.limits import (
    MAX_CERTIFICATE_LIST,
    MAX_CERTIFICATES,
    MAX_PATH_DEPTH,
    MAX_RSA_BITS,
    VERDICT_CACHE_SECONDS,
)
from pellucid.registry import CertificateType
from pellucid.value import internal_value
from pellucid.verify.checks import extension, moment_of, name_check, special_issuer_key
from pellucid.verify.findings import (
    Case,
    Findings,
    beyond_limits,
    candidates_of,
    common_moment,
    explain_accepted,
    find,
    issuer_urls,
    missing_issuer_urls,
    moments_of_validity,
    shown_verdict,
    verdict_check,
)
from pellucid.verify.leaf import leaf_facts
from pellucid.verify.names import ReferenceName, matching_name, reference_name, wildcard_stand_in
from pellucid.verify.paths import Candidate
from pellucid.verify.policy import make_builder
from pellucid.verify.report import (
    ALERTS,
    DECISIVE_ORDER,
    Check,
    CheckGroup,
    Failure,
    LazyChecks,
    Outcome,
    VerificationReport,
)
from pellucid.verify.request import PeerVerifier, Purpose, VerificationRequest
from pellucid.verify.revocation import DEFAULT_REVOCATION, RevocationPolicy, believed_until, revocation_checks
from pellucid.verify.status import NOT_ASKED, NOT_REACHED
from pellucid.verify.strictness import DEFAULT_STRICTNESS, Strictness
from pellucid.verify.supplied import load_certificate, supplied_intermediates, useful_intermediates
from pellucid.verify.tighter import tighter_checks
from pellucid.verify.trust import TrustStore
from pellucid.verify.verdicts import Verdicts

_USUAL_INTERMEDIATES: Final = 3
_PYCA: Final = "pyca/cryptography accepts the path"
_PYCA_LEAF: Final = "pyca/cryptography accepts the leaf; its Ed25519 or Ed448 issuers were checked here"
_LARGE_KEY_BYTES: Final = MAX_RSA_BITS // 8  # a certificate shorter than that holds no larger modulus
# All that a CA certificate on a path with Edwards keys may have: nothing that needs path processing of ours.
_PLAIN_CA_EXTENSIONS: Final = frozenset(
    kind.oid
    for kind in (
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectKeyIdentifier,
        x509.AuthorityKeyIdentifier,
        x509.SubjectAlternativeName,
        x509.AuthorityInformationAccess,
        x509.CRLDistributionPoints,
    )
)
_MAY_BE_CRITICAL: Final = frozenset(
    kind.oid for kind in (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
)


@internal_value
class _Verdict:
    """pyca/cryptography's answer: the path, or why there is none."""

    path: tuple[x509.Certificate, ...] = ()
    text: str


class WebPKIVerifier:
    """Verifies peers against *trust* (RFC 5280 §6, RFC 9525, RFC 9846 §4.5.1.3); made once and shared.

    max_certificates, max_bytes: what the peer may send, the leaf counted; more is refused unread.
    max_path_depth:              intermediates between leaf and root, 0..255.
    revocation:                  what is asked about revocation, once everything else is right.
    strictness:                  which checks are made beside the usual ones, and which are given up.
    intermediates:               certificates, DER or PEM, that peers may have forgotten to send. They are not trusted:
                                 a path may lead over them, as over what the peer sends.
    verdict_cache_seconds:       how long a chain that was accepted is taken again, byte for byte the same and for the
                                 same name, without being verified anew; never past what it was accepted by (dates,
                                 OCSP response, CRLs). 0: every chain is verified every time.
    A raw public key is never accepted: nobody vouches for it.
    """

    certificate_types: Final = (CertificateType.X509,)

    def __init__(
        self,
        trust: TrustStore,
        *,
        max_certificates: int = MAX_CERTIFICATES,
        max_bytes: int = MAX_CERTIFICATE_LIST,
        max_path_depth: int = MAX_PATH_DEPTH,
        revocation: RevocationPolicy = DEFAULT_REVOCATION,
        strictness: Strictness = DEFAULT_STRICTNESS,
        intermediates: bytes | Iterable[bytes] = (),
        verdict_cache_seconds: float = VERDICT_CACHE_SECONDS,
    ) -> None:
        if not isinstance(trust, TrustStore):
            raise UsageError(f"a verifier needs a TrustStore, not {type(trust).__name__}")
        if not isinstance(revocation, RevocationPolicy):
            raise UsageError(f"revocation is a RevocationPolicy, not {type(revocation).__name__}")
        if not isinstance(strictness, Strictness):
            raise UsageError(f"strictness is a Strictness, not {type(strictness).__name__}")
        if not 0 <= max_path_depth <= 255:
            raise UsageError(f"max_path_depth is {max_path_depth}; 0 to 255 are possible")
        self._trust = trust
        self._max_certificates = max_certificates
        self._max_bytes = max_bytes
        self._max_path_depth = max_path_depth
        self._revocation = revocation
        self._strictness = strictness
        self._builders: dict[Purpose, PolicyBuilder] = {}
        # Of several paths upstream's rules may take another, and a CRL may be of one of them alone.
        self._usual = strictness == DEFAULT_STRICTNESS and not revocation.crls
        """whether chains are asked about by upstream's own rules first"""
        self._usual_builder: PolicyBuilder | None = None
        self._supplied = supplied_intermediates(intermediates, "given here")
        # Where dates are given up there is none to end with.
        self._verdicts = Verdicts(0.0 if strictness.dangerous_skip_dates else verdict_cache_seconds)

    def with_intermediates(self, certificates: bytes | Iterable[bytes], place: str) -> WebPKIVerifier:
        """Return the verifier that has *certificates* too, to build paths over. place: where they are from, for people.

        Raises UsageError for what is no certificate.
        """
        other = copy.copy(self)
        other._supplied = self._supplied + supplied_intermediates(certificates, place)
        other._verdicts = Verdicts(self._verdicts.seconds)
        return other

    def __deepcopy__(self, memo: object) -> WebPKIVerifier:
        return self  # it is to be shared, and upstream's builders cannot be copied

    @property
    def trust(self) -> TrustStore:
        """The roots."""
        return self._trust

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """The roots' subject names as DER, for certificate_authorities (RFC 9846 §4.3.4)."""
        return self._trust.authorities

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the same for verifiers that answer the same (attacks E7, E8)."""
        limits = f"webpki {self._max_certificates} {self._max_bytes} {self._max_path_depth} "
        demands = self._revocation.session_identity + self._strictness.session_identity
        supplied = hashlib.sha256(b"".join(sorted(hashlib.sha256(one.der).digest() for one in self._supplied)))
        return limits.encode() + self._trust.digest + supplied.digest() + demands

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report on *request*: the verdict now, the explanation of an accepted one when it is read.

        What was accepted before may be remembered, which its report says: see `verdict_cache_seconds`.
        Raises UsageError if a server's name is missing or impossible, or a client has one; never for what a peer sent.
        """
        remembered = self._verdicts.recall(request)
        if remembered is not None:
            return remembered
        reference, when = _reference(request, self._strictness), moment_of(request.now)
        report = self._judge(request, reference, when)
        if report.accepted:
            return report
        report = replace(report, presented=(request.leaf.der, *request.intermediates))
        if request.certificate_type != CertificateType.X509:
            return replace(report, certificate_type=request.certificate_type)
        return replace(report, serialized_scts=request.scts) if request.scts else report

    def _judge(
        self, request: VerificationRequest, reference: ReferenceName | None, when: datetime.datetime
    ) -> VerificationReport:
        size = self._size_check(request)
        if size is not None:
            return _refused((size, *NOT_REACHED))
        if not isinstance(request.leaf, X509Certificate):
            text = "a raw public key was shown, and no CA vouches for one"
            return _refused((_bad(CheckGroup.TRUST, "certificate type", Failure.UNSUPPORTED, text, 0), *NOT_REACHED))
        case, check = self._case(request, request.leaf, reference, when)
        if check is not None:
            return _refused((check, *NOT_REACHED))
        facts = leaf_facts(request.leaf)
        verdict = self._usual_verdict(case) if facts.usual else self._verdict(case)
        if not verdict.path or not facts.fits or not _passes_ours(case):
            verdict, refusal = self._refuse(case, verdict)
            if refusal is not None:
                return refusal
        return self._conclude(request, case, verdict, must_staple=facts.must_staple)

    def _conclude(
        self, request: VerificationRequest, case: Case, verdict: _Verdict, *, must_staple: bool
    ) -> VerificationReport:
        """Ask about revocation, which only an accepted path can answer: its issuers sign the answers."""
        policy, staple, strictness = self._revocation, request.ocsp_response, self._strictness
        promised = must_staple and request.status_requested
        asks = staple is not None or bool(policy.crls) or policy.require_staple or promised
        if not asks and not strictness.is_tighter:
            report = _accepted(case, verdict, NOT_ASKED)
            self._verdicts.keep(request, report, verdict.path, math.inf)
            return report
        path = candidates_of(case, verdict.path)
        revocation = revocation_checks(policy, case, path, staple, promised=promised) if asks else NOT_ASKED
        checks = (*revocation, *tighter_checks(strictness, path, case.scts))
        if any(check.outcome is Outcome.FAILED for check in checks):
            return _refused(explain_accepted(case, verdict.path, verdict.text, checks))
        report = _accepted(case, verdict, checks)
        self._verdicts.keep(request, report, verdict.path, believed_until(policy, case, path, staple))
        return report

    def missing_issuer_urls(self, request: VerificationRequest) -> tuple[str, ...]:
        """Return where the issuer's certificate can be fetched that is missing on the longest path; () if none is.

        As they stand in the peer's certificate, at most four: nothing of them was checked. Raises as `verify` does.
        """
        if not isinstance(request.leaf, X509Certificate) or self._size_check(request) is not None:
            return ()
        reference, when = _reference(request, self._strictness), moment_of(request.now)
        case, check = self._case(request, request.leaf, reference, when)
        return () if check is not None else missing_issuer_urls(case)

    def _case(
        self,
        request: VerificationRequest,
        leaf: X509Certificate,
        reference: ReferenceName | None,
        when: datetime.datetime,
    ) -> tuple[Case, Check | None]:
        """Parse what was sent after the leaf. One that is no certificate refuses the chain (RFC 9846 §4.5.1)."""
        subject = Candidate(leaf.x509, 0, leaf.der)
        presented, check = _parse(request.intermediates)
        case = Case(
            leaf=subject,
            presented=presented + useful_intermediates(self._supplied, (subject, *presented)),
            trust=_within_limits(self._trust, subject),
            purpose=request.purpose,
            reference=reference,
            when=when,
            scts=request.scts,
            strictness=self._strictness,
        )
        return case, check

    def _size_check(self, request: VerificationRequest) -> Check | None:
        count = 1 + len(request.intermediates)
        size = len(request.leaf.der) + sum(map(len, request.intermediates))
        if count <= self._max_certificates and size <= self._max_bytes:
            return None
        return _bad(
            CheckGroup.VALIDITY,
            "size",
            Failure.TOO_LARGE,
            f"{size} bytes of certificates were sent, {count} in number; "
            f"{self._max_bytes} bytes and {self._max_certificates} certificates are allowed",
        )

    def _usual_verdict(self, case: Case) -> _Verdict:
        """Return what `_verdict` does; sooner for a server's chain that is as public CAs make them.

        Upstream's own rules, which call nothing of Python, take the less: what they accept of a leaf whose usage was
        looked at, ours accept, though of several paths perhaps another. That is 22 calls fewer, 7 % of a verdict. A
        chain that only ours take ends it: one with a CA of one's own would be asked about twice each time. Nor are long
        chains, which may be made to take long.
        """
        store = case.trust.store
        if (
            not self._usual
            or store is None
            or case.reference is None
            or case.trust is not self._trust
            or len(case.presented) > _USUAL_INTERMEDIATES
        ):
            return self._verdict(case)
        builder = self._usual_builder
        if builder is None:
            builder = self._usual_builder = PolicyBuilder().store(store).max_chain_depth(self._max_path_depth)
        verdict = _ask(builder, case, [one.certificate for one in case.presented], case.when)
        if verdict.path and not _has_large_key(case, verdict):
            return verdict
        verdict = self._verdict(case)
        if verdict.path:
            self._usual = False
        return verdict

    def _verdict(self, case: Case) -> _Verdict:
        """Ask pyca/cryptography, for the path and all that is on it."""
        store = case.trust.store
        if store is None:
            return _Verdict(text="no root is trusted")
        builder = self._builder(case.purpose, case.trust, store)
        others = [one.certificate for one in case.presented]
        verdict = _ask(builder, case, others, case.when)
        if not verdict.path and self._strictness.dangerous_skip_dates:
            for when in moments_of_validity(case):
                verdict = verdict if verdict.path else _ask(builder, case, others, when)
        large = _has_large_key(case, verdict)
        return _Verdict(text=f"an intermediate has an RSA key of over {MAX_RSA_BITS} bits") if large else verdict

    def _refuse(self, case: Case, verdict: _Verdict) -> tuple[_Verdict, VerificationReport | None]:
        """Explain a refusal; the one thing that can turn it is a chain that only Edwards issuers keep from passing.

        Returns the verdict that stands, and the refusal unless it was turned.
        """
        candidates = find(case)
        if not verdict.path:
            for found in filter(_only_edwards, candidates):
                turned = self._edwards_verdict(case, found)
                if turned.path:
                    return turned, None
        findings = candidates[0]
        if case.trust is not self._trust and not verdict.path:
            findings = beyond_limits(replace(case, trust=self._trust), _only_edwards) or findings
        failure = None
        if not findings.failures:
            unsupported = "Forbidden" in verdict.text or "nsupported" in verdict.text
            failure = Failure.UNSUPPORTED if unsupported else Failure.CONSTRAINT
        # A verdict for a reason of ours stands with that reason: a wrong name does not make the CA untrusted.
        group = CheckGroup.TRUST if failure else _decisive(findings.checks).group
        refusal = verdict_check(verdict.text, accepted=bool(verdict.path), failure=failure, group=group)
        checks = (*findings.checks, refusal)
        return verdict, _refused(checks, issuer_urls(case.leaf))

    def _edwards_verdict(self, case: Case, findings: Findings) -> _Verdict:
        """Decide on a path that has Ed25519 or Ed448 issuers, which pyca/cryptography refuses in issuers.

        Private CAs have such keys and OpenSSL accepts them. Everything that RFC 5280 §6.1 asks of the path was already
        checked for the findings: signatures, dates, CA flags, key usage, path lengths, purposes, keys; `_only_edwards`
        admits no name or policy constraints, no unknown critical extension and no self-issued intermediates, so nothing
        else is left to process.
        The leaf (name, dates, purpose, extensions) is still pyca/cryptography's to judge, with itself as the anchor.
        """
        path = tuple(one.certificate for one in findings.path.certificates)
        if len(path) - 2 > self._max_path_depth:
            return _Verdict(text=f"the path has more than {self._max_path_depth} intermediates")
        builder = make_builder(case.purpose, Store([path[0]]), frozenset(), self._max_path_depth, self._strictness)
        when = common_moment(findings.path, case.when) if self._strictness.dangerous_skip_dates else case.when
        if when is None:
            return _Verdict(text="there is no moment at which all certificates of the path were valid")
        verdict = _ask(builder, case, [], when)
        return replace(verdict, path=path, text=_PYCA_LEAF) if verdict.path else verdict

    def _builder(self, purpose: Purpose, trust: TrustStore, store: Store) -> PolicyBuilder:
        known = trust is self._trust
        builder = self._builders.get(purpose) if known else None
        if builder is None:
            pinned = frozenset(trust.certificates)
            builder = make_builder(purpose, store, pinned, self._max_path_depth, self._strictness)
            if known:
                self._builders[purpose] = builder
        return builder


class _DangerousVerifier:
    """Accepts any peer; the report still says what was wrong."""

    def __init__(self, trust: TrustStore) -> None:
        self._inner = WebPKIVerifier(trust, verdict_cache_seconds=0)

    @property
    def authorities(self) -> tuple[bytes, ...]:
        return ()

    def verify(self, request: VerificationRequest) -> VerificationReport:
        report = self._inner.verify(request)
        if report.accepted:
            return report
        return replace(
            report,
            accepted=True,
            dangerous=True,
            alert=None,
            path=(request.leaf.der,),
            summary=f"NOT VERIFIED (dangerous_accept_any): {report.summary}",
        )


def dangerous_accept_any(trust: TrustStore | None = None) -> PeerVerifier:
    """Return a verifier that accepts every certificate, so that anyone can pose as the peer. For tests alone.

    trust: what the checks in the report are made against; nothing is demanded of the peer either way. Accepted reports
    of peers that would have been refused have `dangerous` set and keep their `failure`.
    """
    return _DangerousVerifier(TrustStore.empty() if trust is None else trust)


def _reference(request: VerificationRequest, strictness: Strictness) -> ReferenceName | None:
    if request.purpose is Purpose.CLIENT_AUTH:
        if request.server_name is not None:
            raise UsageError("a client's certificate is not verified against a server name")
        return None
    if strictness.dangerous_skip_name_check:
        return None
    if request.server_name is None:
        raise UsageError("a server's certificate cannot be verified without the server's name")
    return reference_name(request.server_name)


def _parse(intermediates: tuple[bytes, ...]) -> tuple[tuple[Candidate, ...], Check | None]:
    presented: list[Candidate] = []
    for index, der in enumerate(intermediates, 1):
        try:
            presented.append(Candidate(load_certificate(der), index, der))
        except PARSE_ERRORS as error:
            text = f"certificate {index} cannot be parsed: {shown_verdict(str(error))}"
            return tuple(presented), _bad(CheckGroup.VALIDITY, "parsing", Failure.MALFORMED, text, index)
    return tuple(presented), None


def _within_limits(trust: TrustStore, leaf: Candidate) -> TrustStore:
    """Return the roots that may vouch for the names of *leaf*: a root of ours may be for some names alone."""
    if not trust.limits:
        return trust
    return trust.within_limits(extension(leaf, x509.SubjectAlternativeName) or ())


def _ask(
    builder: PolicyBuilder, case: Case, intermediates: list[x509.Certificate], when: datetime.datetime
) -> _Verdict:
    dated = builder.time(when)
    leaf = case.leaf.certificate
    try:
        if case.reference is None:
            return _Verdict(path=tuple(dated.build_client_verifier().verify(leaf, intermediates).chain), text=_PYCA)
        subject = _subject(case.leaf, case.reference)
        if subject is None:
            return _Verdict(text=f"no name in the certificate can stand for {case.reference.text}")
        return _Verdict(path=tuple(dated.build_server_verifier(subject).verify(leaf, intermediates)), text=_PYCA)
    except (VerificationError, *PARSE_ERRORS, UnsupportedAlgorithm) as error:
        return _Verdict(text=str(error))


def _passes_ours(case: Case) -> bool:
    """Whether the leaf, whose own facts are right, passes those of our checks that the policy does not hold already.

    The policy's callbacks are checks of ours too (CA flag, key usage, purpose), and upstream sees to the version and to
    the signature algorithms. Reading the extensions in Python costs more than the verdict, so names are matched here
    only where upstream's rule is wider than ours, and everything else when the report is read.
    """
    reference = case.reference
    if reference is None:
        return True
    wide = reference.wide_wildcard
    if reference.subject is not None and (wide is None or wide not in case.leaf.der.lower()):
        return True
    return name_check(case.leaf, reference).outcome is Outcome.PASSED


def _subject(leaf: Candidate, reference: ReferenceName) -> x509.DNSName | x509.IPAddress | None:
    if reference.subject is not None:
        return reference.subject
    matched = matching_name(reference, extension(leaf, x509.SubjectAlternativeName) or ())
    stand_in = wildcard_stand_in(reference, matched) if matched else None
    return None if stand_in is None else x509.DNSName(stand_in)


def _has_large_key(case: Case, verdict: _Verdict) -> bool:
    return any(len(one.der) > _LARGE_KEY_BYTES and _too_large_key(one, verdict.path) for one in case.presented)


def _too_large_key(candidate: Candidate, path: tuple[x509.Certificate, ...]) -> bool:
    if candidate.certificate not in path:
        return False
    key = candidate.certificate.public_key()
    return isinstance(key, rsa.RSAPublicKey) and key.key_size > MAX_RSA_BITS


def _only_edwards(findings: Findings) -> bool:
    """Whether a path to a root fails for nothing but Edwards keys of issuers, and has only plain CA certificates."""
    issuers = findings.path.certificates[1:]
    kinds = {special_issuer_key(issuer) for issuer in issuers} - {None}
    return (
        findings.path.anchored
        and bool(kinds)
        and kinds <= {"Ed25519", "Ed448"}
        and all(check.name == "issuer key" for check in findings.checks if check.outcome is Outcome.FAILED)
        and all(_is_plain_ca(issuer) for issuer in issuers)
        and not any(issuer.self_issued for issuer in issuers[:-1])
    )


def _is_plain_ca(issuer: Candidate) -> bool:
    return issuer.extensions is not None and all(
        found.oid in _PLAIN_CA_EXTENSIONS and (found.oid in _MAY_BE_CRITICAL or not found.critical)
        for found in issuer.extensions
    )


def _encodings(case: Case, path: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    """Return the DER of the certificates on *path*: upstream hands back the objects it was given."""
    known = {id(one.certificate): one.der for one in (case.leaf, *case.presented)}
    encoding_of = case.trust.encoding_of
    return tuple([known.get(id(one)) or encoding_of(one) or one.public_bytes(Encoding.DER) for one in path])


def _accepted(case: Case, verdict: _Verdict, revocation: tuple[Check, ...]) -> VerificationReport:
    return VerificationReport(
        accepted=True,
        summary=f"the certificate is valid for {_whom(case)}",
        path=_encodings(case, verdict.path),
        serialized_scts=case.scts,
        explanation=LazyChecks(lambda: explain_accepted(case, verdict.path, verdict.text, revocation)),
    )


def _whom(case: Case) -> str:
    if case.reference is not None:
        return case.reference.text
    unnamed = case.purpose is Purpose.SERVER_AUTH
    return f"{case.purpose.value}{'; NAME NOT CHECKED (dangerous_skip_name_check)' if unnamed else ''}"


def _refused(checks: tuple[Check, ...], urls: tuple[str, ...] = ()) -> VerificationReport:
    decisive = _decisive(checks)
    failure = decisive.failure or Failure.UNSUPPORTED
    return VerificationReport(
        accepted=False,
        failure=failure,
        summary=decisive.evidence,
        alert=ALERTS[failure],
        missing_intermediate_urls=urls if failure in {Failure.MISSING_INTERMEDIATE, Failure.UNKNOWN_CA} else (),
        explanation=LazyChecks(lambda: checks),
    )


def _decisive(checks: tuple[Check, ...]) -> Check:
    return min((check for check in checks if check.failure is not None), key=_rank)


def _rank(check: Check) -> int:
    return DECISIVE_ORDER.index(check.failure) if check.failure is not None else len(DECISIVE_ORDER)


def _bad(group: CheckGroup, name: str, failure: Failure, evidence: str, index: int | None = None) -> Check:
    return Check(group=group, name=name, outcome=Outcome.FAILED, evidence=evidence, failure=failure, certificate=index)
