"""Requests to verifiers, as the handshake makes them."""

from __future__ import annotations

import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.der import certificate_fields, elements
from pellucid.testing.ca import CA, Issued
from pellucid.verify.report import Check, VerificationReport
from pellucid.verify.request import Purpose, VerificationRequest

NAME = "server.test"


def request_for(
    issued: Issued,
    server_name: str | None = NAME,
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    now: float | None = None,
    bare: bool = False,
) -> VerificationRequest:
    """bare: without the intermediates."""
    return VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=() if bare else tuple(issued.chain_der[1:]),
        purpose=purpose,
        server_name=server_name,
        now=time.time() if now is None else now,
    )


def check_named(report: VerificationReport, name: str) -> Check:
    """The one check of that name."""
    (found,) = [check for check in report.checks if check.name == name]
    return found


def without(certificate: x509.Certificate, issuer: CA, *kinds: type[x509.ExtensionType]) -> x509.Certificate:
    """The certificate without its extensions of *kinds*, signed anew by *issuer*."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(certificate.public_key())
        .serial_number(certificate.serial_number)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for found in certificate.extensions:
        if not isinstance(found.value, kinds):
            builder = builder.add_extension(found.value, found.critical)
    return builder.sign(issuer.private_key, hashes.SHA256())


def ca_without(*kinds: type[x509.ExtensionType]) -> CA:
    """A root whose certificate lacks the extensions of *kinds*."""
    authority = CA("bare")
    authority.certificate = without(authority.certificate, authority, *kinds)
    return authority


def with_serial(issued: Issued, issuer: CA, serial: bytes) -> Issued:
    """The certificate with the content of its serialNumber replaced, signed anew by *issuer*, which has a P-256 key."""
    der = issued.der
    number, algorithm = certificate_fields(der)[0].encoding, certificate_fields(der)[1].encoding
    (whole,) = elements(issued.certificate.tbs_certificate_bytes)
    tbs = _tagged(0x30, whole.content.replace(number, _tagged(0x02, serial), 1))
    key = issuer.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = _tagged(0x03, b"\0" + key.sign(tbs, ec.ECDSA(hashes.SHA256())))
    made = x509.load_der_x509_certificate(_tagged(0x30, tbs + algorithm + signature))
    return Issued(certificate=made, intermediates=issued.intermediates, key_pem=issued.key_pem)


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content
