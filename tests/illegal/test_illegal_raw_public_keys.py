"""Peers that cheat about certificate types and raw public keys (RFC 7250, RFC 9846 §4.5.1; attacks D25, F17)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid import ClientConfig, Credential, RawPublicKeyVerifier, ServerConfig
from pellucid.config import ClientAuthentication
from pellucid.limits import MAX_RAW_PUBLIC_KEY
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Certificate, CertificateEntry, Extension
from pellucid.registry import AlertDescription as A
from pellucid.registry import CertificateType
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.verify import Failure, VerificationReport, WebPKIVerifier, dangerous_accept_any, either
from tests.illegal.evil import (
    Edit,
    authority,
    changing_body,
    changing_extensions,
    client_config,
    credential,
    evil_client,
    evil_server,
    good_client,
    good_server,
    refused,
    server_config,
    without,
)

X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
KEY = credential().as_raw_public_key()


def raw_client(**changes: Any) -> ClientConfig:
    return client_config(
        **{"trust": None, "verifier": RawPublicKeyVerifier(KEY.chain), "server_certificate_types": (RAW,)} | changes
    )


def either_client() -> ClientConfig:
    verifier = either(WebPKIVerifier(authority().trust), RawPublicKeyVerifier(KEY.chain))
    return raw_client(verifier=verifier, server_certificate_types=(RAW, X509))


def raw_server(**changes: Any) -> ServerConfig:
    return server_config(**{"credentials": (KEY, credential())} | changes)


def asking(**changes: Any) -> ServerConfig:
    return raw_server(
        **{
            "client_authentication": ClientAuthentication.REQUIRED,
            "verifier": RawPublicKeyVerifier(KEY.chain),
            "client_certificate_types": (RAW,),
        }
        | changes
    )


def of_type(code: int, *bodies: bytes) -> Callable[[list[Extension]], list[Extension]]:
    """Extensions with those of type *code* taken out, and *bodies* put in."""
    return lambda extensions: [
        *(Extension(code, body) for body in bodies),
        *(one for one in extensions if one.extension_type != code),
    ]


def entries(*der: bytes, extensions: tuple[Extension, ...] = ()) -> Edit:
    """A Certificate of these entries instead."""
    made = tuple(CertificateEntry(one, extensions) for one in der)
    return changing_body(H.CERTIFICATE, lambda body: dataclasses.replace(body, certificate_list=made))


# ---- what EncryptedExtensions says -----------------------------------------------------------------------------------


@pytest.mark.rfc("7250 §4.2", "a type that the client did not list is not chosen")
@pytest.mark.parametrize("code", [E.SERVER_CERTIFICATE_TYPE, E.CLIENT_CERTIFICATE_TYPE])
@pytest.mark.parametrize("chosen", [X509, 1, 3, 255])
def test_type_that_was_not_offered_is_illegal_parameter(code: int, chosen: int) -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, of_type(code, bytes((chosen,))))
    error = refused(
        good_client(raw_client(credentials=(KEY,))), evil_server(raw_server(), edit=edit), A.ILLEGAL_PARAMETER
    )
    assert "which was not offered" in error.reason


@pytest.mark.rfc("9846 §4.3", "an extension that was not asked for is unsupported_extension")
@pytest.mark.parametrize("code", [E.SERVER_CERTIFICATE_TYPE, E.CLIENT_CERTIFICATE_TYPE])
@pytest.mark.parametrize("chosen", [X509, RAW])
def test_type_chosen_without_an_offer_is_unsupported_extension(code: int, chosen: int) -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, of_type(code, bytes((chosen,))))
    refused(good_client(), evil_server(edit=edit), A.UNSUPPORTED_EXTENSION)


@pytest.mark.parametrize("body", [b"", b"\2\0", b"\1\2"], ids=bytes.hex)
def test_type_chosen_is_one_byte(body: bytes) -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, of_type(E.SERVER_CERTIFICATE_TYPE, body))
    refused(good_client(raw_client()), evil_server(raw_server(), edit=edit), A.DECODE_ERROR)


def test_silence_means_x509_which_is_not_accepted() -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, of_type(E.SERVER_CERTIFICATE_TYPE))
    error = refused(good_client(raw_client()), evil_server(raw_server(), edit=edit), A.UNSUPPORTED_CERTIFICATE)
    assert error.reason == "the server shows an X.509 certificate, accepted is raw public key"


# ---- what a ClientHello lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [E.SERVER_CERTIFICATE_TYPE, E.CLIENT_CERTIFICATE_TYPE])
@pytest.mark.parametrize(
    ("body", "alert"),
    [
        (b"\0", A.DECODE_ERROR),
        (b"", A.DECODE_ERROR),
        (b"\2\2", A.DECODE_ERROR),
        (b"\1\2\0", A.DECODE_ERROR),
        pytest.param(
            b"\1\0",
            A.ILLEGAL_PARAMETER,
            marks=pytest.mark.rfc("7250 §4.1", "with nothing but X.509 to offer the extensions are omitted"),
        ),
        (b"\2\2\2", A.ILLEGAL_PARAMETER),
        (b"\3\2\0\2", A.ILLEGAL_PARAMETER),
    ],
    ids=lambda v: v.hex() if isinstance(v, bytes) else "",
)
def test_list_of_types_is_strict_though_the_server_has_one_only(code: int, body: bytes, alert: int) -> None:
    edit = changing_extensions(H.CLIENT_HELLO, of_type(code, body))
    refused(good_server(), evil_client(edit=edit), alert)


def test_types_that_nobody_knows_are_passed_over() -> None:
    for body in (b"\1\7", b"\3\7\1\3"):
        edit = changing_extensions(H.CLIENT_HELLO, of_type(E.SERVER_CERTIFICATE_TYPE, body))
        error = refused(good_server(raw_server()), evil_client(edit=edit), A.UNSUPPORTED_CERTIFICATE)
        assert "no type that is known here" in error.reason
        edit = changing_extensions(H.CLIENT_HELLO, of_type(E.CLIENT_CERTIFICATE_TYPE, body))
        error = refused(good_server(asking()), evil_client(edit=edit), A.UNSUPPORTED_CERTIFICATE)
        assert "nothing that is known here" in error.reason


# ---- what stands in the Certificate ----------------------------------------------------------------------------------


def _public(key: Any) -> bytes:
    return key.public_key().public_bytes(*SPKI)  # type: ignore[no-any-return]


RSA = rsa.generate_private_key(65537, 2048)
NO_KEYS: dict[str, tuple[bytes, int]] = {
    "a certificate": (credential().chain[0], A.DECODE_ERROR),
    "a byte behind it": (KEY.chain[0] + b"\0", A.DECODE_ERROR),
    "a byte missing": (KEY.chain[0][:-1], A.DECODE_ERROR),
    "PKCS 1": (RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1), A.DECODE_ERROR),
    "PEM": (RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), A.DECODE_ERROR),
    "a bare point": (KEY.chain[0][-65:], A.DECODE_ERROR),
    "not on the curve": (KEY.chain[0][:-64] + bytes((1,)) * 64, A.DECODE_ERROR),
    "nothing of DER": (b"\xff", A.DECODE_ERROR),
    "an empty sequence": (b"\x30\x00", A.DECODE_ERROR),
    "too large": (bytes(MAX_RAW_PUBLIC_KEY + 1), A.DECODE_ERROR),
    "a key that does not sign": (_public(x25519.X25519PrivateKey.generate()), A.UNSUPPORTED_CERTIFICATE),
    "DSA": (_public(dsa.generate_private_key(1024)), A.UNSUPPORTED_CERTIFICATE),
}


@pytest.mark.rfc("9846 §4.5.1", "a raw public key is one CertificateEntry with the SubjectPublicKeyInfo")
@pytest.mark.parametrize("what", NO_KEYS)
@pytest.mark.parametrize("victim", ["client", "server"])
def test_what_is_no_usable_key_is_refused(victim: str, what: str) -> None:
    der, alert = NO_KEYS[what]
    edit = entries(der)
    if victim == "client":
        refused(good_client(raw_client()), evil_server(raw_server(), edit=edit), alert)
    else:
        refused(good_server(asking()), evil_client(client_config(credentials=(KEY,)), edit=edit), alert)


@pytest.mark.rfc("9846 §4.5.1", "a raw public key is one CertificateEntry with the SubjectPublicKeyInfo")
@pytest.mark.parametrize("second", [KEY.chain[0], credential().chain[0], b"\0"], ids=["key", "certificate", "junk"])
@pytest.mark.parametrize("victim", ["client", "server"])
def test_raw_key_is_not_followed_by_anything(victim: str, second: bytes) -> None:
    edit = entries(KEY.chain[0], second)
    if victim == "client":
        refused(good_client(raw_client()), evil_server(raw_server(), edit=edit), A.ILLEGAL_PARAMETER)
    else:
        evil = evil_client(client_config(credentials=(KEY,)), edit=edit)
        refused(good_server(asking()), evil, A.ILLEGAL_PARAMETER)


def test_empty_list_where_a_server_shows_its_key_is_decode_error() -> None:
    refused(good_client(raw_client()), evil_server(raw_server(), edit=entries()), A.DECODE_ERROR)


def test_raw_key_where_x509_was_agreed_on_is_bad_certificate() -> None:
    """The key is one that is trusted: what was agreed on decides all the same."""
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, of_type(E.SERVER_CERTIFICATE_TYPE, bytes((X509,))))
    refused(good_client(either_client()), evil_server(raw_server(), edit=edit), A.BAD_CERTIFICATE)
    evil = evil_client(client_config(credentials=(credential(),)), edit=entries(KEY.chain[0]))
    server = server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust)
    refused(good_server(server), evil, A.BAD_CERTIFICATE)


@pytest.mark.parametrize("extension", [x.OCSP_RESPONSE.extension(b"0\0"), x.SCTS.extension((b"sct",))])
def test_raw_key_has_no_staple_though_one_was_asked_for(extension: Extension) -> None:
    edit = entries(KEY.chain[0], extensions=(extension,))
    refused(good_client(raw_client()), evil_server(raw_server(), edit=edit), A.UNSUPPORTED_EXTENSION)


# ---- possession ------------------------------------------------------------------------------------------------------


def test_trusted_key_without_certificate_verify_is_unexpected_message() -> None:
    refused(
        good_client(raw_client()), evil_server(raw_server(), edit=without(H.CERTIFICATE_VERIFY)), A.UNEXPECTED_MESSAGE
    )
    evil = evil_client(client_config(credentials=(KEY,)), edit=without(H.CERTIFICATE_VERIFY))
    refused(good_server(asking()), evil, A.UNEXPECTED_MESSAGE)


@pytest.mark.rfc("9846 §4.5.2", "a signature that does not verify is decrypt_error")
@pytest.mark.parametrize("victim", ["client", "server"])
def test_trusted_key_that_did_not_sign_is_decrypt_error(victim: str) -> None:
    """Somebody shows a key that is trusted and signs with another (attack F17)."""
    other = Credential.raw_public_key(authority().issue("other.test").key_pem)
    edit = entries(KEY.chain[0])
    if victim == "client":
        error = refused(
            good_client(raw_client()), evil_server(raw_server(credentials=(other,)), edit=edit), A.DECRYPT_ERROR
        )
    else:
        evil = evil_client(client_config(credentials=(other,)), edit=edit)
        error = refused(good_server(asking()), evil, A.DECRYPT_ERROR)
    assert isinstance(error.verification, VerificationReport)
    assert error.verification.failure is Failure.BAD_SIGNATURE


SMALL_ORDER = tuple(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    )
)


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
def test_d25_ed25519_key_of_small_order_signs_for_nobody(point: bytes) -> None:
    """Not even for who accepts any key: under the identity, R = S·B verifies over every message."""
    spki = bytes.fromhex("302a300506032b6570032100") + point
    identity = bytes.fromhex("01" + "00" * 31)
    forged = identity + bytes(32)  # S = 0, R = the identity

    def edit(kind: int, raw: bytes) -> bytes:
        raw = entries(spki)(kind, raw)
        return changing_body(H.CERTIFICATE_VERIFY, lambda body: dataclasses.replace(body, signature=forged))(kind, raw)

    signer = Credential.raw_public_key(authority().issue("small.test", key="ed25519").key_pem)
    client = raw_client(verifier=dangerous_accept_any())
    refused(good_client(client), evil_server(raw_server(credentials=(signer,)), edit=edit), A.DECRYPT_ERROR)
    if point == identity:  # OpenSSL takes it: the refusal is ours
        ed25519.Ed25519PublicKey.from_public_bytes(point).verify(forged, b"whatever is signed")


@pytest.mark.parametrize("bits", [1024, 8200])
def test_rsa_key_of_a_size_out_of_bounds_is_not_computed_with(bits: int) -> None:
    key = rsa.generate_private_key(65537, 1024)
    spki = _public(key)
    if bits > 1024:
        numbers = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | 1)
        spki = numbers.public_key().public_bytes(*SPKI)
    signer = Credential.raw_public_key(authority().issue("rsa.test", key="rsa2048").key_pem)
    client = raw_client(verifier=dangerous_accept_any())
    evil = evil_server(raw_server(credentials=(signer,)), edit=entries(spki))
    error = refused(good_client(client), evil, A.BAD_CERTIFICATE)
    assert "nothing is computed with" in error.reason


def test_curve_without_a_scheme_is_refused() -> None:
    spki = _public(ec.generate_private_key(ec.SECP256K1()))
    client = raw_client(verifier=dangerous_accept_any())
    refused(good_client(client), evil_server(raw_server(), edit=entries(spki)), A.ILLEGAL_PARAMETER)


def test_certificate_message_of_a_key_decodes_as_it_was_encoded() -> None:
    """The structure is the same for both types: only what was agreed on tells them apart (§4.5.1)."""
    message = Certificate(b"", (CertificateEntry(KEY.chain[0], ()),))
    assert Certificate.decode(message.encode()) == message
