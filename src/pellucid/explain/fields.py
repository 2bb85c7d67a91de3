"""The fields that matter of each handshake message: one table, message type → (name, value) rows in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from pellucid.crypto.certificates import (
    PARSE_ERRORS,
    RawPublicKey,
    X509Certificate,
    parse_certificate,
    parse_raw_public_key,
)
from pellucid.errors import PeerError
from pellucid.explain.text import escaped, shortened
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    CompressedCertificate,
    EncryptedExtensions,
    EndOfEarlyData,
    Extension,
    Finished,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
)
from pellucid.registry import HandshakeType as H
from pellucid.registry import (
    certificate_type_name,
    compression_name,
    extension_name,
    group_name,
    is_grease,
    scheme_name,
    suite_name,
    version_name,
)
from pellucid.trace import CertificateDecompressed, MessageTraced

__all__ = ["Field", "certificate_name", "message_fields", "parsed"]


class Field(NamedTuple):
    """One row. value: plain words, free of control characters whatever the peer sent."""

    name: str
    value: str


def message_fields(event: MessageTraced | CertificateDecompressed, *, limit: int | None = None) -> tuple[Field, ...]:
    """Return the rows of a message, the most telling first; never raises, however odd the message is.

    limit: of a longer list only so many are named, the others counted; None: all are named.
    """
    if event.body is None:  # read from a file that does not have it
        return ()
    if isinstance(event, CertificateDecompressed):
        return tuple(Field(name, _told(value, limit)) for name, value in _ROWS[H.CERTIFICATE](event.body) if value)
    rows = _ROWS.get(event.message_type)
    if rows is None:
        return (Field("body", f"{len(event.raw) - 4} bytes"),)
    return tuple(Field(name, _told(value, limit)) for name, value in rows(event.body) if value)


def _told(value: str | tuple[str, ...], limit: int | None) -> str:
    if isinstance(value, str):
        return value
    if limit is None or len(value) <= limit + 1:
        return ", ".join(value)
    return f"{', '.join(value[:limit])} and {len(value) - limit} more"


Rows = Iterable[tuple[str, str | tuple[str, ...]]]


def _client_hello(hello: ClientHello) -> Rows:
    known = _decoded(x.M.CH, hello.extensions)
    if known is None:
        yield from _undecoded(hello.extensions)
    else:
        name = known.get(x.SERVER_NAME)
        yield "server name", name or ""
        yield "versions", _listed(version_name, known.get(x.SUPPORTED_VERSIONS))
        yield "suites", _listed(suite_name, hello.cipher_suites)
        yield "groups", _listed(group_name, known.get(x.SUPPORTED_GROUPS))
        yield "key shares", _shares(known.get(x.KEY_SHARES))
        yield "signatures", _listed(scheme_name, known.get(x.SIGNATURE_ALGORITHMS))
        yield "in certificates", _listed(scheme_name, known.get(x.SIGNATURE_ALGORITHMS_CERT))
        yield "authorities", _named(known.get(x.CERTIFICATE_AUTHORITIES))
        yield "protocols", _protocols(known.get(x.ALPN))
        yield "record limit", _bytes(known.get(x.RECORD_SIZE_LIMIT))
        yield "compression", _listed(compression_name, known.get(x.COMPRESS_CERTIFICATE))
        yield "can show", _listed(certificate_type_name, known.get(x.CLIENT_CERTIFICATE_TYPES))
        yield "can verify", _listed(certificate_type_name, known.get(x.SERVER_CERTIFICATE_TYPES))
        yield "asks for", _asked(known)
        yield "cookie", _size(known.get(x.COOKIE))
        yield from _offered(known.get(x.OFFERED_PSKS))
        yield "early data", "follows" if x.EARLY_DATA.extension_type in known else ""
    yield "random", shortened(hello.random, whole=0)


def _offered(psks: x.OfferedPsks | None) -> Rows:
    """An identity with an age is a ticket's; an external PSK has none (RFC 9846 §4.3.11)."""
    if psks is None:
        return
    tickets = sum(bool(one.obfuscated_ticket_age) for one in psks.identities)
    kinds = [*(["a ticket of an earlier connection"] if tickets else [])]
    if external := len(psks.identities) - tickets:
        kinds.append("an external key" if external == 1 else f"{external} external keys")
    yield "psk", tuple(kinds)
    yield "binder", f"{len(psks.binders[0])} bytes, {shortened(psks.binders[0], whole=0)}" if psks.binders else ""


def _server_hello(hello: ServerHello) -> Rows:
    known = _decoded(x.M.SH, hello.extensions)
    yield "suite", suite_name(hello.cipher_suite)
    if known is None:
        yield from _undecoded(hello.extensions)
    else:
        version = known.get(x.SELECTED_VERSION)
        yield "version", version_name(hello.legacy_version if version is None else version)
        share = known.get(x.KEY_SHARE)
        yield "key share", "" if share is None else _shares((share,))
        chosen = known.get(x.SELECTED_IDENTITY)
        yield "psk", "" if chosen is None else f"the client's number {chosen + 1}"
    yield "random", shortened(hello.random, whole=0)


def _hello_retry_request(hello: ServerHello) -> Rows:
    known = _decoded(x.M.HRR, hello.extensions)
    yield "suite", suite_name(hello.cipher_suite)
    if known is None:
        yield from _undecoded(hello.extensions)
        return
    group = known.get(x.SELECTED_GROUP)
    yield "asks for", "" if group is None else f"a key share for {group_name(group)}"
    yield "cookie", _size(known.get(x.COOKIE))


def _encrypted_extensions(message: EncryptedExtensions) -> Rows:
    known = _decoded(x.M.EE, message.extensions)
    if known is None:
        yield from _undecoded(message.extensions)
        return
    protocol = known.get(x.ALPN_SELECTED)
    yield "protocol", "" if protocol is None else _text(protocol)
    yield "server name", "acknowledged" if x.SERVER_NAME_ACK.extension_type in known else ""
    yield "early data", "accepted" if x.EARLY_DATA.extension_type in known else ""
    yield "groups", _listed(group_name, known.get(x.SUPPORTED_GROUPS))
    yield "record limit", _bytes(known.get(x.RECORD_SIZE_LIMIT))
    yield "server shows", _type(known.get(x.SERVER_CERTIFICATE_TYPE))
    yield "client shows", _type(known.get(x.CLIENT_CERTIFICATE_TYPE))
    if not known.present:
        yield "extensions", "none"


def _certificate_request(message: CertificateRequest) -> Rows:
    known = _decoded(x.M.CR, message.extensions)
    if known is None:
        yield from _undecoded(message.extensions)
        return
    yield "signatures", _listed(scheme_name, known.get(x.SIGNATURE_ALGORITHMS))
    yield "in certificates", _listed(scheme_name, known.get(x.SIGNATURE_ALGORITHMS_CERT))
    yield "authorities", _named(known.get(x.CERTIFICATE_AUTHORITIES)) or "any"
    yield "extensions wanted", _named(known.get(x.OID_FILTERS))
    yield "compression", _listed(compression_name, known.get(x.COMPRESS_CERTIFICATE))
    yield "asks for", _asked(known)


def _certificate(message: Certificate) -> Rows:
    if not message.certificate_list:
        yield "certificates", "none"
    if len(message.certificate_list) == 1 and (key := _raw_public_key(message.certificate_list[0].cert_data)):
        yield "raw public key", _key_name(key)
        return
    for index, entry in enumerate(message.certificate_list):
        yield ("leaf" if index == 0 else f"issuer {index}"), certificate_name(entry.cert_data)
        if index == 0 and entry.extensions:
            yield from _stapled(entry.extensions)


def _stapled(extensions: tuple[Extension, ...]) -> Rows:
    known = _decoded(x.M.CT, extensions)
    if known is None:
        yield from _undecoded(extensions)
        return
    yield "ocsp", _size(known.get(x.OCSP_RESPONSE))
    scts = known.get(x.SCTS)
    yield "scts", "" if scts is None else f"{len(scts)} in {sum(map(len, scts))} bytes"


def _compressed_certificate(message: CompressedCertificate) -> Rows:
    yield "algorithm", compression_name(message.algorithm)
    yield "size", f"{len(message.compressed_certificate_message)} bytes for {message.uncompressed_length}"


def _certificate_verify(message: CertificateVerify) -> Rows:
    yield "scheme", scheme_name(message.algorithm)
    yield "signature", f"{len(message.signature)} bytes, {shortened(message.signature, whole=0)}"


def _finished(message: Finished) -> Rows:
    yield "verify_data", f"{len(message.verify_data)} bytes, {shortened(message.verify_data, whole=0)}"


def _new_session_ticket(message: NewSessionTicket) -> Rows:
    known = _decoded(x.M.NST, message.extensions)
    yield "ticket", f"{len(message.ticket)} bytes"
    yield "good for", f"{message.ticket_lifetime} seconds"
    if known is None:
        yield from _undecoded(message.extensions)
    elif limit := known.get(x.MAX_EARLY_DATA_SIZE):
        yield "early data", f"up to {limit} bytes"


def _key_update(message: KeyUpdate) -> Rows:
    yield "asks", "for a KeyUpdate in return" if message.request_update else "for nothing in return"


def _end_of_early_data(_message: EndOfEarlyData) -> Rows:
    return ()


_ROWS: Final[dict[int, Callable[[Any], Rows]]] = {  # Any: each takes the body of its own message
    H.CLIENT_HELLO: _client_hello,
    H.SERVER_HELLO: _server_hello,
    H.HELLO_RETRY_REQUEST: _hello_retry_request,
    H.ENCRYPTED_EXTENSIONS: _encrypted_extensions,
    H.CERTIFICATE_REQUEST: _certificate_request,
    H.CERTIFICATE: _certificate,
    H.COMPRESSED_CERTIFICATE: _compressed_certificate,
    H.CERTIFICATE_VERIFY: _certificate_verify,
    H.FINISHED: _finished,
    H.NEW_SESSION_TICKET: _new_session_ticket,
    H.KEY_UPDATE: _key_update,
    H.END_OF_EARLY_DATA: _end_of_early_data,
}


# ---- values ------------------------------------------------------------------------------------------------------


def _decoded(message: x.M, extensions: tuple[Extension, ...]) -> x.Extensions | None:
    """Return the extensions decoded, None if they are wrong: the handshake will say so, not the picture."""
    try:
        return x.decode_extensions(message, extensions, requested={code for code, _data in extensions})
    except PeerError:
        return None


def _undecoded(extensions: tuple[Extension, ...]) -> Rows:
    names = ", ".join(extension_name(code) for code, _data in extensions)
    yield "extensions", f"not well-formed ({names})"


def _asked(known: x.Extensions) -> tuple[str, ...]:
    """Return what is to come with the peer's certificate."""
    wanted = {x.STATUS_REQUEST.extension_type: "an OCSP response", x.SCT_REQUEST.extension_type: "SCTs"}
    return tuple(name for code, name in wanted.items() if code in known)


def _listed(name: Callable[[int], str], codes: Iterable[int] | None) -> tuple[str, ...]:
    """Return the names of *codes*, without the GREASE between them, which means nothing (RFC 8701)."""
    return () if codes is None else tuple(name(code) for code in codes if not is_grease(code))


def _shares(shares: Iterable[x.KeyShareEntry] | None) -> tuple[str, ...]:
    if shares is None:
        return ()
    return tuple(
        f"{group_name(share.group)} ({len(share.key_exchange)} bytes)" for share in shares if not is_grease(share.group)
    )


def _protocols(names: Iterable[bytes] | None) -> tuple[str, ...]:
    return () if names is None else tuple(map(_text, names))


def _text(data: bytes) -> str:
    return escaped(data.decode("utf-8", "backslashreplace"))


def _size(data: bytes | None) -> str:
    return "" if data is None else f"{len(data)} bytes"


def _named(things: tuple[object, ...] | None) -> str:
    return f"{len(things)} named" if things else ""


def _type(certificate_type: int | None) -> str:
    return "" if certificate_type is None else certificate_type_name(certificate_type)


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count} bytes"


def parsed(der: bytes) -> X509Certificate | None:
    """Return the certificate, None if it cannot be parsed."""
    try:
        return parse_certificate(der)
    except PeerError:
        return None


def certificate_name(der: bytes) -> str:
    """Return whom a certificate is for, its kind of key, and who issued it, in a line; of a raw key its kind."""
    certificate = parsed(der)
    if certificate is None:
        if (key := _raw_public_key(der)) is not None:
            return f"a raw public key ({_key_name(key)})"
        return f"{len(der)} bytes that cannot be read as a certificate"
    try:
        subject, issuer = certificate.x509.subject, certificate.x509.issuer
    except PARSE_ERRORS:  # names are parsed when asked for
        return f"a certificate ({certificate.key_algorithm}) with a name that cannot be read"
    by = "itself" if issuer == subject else _common_name(issuer)
    return f"{_common_name(subject)} ({certificate.key_algorithm}), issued by {by}"


def _raw_public_key(der: bytes) -> RawPublicKey | None:
    """Return the raw public key, None if it is none. A certificate never reads as one, nor the other way round."""
    try:
        return parse_raw_public_key(der)
    except PeerError:
        return None


def _key_name(key: RawPublicKey) -> str:
    return f"{key.key_algorithm}, SHA-256 {key.fingerprint}"


def _common_name(name: Any) -> str:  # Any: pyca/cryptography's Name, which only crypto/ and verify/ import
    attributes = {attribute.rfc4514_attribute_name: str(attribute.value) for attribute in name}
    return escaped(attributes.get("CN") or attributes.get("O") or name.rfc4514_string() or "(no subject)")
