"""Requests to verifiers, as the handshake makes them."""

from __future__ import annotations

import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pellucid.crypto.certificates import parse_certificate
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
