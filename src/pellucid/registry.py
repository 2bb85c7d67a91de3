"""IANA code points with their names. No logic but the look-up of a name; nothing of ours is imported.

Wire values stay int everywhere: these classes are namespaces of int constants, not enums, because an enum
constructor in a try costs 1.5 µs for each GREASE value a peer sends.
"""

from __future__ import annotations

from typing import Final

TLS_1_2: Final = 0x0303
TLS_1_3: Final = 0x0304


class ContentType:
    """RFC 9846 §5.1."""

    INVALID: Final = 0
    CHANGE_CIPHER_SPEC: Final = 20
    ALERT: Final = 21
    HANDSHAKE: Final = 22
    APPLICATION_DATA: Final = 23


class HandshakeType:
    """RFC 9846 §4. HELLO_RETRY_REQUEST is a server_hello with a special Random; 6 is its historic, reserved number."""

    CLIENT_HELLO: Final = 1
    SERVER_HELLO: Final = 2
    NEW_SESSION_TICKET: Final = 4
    END_OF_EARLY_DATA: Final = 5
    HELLO_RETRY_REQUEST: Final = 6
    ENCRYPTED_EXTENSIONS: Final = 8
    CERTIFICATE: Final = 11
    CERTIFICATE_REQUEST: Final = 13
    CERTIFICATE_VERIFY: Final = 15
    FINISHED: Final = 20
    KEY_UPDATE: Final = 24
    COMPRESSED_CERTIFICATE: Final = 25
    MESSAGE_HASH: Final = 254


class AlertDescription:
    """RFC 9846 §6."""

    CLOSE_NOTIFY: Final = 0
    UNEXPECTED_MESSAGE: Final = 10
    BAD_RECORD_MAC: Final = 20
    RECORD_OVERFLOW: Final = 22
    HANDSHAKE_FAILURE: Final = 40
    BAD_CERTIFICATE: Final = 42
    UNSUPPORTED_CERTIFICATE: Final = 43
    CERTIFICATE_REVOKED: Final = 44
    CERTIFICATE_EXPIRED: Final = 45
    CERTIFICATE_UNKNOWN: Final = 46
    ILLEGAL_PARAMETER: Final = 47
    UNKNOWN_CA: Final = 48
    ACCESS_DENIED: Final = 49
    DECODE_ERROR: Final = 50
    DECRYPT_ERROR: Final = 51
    PROTOCOL_VERSION: Final = 70
    INSUFFICIENT_SECURITY: Final = 71
    INTERNAL_ERROR: Final = 80
    INAPPROPRIATE_FALLBACK: Final = 86
    USER_CANCELED: Final = 90
    MISSING_EXTENSION: Final = 109
    UNSUPPORTED_EXTENSION: Final = 110
    UNRECOGNIZED_NAME: Final = 112
    BAD_CERTIFICATE_STATUS_RESPONSE: Final = 113
    UNKNOWN_PSK_IDENTITY: Final = 115
    CERTIFICATE_REQUIRED: Final = 116
    GENERAL_ERROR: Final = 117
    NO_APPLICATION_PROTOCOL: Final = 120
    ECH_REQUIRED: Final = 121


class CipherSuite:
    """RFC 9846 §B.4."""

    TLS_AES_128_GCM_SHA256: Final = 0x1301
    TLS_AES_256_GCM_SHA384: Final = 0x1302
    TLS_CHACHA20_POLY1305_SHA256: Final = 0x1303
    TLS_AES_128_CCM_SHA256: Final = 0x1304
    TLS_AES_128_CCM_8_SHA256: Final = 0x1305


class NamedGroup:
    """RFC 9846 §4.3.7; hybrids: draft-ietf-tls-ecdhe-mlkem; ML-KEM alone: draft-ietf-tls-mlkem."""

    SECP256R1: Final = 0x0017
    SECP384R1: Final = 0x0018
    SECP521R1: Final = 0x0019
    X25519: Final = 0x001D
    X448: Final = 0x001E
    MLKEM768: Final = 0x0201
    MLKEM1024: Final = 0x0202
    SECP256R1MLKEM768: Final = 0x11EB
    X25519MLKEM768: Final = 0x11EC
    SECP384R1MLKEM1024: Final = 0x11ED


class PskKeyExchangeMode:
    """RFC 9846 §4.3.9."""

    PSK_KE: Final = 0
    PSK_DHE_KE: Final = 1


class SignatureScheme:
    """RFC 9846 §4.3.3; ML-DSA: draft-ietf-tls-mldsa."""

    RSA_PKCS1_SHA1: Final = 0x0201
    ECDSA_SHA1: Final = 0x0203
    RSA_PKCS1_SHA256: Final = 0x0401
    RSA_PKCS1_SHA384: Final = 0x0501
    RSA_PKCS1_SHA512: Final = 0x0601
    ECDSA_SECP256R1_SHA256: Final = 0x0403
    ECDSA_SECP384R1_SHA384: Final = 0x0503
    ECDSA_SECP521R1_SHA512: Final = 0x0603
    RSA_PSS_RSAE_SHA256: Final = 0x0804
    RSA_PSS_RSAE_SHA384: Final = 0x0805
    RSA_PSS_RSAE_SHA512: Final = 0x0806
    ED25519: Final = 0x0807
    ED448: Final = 0x0808
    RSA_PSS_PSS_SHA256: Final = 0x0809
    RSA_PSS_PSS_SHA384: Final = 0x080A
    RSA_PSS_PSS_SHA512: Final = 0x080B
    MLDSA44: Final = 0x0904
    MLDSA65: Final = 0x0905
    MLDSA87: Final = 0x0906


class ExtensionType:
    """RFC 9846 §4.3 and the IANA registry."""

    SERVER_NAME: Final = 0
    MAX_FRAGMENT_LENGTH: Final = 1
    STATUS_REQUEST: Final = 5
    SUPPORTED_GROUPS: Final = 10
    EC_POINT_FORMATS: Final = 11
    SIGNATURE_ALGORITHMS: Final = 13
    USE_SRTP: Final = 14
    HEARTBEAT: Final = 15
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION: Final = 16
    SIGNED_CERTIFICATE_TIMESTAMP: Final = 18
    CLIENT_CERTIFICATE_TYPE: Final = 19
    SERVER_CERTIFICATE_TYPE: Final = 20
    PADDING: Final = 21
    ENCRYPT_THEN_MAC: Final = 22
    EXTENDED_MAIN_SECRET: Final = 23
    COMPRESS_CERTIFICATE: Final = 27
    RECORD_SIZE_LIMIT: Final = 28
    DELEGATED_CREDENTIAL: Final = 34
    SESSION_TICKET: Final = 35
    SUPPORTED_EKT_CIPHERS: Final = 39
    PRE_SHARED_KEY: Final = 41
    EARLY_DATA: Final = 42
    SUPPORTED_VERSIONS: Final = 43
    COOKIE: Final = 44
    PSK_KEY_EXCHANGE_MODES: Final = 45
    CERTIFICATE_AUTHORITIES: Final = 47
    OID_FILTERS: Final = 48
    POST_HANDSHAKE_AUTH: Final = 49
    SIGNATURE_ALGORITHMS_CERT: Final = 50
    KEY_SHARE: Final = 51
    TRANSPARENCY_INFO: Final = 52
    EXTERNAL_ID_HASH: Final = 55
    EXTERNAL_SESSION_ID: Final = 56
    QUIC_TRANSPORT_PARAMETERS: Final = 57
    TICKET_REQUEST: Final = 58
    # Not assigned by IANA; Chromium sends both.
    APPLICATION_SETTINGS: Final = 0x44CD
    TRUST_ANCHORS: Final = 0xCA34
    ECH_OUTER_EXTENSIONS: Final = 0xFD00
    ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D
    RENEGOTIATION_INFO: Final = 0xFF01


class CertificateType:
    """RFC 7250 §3, RFC 9846 §4.5.1. OpenPGP (1) is not of TLS 1.3."""

    X509: Final = 0
    RAW_PUBLIC_KEY: Final = 2


class CertificateStatusType:
    """RFC 6066 §8."""

    OCSP: Final = 1


class CertificateCompressionAlgorithm:
    """RFC 8879 §7.3."""

    ZLIB: Final = 1
    BROTLI: Final = 2
    ZSTD: Final = 3


# RFC 8701 §2: the 16 values reserved in suites, extensions, groups, signature schemes and versions.
GREASE_VALUES: Final = tuple(0x0A0A + 0x1010 * i for i in range(16))
_GREASE: Final = frozenset(GREASE_VALUES)


def is_grease(value: int) -> bool:
    """Return whether *value* is one of RFC 8701's 16-bit reserved values."""
    return value in _GREASE


def _names(namespace: type, *, upper: bool = False) -> dict[int, str]:
    return {
        value: name if upper else name.lower()
        for name, value in vars(namespace).items()
        if not name.startswith("_") and isinstance(value, int)
    }


_ALERTS: Final = _names(AlertDescription)
_CERTIFICATE_TYPES: Final = {CertificateType.X509: "X.509", CertificateType.RAW_PUBLIC_KEY: "raw public key"}
_COMPRESSIONS: Final = _names(CertificateCompressionAlgorithm)
_CONTENT_TYPES: Final = _names(ContentType)
_EXTENSIONS: Final = _names(ExtensionType)
_HANDSHAKE_TYPES: Final = {
    value: "".join(part.capitalize() for part in name.split("_")) for value, name in _names(HandshakeType).items()
}
_SUITES: Final = _names(CipherSuite, upper=True)
_SCHEMES: Final = _names(SignatureScheme)
_VERSIONS: Final = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
_GROUPS: Final = _names(NamedGroup) | {
    NamedGroup.SECP256R1MLKEM768: "SecP256r1MLKEM768",
    NamedGroup.X25519MLKEM768: "X25519MLKEM768",
    NamedGroup.SECP384R1MLKEM1024: "SecP384r1MLKEM1024",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x0102: "ffdhe4096",
    0x0103: "ffdhe6144",
    0x0104: "ffdhe8192",
    0x0200: "MLKEM512",
    NamedGroup.MLKEM768: "MLKEM768",
    NamedGroup.MLKEM1024: "MLKEM1024",
}


def _name(names: dict[int, str], value: int, width: int) -> str:
    if (name := names.get(value)) is not None:
        return name
    return f"GREASE (0x{value:04x})" if width == 4 and value in _GREASE else f"0x{value:0{width}x}"


def alert_name(value: int) -> str:
    """Return the RFC's name of an AlertDescription, or its number in hex."""
    return _name(_ALERTS, value, 2)


def certificate_type_name(value: int) -> str:
    """Return what a CertificateType is called in prose, or its number in hex."""
    return _name(_CERTIFICATE_TYPES, value, 2)


def compression_name(value: int) -> str:
    """Return the name of a certificate compression algorithm, or its number in hex."""
    return _name(_COMPRESSIONS, value, 4)


def content_type_name(value: int) -> str:
    return _name(_CONTENT_TYPES, value, 2)


def extension_name(value: int) -> str:
    return _name(_EXTENSIONS, value, 4)


def group_name(value: int) -> str:
    return _name(_GROUPS, value, 4)


def exchange_name(group: int | None) -> str:
    """Return the name of the group that keys were exchanged in; None: a PSK alone (psk_ke)."""
    return "no key exchange" if group is None else group_name(group)


def handshake_type_name(value: int) -> str:
    """Return a handshake message's name as the RFC writes it in prose: ClientHello, EncryptedExtensions, …"""
    return _name(_HANDSHAKE_TYPES, value, 2)


def scheme_name(value: int) -> str:
    return _name(_SCHEMES, value, 4)


def suite_name(value: int) -> str:
    return _name(_SUITES, value, 4)


def version_name(value: int) -> str:
    return _name(_VERSIONS, value, 4)


def suite_by_name(name: str) -> int:
    """Return the code point of a cipher suite's IANA name; KeyError if there is none."""
    return _BY_NAME_SUITE[name.upper()]


def group_by_name(name: str) -> int:
    """Return the code point of a group's name, NIST's short names too, in any case; KeyError if none."""
    return _BY_NAME_GROUP[name.lower()]


def scheme_by_name(name: str) -> int:
    """Return the code point of a signature scheme's name; KeyError if there is none."""
    return _BY_NAME_SCHEME[name.lower()]


_BY_NAME_SUITE: Final = {name: value for value, name in _SUITES.items()}
_BY_NAME_SCHEME: Final = {name: value for value, name in _SCHEMES.items()}
_BY_NAME_GROUP: Final = {name.lower(): value for value, name in _GROUPS.items()} | {
    "p-256": NamedGroup.SECP256R1,
    "prime256v1": NamedGroup.SECP256R1,
    "p-384": NamedGroup.SECP384R1,
    "p-521": NamedGroup.SECP521R1,
}
