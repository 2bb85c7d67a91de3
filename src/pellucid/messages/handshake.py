"""The handshake messages, each declared once in the RFC's notation (RFC 9846 §4, §B.3). No rules, no state."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from pellucid.errors import UsageError
from pellucid.registry import HandshakeType as H
from pellucid.wire import (
    Codec,
    WireStruct,
    fixed,
    opaque,
    optional,
    pairs,
    pairs_vector,
    rest,
    u8,
    u16,
    u24,
    u32,
    uint_vector,
    vector,
    wire,
    wire_struct,
)

HEADER_LENGTH: Final = 4

HELLO_RETRY_REQUEST_RANDOM: Final = hashlib.sha256(b"HelloRetryRequest").digest()
"""The Random that makes a ServerHello a HelloRetryRequest (RFC 9846 §4.2.3)."""

DOWNGRADE_TLS_1_2: Final = b"DOWNGRD\x01"
DOWNGRADE_TLS_1_1: Final = b"DOWNGRD\x00"
"""The last 8 bytes of ServerHello.random of a TLS 1.3 server that negotiates an older version (RFC 9846 §4.2.3)."""


class Extension(NamedTuple):
    """RFC 9846 §4.3. The body stays bytes until the extension table decodes it."""

    extension_type: int
    extension_data: bytes


EXTENSION: Final[Codec[Extension]] = pairs(Extension, "Extension", 0)
CIPHER_SUITES: Final = uint_vector(2, 2, 2**16 - 2)
_EXTENSIONS: Final = pairs_vector(Extension, "Extension", 0, 0, 2**16 - 1)


@wire_struct
class ClientHello(WireStruct):
    """RFC 9846 §4.2.2. The bounds of *extensions* admit older versions' hellos: those end in protocol_version."""

    legacy_version: int = wire(u16)
    random: bytes = wire(fixed(32))
    legacy_session_id: bytes = wire(opaque(0, 32))
    cipher_suites: tuple[int, ...] = wire(CIPHER_SUITES)
    legacy_compression_methods: bytes = wire(opaque(1, 2**8 - 1))
    extensions: tuple[Extension, ...] = wire(optional(_EXTENSIONS))


@wire_struct
class ServerHello(WireStruct):
    """RFC 9846 §4.2.3; with the special random, HelloRetryRequest (§4.2.4)."""

    legacy_version: int = wire(u16)
    random: bytes = wire(fixed(32))
    legacy_session_id_echo: bytes = wire(opaque(0, 32))
    cipher_suite: int = wire(u16)
    legacy_compression_method: int = wire(u8)
    extensions: tuple[Extension, ...] = wire(optional(_EXTENSIONS))


@wire_struct
class EncryptedExtensions(WireStruct):
    """RFC 9846 §4.4.1."""

    extensions: tuple[Extension, ...] = wire(_EXTENSIONS)


@wire_struct
class CertificateRequest(WireStruct):
    """RFC 9846 §4.4.2."""

    certificate_request_context: bytes = wire(opaque(0, 2**8 - 1))
    extensions: tuple[Extension, ...] = wire(_EXTENSIONS)


@wire_struct
class CertificateEntry(WireStruct):
    """RFC 9846 §4.5.1. cert_data: X.509 DER, or SubjectPublicKeyInfo where raw public keys are negotiated."""

    cert_data: bytes = wire(opaque(1, 2**24 - 1))
    extensions: tuple[Extension, ...] = wire(_EXTENSIONS)


@wire_struct
class Certificate(WireStruct):
    """RFC 9846 §4.5.1."""

    certificate_request_context: bytes = wire(opaque(0, 2**8 - 1))
    certificate_list: tuple[CertificateEntry, ...] = wire(vector(CertificateEntry.codec, 0, 2**24 - 1))


@wire_struct
class CompressedCertificate(WireStruct):
    """RFC 8879 §4. What is compressed is the body of a Certificate; uncompressed_length: its bytes."""

    algorithm: int = wire(u16)
    uncompressed_length: int = wire(u24)
    compressed_certificate_message: bytes = wire(opaque(1, 2**24 - 1))


@wire_struct
class CertificateVerify(WireStruct):
    """RFC 9846 §4.5.2."""

    algorithm: int = wire(u16)
    signature: bytes = wire(opaque(0, 2**16 - 1))


@wire_struct
class Finished(WireStruct):
    """RFC 9846 §4.5.3. verify_data: Hash.length bytes, checked by whoever knows the hash."""

    verify_data: bytes = wire(rest)


@wire_struct
class NewSessionTicket(WireStruct):
    """RFC 9846 §4.7.1. ticket_lifetime in seconds; ticket_age_add in milliseconds, modulo 2^32."""

    ticket_lifetime: int = wire(u32)
    ticket_age_add: int = wire(u32)
    ticket_nonce: bytes = wire(opaque(0, 255))
    ticket: bytes = wire(opaque(1, 2**16 - 1))
    extensions: tuple[Extension, ...] = wire(_EXTENSIONS)


@wire_struct
class EndOfEarlyData(WireStruct):
    """RFC 9846 §4.6. Empty."""


@wire_struct
class KeyUpdate(WireStruct):
    """RFC 9846 §4.7.3. request_update: 0 or 1."""

    request_update: int = wire(u8)


BODIES: Final[dict[int, type[WireStruct]]] = {
    H.CLIENT_HELLO: ClientHello,
    H.SERVER_HELLO: ServerHello,
    H.HELLO_RETRY_REQUEST: ServerHello,
    H.NEW_SESSION_TICKET: NewSessionTicket,
    H.END_OF_EARLY_DATA: EndOfEarlyData,
    H.ENCRYPTED_EXTENSIONS: EncryptedExtensions,
    H.CERTIFICATE: Certificate,
    H.COMPRESSED_CERTIFICATE: CompressedCertificate,
    H.CERTIFICATE_REQUEST: CertificateRequest,
    H.CERTIFICATE_VERIFY: CertificateVerify,
    H.FINISHED: Finished,
    H.KEY_UPDATE: KeyUpdate,
}

_TYPES: Final = {body: code for code, body in BODIES.items() if code != H.HELLO_RETRY_REQUEST}


def handshake_message(body: WireStruct) -> bytes:
    """Return *body* with its 4-byte Handshake header (RFC 9846 §4)."""
    encoded = body.encode()
    if len(encoded) >= 2**24:
        raise UsageError(f"a handshake message of {len(encoded)} bytes does not fit its header")
    return (_TYPES[type(body)] << 24 | len(encoded)).to_bytes(4, "big") + encoded


def message_type(raw: bytes) -> int:
    """Return the HandshakeType of *raw*; HELLO_RETRY_REQUEST for a ServerHello with the special Random (§4.2.3)."""
    if raw[0] == H.SERVER_HELLO and raw[6:38] == HELLO_RETRY_REQUEST_RANDOM:
        return H.HELLO_RETRY_REQUEST
    return raw[0]
