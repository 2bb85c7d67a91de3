"""OCSP responses and CRLs for tests, right and wrong: DER written by hand, for upstream builds only right ones.

`pellucid.testing.ca.CA` has the methods to use; here is how the bytes are made.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid.verify.der import issuer_identity, key_bits

Status = Literal["good", "revoked", "unknown"]
Digest = Literal["sha1", "sha256", "sha384", "sha512"]
Refusal = Literal["malformed_request", "internal_error", "try_later", "sig_required", "unauthorized"]

_DIGESTS: Final[dict[Digest, tuple[str, Callable[[bytes], bytes]]]] = {
    "sha1": ("1.3.14.3.2.26", lambda data: hashlib.sha1(data, usedforsecurity=False).digest()),
    "sha256": ("2.16.840.1.101.3.4.2.1", lambda data: hashlib.sha256(data).digest()),
    "sha384": ("2.16.840.1.101.3.4.2.2", lambda data: hashlib.sha384(data).digest()),
    "sha512": ("2.16.840.1.101.3.4.2.3", lambda data: hashlib.sha512(data).digest()),
}
_REFUSALS: Final = {"malformed_request": 1, "internal_error": 2, "try_later": 3, "sig_required": 5, "unauthorized": 6}
_REASONS: Final = {
    x509.ReasonFlags.unspecified: 0,
    x509.ReasonFlags.key_compromise: 1,
    x509.ReasonFlags.ca_compromise: 2,
    x509.ReasonFlags.affiliation_changed: 3,
    x509.ReasonFlags.superseded: 4,
    x509.ReasonFlags.cessation_of_operation: 5,
    x509.ReasonFlags.certificate_hold: 6,
    x509.ReasonFlags.remove_from_crl: 8,
    x509.ReasonFlags.privilege_withdrawn: 9,
    x509.ReasonFlags.aa_compromise: 10,
}
_NULL: Final = b"\x05\x00"
_RSA: Final = {"sha1": "1.2.840.113549.1.1.5", "sha256": "1.2.840.113549.1.1.11"}
_ECDSA: Final = {"sha1": "1.2.840.10045.4.1", "sha256": "1.2.840.10045.4.3.2"}
_HASHES: Final[dict[str, hashes.SHA1 | hashes.SHA256]] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # to be refused
    "sha256": hashes.SHA256(),
}
_OID_PSS: Final = "1.2.840.113549.1.1.10"
_OID_MGF1: Final = "1.2.840.113549.1.1.8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How a response or a CRL is signed: sha is for RSA and EC keys, pss for RSA keys; wrong spoils the signature."""

    key: CertificateIssuerPrivateKeyTypes = field(repr=False)
    sha: Literal["sha1", "sha256"] = "sha256"
    pss: bool = False
    wrong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One SingleResponse (RFC 6960 §4.2.1) about the certificate *about*, which *issuer* issued.

    serial:   instead of the certificate's own.
    critical: whether it has an extension that is critical and that nobody knows.
    """

    about: x509.Certificate
    issuer: x509.Certificate
    this_update: datetime.datetime
    next_update: datetime.datetime | None
    status: Status = "good"
    revoked_at: datetime.datetime | None = None
    reason: x509.ReasonFlags | None = None
    digest: Digest = "sha1"
    serial: int | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One entry of a CRL."""

    serial: int
    when: datetime.datetime
    reason: x509.ReasonFlags | None = None
    critical: bool = False


def ocsp_response(
    answers: Sequence[Answer],
    signing: Signing,
    responder: x509.Certificate,
    *,
    by_name: bool = False,
    certificates: Sequence[x509.Certificate] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    produced_at: datetime.datetime,
) -> bytes:
    """Return an OCSPResponse, DER, that says it is *responder*'s, named by its key or its name."""
    if by_name:
        responder_id = _tlv(0xA1, responder.subject.public_bytes())
    else:
        responder_id = _tlv(0xA2, _octets(_DIGESTS["sha1"][1](key_bits(responder.public_bytes(Encoding.DER)))))
    data = _sequence(
        responder_id,
        _generalized(produced_at),
        _sequence(*map(_single, answers)),
        _tlv(0xA1, _extensions(extensions)) if extensions else b"",
    )
    certs = _tlv(0xA0, _sequence(*(one.public_bytes(Encoding.DER) for one in certificates))) if certificates else b""
    return wrapped_basic_response(_sequence(data, *_signed(data, signing), certs))


def wrapped_basic_response(basic: bytes) -> bytes:
    """Return the successful OCSPResponse around a BasicOCSPResponse."""
    return _sequence(b"\x0a\x01\x00", _tlv(0xA0, _sequence(_oid("1.3.6.1.5.5.7.48.1.1"), _octets(basic))))


def ocsp_refusal(refusal: Refusal) -> bytes:
    """Return an OCSPResponse without an answer (RFC 6960 §2.3)."""
    return _sequence(bytes((0x0A, 1, _REFUSALS[refusal])))


def revocation_list(
    issuer: x509.Name,
    entries: Iterable[Revoked],
    signing: Signing,
    *,
    this_update: datetime.datetime,
    next_update: datetime.datetime | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> bytes:
    """Return a CRL, DER (RFC 5280 §5.1)."""
    listed = [_entry(entry) for entry in entries]
    algorithm = _algorithm(signing)
    tbs = _sequence(
        _integer(1),
        algorithm,
        issuer.public_bytes(),
        _time(this_update),
        _time(next_update) if next_update is not None else b"",
        _sequence(*listed) if listed else b"",
        _tlv(0xA0, _extensions(extensions)) if extensions else b"",
    )
    return _sequence(tbs, *_signed(tbs, signing))


def signed_with_sha1(certificate: bytes, key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return *certificate*, DER, signed again by its issuer's P-256 *key* with SHA-1, which upstream does not do."""
    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    ours = _algorithm(Signing(key=key))
    signing = Signing(key=key, sha="sha1")
    at = tbs.index(ours)
    body = tbs[:at] + _algorithm(signing) + tbs[at + len(ours) :]
    header = 2 if tbs[1] < 0x80 else 2 + (tbs[1] & 0x7F)
    changed = _tlv(0x30, body[header:])
    return _sequence(changed, *_signed(changed, signing))


def _single(answer: Answer) -> bytes:
    oid, digest = _DIGESTS[answer.digest]
    identity = issuer_identity(answer.about.public_bytes(Encoding.DER), answer.issuer.public_bytes(Encoding.DER))
    serial = answer.about.serial_number if answer.serial is None else answer.serial
    names = (_octets(digest(identity.name)), _octets(digest(identity.key)))
    certificate = _sequence(_sequence(_oid(oid), _NULL), *names, _integer(serial))
    status = {"good": b"\x80\x00", "unknown": b"\x82\x00"}.get(answer.status, b"")
    if not status:
        reason = b"" if answer.reason is None else _tlv(0xA0, bytes((0x0A, 1, _REASONS[answer.reason])))
        status = _tlv(0xA1, _generalized(answer.revoked_at or answer.this_update) + reason)
    due = b"" if answer.next_update is None else _tlv(0xA0, _generalized(answer.next_update))
    extensions = _tlv(0xA1, _extensions([_UNKNOWN_CRITICAL])) if answer.critical else b""
    return _sequence(certificate, status, _generalized(answer.this_update), due, extensions)


_UNKNOWN_CRITICAL: Final = (
    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"), _NULL),
    True,
)


def _entry(entry: Revoked) -> bytes:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if entry.reason is not None:
        extensions.append((x509.CRLReason(entry.reason), False))
    if entry.critical:
        extensions.append(_UNKNOWN_CRITICAL)
    return _sequence(_integer(entry.serial), _time(entry.when), _extensions(extensions) if extensions else b"")


# ---- signatures ------------------------------------------------------------------------------------------------------


def _signed(data: bytes, signing: Signing) -> tuple[bytes, bytes]:
    """Return the AlgorithmIdentifier and the BIT STRING that follow what is signed."""
    key, digest = signing.key, _HASHES[signing.sha]
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        signature = key.sign(data, pss if signing.pss else padding.PKCS1v15(), digest)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(data, ec.ECDSA(digest))
    else:
        signature = key.sign(data)  # type: ignore[call-arg]  # DSA is no kind of ours
    if signing.wrong:
        signature = signature[:-1] + bytes((signature[-1] ^ 1,))
    return _algorithm(signing), _tlv(0x03, b"\x00" + signature)


def _algorithm(signing: Signing) -> bytes:
    key = signing.key
    if isinstance(key, rsa.RSAPrivateKey):
        if not signing.pss:
            return _sequence(_oid(_RSA[signing.sha]), _NULL)
        digest = _sequence(_oid(_DIGESTS[signing.sha][0]), _NULL)
        mask = _tlv(0xA1, _sequence(_oid(_OID_MGF1), digest))
        salt = _tlv(0xA2, _integer(_HASHES[signing.sha].digest_size))
        return _sequence(_oid(_OID_PSS), _sequence(_tlv(0xA0, digest), mask, salt))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _sequence(_oid(_ECDSA[signing.sha]))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return _sequence(_oid("1.3.101.112"))
    if isinstance(key, ed448.Ed448PrivateKey):
        return _sequence(_oid("1.3.101.113"))
    level = {"MLDSA44": 17, "MLDSA65": 18, "MLDSA87": 19}[type(key).__name__.removesuffix("PrivateKey")]
    return _sequence(_oid(f"2.16.840.1.101.3.4.3.{level}"))


# ---- DER -------------------------------------------------------------------------------------------------------------


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _octets(data: bytes) -> bytes:
    return _tlv(0x04, data)


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytearray((first * 40 + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | (number & 0x7F))
        body += bytes(reversed(groups))
    return _tlv(0x06, bytes(body))


def _generalized(when: datetime.datetime) -> bytes:
    return _tlv(0x18, when.astimezone(datetime.UTC).strftime("%Y%m%d%H%M%SZ").encode().rjust(15, b"0"))


def _time(when: datetime.datetime) -> bytes:
    """UTCTime through 2049, GeneralizedTime after it (RFC 5280 §5.1.2.4)."""
    if 1950 <= when.year < 2050:
        return _tlv(0x17, when.astimezone(datetime.UTC).strftime("%y%m%d%H%M%SZ").encode())
    return _generalized(when)


def _extensions(extensions: Sequence[tuple[x509.ExtensionType, bool]]) -> bytes:
    return _sequence(
        *(
            _sequence(
                _oid(value.oid.dotted_string), b"\x01\x01\xff" if critical else b"", _octets(value.public_bytes())
            )
            for value, critical in extensions
        )
    )
