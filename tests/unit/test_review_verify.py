"""Certificates of which a part cannot be read: judged like any other, and nothing raised."""

from __future__ import annotations

import time

import pytest
from cryptography import x509

from pellucid.crypto.certificates import parse_certificate
from pellucid.testing.ca import CA, Extra
from pellucid.verify.report import Failure
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import NAME, credential


def _unreadable() -> bytes:
    """The pair's leaf, a string type in its subject spoilt; its signature is wrong now, and nobody needs it."""
    der = credential().chain[0]
    parsed = x509.load_der_x509_certificate(der)
    subject = parsed.subject.public_bytes()
    at = der.rindex(subject)
    for offset in range(len(subject)):
        if subject[offset] in (0x0C, 0x13):
            spoilt = der[: at + offset] + b"\x41" + der[at + offset + 1 :]
            try:
                assert x509.load_der_x509_certificate(spoilt).subject
            except ValueError:
                return spoilt
    pytest.fail("no byte of the subject makes it unreadable")


def test_a_trusted_certificate_with_an_unreadable_subject_raises_nothing() -> None:
    leaf = parse_certificate(_unreadable())
    verifier = WebPKIVerifier(TrustStore.from_der([leaf.der]))
    report = verifier.verify(
        VerificationRequest(
            leaf=leaf,
            intermediates=(),
            purpose=Purpose.SERVER_AUTH,
            server_name=NAME,
            now=leaf.x509.not_valid_before_utc.timestamp() + 1,
        )
    )
    assert not report.accepted
    assert "cannot be read" in "\n".join(report.lines())


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", [NAME, "other.test"])
def test_a_tls_feature_that_upstream_has_no_name_for_refuses_and_raises_nothing(trusted: bool, name: str) -> None:
    """pyca/cryptography raises KeyError for it; any peer, trusted or not, could send that up to the application."""
    feature = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.24"), bytes.fromhex("3003020163"))
    authority = CA()
    issued = authority.issue(NAME, extra=[Extra(value=feature)])
    verifier = WebPKIVerifier(authority.trust if trusted else TrustStore.empty())
    request = VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=(),
        purpose=Purpose.SERVER_AUTH,
        server_name=name,
        now=time.time(),
    )
    report = verifier.verify(request)
    assert not report.accepted and report.failure is Failure.MALFORMED
    assert "extensions that cannot be parsed" in "\n".join(report.lines())
