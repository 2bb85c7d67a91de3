"""The OCSP response stapled to a leaf, judged (RFC 6960 §3.2; RFC 6066 §8): whose it is, who signed it, how old it is.

Everything in it is the peer's. Whatever is wrong with it ends in a Finding, never in an exception.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.oid import SignatureAlgorithmOID as A

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.limits import MAX_STAPLE_SIGNERS
from pellucid.value import internal_value
from pellucid.verify import der
from pellucid.verify.checks import (
    dates_check,
    extension,
    key_check,
    moment,
    signature_algorithm_check,
)
from pellucid.verify.findings import shown_verdict
from pellucid.verify.paths import Candidate, verify_link
from pellucid.verify.report import Outcome
from pellucid.verify.status import Currency, Finding, Standing, ends_at, reason_name

_SHA256: Final = hashes.SHA256()
_SHA384: Final = hashes.SHA384()
_SHA512: Final = hashes.SHA512()
# SHA-1 is not among them: what it signs can be forged (RFC 6960 §4.3 said SHOULD in 2013).
_RSA_PKCS1: Final = {A.RSA_WITH_SHA256: _SHA256, A.RSA_WITH_SHA384: _SHA384, A.RSA_WITH_SHA512: _SHA512}
_ECDSA: Final = {A.ECDSA_WITH_SHA256: _SHA256, A.ECDSA_WITH_SHA384: _SHA384, A.ECDSA_WITH_SHA512: _SHA512}
_PLAIN: Final = (
    (A.ED25519, ed25519.Ed25519PublicKey),
    (A.ED448, ed448.Ed448PublicKey),
    (A.ML_DSA_44, mldsa.MLDSA44PublicKey),
    (A.ML_DSA_65, mldsa.MLDSA65PublicKey),
    (A.ML_DSA_87, mldsa.MLDSA87PublicKey),
)


def _pss_identifier(hash_oid: str, salt_length: int) -> bytes:
    """Return the AlgorithmIdentifier of RSASSA-PSS that is in use for a hash: MGF1 with the same (RFC 4055 §3.1)."""
    return bytes.fromhex(
        f"304106092a864886f70d01010a3034a00f300d0609{hash_oid}0500"
        f"a11c301a06092a864886f70d010108300d0609{hash_oid}0500a2030201{salt_length:02x}"
    )


_PSS: Final = {
    _pss_identifier("608648016503040201", 32): _SHA256,
    _pss_identifier("608648016503040202", 48): _SHA384,
    _pss_identifier("608648016503040203", 64): _SHA512,
}
# A CertID's hash only names the issuer: SHA-1 is what nearly all have (RFC 6960 §4.1.1, RFC 5019 §2.1.1).
_CERT_ID_HASHES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha384": lambda data: hashlib.sha384(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
}
_RESPONDER_EXTENSIONS: Final = frozenset(
    kind.oid
    for kind in (
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectAlternativeName,
        x509.OCSPNoCheck,
    )
)
"""Extensions of a responder's certificate that may be critical."""
_ERRORS: Final = (*PARSE_ERRORS, UnsupportedAlgorithm)

AskLists = Callable[[Candidate], Finding | None]
"""What the CRLs say of another certificate of the leaf's issuer; None: none were given."""


@internal_value
class _Answer:
    """What one SingleResponse says; times in UTC."""

    status: ocsp.OCSPCertStatus
    this_update: datetime.datetime
    next_update: datetime.datetime | None
    revoked_at: datetime.datetime | None
    reason: x509.ReasonFlags | None


@internal_value
class _Signed:
    """What somebody who may has signed about the leaf. delegate: who did, if not the issuer itself."""

    answers: tuple[_Answer, ...]
    delegate: Candidate | None


def read_staple(
    staple: bytes, leaf: Candidate, issuer: Candidate, currency: Currency, maximum: int, lists: AskLists
) -> Finding:
    """Return what the OCSPResponse *staple*, DER, says of *leaf*, which *issuer* issued (RFC 6960 §3.2).

    maximum: bytes; a longer one is not parsed.   lists: asked about a responder's certificate.
    GOOD and REVOKED are signed by the issuer or its delegate; everything else is UNKNOWN, with the reason.
    """
    if len(staple) > maximum:
        return _unknown(f"has {len(staple)} bytes; {maximum} are allowed")
    signed = _authenticate(staple, leaf.certificate, issuer.certificate)
    if isinstance(signed, str):
        return _unknown(signed)
    by = f"signed by its issuer, {issuer.label}"
    if signed.delegate is not None:
        by, problem = _delegate_now(signed.delegate, currency, lists)
        if problem is not None:
            return _unknown(f"is {by}, {problem}")
    return _judged(signed.answers, leaf, currency, by)


def staple_ends(staple: bytes, leaf: Candidate, issuer: Candidate, max_age_seconds: float) -> float:
    """Return when the first answer about *leaf* in *staple*, or who signed them, is out of date; seconds since 1970.

    max_age_seconds: how long an answer counts that does not say when the next one is due. 0.0 for what says nothing.
    """
    signed = _authenticate(staple, leaf.certificate, issuer.certificate)
    if isinstance(signed, str):
        return 0.0
    ends = [ends_at(one.this_update, one.next_update, max_age_seconds) for one in signed.answers]
    if signed.delegate is not None:
        ends.append(signed.delegate.certificate.not_valid_after_utc.timestamp())
    return min(ends)


def _unknown(text: str) -> Finding:
    return Finding(Standing.UNKNOWN, f"the OCSP response stapled to the leaf {text}")


def _judged(answers: tuple[_Answer, ...], leaf: Candidate, currency: Currency, by: str) -> Finding:
    """Of several answers about one certificate the worst counts, and a revocation however old it is."""
    for answer in answers:
        if answer.status is ocsp.OCSPCertStatus.REVOKED:
            when = moment(answer.revoked_at) if answer.revoked_at is not None else "an unknown day"
            text = f"{leaf.label} was revoked on {when}{reason_name(answer.reason)}"
            return Finding(Standing.REVOKED, f"{text}, says the OCSP response stapled to it, {by}")
    for answer in answers:
        if answer.status is not ocsp.OCSPCertStatus.GOOD:
            return _unknown(f"says that the certificate's status is unknown; {by}")
        stale = currency.problem(answer.this_update, answer.next_update)
        if stale is not None:
            return _unknown(f"is not current: it {stale.text}")
    until = answers[0].next_update
    due = f", good until {moment(until)}" if until is not None else ", without the time of the next"
    text = f"the OCSP response stapled to {leaf.label} says good: {by}, of {moment(answers[0].this_update)}{due}"
    return Finding(Standing.GOOD, text)


# A server staples the same response for days. Nothing here depends on the time or on what is trusted.
@functools.lru_cache(maxsize=64)
def _authenticate(staple: bytes, leaf: x509.Certificate, issuer: x509.Certificate) -> _Signed | str:
    """Return what was signed about *leaf* by *issuer* or its delegate, or what is wrong with *staple*."""
    try:
        response = ocsp.load_der_ocsp_response(staple)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return f"has no answer: its responder says {response.response_status.name.lower()}"
        by = Candidate(issuer, None)
        answers = _answers(response, Candidate(leaf, 0), by)
        if isinstance(answers, str):
            return answers
        signer = _signer(response, staple, by)
        if isinstance(signer, str):
            return signer
        return _Signed(answers=tuple(map(_read, answers)), delegate=None if signer is by else signer)
    except _ERRORS as error:
        return f"cannot be parsed: {shown_verdict(str(error))}"


def _read(single: ocsp.OCSPSingleResponse) -> _Answer:
    return _Answer(
        status=single.certificate_status,
        this_update=single.this_update_utc,
        next_update=single.next_update_utc,
        revoked_at=single.revocation_time_utc,
        reason=single.revocation_reason,
    )


def _answers(response: ocsp.OCSPResponse, leaf: Candidate, issuer: Candidate) -> list[ocsp.OCSPSingleResponse] | str:
    """Return the single responses about *leaf* (RFC 6960 §3.2, 1), or why there are none."""
    serial = leaf.certificate.serial_number
    count = 0
    same_serial: dict[int, ocsp.OCSPSingleResponse] = {}
    for count, single in enumerate(response.responses, 1):
        if single.serial_number == serial:
            same_serial[count - 1] = single
    if not same_serial:
        return f"is about {'another certificate' if count == 1 else f'{count} other certificates'}"
    identity = der.issuer_identity(leaf.der, issuer.der)
    about = {number: single for number, single in same_serial.items() if _names(single, identity)}
    if not about:
        return "is about a certificate of another issuer"
    if der.with_critical_extension(response.tbs_response_bytes, about) or _critical(response.extensions):
        return "has a critical extension that is not known"
    return list(about.values())


def _names(single: ocsp.OCSPSingleResponse, identity: der.IssuerIdentity) -> bool:
    digest = _CERT_ID_HASHES.get(single.hash_algorithm.name)
    if digest is None:
        return False
    return single.issuer_name_hash == digest(identity.name) and single.issuer_key_hash == digest(identity.key)


def _critical(extensions: x509.Extensions) -> bool:
    return any(found.critical and found.oid != x509.OCSPNonce.oid for found in extensions)


# ---- who signed it ---------------------------------------------------------------------------------------------------


def _signer(response: ocsp.OCSPResponse, staple: bytes, issuer: Candidate) -> Candidate | str:
    """Return who signed the response and may (RFC 6960 §4.2.2.2), or why nobody did (§3.2, 2 to 4)."""
    problems: list[str] = []
    if _is_responder(response, issuer):
        problem = _signature_problem(response, staple, issuer)
        if problem is None:
            return issuer
        problems.append(f"has a signature by the issuer that {problem}")
    for delegate in _delegates(response):
        problem = _delegation_problem(delegate, issuer)
        if problem is not None:
            problems.append(f"is signed by {delegate.label}, {problem}")
            continue
        problem = _signature_problem(response, staple, delegate)
        if problem is None:
            return delegate
        problems.append(f"has a signature by {delegate.label} that {problem}")
    return problems[0] if problems else "is signed by somebody who is neither its issuer nor named in it"


def _delegates(response: ocsp.OCSPResponse) -> Iterator[Candidate]:
    found = 0
    for certificate in response.certificates:
        candidate = Candidate(certificate, None, role="the responder")
        if found < MAX_STAPLE_SIGNERS and _is_responder(response, candidate):
            found += 1
            yield candidate


def _is_responder(response: ocsp.OCSPResponse, candidate: Candidate) -> bool:
    """Whether the ResponderID names *candidate* (RFC 6960 §4.2.2.3)."""
    name = response.responder_name
    if name is not None:
        return name.public_bytes() == candidate.subject
    return response.responder_key_hash == _CERT_ID_HASHES["sha1"](der.key_bits(candidate.der))


def _delegation_problem(delegate: Candidate, issuer: Candidate) -> str | None:
    """Return why *issuer* never designated *delegate* (RFC 6960 §4.2.2.2), or None if it did."""
    if delegate.issuer != issuer.subject or verify_link(delegate.certificate, issuer.certificate) is not True:
        return "whose certificate the leaf's issuer did not issue"
    usages = extension(delegate, x509.ExtendedKeyUsage)
    if usages is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usages:
        return "whose certificate is not for OCSP signing"
    usage = extension(delegate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "whose certificate has a key usage without digital signature"
    for check in (key_check(delegate), signature_algorithm_check(delegate, anchor=False)):
        if check.outcome is Outcome.FAILED:
            return f"whose certificate will not do: {check.evidence}"
    for found in delegate.extensions or ():
        if found.critical and found.oid not in _RESPONDER_EXTENSIONS:
            return f"whose certificate has the unknown critical extension {found.oid.dotted_string}"
    return None


def _delegate_now(delegate: Candidate, currency: Currency, lists: AskLists) -> tuple[str, str | None]:
    """Return who the delegate is, and why it may not sign today, or None (RFC 6960 §4.2.2.2.1)."""
    by = f"signed by {delegate.label}, designated by its issuer"
    dates = dates_check(delegate, currency.when)
    if dates.outcome is Outcome.FAILED:
        return by, f"whose certificate will not do: {dates.evidence}"
    listed = lists(delegate)
    if listed is not None and listed.standing is Standing.REVOKED:
        return by, f"whose certificate will not do: {listed.evidence}"
    # With id-pkix-ocsp-nocheck the issuer vouches for its responder as long as the certificate is valid.
    known = extension(delegate, x509.OCSPNoCheck) is not None or (
        listed is not None and listed.standing is Standing.GOOD
    )
    return f"{by}{'' if known else ' and itself not checked for revocation'}", None


def _signature_problem(response: ocsp.OCSPResponse, staple: bytes, signer: Candidate) -> str | None:
    """Return why the signature is not *signer*'s, or None if it is."""
    key = signer.certificate.public_key()
    oid, signature, signed = response.signature_algorithm_oid, response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and oid in _RSA_PKCS1:
            key.verify(signature, signed, padding.PKCS1v15(), _RSA_PKCS1[oid])
        elif isinstance(key, rsa.RSAPublicKey) and oid == A.RSASSA_PSS:
            digest = _PSS.get(der.response_algorithm(staple))
            if digest is None:
                return "uses RSASSA-PSS with parameters that are not accepted"
            key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and oid in _ECDSA:
            key.verify(signature, signed, ec.ECDSA(_ECDSA[oid]))
        else:
            for plain, kind in _PLAIN:
                if oid == plain and isinstance(key, kind):
                    key.verify(signature, signed)
                    return None
            return f"uses an algorithm ({oid.dotted_string}) that is not accepted or not the key's"
    except InvalidSignature:
        return "is wrong"
    return None
