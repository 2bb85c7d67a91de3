"""Our own checks of single certificates and names: each returns a Check with its evidence. No path, no verdict here.

The leaf's are decisive, because pyca/cryptography applies its key and signature policy to issuers only.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.errors import UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS
from pellucid.verify.names import ReferenceName, listing, matching_name, presented_names
from pellucid.verify.paths import EMPTY_NAME, Candidate
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome
from pellucid.verify.request import Purpose
from pellucid.verify.strictness import DEFAULT_STRICTNESS, Strictness

_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_BROKEN_HASHES: Final = ("md5", "sha1")
PURPOSE_OIDS: Final = {
    Purpose.SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH,
    Purpose.CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH,
}
_OTHER_KEYS: Final = (
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)
_EDWARDS: Final = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_OID_RSASSA_PSS: Final = "1.2.840.113549.1.1.10"

_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class _About:
    """Makes the checks of one certificate."""

    candidate: Candidate

    def ok(self, name: str, evidence: str, group: CheckGroup = CheckGroup.VALIDITY) -> Check:
        return Check(
            group=group,
            name=name,
            outcome=Outcome.PASSED,
            evidence=evidence,
            certificate=self.candidate.index,
            place=self.candidate.place,
        )

    def bad(self, name: str, failure: Failure, evidence: str, group: CheckGroup = CheckGroup.VALIDITY) -> Check:
        return Check(
            group=group,
            name=name,
            outcome=Outcome.FAILED,
            evidence=evidence,
            certificate=self.candidate.index,
            failure=failure,
            place=self.candidate.place,
        )

    def skip(self, name: str, outcome: Outcome, evidence: str, group: CheckGroup = CheckGroup.VALIDITY) -> Check:
        return Check(
            group=group,
            name=name,
            outcome=outcome,
            evidence=evidence,
            certificate=self.candidate.index,
            place=self.candidate.place,
        )


def extension(candidate: Candidate, kind: type[_E]) -> _E | None:
    """Return the extension of *kind*, or None if the certificate has none."""
    if candidate.extensions is None:
        return None
    try:
        return candidate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def leaf_checks(
    leaf: Candidate, purpose: Purpose, *, trusted: bool, strictness: Strictness = DEFAULT_STRICTNESS
) -> tuple[Check, ...]:
    """Return the decisive checks of the end-entity certificate (RFC 9846 §4.5.1.2, RFC 5280 §4.2.1).

    trusted: the certificate is itself in the trust store, so that nothing depends on its signature.
    """
    version = version_check(leaf)
    if version.outcome is Outcome.FAILED or leaf.extensions is None:
        return (version, extensions_check(leaf))
    return (
        version,
        extensions_check(leaf),
        key_check(leaf),
        signature_algorithm_check(leaf, anchor=trusted),
        _leaf_usage_check(leaf, strictness, may_be_ca=trusted or strictness.allow_ca_leaf),
        purpose_check(leaf, purpose, strictness, is_leaf=True),
        _leaf_flag_check(leaf, strictness, trusted=trusted),
        subject_check(leaf),
    )


def version_check(candidate: Candidate) -> Check:
    """X.509 version 3, which alone has extensions (RFC 9846 §4.5.1.2)."""
    about = _About(candidate)
    version = candidate.certificate.version
    if version is not x509.Version.v3:
        return about.bad(
            "version", Failure.MALFORMED, f"{candidate.label} is X.509 version {version.value + 1}, not version 3"
        )
    return about.ok("version", "X.509 version 3")


def extensions_check(candidate: Candidate, *, accepted: bool = False) -> Check:
    """The extensions can be parsed and none stands twice (RFC 5280 §4.2).

    accepted: of an issuer on a path that was accepted: pyca/cryptography's verdict reads some that its API cannot.
    """
    about = _About(candidate)
    if candidate.extensions is None and accepted:
        text = f"{candidate.label} has extensions that only the verdict could read"
        return about.skip("extensions", Outcome.NOT_CHECKED, text)
    if candidate.extensions is None:
        return about.bad(
            "extensions", Failure.MALFORMED, f"{candidate.label} has extensions that cannot be parsed or stand twice"
        )
    return about.ok("extensions", "extensions parsed")


def key_check(candidate: Candidate) -> Check:
    """RSA of 2048 to 8192 bits with an odd exponent from 3, P-256/384/521, Ed25519, Ed448, or ML-DSA."""
    about, label = _About(candidate), candidate.label
    try:
        key = candidate.certificate.public_key()
    except (*PARSE_ERRORS, UnsupportedAlgorithm) as error:
        return about.bad("key strength", Failure.UNSUPPORTED, f"{label} has a public key that cannot be used: {error}")
    failure, evidence = key_finding(key, label)
    return about.ok("key strength", evidence) if failure is None else about.bad("key strength", failure, evidence)


def key_finding(key: object, label: str) -> tuple[Failure | None, str]:
    """Return what is wrong with a public key, None if nothing, and the evidence. label: what has it."""
    match key:
        case rsa.RSAPublicKey():
            bits, exponent = key.key_size, key.public_numbers().e
            if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                text = f"{label} has an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed"
                return Failure.WEAK_KEY, text
            if exponent < 3 or exponent % 2 == 0:
                return Failure.WEAK_KEY, f"{label} has the RSA exponent {exponent}"
            return None, f"RSA, {bits} bits"
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                text = f"{label} has a key on the curve {key.curve.name}; {', '.join(_CURVES)} are allowed"
                return Failure.UNSUPPORTED, text
            return None, f"EC, {key.curve.name}"
        case _ if isinstance(key, _OTHER_KEYS):
            return None, type(key).__name__.removesuffix("PublicKey")
        case _:
            kind = type(key).__name__.removesuffix("PublicKey")
            return Failure.UNSUPPORTED, f"{label} has a {kind} key, which no scheme uses"


def signature_algorithm_check(candidate: Candidate, *, anchor: bool) -> Check:
    """Not signed with MD5 or SHA-1, unless nothing depends on the signature (RFC 9846 §4.5.1.3)."""
    about = _About(candidate)
    if anchor:
        return about.skip(
            "signature algorithm",
            Outcome.NOT_APPLICABLE,
            "nothing depends on the signature of a path's last certificate",
        )
    try:
        algorithm = candidate.certificate.signature_hash_algorithm
    except (*PARSE_ERRORS, UnsupportedAlgorithm):
        oid = candidate.certificate.signature_algorithm_oid.dotted_string
        return about.bad(
            "signature algorithm", Failure.UNSUPPORTED, f"{candidate.label} is signed with the unknown algorithm {oid}"
        )
    if algorithm is not None and algorithm.name in _BROKEN_HASHES:
        return about.bad(
            "signature algorithm",
            Failure.WEAK_SIGNATURE,
            f"{candidate.label} is signed with {algorithm.name.upper()}, which can be forged",
        )
    return about.ok("signature algorithm", f"signed with {algorithm.name}" if algorithm else "signed without a hash")


def purpose_check(
    candidate: Candidate, purpose: Purpose, strictness: Strictness = DEFAULT_STRICTNESS, *, is_leaf: bool
) -> Check:
    """extendedKeyUsage, if present, includes the purpose; "any" counts for CAs only (RFC 5280 §4.2.1.12)."""
    about = _About(candidate)
    usages = extension(candidate, x509.ExtendedKeyUsage)
    if usages is None:
        return about.ok("purpose", "no extended key usage: good for any purpose")
    any_counts = not is_leaf or strictness.allow_any_purpose_leaf
    if PURPOSE_OIDS[purpose] in usages or (any_counts and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages):
        return about.ok("purpose", f"extended key usage includes {purpose.value}")
    named = ", ".join(_usage_name(usage) for usage in usages) or "nothing"
    if strictness.dangerous_skip_purpose:
        text = f"given up (dangerous_skip_purpose): {candidate.label} is for {named}, not for {purpose.value}"
        return about.skip("purpose", Outcome.NOT_CHECKED, text)
    return about.bad("purpose", Failure.WRONG_PURPOSE, f"{candidate.label} is for {named}, not for {purpose.value}")


def dates_check(candidate: Candidate, when: datetime.datetime, strictness: Strictness = DEFAULT_STRICTNESS) -> Check:
    """notBefore <= now <= notAfter (RFC 5280 §4.1.2.5)."""
    about = _About(candidate)
    start, end = candidate.certificate.not_valid_before_utc, candidate.certificate.not_valid_after_utc
    failure, text = None, ""
    if when < start:
        failure, text = Failure.NOT_YET_VALID, f"is not valid before {moment(start)}; it is {moment(when)}"
    elif when > end:
        failure, text = Failure.EXPIRED, f"expired on {moment(end)}; it is {moment(when)}"
    if failure is not None and strictness.dangerous_skip_dates:
        text = f"given up (dangerous_skip_dates): {candidate.label} {text}"
        return about.skip("dates", Outcome.NOT_CHECKED, text)
    if failure is not None:
        return about.bad("dates", failure, f"{candidate.label} {text}")
    return about.ok("dates", f"{candidate.label} is valid from {moment(start)} to {moment(end)}")


def name_check(leaf: Candidate, reference: ReferenceName | None) -> Check:
    """subjectAltName names the peer that was meant (RFC 9525 §6); a client has no name to match."""
    about = _About(leaf)
    group = CheckGroup.NAME
    if reference is None:
        return about.skip(
            "subject alternative name", Outcome.NOT_APPLICABLE, "a client is not looked up by name", group
        )
    alternatives = extension(leaf, x509.SubjectAlternativeName)
    names = tuple(alternatives) if alternatives is not None else ()
    matched = matching_name(reference, names)
    if matched is not None:
        return about.ok(
            "subject alternative name", f"{listing((matched,))} names the {reference.kind} {reference.text}", group
        )
    text = f"the certificate has no subject alternative name, so it is not for {reference.text}"
    if names:
        text = f"the certificate is for {listing(presented_names(names))}, not for {reference.text}"
    return about.bad("subject alternative name", Failure.WRONG_NAME, text, group)


def authority_checks(issuer: Candidate, below: int) -> tuple[Check, ...]:
    """basicConstraints, keyUsage and pathLenConstraint of a certificate that issued another (RFC 5280 §6.1.4 k-n).

    below: how many intermediates that are not self-issued stand between it and the leaf.
    """
    about, label, group = _About(issuer), issuer.label, CheckGroup.TRUST
    constraints = extension(issuer, x509.BasicConstraints)
    usage = extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        return (about.bad("CA flag", Failure.NOT_A_CA, f"{label} issued another certificate and is not a CA", group),)
    checks = [about.ok("CA flag", f"{label} is a CA", group)]
    if usage is not None and not usage.key_cert_sign:
        checks.append(
            about.bad("CA key usage", Failure.NOT_A_CA, f"{label} issued another without the key usage for it", group)
        )
    limit = constraints.path_length
    if limit is not None and below > limit:
        checks.append(
            about.bad(
                "path length",
                Failure.CONSTRAINT,
                f"{label} allows {limit} intermediates below it and has {below}",
                group,
            )
        )
    return tuple(checks)


def constraints_check(issuer: Candidate) -> Check | None:
    """Say that name constraints are there: pyca/cryptography's verdict is what applies them (RFC 5280 §4.2.1.10)."""
    if extension(issuer, x509.NameConstraints) is None:
        return None
    return _About(issuer).skip(
        "name constraints",
        Outcome.NOT_CHECKED,
        f"{issuer.label} limits the names below it; the verdict applies that",
        CheckGroup.TRUST,
    )


def issuer_key_check(issuer: Candidate, *, accepted: bool) -> Check | None:
    """A finding if the issuer's key is of a kind that pyca/cryptography refuses in issuers, else None."""
    kind = special_issuer_key(issuer)
    if kind is None:
        return None
    if accepted:
        return _About(issuer).ok("issuer key", f"{issuer.label} signs with {kind}, checked here", CheckGroup.TRUST)
    return _About(issuer).bad(
        "issuer key",
        Failure.UNSUPPORTED,
        f"{issuer.label} signs with a key of the kind {kind}, which issuers may not have here",
        CheckGroup.TRUST,
    )


def special_issuer_key(issuer: Candidate) -> str | None:
    """Return "Ed25519", "Ed448" or "RSASSA-PSS" if the key is of such a kind, else None."""
    if issuer.certificate.public_key_algorithm_oid.dotted_string == _OID_RSASSA_PSS:
        return "RSASSA-PSS"
    try:
        key = issuer.certificate.public_key()
    except (*PARSE_ERRORS, UnsupportedAlgorithm):
        return None  # key_check reports it.
    return type(key).__name__.removesuffix("PublicKey") if isinstance(key, _EDWARDS) else None


def _leaf_usage_check(leaf: Candidate, strictness: Strictness, *, may_be_ca: bool) -> Check:
    """keyUsage, if present, has digitalSignature (RFC 9846 §4.5.1.2), and not keyCertSign in a leaf that is no CA."""
    about = _About(leaf)
    usage = extension(leaf, x509.KeyUsage)
    if usage is None:
        return about.ok("key usage", "no key usage: the key may sign")
    if not usage.digital_signature:
        text = f"{leaf.label} has a key usage without digital signature"
        if not strictness.allow_leaf_without_digital_signature:
            return about.bad("key usage", Failure.WRONG_PURPOSE, text)
        given_up = f"given up (allow_leaf_without_digital_signature): {text}"
        return about.skip("key usage", Outcome.NOT_CHECKED, given_up)
    if usage.key_cert_sign and not may_be_ca:
        return about.bad("key usage", Failure.WRONG_PURPOSE, f"{leaf.label} has a CA's key usage")
    return about.ok("key usage", "key usage includes digital signature")


def _leaf_flag_check(leaf: Candidate, strictness: Strictness, *, trusted: bool) -> Check:
    """The leaf is no CA, unless it is trusted itself."""
    about = _About(leaf)
    constraints = extension(leaf, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return about.ok("CA flag", "the leaf is not a CA")
    if trusted:
        return about.ok("CA flag", "the leaf is a CA and is trusted itself")
    if strictness.allow_ca_leaf:
        return about.skip("CA flag", Outcome.NOT_CHECKED, f"given up (allow_ca_leaf): {leaf.label} is a CA certificate")
    return about.bad("CA flag", Failure.WRONG_PURPOSE, f"{leaf.label} is a CA certificate, not a peer's")


def subject_check(leaf: Candidate) -> Check:
    """A certificate without subject marks its subjectAltName critical (RFC 5280 §4.1.2.6)."""
    about = _About(leaf)
    if not leaf.subject:
        return about.bad("subject", Failure.MALFORMED, "the leaf's subject cannot be parsed")
    if leaf.subject != EMPTY_NAME:
        return about.ok("subject", "the subject is not empty")
    if leaf.extensions is not None:
        for found in leaf.extensions:
            if found.oid == x509.SubjectAlternativeName.oid and found.critical:
                return about.ok("subject", "no subject, and a critical subject alternative name")
    return about.bad(
        "subject", Failure.MALFORMED, f"{leaf.label} has neither a subject nor a critical subject alternative name"
    )


def _usage_name(usage: x509.ObjectIdentifier) -> str:
    name = getattr(usage, "_name", "Unknown OID")
    return usage.dotted_string if name == "Unknown OID" else str(name)


def moment_of(now: float) -> datetime.datetime:
    """Return the second *now* is in, UTC. Raises UsageError for what is no time."""
    try:
        return datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise UsageError(f"the time {now} is not one: {error}") from error


def moment(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")
