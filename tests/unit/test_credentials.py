"""Credentials from PEM, DER and PKCS#12: what is read, what is refused, which names they are for."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from pellucid import Credential, UsageError
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA, Issued, private_key_pem
from tests.support.pair import authority


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().issue("One.Example", "*.two.example", "192.0.2.7", "2001:db8::7")


def key_of(issued: Issued) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(issued.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def check(credential: Credential, issued: Issued) -> None:
    assert credential.chain == issued.chain_der
    assert credential.signer.schemes == (S.ECDSA_SECP256R1_SHA256,)
    assert credential.names == ("one.example", "*.two.example", "192.0.2.7", "2001:db8::7")
    assert {
        issuer.issuer.public_bytes() for issuer in (issued.certificate, *issued.intermediates)
    } == credential.issuers


def test_credential_from_pem(issued: Issued) -> None:
    check(Credential.from_pem(issued.chain_pem, issued.key_pem), issued)
    check(Credential.from_pem(issued.chain_pem + issued.key_pem), issued)
    check(Credential.from_pem(b"a comment\n" + issued.key_pem + issued.chain_pem), issued)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_credential_from_der_and_encrypted_pem(issued: Issued, form: PrivateFormat) -> None:
    key = key_of(issued)
    check(Credential.from_der(issued.chain_der, key.private_bytes(Encoding.DER, form, NoEncryption())), issued)
    locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"open"))
    check(Credential.from_pem(issued.chain_pem, locked, b"open"), issued)
    for password in (None, b"shut"):
        with pytest.raises(UsageError, match="private key"):
            Credential.from_pem(issued.chain_pem, locked, password)


def test_credential_from_pkcs12(issued: Issued) -> None:
    for password in (b"open", None):
        lock = NoEncryption() if password is None else BestAvailableEncryption(password)
        data = pkcs12.serialize_key_and_certificates(
            b"name", key_of(issued), issued.certificate, issued.intermediates, lock
        )
        check(Credential.from_pkcs12(data, password), issued)
        with pytest.raises(UsageError):
            Credential.from_pkcs12(data, b"shut")
    with pytest.raises(UsageError):
        Credential.from_pkcs12(b"not PKCS#12", None)
    bare = pkcs12.serialize_key_and_certificates(b"name", None, issued.certificate, None, NoEncryption())
    with pytest.raises(UsageError, match="no certificate with a private key"):
        Credential.from_pkcs12(bare, None)


@pytest.mark.parametrize("kind", ["p256", "rsa2048", "ed25519"])
def test_key_of_another_certificate_is_refused(issued: Issued, kind: str) -> None:
    other = authority().issue("other.example", key=kind)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not belong"):
        Credential.from_pem(issued.chain_pem, other.key_pem)


@pytest.mark.parametrize("text", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(issued: Issued, text: bytes) -> None:
    with pytest.raises(UsageError):
        Credential.from_pem(text, issued.key_pem)
    with pytest.raises(UsageError):
        Credential.from_pem(issued.chain_pem, text)
    with pytest.raises(UsageError):
        Credential.from_der((b"\x30\x00",), issued.key_pem)
    with pytest.raises(UsageError):
        Credential.from_der((), issued.key_pem)


def test_key_that_cannot_sign_tls_1_3_is_refused(issued: Issued) -> None:
    key = dsa.generate_private_key(1024)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UsageError, match="cannot sign"):
        Credential.from_pem(issued.chain_pem, pem)


def test_short_rsa_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    short = authority().issue("short.example", key=key)
    with pytest.raises(UsageError, match="1024 bits"):
        Credential.from_pem(short.chain_pem, private_key_pem(key))


def test_curve_that_tls_1_3_does_not_have_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    odd = authority().issue("odd.example", key=key)
    with pytest.raises(UsageError, match="secp256k1"):
        Credential.from_pem(odd.chain_pem, private_key_pem(key))


def test_certificate_without_names_is_for_nobody() -> None:
    root = CA("nameless", key=ed25519.Ed25519PrivateKey.generate())
    pem = root.certificate.public_bytes(Encoding.PEM)
    assert Credential.from_pem(pem, private_key_pem(root.private_key)).names == ()
    assert isinstance(root.certificate, x509.Certificate)


def test_credential_shows_no_key_and_no_chain(issued: Issued) -> None:
    shown = repr(Credential.from_pem(issued.chain_pem, issued.key_pem))
    assert shown.startswith("Credential(names=(")
    assert "chain" not in shown and "signer" not in shown
