"""The checks that a Strictness adds: made of a path that was accepted, each with its evidence. None turns a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.crypto.der import certificate_fields
from pellucid.limits import MIN_RSA_BITS
from pellucid.verify.checks import extension
from pellucid.verify.paths import Candidate
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome
from pellucid.verify.scts import readable_scts
from pellucid.verify.strictness import Strictness

__all__ = ["tighter_checks"]

_SECONDS_A_DAY: Final = 86_400
_MAX_SERIAL: Final = 20


def tighter_checks(
    strictness: Strictness, path: tuple[Candidate, ...], serialized_scts: tuple[bytes, ...]
) -> tuple[Check, ...]:
    """Return the checks of an accepted *path*, leaf first; a FAILED one refuses it. scts: that came with the leaf."""
    leaf = path[0]
    checks: list[Check] = []
    if strictness.require_extended_key_usage:
        checks.append(_purpose(leaf))
    if strictness.max_lifetime_days is not None:
        checks.append(_lifetime(leaf, strictness.max_lifetime_days))
    if strictness.min_rsa_bits > MIN_RSA_BITS:
        checks += [_rsa(one, strictness.min_rsa_bits) for one in path]
    if strictness.min_scts:
        checks.append(_scts(leaf, strictness.min_scts, serialized_scts))
    if strictness.conforming_issuers:
        checks += [_conforming(one, path) for one in path]
    return tuple(checks)


def _check(about: Candidate, name: str, evidence: str, failure: Failure | None) -> Check:
    return Check(
        group=CheckGroup.VALIDITY,
        name=name,
        outcome=Outcome.PASSED if failure is None else Outcome.FAILED,
        evidence=evidence,
        certificate=about.index,
        failure=failure,
        place=about.place,
    )


def _purpose(leaf: Candidate) -> Check:
    if extension(leaf, x509.ExtendedKeyUsage) is None:
        text = f"{leaf.label} does not say what it is for, and is to (require_extended_key_usage)"
        return _check(leaf, "stated purpose", text, Failure.POLICY)
    return _check(leaf, "stated purpose", "it says what it is for", None)


def _lifetime(leaf: Candidate, days: int) -> Check:
    certificate = leaf.certificate
    # Both ends count (RFC 5280 §4.1.2.5), so a day has 86,400 seconds and not one more.
    seconds = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() + 1
    whole = -int(-seconds // _SECONDS_A_DAY)
    text = f"{leaf.label} is valid for {whole} days; at most {days} are allowed (max_lifetime_days)"
    return _check(leaf, "lifetime", text, Failure.POLICY if seconds > days * _SECONDS_A_DAY else None)


def _rsa(about: Candidate, bits: int) -> Check:
    try:
        key = about.certificate.public_key()
    except (*PARSE_ERRORS, UnsupportedAlgorithm):
        return _check(about, "RSA bits", f"{about.label} has a key that cannot be read", Failure.WEAK_KEY)
    if not isinstance(key, rsa.RSAPublicKey):
        return _check(about, "RSA bits", f"{about.label} has no RSA key", None)
    text = f"{about.label} has an RSA key of {key.key_size} bits; at least {bits} are demanded (min_rsa_bits)"
    return _check(about, "RSA bits", text, Failure.WEAK_KEY if key.key_size < bits else None)


def _scts(leaf: Candidate, least: int, serialized: tuple[bytes, ...]) -> Check:
    embedded = extension(leaf, x509.PrecertificateSignedCertificateTimestamps)
    logs = {sct.log_id for sct in readable_scts(serialized)} | {sct.log_id for sct in embedded or ()}
    text = f"{leaf.label} has SCTs of {len(logs)} logs; {least} are demanded (min_scts); they are counted, not verified"
    return _check(leaf, "SCT count", text, Failure.POLICY if len(logs) < least else None)


def _conforming(about: Candidate, path: tuple[Candidate, ...]) -> Check:
    faults = tuple(_faults(about, is_leaf=about is path[0], is_root=about is path[-1]))
    if faults:
        text = f"{about.label} is not as RFC 5280 has it (conforming_issuers): {'; '.join(faults)}"
        return _check(about, "RFC 5280 form", text, Failure.POLICY)
    return _check(about, "RFC 5280 form", f"{about.label} is as RFC 5280 has CAs issue", None)


def _faults(about: Candidate, *, is_leaf: bool, is_root: bool) -> Iterator[str]:
    """What X509_V_FLAG_X509_STRICT refuses (OpenSSL, check_extensions in x509_vfy.c), and serial numbers."""
    if about.extensions is None:
        yield "its extensions cannot be read"
        return
    serial = certificate_fields(about.der)[0].content
    if serial[0] & 0x80 or not any(serial):
        yield "a serial number that is not positive (§4.1.2.2)"
    elif len(serial) > _MAX_SERIAL:
        yield f"a serial number of {len(serial)} octets, more than {_MAX_SERIAL} (§4.1.2.2)"
    critical = {found.oid for found in about.extensions if found.critical}
    constraints = extension(about, x509.BasicConstraints)
    usage = extension(about, x509.KeyUsage)
    if constraints is not None and constraints.ca:
        if x509.BasicConstraints.oid not in critical:
            yield "basicConstraints of a CA is not critical (§4.2.1.9)"
        if usage is None:
            yield "a CA has no keyUsage (§4.2.1.3)"
        if extension(about, x509.SubjectKeyIdentifier) is None:
            yield "a CA has no subjectKeyIdentifier (§4.2.1.2)"
        if about.subject == b"\x30\x00":
            yield "a CA has no subject (§4.1.2.6)"
    elif not is_leaf:
        yield "an issuer is no CA (§4.2.1.9)"
    elif usage is not None and usage.key_cert_sign:
        yield "keyCertSign in what is no CA (§4.2.1.3)"
    if not (is_root and about.self_issued) and _key_identifier(about) is None:
        yield "no authorityKeyIdentifier with a key identifier (§4.2.1.1)"
    for kind, name in (
        (x509.AuthorityKeyIdentifier, "authorityKeyIdentifier (§4.2.1.1)"),
        (x509.SubjectKeyIdentifier, "subjectKeyIdentifier (§4.2.1.2)"),
    ):
        if kind.oid in critical:
            yield f"a critical {name}"
    alternatives = extension(about, x509.SubjectAlternativeName)
    if alternatives is not None and not tuple(alternatives):
        yield "an empty subjectAltName (§4.2.1.6)"


def _key_identifier(about: Candidate) -> bytes | None:
    found = extension(about, x509.AuthorityKeyIdentifier)
    return None if found is None else found.key_identifier
