"""What a certificate says of itself, for people: whoever explains a refusal reads it here. Nothing is judged."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.verify.checks import extension
from pellucid.verify.findings import issuer_urls
from pellucid.verify.names import presented_names, shown
from pellucid.verify.paths import Candidate, display_name

__all__ = ["CertificateFacts", "certificate_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """One certificate. Text of the peer's is escaped.

    subject, issuer:   common names, or the whole name where there is none, in quotation marks.
    issuer_whole:      the issuer's whole name, RFC 4514.
    names:             DNS names and addresses it is for.   issuer_urls: where it says that its issuer's can be fetched.
    """

    subject: str
    issuer: str
    issuer_whole: str
    self_issued: bool
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    is_ca: bool
    issuer_urls: tuple[str, ...]


def certificate_facts(der: bytes) -> CertificateFacts | None:
    """Return what *der* says, None if it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        candidate = Candidate(certificate, 0, der)
        alternatives = extension(candidate, x509.SubjectAlternativeName)
        constraints = extension(candidate, x509.BasicConstraints)
        return CertificateFacts(
            subject=display_name(certificate.subject),
            issuer=display_name(certificate.issuer),
            issuer_whole=shown(certificate.issuer.rfc4514_string()),
            self_issued=candidate.self_issued,
            names=presented_names(tuple(alternatives)) if alternatives is not None else (),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            is_ca=constraints is not None and constraints.ca,
            issuer_urls=issuer_urls(candidate),
        )
    except PARSE_ERRORS:
        return None
