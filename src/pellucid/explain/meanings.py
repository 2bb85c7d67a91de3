"""What each field of a message is for, in one sentence, with its section and how its value is told: data, no code.

A key is a field's path without indices: "cipher_suites[]", "client_shares[].group". Where two messages mean
different things by one name, the message's name stands before it: "ServerHello.random".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pellucid.explain.text import escaped
from pellucid.messages import extensions as x
from pellucid.registry import (
    CertificateStatusType,
    NamedGroup,
    PskKeyExchangeMode,
    certificate_type_name,
    compression_name,
    extension_name,
    group_name,
    scheme_name,
    suite_name,
    version_name,
)

__all__ = ["ABOUT", "EXTENSIONS", "GREASE", "HYBRIDS", "LENGTH", "ROOTS", "UNKNOWN", "About"]


class About(NamedTuple):
    """meaning: one sentence. rfc: "9846 §4.3.8". show: value → words; None: a number as it is, bytes as their count."""

    meaning: str
    rfc: str
    show: Callable[[Any], str] | None = None


def _coded(name: Callable[[int], str], digits: int = 4) -> Callable[[int], str]:
    def show(value: int) -> str:
        told, number = name(value), f"0x{value:0{digits}x}"
        return told if number in told else f"{told} ({number})"

    return show


def text(data: bytes) -> str:
    """Return bytes that are mostly text, in quotation marks, with whatever is none escaped."""
    return f"“{escaped(data.decode('utf-8', 'backslashreplace'))}”"


def _seconds(value: int) -> str:
    days = f", {value / 86_400:.1f} days" if value >= 86_400 else ""
    return f"{value} seconds{days}"


def _mode(value: int) -> str:
    names = {PskKeyExchangeMode.PSK_KE: "psk_ke", PskKeyExchangeMode.PSK_DHE_KE: "psk_dhe_ke"}
    return f"{names.get(value, 'unknown')} ({value})"


def _status_type(value: int) -> str:
    return "ocsp (1)" if value == CertificateStatusType.OCSP else f"unknown ({value})"


def _request_update(value: int) -> str:
    names = {0: "update_not_requested", 1: "update_requested"}
    return f"{names.get(value, 'unknown')} ({value})"


def _obfuscated_age(value: int) -> str:
    return f"{value} ms, ticket_age_add already added (modulo 2^32)"


def _name_type(value: int) -> str:
    return "host_name (0)" if value == 0 else f"unknown ({value})"


_version: Final = _coded(version_name)
_suite: Final = _coded(suite_name)
_group: Final = _coded(group_name)
_scheme: Final = _coded(scheme_name)
_extension: Final = _coded(extension_name)
_compression: Final = _coded(compression_name)
_certificate_type: Final = _coded(certificate_type_name, 2)

LENGTH: Final = About("How many bytes follow that belong to this field.", "9846 §3.4")
GREASE: Final = About(
    "A reserved value that means nothing: it is sent so that peers stay used to ignoring what they do not know.",
    "8701 §3",
)
UNKNOWN: Final = About("Bytes that are shown as they are: nothing here knows more about them.", "9846 §4")

ABOUT: Final[dict[str, About]] = {
    "msg_type": About("Which handshake message this is.", "9846 §4"),
    "ClientHello.legacy_version": About(
        "Always TLS 1.2, for old middleboxes; the real offer is in supported_versions.", "9846 §4.2.2", _version
    ),
    "ClientHello.random": About(
        "32 fresh random bytes: no two handshakes are alike; the key log files secrets under it.", "9846 §4.2.2"
    ),
    "legacy_session_id": About(
        "Means nothing in TLS 1.3; filled in so that the handshake looks like TLS 1.2 resumption to middleboxes.",
        "9846 §4.2.2",
    ),
    "cipher_suites": About(
        "What the client can protect records with: an AEAD with a hash, the preferred first.", "9846 §4.2.2"
    ),
    "cipher_suites[]": About("An AEAD for the records and a hash for the key schedule.", "9846 §B.4", _suite),
    "legacy_compression_methods": About(
        "Always one zero: TLS 1.3 does not compress, as compression gives secrets away (CRIME).", "9846 §4.2.2"
    ),
    "extensions": About("Everything else that is said: each extension a type and a body.", "9846 §4.3"),
    "extensions[]": About("One extension: its type, and bytes that only the type gives a meaning.", "9846 §4.3"),
    "extensions[].extension_type": About("Which extension this is.", "9846 §4.3", _extension),
    "extensions[].extension_data": About("The extension's body.", "9846 §4.3"),
    "ServerHello.legacy_version": About(
        "Always TLS 1.2, for old middleboxes; what was chosen is in supported_versions.", "9846 §4.2.3", _version
    ),
    "ServerHello.random": About(
        "32 fresh random bytes; the last 8 would confess a downgrade to an older version.", "9846 §4.2.3"
    ),
    "HelloRetryRequest.random": About(
        "The SHA-256 of “HelloRetryRequest”: this value makes the ServerHello a request to try again.", "9846 §4.2.3"
    ),
    "legacy_session_id_echo": About("The client's legacy_session_id, sent back for middleboxes.", "9846 §4.2.3"),
    "cipher_suite": About("The one suite that the server chose of those offered.", "9846 §4.2.3", _suite),
    "legacy_compression_method": About("Always zero: no compression.", "9846 §4.2.3"),
    "certificate_request_context": About(
        "Ties a Certificate to the request it answers; empty within the handshake.", "9846 §4.4.2"
    ),
    "certificate_list": About("The certificate of whoever sends this, then those that vouch for it.", "9846 §4.5.1"),
    "certificate_list[]": About("One certificate with the extensions that belong to it.", "9846 §4.5.1"),
    "certificate_list[].cert_data": About(
        "X.509 in DER, or a bare public key where raw public keys are agreed.", "9846 §4.5.1"
    ),
    "certificate_list[].extensions": About("What comes with this certificate: an OCSP response, SCTs.", "9846 §4.5.1"),
    "certificate_list[].extensions[]": About("One extension of a certificate.", "9846 §4.3"),
    "certificate_list[].extensions[].extension_type": About("Which extension this is.", "9846 §4.3", _extension),
    "certificate_list[].extensions[].extension_data": About("The extension's body.", "9846 §4.3"),
    "CompressedCertificate.algorithm": About("How the Certificate message is compressed.", "8879 §4", _compression),
    "uncompressed_length": About("How many bytes the Certificate message has.", "8879 §4", lambda n: f"{n} bytes"),
    "compressed_certificate_message": About("The body of a Certificate message, compressed.", "8879 §4"),
    "CertificateVerify.algorithm": About("How the signature was made.", "9846 §4.5.2", _scheme),
    "signature": About(
        "Over the transcript so far, by the certificate's key: its holder is here, now, in this conversation.",
        "9846 §4.5.2",
    ),
    "verify_data": About(
        "An HMAC of the transcript under a key that only the two ends have: nothing was changed on the way.",
        "9846 §4.5.3",
    ),
    "ticket_lifetime": About("How long the ticket is good for, from now; 7 days at most.", "9846 §4.7.1", _seconds),
    "ticket_age_add": About(
        "Added to the ticket's age when it is used, so that who listens cannot link the connections.", "9846 §4.7.1"
    ),
    "ticket_nonce": About("Makes each ticket's PSK another one.", "9846 §4.7.1"),
    "ticket": About("What the client shows when it comes back; only the server can read it.", "9846 §4.7.1"),
    "request_update": About("Whether the receiver is to change its sending key too.", "9846 §4.7.3", _request_update),
    # ---- bodies of extensions --------------------------------------------------------------------------------
    "server_name_list": About("The names by which the client calls the server: one.", "6066 §3"),
    "server_name_list[]": About("A name and its kind.", "6066 §3"),
    "server_name_list[].name_type": About("Which kind of name follows; there is one kind.", "6066 §3", _name_type),
    "server_name_list[].host_name": About(
        "The name asked for: it chooses the certificate, and whoever listens can read it.", "6066 §3", text
    ),
    "named_group_list": About("What the sender can exchange keys in, the preferred first.", "9846 §4.3.7"),
    "named_group_list[]": About("A group that the sender can exchange keys in.", "9846 §4.3.7", _group),
    "supported_signature_algorithms": About(
        "Which signatures the sender can check, the preferred first.", "9846 §4.3.3"
    ),
    "supported_signature_algorithms[]": About("A signature that the sender can check.", "9846 §4.3.3", _scheme),
    "protocol_name_list": About("What is to be spoken over TLS (ALPN), the preferred first.", "7301 §3.1"),
    "protocol_name_list[]": About("The name of an application protocol.", "7301 §3.1", text),
    "padding": About("Zeros that bring the hello to a length that some middleboxes can bear.", "7685 §3"),
    "versions": About("Which versions the client speaks: the real offer.", "9846 §4.3.1"),
    "versions[]": About("A version that the client speaks.", "9846 §4.3.1", _version),
    "selected_version": About("The version that both speak from here on.", "9846 §4.3.1", _version),
    "cookie": About(
        "The server's note to itself, which the client brings back: proof that it can receive.", "9846 §4.3.2"
    ),
    "client_shares": About("The client's half of the key exchange, for the groups it guesses.", "9846 §4.3.8"),
    "client_shares[]": About("The client's half for one group.", "9846 §4.3.8"),
    "client_shares[].group": About("The group that this half is for.", "9846 §4.3.8", _group),
    "client_shares[].key_exchange": About("The client's public value; its private one is never sent.", "9846 §4.3.8"),
    "server_share": About("The server's half of the key exchange.", "9846 §4.3.8"),
    "server_share.group": About("The group that was chosen.", "9846 §4.3.8", _group),
    "server_share.key_exchange": About(
        "The server's public value: with it, both compute the same secret.", "9846 §4.3.8"
    ),
    "selected_group": About("The group that the client shall send a share for.", "9846 §4.3.8", _group),
    "ke_modes": About("How a PSK may be used.", "9846 §4.3.9"),
    "ke_modes[]": About("Whether a PSK comes with a fresh key exchange (psk_dhe_ke) or alone.", "9846 §4.3.9", _mode),
    "max_early_data_size": About("How much 0-RTT data the server would take.", "9846 §4.3.10", lambda n: f"{n} bytes"),
    "identities": About("The keys from earlier that the client would use, the preferred first.", "9846 §4.3.11"),
    "identities[]": About(
        "A ticket of an earlier connection, or the name of a key agreed on elsewhere.", "9846 §4.3.11"
    ),
    "identities[].identity": About("The ticket, or the key's name.", "9846 §4.3.11"),
    "identities[].obfuscated_ticket_age": About(
        "How old the ticket is, hidden from who listens.", "9846 §4.3.11.1", _obfuscated_age
    ),
    "binders": About("For each identity the proof that the client has its key.", "9846 §4.3.11.2"),
    "binders[]": About("An HMAC over this hello up to here: it ties the key to this handshake.", "9846 §4.3.11.2"),
    "selected_identity": About("Which of the client's identities is used, counted from 0.", "9846 §4.3.11"),
    "authorities": About("The CAs that the sender trusts.", "9846 §4.3.4"),
    "authorities[]": About("A CA's distinguished name, in DER.", "9846 §4.3.4"),
    "new_session_count": About("How many tickets the client would like after a full handshake.", "9149 §3"),
    "resumption_count": About("How many tickets the client would like after a resumption.", "9149 §3"),
    "expected_count": About("How many tickets the server means to send.", "9149 §3"),
    "filters": About("Which certificate extensions the client's certificate must have.", "9846 §4.3.5"),
    "filters[]": About("One wanted certificate extension.", "9846 §4.3.5"),
    "filters[].certificate_extension_oid": About("Which certificate extension, an OID in DER.", "9846 §4.3.5"),
    "filters[].certificate_extension_values": About("The values it must have, in DER.", "9846 §4.3.5"),
    "record_size_limit": About(
        "How large a record's inside may be that is sent to us.", "8449 §4", lambda n: f"{n} bytes"
    ),
    "status_type": About("Which kind of proof of non-revocation.", "6066 §8", _status_type),
    "request": About("What the client would have the responder told: nothing.", "6066 §8"),
    "response": About("An OCSP response, in DER: the CA says that the certificate is not revoked.", "6960 §4.2.1"),
    "request.responder_id_list": About("Which responders the client trusts; empty: any.", "6066 §8"),
    "request.responder_id_list[]": About("A responder that the client trusts, in DER.", "6066 §8"),
    "request.request_extensions": About("Extensions of the OCSP request; empty: none.", "6066 §8"),
    "sct_list": About("Proofs that the certificate was entered into public logs.", "6962 §3.3"),
    "sct_list[]": About("One log's signed promise (SCT).", "6962 §3.2"),
    "algorithms": About("How the sender can have a Certificate message compressed.", "8879 §3"),
    "algorithms[]": About("A compression that the sender can undo.", "8879 §3", _compression),
    "client_certificate_types": About("What the client can show: X.509 or a raw key.", "7250 §3"),
    "client_certificate_types[]": About("A type that the client can show.", "7250 §3", _certificate_type),
    "server_certificate_types": About("What the client can verify: X.509 or a raw key.", "7250 §3"),
    "server_certificate_types[]": About("A type that the client can verify.", "7250 §3", _certificate_type),
    "client_certificate_type": About("What the client shall show.", "7250 §3", _certificate_type),
    "server_certificate_type": About("What the server is about to show.", "7250 §3", _certificate_type),
    # ---- records ---------------------------------------------------------------------------------------------
    "encrypted_record": About(
        "What only the two ends can read: the content, its true type, padding, and the seal.", "9846 §5.2"
    ),
}

EXTENSIONS: Final[dict[int, str]] = {
    x.SERVER_NAME.extension_type: "the name of the server that is called",
    x.SUPPORTED_GROUPS.extension_type: "the groups for the key exchange",
    x.SIGNATURE_ALGORITHMS.extension_type: "the signatures that can be checked",
    x.SIGNATURE_ALGORITHMS_CERT.extension_type: "the signatures that can be checked in certificates",
    x.ALPN.extension_type: "the application protocol",
    x.PADDING.extension_type: "zeros, to reach a length",
    x.SUPPORTED_VERSIONS.extension_type: "the version of TLS",
    x.COOKIE.extension_type: "the server's note to itself",
    x.KEY_SHARES.extension_type: "the halves of the key exchange",
    x.PSK_KEY_EXCHANGE_MODES.extension_type: "how a pre-shared key may be used",
    x.EARLY_DATA.extension_type: "data before the handshake is done (0-RTT)",
    x.OFFERED_PSKS.extension_type: "keys known from earlier",
    x.CERTIFICATE_AUTHORITIES.extension_type: "the CAs that are trusted",
    x.POST_HANDSHAKE_AUTH.extension_type: "the client may be asked for a certificate later",
    x.TICKET_REQUEST.extension_type: "how many tickets are wanted",
    x.OID_FILTERS.extension_type: "what a client's certificate must have",
    x.RECORD_SIZE_LIMIT.extension_type: "how large a record may be",
    x.STATUS_REQUEST.extension_type: "a fresh proof that the certificate is not revoked (OCSP)",
    x.SCTS.extension_type: "proofs that the certificate is publicly logged (SCTs)",
    x.COMPRESS_CERTIFICATE.extension_type: "compressed certificates",
    x.CLIENT_CERTIFICATE_TYPES.extension_type: "the kind of certificate that the client shows",
    x.SERVER_CERTIFICATE_TYPES.extension_type: "the kind of certificate that the server shows",
    0xFE0D: "the encrypted ClientHello (ECH)",
    57: "the parameters of QUIC",
    11: "point formats, for TLS 1.2",
    22: "encrypt-then-MAC, for TLS 1.2",
    23: "the extended main secret, for TLS 1.2",
    35: "session tickets, for TLS 1.2",
    0xFF01: "renegotiation, for TLS 1.2",
    34: "delegated credentials",
    0x44CD: "settings of the application protocol, as Chromium sends them (a draft)",
    0xCA34: "the trust anchors that Chromium knows (a draft)",
}
"""extension type → what it is about"""

ROOTS: Final[dict[x.Body[Any], str]] = {
    x.SERVER_NAME: "server_name_list",
    x.SUPPORTED_GROUPS: "named_group_list",
    x.SIGNATURE_ALGORITHMS: "supported_signature_algorithms",
    x.SIGNATURE_ALGORITHMS_CERT: "supported_signature_algorithms",
    x.ALPN: "protocol_name_list",
    x.ALPN_SELECTED: "protocol_name_list",
    x.PADDING: "padding",
    x.SUPPORTED_VERSIONS: "versions",
    x.SELECTED_VERSION: "selected_version",
    x.COOKIE: "cookie",
    x.KEY_SHARES: "client_shares",
    x.KEY_SHARE: "server_share",
    x.SELECTED_GROUP: "selected_group",
    x.PSK_KEY_EXCHANGE_MODES: "ke_modes",
    x.MAX_EARLY_DATA_SIZE: "max_early_data_size",
    x.SELECTED_IDENTITY: "selected_identity",
    x.CERTIFICATE_AUTHORITIES: "authorities",
    x.EXPECTED_TICKETS: "expected_count",
    x.OID_FILTERS: "filters",
    x.RECORD_SIZE_LIMIT: "record_size_limit",
    x.SCTS: "sct_list",
    x.COMPRESS_CERTIFICATE: "algorithms",
    x.CLIENT_CERTIFICATE_TYPES: "client_certificate_types",
    x.CLIENT_CERTIFICATE_TYPE: "client_certificate_type",
    x.SERVER_CERTIFICATE_TYPES: "server_certificate_types",
    x.SERVER_CERTIFICATE_TYPE: "server_certificate_type",
}
"""A body that is one vector or one value → what the RFC calls that; a structure's fields have their own names."""

HYBRIDS: Final = {
    NamedGroup.X25519MLKEM768: (("ML-KEM-768", 1184, 1088), ("x25519", 32, 32)),
    NamedGroup.SECP256R1MLKEM768: (("secp256r1", 65, 65), ("ML-KEM-768", 1184, 1088)),
    NamedGroup.SECP384R1MLKEM1024: (("secp384r1", 97, 97), ("ML-KEM-1024", 1568, 1568)),
}
"""group → its two halves in the order of the wire: name, bytes from the client, bytes from the server"""
