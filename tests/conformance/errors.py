"""The one table from our errors to the names that the runner looks for on the shim's standard error.

A row names a class of ours; where one class is several errors of the runner's, the section that was broken; and where
one section is, words of our message. The first row that fits counts. A test holds every row to the source: the class
exists, and the words stand in it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pellucid import errors as e
from pellucid.errors import AlertReceived, PeerError, TLSError
from pellucid.registry import AlertDescription as A
from pellucid.verify.report import CertificateRejected


class Row(NamedTuple):
    """section: of an RFC, as the error has it; words: of its message. "" fits all."""

    name: str
    error: type[TLSError]
    section: str = ""
    words: str = ""


TABLE: Final = (
    # What cannot be decoded. An extension's own error says the section that defines it.
    Row("BAD_ALERT", e.DecodeError, "9846 §5.1"),
    Row("PEER_DID_NOT_RETURN_A_CERTIFICATE", e.DecodeError, "9846 §4.5.1.3"),
    Row("DUPLICATE_EXTENSION", e.DecodeError, "9846 §4.3", "has two"),
    Row("PARSE_TLSEXT", e.DecodeError, "7301 §3.1"),
    Row("DECODE_ERROR", e.DecodeError, "9846 §4.3", "status_request"),
    Row("ERROR_PARSING_EXTENSION", e.DecodeError, "9846 §4.3"),
    Row("ERROR_PARSING_EXTENSION", e.DecodeError, "9846 §4.3.4"),
    Row("ERROR_PARSING_EXTENSION", e.DecodeError, "6066 §3"),
    Row("ERROR_PARSING_EXTENSION", e.DecodeError, "6962 §3.3"),
    Row("ERROR_PARSING_EXTENSION", e.DecodeError, "8879 §3"),
    Row("CLIENTHELLO_PARSE_FAILED", e.DecodeError, "9846 §3.4", "ClientHello"),
    Row("CLIENTHELLO_PARSE_FAILED", e.DecodeError, "9846 §6", "ClientHello"),
    Row("INVALID_RAW_PUBLIC_KEY", e.DecodeError, "9846 §3.4", "cert_data"),
    Row("DECODE_ERROR", e.DecodeError),
    # Records.
    Row("HTTP_REQUEST", e.UnexpectedMessage, "9846 §5.1", "does not speak TLS"),
    Row("TOO_MANY_EMPTY_FRAGMENTS", e.UnexpectedMessage, "9846 §5.1", "empty records in a row"),
    Row("UNEXPECTED_RECORD", e.UnexpectedMessage, "9846 §5.1", "inside a handshake message"),
    Row("EXCESS_HANDSHAKE_DATA", e.UnexpectedMessage, "9846 §5.1"),
    Row("TOO_MANY_EMPTY_FRAGMENTS", e.UnexpectedMessage, "9846 §5", "more than"),
    Row("INVALID_OUTER_RECORD_TYPE", e.UnexpectedMessage, "9846 §5.2"),
    Row("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", e.UnexpectedMessage, "9846 §5.4"),
    Row("UNEXPECTED_RECORD", e.UnexpectedMessage, "9846 §5"),
    Row("TOO_MANY_WARNING_ALERTS", e.UnexpectedMessage, "9846 §6.1"),
    Row("TOO_MUCH_READ_EARLY_DATA", e.UnexpectedMessage, "9846 §4.7.1", "more early data"),
    Row("TOO_MANY_KEY_UPDATES", e.UnexpectedMessage, "9846 §4.7.3"),
    Row("UNEXPECTED_MESSAGE", e.UnexpectedMessage),
    Row("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", e.BadRecordMac),
    Row("ENCRYPTED_LENGTH_TOO_LONG", e.RecordOverflow, "9846 §5.2"),
    Row("DATA_LENGTH_TOO_LONG", e.RecordOverflow, "9846 §5.4"),
    Row("UNKNOWN_ALERT_TYPE", e.IllegalParameter, "9846 §6"),
    # Hellos.
    Row("DECODE_ERROR", e.ProtocolVersion, "9846 §4.2.4"),
    Row("UNSUPPORTED_PROTOCOL", e.ProtocolVersion),
    Row("INVALID_COMPRESSION_LIST", e.IllegalParameter, "9846 §4.2.2", "legacy_compression_methods"),
    Row("DECODE_ERROR", e.IllegalParameter, "9846 §4.2.3", "legacy_compression_method"),
    Row("WRONG_CIPHER_RETURNED", e.IllegalParameter, "9846 §4.2.3", "which was not offered"),
    Row("WRONG_CIPHER_RETURNED", e.IllegalParameter, "9846 §4.2.4", "HelloRetryRequest had"),
    Row("EMPTY_HELLO_RETRY_REQUEST", e.IllegalParameter, "9846 §4.2.4", "would change nothing"),
    Row("SECOND_SERVERHELLO_VERSION_MISMATCH", e.IllegalParameter, "9846 §4.2.4", "ServerHello does not"),
    Row("SECOND_SERVERHELLO_VERSION_MISMATCH", e.IllegalParameter, "9846 §4.3.1"),
    Row("BAD_ECPOINT", e.IllegalParameter, "9846 §4.3.8.2"),
    Row("DUPLICATE_KEY_SHARE", e.IllegalParameter, "9846 §4.3.8", "two key shares"),
    Row("WRONG_CURVE", e.IllegalParameter, "9846 §4.3.8"),
    Row("MISSING_KEY_SHARE", e.MissingExtension, "9846 §9.2", "key_share"),
    Row("MISSING_KEY_SHARE", e.MissingExtension, "9846 §4.2.3", "key_share"),
    Row("NO_SHARED_GROUP", e.MissingExtension, "9846 §9.2", "supported_groups"),
    Row("NO_COMMON_SIGNATURE_ALGORITHMS", e.MissingExtension, "9846 §9.2", "signature_algorithms"),
    Row("DECODE_ERROR", e.MissingExtension, "9846 §4.4.2"),
    Row("MISSING_EXTENSION", e.MissingExtension),
    Row("NO_COMMON_SIGNATURE_ALGORITHMS", e.HandshakeFailure, "9846 §4.3.3"),
    Row("NO_MATCHING_ISSUER", e.HandshakeFailure, "9846 §4.3.4"),
    Row("NO_APPLICATION_PROTOCOL", e.NoApplicationProtocol),
    # PSKs and early data.
    Row("PSK_IDENTITY_BINDER_COUNT_MISMATCH", e.IllegalParameter, "9846 §4.3.11", "PSK identities with"),
    Row("PRE_SHARED_KEY_MUST_BE_LAST", e.IllegalParameter, "9846 §4.3.11", "is not the last extension"),
    Row("PSK_IDENTITY_NOT_FOUND", e.IllegalParameter, "9846 §4.3.11", "selected_identity is"),
    Row("PSK_IDENTITY_NOT_FOUND", e.IllegalParameter, "9846 §4.2.2", "dropped the PSK"),
    Row("PSK_IDENTITY_NOT_FOUND", e.HandshakeFailure, "9846 §4.2.1", "no credential for this peer"),
    Row("OLD_SESSION_PRF_HASH_MISMATCH", e.IllegalParameter, "9846 §4.3.11", "the PSK selected is not for"),
    Row("MISSING_KEY_SHARE", e.IllegalParameter, "9846 §4.3.11", "psk_ke was not offered"),
    Row("UNEXPECTED_EXTENSION", e.IllegalParameter, "9846 §4.3.11", "early data is accepted without the first PSK"),
    Row("CIPHER_MISMATCH_ON_EARLY_DATA", e.IllegalParameter, "9846 §4.3.10", "another cipher suite"),
    Row("ALPN_MISMATCH_ON_EARLY_DATA", e.IllegalParameter, "9846 §4.3.10", "another application protocol"),
    Row("DIGEST_CHECK_FAILED", e.DecryptError, "9846 §4.3.11.2"),
    Row("HANDSHAKE_NOT_COMPLETE", e.UsageError, "", "no exporter before the handshake is complete"),
    # Extensions where they have no place.
    Row("INVALID_ALPN_PROTOCOL", e.IllegalParameter, "7301 §3.2"),
    Row("ERROR_PARSING_EXTENSION", e.UnsupportedExtension, "9846 §4.3", "ec_point_formats"),
    Row("UNEXPECTED_EXTENSION", e.UnsupportedExtension),
    Row("UNEXPECTED_EXTENSION", e.IllegalParameter, "9846 §4.3", "has no place in"),
    # Certificates or raw public keys.
    Row("UNSUPPORTED_CERTIFICATE", e.UnsupportedCertificate, "7250 §4.2"),
    Row("UNSUPPORTED_CERTIFICATE", e.IllegalParameter, "7250 §4.2"),
    Row("UNKNOWN_CERTIFICATE_TYPE", e.HandshakeFailure, "7250 §4.2"),
    Row("DECODE_ERROR", e.IllegalParameter, "7250 §4.1"),
    # Who the peer is.
    Row("DECODE_ERROR", e.IllegalParameter, "9846 §4.4.2"),
    Row("KEY_USAGE_BIT_INCORRECT", CertificateRejected, "", "a key usage without digital signature"),
    Row("CERTIFICATE_VERIFY_FAILED", CertificateRejected),
    Row("PEER_DID_NOT_RETURN_A_CERTIFICATE", e.CertificateRequired),
    Row("EXCESSIVE_MESSAGE_SIZE", e.BadCertificate, "9846 §4.5.1", "are looked at"),
    Row("UNKNOWN_CERT_COMPRESSION_ALG", e.IllegalParameter, "8879 §4"),
    Row("CERT_DECOMPRESSION_FAILED", e.BadCertificate, "8879 §4"),
    Row("UNCOMPRESSED_CERT_TOO_LARGE", e.BadCertificate, "8879 §5"),
    Row("WRONG_SIGNATURE_TYPE", e.IllegalParameter, "9846 §4.5.2"),
    Row("BAD_SIGNATURE", e.DecryptError, "9846 §4.5.2"),
    Row("DIGEST_CHECK_FAILED", e.DecryptError, "9846 §4.5.3"),
    # Afterwards.
    Row("DECODE_ERROR", e.IllegalParameter, "9846 §4.7.3"),
)

ALERTS: Final = {
    A.HANDSHAKE_FAILURE: "SSLV3_ALERT_HANDSHAKE_FAILURE",
    A.RECORD_OVERFLOW: "TLSV1_ALERT_RECORD_OVERFLOW",
    30: "SSLV3_ALERT_DECOMPRESSION_FAILURE",
}
"""error alerts of the peer; 30 is SSL 3's decompression_failure, which the runner uses as an alert that nobody sends"""


def name_of(error: TLSError) -> str:
    """Return what the runner calls *error*, between colons; our own name for one that is not in the table."""
    if isinstance(error, AlertReceived):
        return f":{ALERTS.get(error.description, f'ALERT_{error.description}')}:"
    rfc = error.rfc if isinstance(error, PeerError) else ""
    for row in TABLE:
        if type(error) is row.error and row.section in {"", rfc} and row.words in error.reason:
            return f":{row.name}:"
    return f":{type(error).__name__}:"
