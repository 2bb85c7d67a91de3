"""Verifiers that believe a peer for what it shows, without any CA: one certificate, or one of some keys.

What does not hang on a CA is checked as ever: the key's strength, what the certificate is for, its dates, its name.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from pellucid.crypto.certificates import PARSE_ERRORS, EndEntity, RawPublicKey, X509Certificate
from pellucid.crypto.signatures import is_small_order
from pellucid.errors import UsageError
from pellucid.registry import CertificateType
from pellucid.verify.checks import dates_check, key_finding, leaf_checks, moment_of, name_check
from pellucid.verify.names import normalize_server_name, reference_name, shown
from pellucid.verify.paths import Candidate
from pellucid.verify.pins import parse_pins, pin_text
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
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.trust import certificates_in_pem

__all__ = ["AllowCertificate", "AllowKeys", "Demands", "judge_directly", "spki_digest"]

_HEX: Final = re.compile(r"(?:sha256[:/ ]?)?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What is checked of a certificate that is believed for itself.

    check_name:  it names the server that was meant. False: whoever has the key is believed under every name.
    check_dates: it is valid now.
    hosts:       instead of the names in it, the servers that it is for, whatever it says; None: those that it names.
    """

    check_name: bool = True
    check_dates: bool = True
    hosts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.hosts is None:
            return
        if not self.hosts:
            raise UsageError("hosts is a tuple of names and addresses, and not empty")
        if not self.check_name:
            raise UsageError(
                "hosts says whose the certificate is, and check_name=False that it is anybody's: one of them"
            )
        object.__setattr__(self, "hosts", tuple(map(normalize_server_name, self.hosts)))

    @property
    def identity(self) -> bytes:
        return repr(self).encode()


@dataclass(frozen=True, slots=True)
class AllowCertificate:
    """Accepts the peer that shows this one certificate, whoever issued it, and nobody else.

    certificate: DER, PEM, or its SHA-256: 32 bytes, or hexadecimal with or without colons, as programs show it.
    The other arguments are those of `Demands`. Beside others: `any_of(WebPKIVerifier(trust), AllowCertificate(…))`.
    """

    fingerprint: bytes
    """SHA-256 of the certificate, 32 bytes"""
    demands: Demands
    certificate_types: tuple[int, ...] = field(default=(CertificateType.X509,), init=False, repr=False, compare=False)

    def __init__(
        self,
        certificate: bytes | str,
        *,
        check_name: bool = True,
        check_dates: bool = True,
        hosts: Iterable[str] | None = None,
    ) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(certificate))
        object.__setattr__(self, "demands", _demands(check_name, check_dates, hosts))
        object.__setattr__(self, "certificate_types", (CertificateType.X509,))

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """None: who issued it does not matter."""
        return ()

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the same for the same certificate and demands (attacks E7, E8)."""
        return b"certificate " + self.fingerprint + self.demands.identity

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report on *request*. Raises UsageError as `WebPKIVerifier.verify` does."""
        shown_one = hashlib.sha256(request.leaf.der).digest()
        allowed = isinstance(request.leaf, X509Certificate) and shown_one == self.fingerprint
        text = (
            f"the certificate with the SHA-256 {shown_one.hex()} is {'the one' if allowed else 'not the one'} allowed"
        )
        return judge_directly(
            request, self.demands, "allowed certificate", text, None if allowed else Failure.NOT_ALLOWED
        )


@dataclass(frozen=True, slots=True)
class AllowKeys:
    """Accepts the peers whose certificate, or raw public key, has one of these keys, whoever issued it; nobody else.

    keys: pins, as `SpkiPins` takes them. Here they are all that there is: no CA vouches for the certificate, whose name
          and dates are what the key's owner wrote. For servers that list the clients they know, and devices.
    The other arguments are those of `Demands`; a client has no name to check.
    """

    keys: frozenset[bytes]
    demands: Demands
    certificate_types: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        keys: bytes | str | Iterable[bytes | str],
        *,
        check_name: bool = True,
        check_dates: bool = True,
        hosts: Iterable[str] | None = None,
    ) -> None:
        object.__setattr__(self, "keys", parse_pins(keys))
        object.__setattr__(self, "demands", _demands(check_name, check_dates, hosts))
        object.__setattr__(self, "certificate_types", (CertificateType.X509, CertificateType.RAW_PUBLIC_KEY))

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """None: who issued the certificates does not matter."""
        return ()

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the same for the same keys and demands (attacks E7, E8)."""
        return b"keys " + hashlib.sha256(b"".join(sorted(self.keys))).digest() + self.demands.identity

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report on *request*. Raises UsageError as `WebPKIVerifier.verify` does."""
        pin = spki_digest(request.leaf)
        if pin in self.keys:
            return judge_directly(
                request, self.demands, "allowed key", f"{pin_text(pin)} is one of the keys allowed", None
            )
        text = f"{pin_text(pin)} is none of the {len(self.keys)} keys allowed"
        return judge_directly(request, self.demands, "allowed key", text, Failure.NOT_ALLOWED)


def spki_digest(leaf: EndEntity) -> bytes:
    """Return SHA-256 of the peer's SubjectPublicKeyInfo, 32 bytes."""
    return hashlib.sha256(leaf.der if isinstance(leaf, RawPublicKey) else leaf.subject_public_key_info).digest()


def judge_directly(
    request: VerificationRequest, demands: Demands, name: str, evidence: str, failure: Failure | None
) -> VerificationReport:
    """Return the report on a peer that is believed, or not, for its certificate or key alone.

    name, evidence, failure: the check of whether it is believed. All else is checked here.
    Raises UsageError if a server's name is missing or impossible, or a client has one.
    """
    trusted = _check(CheckGroup.TRUST, name, evidence, failure)
    named = _name_check(request, demands)
    leaf = request.leaf
    if isinstance(leaf, RawPublicKey):
        wrong, text = key_finding(leaf.public_key, "the raw public key")
        checks: tuple[Check, ...] = (_check(CheckGroup.VALIDITY, "key strength", text, wrong), *_small_order(leaf))
    else:
        candidate = Candidate(leaf.x509, 0, leaf.der)
        checks = (
            *leaf_checks(candidate, request.purpose, trusted=True),
            _critical_check(candidate),
            *_small_order(leaf),
            _dates_check(candidate, request, demands),
        )
    return _report(request, (*checks, named, trusted))


def _report(request: VerificationRequest, checks: tuple[Check, ...]) -> VerificationReport:
    failed = [check for check in checks if check.failure is not None]
    decisive = min(failed, key=lambda check: DECISIVE_ORDER.index(check.failure or Failure.POLICY), default=None)
    if decisive is None or decisive.failure is None:
        return VerificationReport(
            accepted=True,
            summary=checks[-1].evidence,
            path=(request.leaf.der,),
            certificate_type=request.certificate_type,
            serialized_scts=request.scts,
            explanation=LazyChecks(lambda: checks),
        )
    return VerificationReport(
        accepted=False,
        summary=decisive.evidence,
        failure=decisive.failure,
        alert=ALERTS[decisive.failure],
        certificate_type=request.certificate_type,
        serialized_scts=request.scts,
        presented=(request.leaf.der, *request.intermediates),
        explanation=LazyChecks(lambda: checks),
    )


def _name_check(request: VerificationRequest, demands: Demands) -> Check:
    leaf, group, title = request.leaf, CheckGroup.NAME, "subject alternative name"
    if request.purpose is Purpose.CLIENT_AUTH:
        if request.server_name is not None:
            raise UsageError("a client's certificate is not verified against a server name")
        text = "a client is not looked up by name"
        return _check(group, title, text, outcome=Outcome.NOT_APPLICABLE)
    if not demands.check_name:
        return _check(group, title, "given up (check_name=False)", outcome=Outcome.NOT_CHECKED)
    if request.server_name is None:
        raise UsageError("a server's certificate cannot be verified without the server's name")
    reference = reference_name(request.server_name)
    if demands.hosts is not None:
        within = reference.text in demands.hosts
        hosts = ", ".join(demands.hosts[:8])
        text = f"{reference.text} is {'' if within else 'not '}among the hosts that it is for: {hosts}"
        return _check(group, "host", text, None if within else Failure.WRONG_NAME)
    if isinstance(leaf, RawPublicKey):
        text = "a raw public key has no name: the key itself is what was expected, or not"
        return _check(group, title, text, outcome=Outcome.NOT_APPLICABLE)
    return name_check(Candidate(leaf.x509, 0, leaf.der), reference)


def _dates_check(leaf: Candidate, request: VerificationRequest, demands: Demands) -> Check:
    check = dates_check(leaf, moment_of(request.now))
    if demands.check_dates or check.outcome is not Outcome.FAILED:
        return check
    return _check(
        check.group, check.name, f"given up (check_dates=False): {check.evidence}", outcome=Outcome.NOT_CHECKED
    )


def _critical_check(leaf: Candidate) -> Check:
    """No critical extension that nobody here knows (RFC 5280 §4.2)."""
    unknown = [
        found.oid.dotted_string
        for found in leaf.extensions or ()
        if found.critical and isinstance(found.value, x509.UnrecognizedExtension)
    ]
    if unknown:
        text = f"{leaf.label} has a critical extension that nobody knows: {', '.join(unknown[:4])}"
        return _check(CheckGroup.VALIDITY, "critical extensions", text, Failure.UNSUPPORTED)
    return _check(CheckGroup.VALIDITY, "critical extensions", "none that is not known")


def _small_order(leaf: EndEntity) -> tuple[Check, ...]:
    if not is_small_order(leaf.public_key):
        return ()
    text = "the key is a point of small order: anybody can sign for it"
    return (_check(CheckGroup.VALIDITY, "key order", text, Failure.WEAK_KEY),)


def _check(
    group: CheckGroup, name: str, evidence: str, failure: Failure | None = None, *, outcome: Outcome | None = None
) -> Check:
    decided = Outcome.PASSED if failure is None else Outcome.FAILED
    return Check(group=group, name=name, outcome=outcome or decided, evidence=evidence, certificate=0, failure=failure)


def _demands(check_name: bool, check_dates: bool, hosts: Iterable[str] | None) -> Demands:
    if isinstance(hosts, str):
        raise UsageError("hosts is a tuple of names and addresses")
    return Demands(check_name=check_name, check_dates=check_dates, hosts=None if hosts is None else tuple(hosts))


def _fingerprint(certificate: bytes | str) -> bytes:
    if isinstance(certificate, str):
        found = _HEX.fullmatch(certificate.strip())
        if found is not None:
            return binascii.a2b_hex(found[1].replace(":", ""))
        certificate = certificate.encode("utf-8", "replace")
    elif len(certificate) == hashlib.sha256().digest_size:
        return bytes(certificate)
    if b"-----BEGIN" in certificate:
        held = certificates_in_pem(certificate)
        if len(held) != 1:
            raise UsageError(f"there are {len(held)} certificates in the PEM text; one is allowed")
        certificate = held[0]
    try:
        x509.load_der_x509_certificate(certificate)
    except PARSE_ERRORS:
        what = shown(certificate[:64].decode("ascii", "replace"))
        raise UsageError(f"{what} is neither a certificate nor the SHA-256 of one") from None
    return hashlib.sha256(certificate).digest()
