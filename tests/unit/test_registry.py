"""Names of code points: as the RFC writes them, GREASE told apart, unknown ones in hex."""

from __future__ import annotations

import pytest

from pellucid import registry as r


def test_names_are_the_rfcs() -> None:
    assert r.alert_name(50) == "decode_error"
    assert r.alert_name(0) == "close_notify"
    assert r.handshake_type_name(8) == "EncryptedExtensions"
    assert r.handshake_type_name(1) == "ClientHello"
    assert r.suite_name(0x1301) == "TLS_AES_128_GCM_SHA256"
    assert r.group_name(0x11EC) == "X25519MLKEM768"
    assert r.group_name(0x1D) == "x25519"
    assert r.scheme_name(0x0804) == "rsa_pss_rsae_sha256"
    assert r.extension_name(43) == "supported_versions"
    assert r.content_type_name(22) == "handshake"
    assert r.version_name(0x0304) == "TLS 1.3"


@pytest.mark.parametrize("name", [r.suite_name, r.group_name, r.scheme_name, r.extension_name, r.version_name])
def test_unknown_and_reserved_values_have_names_too(name: object) -> None:
    assert callable(name)
    assert name(0xABCD) == "0xabcd"
    assert name(0x1A1A) == "GREASE (0x1a1a)"


def test_one_byte_values_are_never_grease() -> None:
    assert r.alert_name(0x0A) == "unexpected_message"
    assert r.alert_name(0xFE) == "0xfe"
    assert r.content_type_name(0xFE) == "0xfe"


def test_grease_values_are_rfc_8701s_sixteen() -> None:
    assert len(r.GREASE_VALUES) == 16
    assert r.GREASE_VALUES[0] == 0x0A0A and r.GREASE_VALUES[-1] == 0xFAFA
    assert all(r.is_grease(value) and value >> 8 == value & 0xFF for value in r.GREASE_VALUES)
    assert not any(map(r.is_grease, (0x0A1A, 0x1301, 0x001D, 0x0A)))


def test_look_up_by_name_is_the_inverse() -> None:
    for names, by_name in ((r._SUITES, r.suite_by_name), (r._GROUPS, r.group_by_name), (r._SCHEMES, r.scheme_by_name)):
        for value, name in names.items():
            assert by_name(name) == value
            assert by_name(name.swapcase()) == value
    assert r.group_by_name("P-256") == r.group_by_name("prime256v1") == r.NamedGroup.SECP256R1
    with pytest.raises(KeyError):
        r.suite_by_name("TLS_RSA_WITH_NULL_MD5")


@pytest.mark.parametrize(
    "namespace",
    [
        r.ContentType,
        r.HandshakeType,
        r.AlertDescription,
        r.CipherSuite,
        r.NamedGroup,
        r.SignatureScheme,
        r.ExtensionType,
    ],
)
def test_no_code_point_has_two_names(namespace: type) -> None:
    values = [value for name, value in vars(namespace).items() if not name.startswith("_")]
    assert len(values) == len(set(values)) > 3
    assert all(type(value) is int for value in values)
