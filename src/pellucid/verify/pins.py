"""Pins of public keys (RFC 7469): a requirement on the path that a verifier has accepted, and the pins themselves.

A pin is SHA-256 of a SubjectPublicKeyInfo: 32 bytes, or as text "sha256/" and base64, as OkHttp and Android write it.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from pellucid.crypto.certificates import PARSE_ERRORS, parse_raw_public_key
from pellucid.crypto.der import SPKI, certificate_fields
from pellucid.errors import PeerError, UsageError
from pellucid.registry import CertificateType
from pellucid.verify.names import shown
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome, VerificationReport
from pellucid.verify.request import VerificationRequest
from pellucid.verify.trust import certificates_in_pem

__all__ = ["SpkiPins", "parse_pin", "parse_pins", "path_pins", "pin_text", "spki_pin"]

# curl writes two slashes, and base64 may begin with one: a digest has 43 characters and a padding.
_PIN: Final = re.compile(r"(?:sha256//?|pin-sha256=)(\"?)(?P<digest>[A-Za-z0-9+/]{43}=)\1", re.IGNORECASE)
_PUBLIC_KEY: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----(?P<body>.*?)-----END PUBLIC KEY-----", re.DOTALL)
_MAX_PINS: Final = 1000


def spki_pin(data: bytes | str) -> str:
    """Return the pin "sha256/…" of *data*: a certificate or a public key, DER or PEM; of several in PEM the first.

    Raises UsageError if it is neither.
    """
    return pin_text(_digest_of(data.encode() if isinstance(data, str) else data))


def path_pins(report: VerificationReport) -> tuple[str, ...]:
    """Return the pins of the verified path of *report*, leaf first; none of a refusal, which has no path."""
    return tuple(map(pin_text, _pins_on(report)))


def pin_text(pin: bytes) -> str:
    """Return the 32 bytes of a pin as text."""
    return f"sha256/{binascii.b2a_base64(pin, newline=False).decode('ascii')}"


def parse_pin(text: bytes | str) -> bytes:
    """Return the 32 bytes of a pin: given as such, or as "sha256/…", "sha256//…" or pin-sha256="…" with base64.

    Raises UsageError for what is no pin.
    """
    if isinstance(text, bytes):
        if len(text) != hashlib.sha256().digest_size:
            raise UsageError(f"a pin in bytes has 32 of them, SHA-256 of a public key; there are {len(text)}")
        return bytes(text)
    found = _PIN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{shown(text)} is no pin: that is sha256/ and the 44 characters of a SHA-256 in base64")
    try:
        return binascii.a2b_base64(found["digest"], strict_mode=True)
    except binascii.Error as error:
        raise UsageError(f"{shown(text)} is no pin: {error}") from error


def parse_pins(pins: bytes | str | Iterable[bytes | str]) -> frozenset[bytes]:
    """Return the 32 bytes of each of *pins*. A text may have several, parted by ";". Raises UsageError for none."""
    several = (pins,) if isinstance(pins, (bytes, str)) else tuple(pins)
    split = [part for one in several for part in (one.split(";") if isinstance(one, str) else (one,))]
    found = frozenset(parse_pin(one) for one in split if not isinstance(one, str) or one.strip())
    if not found:
        raise UsageError("there is no pin: nobody could ever be accepted")
    if len(found) > _MAX_PINS:
        raise UsageError(f"{len(found)} pins; at most {_MAX_PINS} are looked at")
    return found


@dataclass(frozen=True, slots=True)
class SpkiPins:
    """Demands that one of *pins* is of a public key on the verified path (RFC 7469 §2.6); refuses all other peers.

    It is a requirement: it lets nobody in whom a verifier would refuse, `ClientConfig(requirements=(SpkiPins(…),))` or
    `all_of(verifier, SpkiPins(…))`. To believe a key without any CA: `AllowKeys`. Of a raw public key (RFC 7250) it is
    that key. A pin beside the one in use, of a key that is kept in reserve, is what survives the loss of a key (§4.3).

    pins:      32 bytes each, or text: "sha256/…", "sha256//…".
    leaf_only: only the leaf's own key counts, not those of its CAs.
    """

    pins: frozenset[bytes]
    leaf_only: bool = field(default=False, kw_only=True)

    def __init__(self, pins: bytes | str | Iterable[bytes | str], *, leaf_only: bool = False) -> None:
        object.__setattr__(self, "pins", parse_pins(pins))
        object.__setattr__(self, "leaf_only", leaf_only)

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the same for the same pins."""
        return b"pins " + (b"leaf " if self.leaf_only else b"") + hashlib.sha256(b"".join(sorted(self.pins))).digest()

    def examine(self, request: VerificationRequest, report: VerificationReport) -> tuple[Check, ...]:
        """Return the one check of the path of *report*."""
        there = _pins_on(report)[: 1 if self.leaf_only else None]
        index = next((index for index, pin in enumerate(there) if pin in self.pins), None)
        if index is None:
            whose = "the leaf" if self.leaf_only else "the verified path"
            wanted = "the pin is not" if len(self.pins) == 1 else f"none of the {len(self.pins)} pins is"
            text = f"{whose} has {', '.join(map(pin_text, there))}, and {wanted} among them"
            return (_check(text, None, Failure.WRONG_PIN),)
        place = "the leaf" if index == 0 else "the root" if index == len(there) - 1 else f"CA {index} above the leaf"
        if report.certificate_type == CertificateType.RAW_PUBLIC_KEY:
            place = "the raw public key"
        spare = "" if self.pins - set(there) else "; every pin is of this path, and none is in reserve"
        return (_check(f"{pin_text(there[index])} is of {place}{spare}", 0 if index == 0 else None, None),)


def _check(evidence: str, certificate: int | None, failure: Failure | None) -> Check:
    return Check(
        group=CheckGroup.TRUST,
        name="pinned key",
        outcome=Outcome.PASSED if failure is None else Outcome.FAILED,
        evidence=evidence,
        certificate=certificate,
        failure=failure,
    )


def _pins_on(report: VerificationReport) -> tuple[bytes, ...]:
    if report.certificate_type == CertificateType.RAW_PUBLIC_KEY:
        return tuple(hashlib.sha256(key).digest() for key in report.path)
    return tuple(hashlib.sha256(certificate_fields(der)[SPKI].encoding).digest() for der in report.path)


def _digest_of(data: bytes) -> bytes:
    if b"-----BEGIN" in data:
        keys = _PUBLIC_KEY.search(data)
        certificates = certificates_in_pem(data)
        try:
            data = binascii.a2b_base64(b"".join(keys["body"].split())) if keys else certificates[0]
        except (IndexError, binascii.Error):
            raise UsageError("there is neither a certificate nor a public key in the PEM text") from None
    try:
        x509.load_der_x509_certificate(data)
    except PARSE_ERRORS:
        return _digest_of_key(data)
    return hashlib.sha256(certificate_fields(data)[SPKI].encoding).digest()


def _digest_of_key(data: bytes) -> bytes:
    try:
        return hashlib.sha256(parse_raw_public_key(data).der).digest()
    except PeerError as error:
        raise UsageError(f"neither a certificate nor a public key that TLS 1.3 has: {error.reason}") from error
