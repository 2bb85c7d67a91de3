"""What travels with certificates: compression (RFC 8879), OCSP responses and SCTs (RFC 9846 §4.5.1.1); both ways.

Whom a certificate names and whether that is to be believed is authenticate's question.
"""

from __future__ import annotations

import functools
from collections.abc import Container
from typing import Any

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.crypto.compression import CertificateCompression, Overlong
from pellucid.errors import BadCertificate, IllegalParameter, InternalError, UnexpectedMessage
from pellucid.handshake.core import Context
from pellucid.limits import MAX_HANDSHAKE_BODY
from pellucid.messages import extensions as x
from pellucid.messages.extensions import Extensions
from pellucid.messages.handshake import (
    HEADER_LENGTH,
    Certificate,
    CertificateEntry,
    CompressedCertificate,
    Extension,
    handshake_message,
)
from pellucid.registry import CertificateStatusType, compression_name
from pellucid.registry import HandshakeType as H
from pellucid.trace import CertificateDecompressed, Role

# ---- what is asked for ---------------------------------------------------------------------------------------------


def server_certificate_extensions(config: ClientConfig) -> list[Extension]:
    """Return what a ClientHello says of how the server's certificate may come, and with what."""
    built = []
    if config.request_ocsp:
        built.append(x.STATUS_REQUEST.extension(x.ANY_OCSP_RESPONSE))
    if config.request_scts:
        built.append(x.SCT_REQUEST.extension(True))
    if config.decompression_table:
        built.append(x.COMPRESS_CERTIFICATE.extension(tuple(config.decompression_table)))
    return built


def client_certificate_extensions(config: ServerConfig) -> list[Extension]:
    """Return what a CertificateRequest says of how the client's certificate may come, and with what."""
    built = []
    if config.request_ocsp:
        built.append(x.CLIENT_STATUS_REQUEST.extension(True))
    if config.request_scts:
        built.append(x.SCT_REQUEST.extension(True))
    if config.decompression_table:
        built.append(x.COMPRESS_CERTIFICATE.extension(tuple(config.decompression_table)))
    return built


# ---- our own -------------------------------------------------------------------------------------------------------


def certificate_message(
    context: Context[Any], credential: Credential | None, asked: Extensions, *, request_context: bytes = b""
) -> bytes:
    """Return our Certificate or CompressedCertificate, header included; with an empty list for None (§4.5.1).

    asked: the extensions of the peer's ClientHello or CertificateRequest. request_context: the latter's.
    """
    chain = () if credential is None else credential.chain
    of_leaf = () if credential is None else _stapled(context, credential, asked)
    # One that echoes a context is never the same again: it would push others out of the caches.
    once = bool(request_context)
    raw = _encode_chain(chain, of_leaf, request_context) if once else _encoded_chain(chain, of_leaf)
    return raw if credential is None else _compressed(context, raw, asked, once=once)


def _encode_chain(chain: tuple[bytes, ...], of_leaf: tuple[Extension, ...], request_context: bytes = b"") -> bytes:
    entries = (CertificateEntry(der, () if index else of_leaf) for index, der in enumerate(chain))
    return handshake_message(Certificate(request_context, tuple(entries)))


_encoded_chain = functools.lru_cache(maxsize=64)(_encode_chain)


def _stapled(context: Context[Any], credential: Credential, asked: Extensions) -> tuple[Extension, ...]:
    """Return the extensions of our leaf: what there is of what the peer asked for (RFC 9846 §4.5.1.1)."""
    if context.trace is None and credential.ocsp_response is None and not credential.scts:
        return ()
    built = []
    wants_ocsp = _asks_for_ocsp(context.role, asked)
    response = _ocsp_response(credential) if wants_ocsp else None
    if response is not None:
        built.append(x.OCSP_RESPONSE.extension(response))
    wants_scts = asked.get(x.SCT_REQUEST) is not None
    if wants_scts and credential.scts:
        built.append(x.SCTS.extension(credential.scts))
    if context.trace is not None:
        there = credential.ocsp_response is not None
        size = None if response is None else f"{len(response)} bytes"
        _tell_stapled(context, "ocsp_response", size, wanted=wants_ocsp, there=there)
        count = str(len(credential.scts)) if wants_scts and credential.scts else None
        _tell_stapled(context, "scts", count, wanted=wants_scts, there=bool(credential.scts))
    return tuple(built)


def _asks_for_ocsp(role: Role, asked: Extensions) -> bool:
    if role is Role.CLIENT:
        return asked.get(x.CLIENT_STATUS_REQUEST) is not None
    request = asked.get(x.STATUS_REQUEST)
    return request is not None and request.status_type == CertificateStatusType.OCSP


def _ocsp_response(credential: Credential) -> bytes | None:
    source = credential.ocsp_response
    if source is None or isinstance(source, bytes):
        return source
    response: object = source()
    if response is None or (isinstance(response, bytes) and 1 <= len(response) < 2**24):
        return response
    raise InternalError("a credential's ocsp_response gives 1 to 2^24-1 bytes, or None")


def _tell_stapled(context: Context[Any], what: str, sent: str | None, *, wanted: bool, there: bool) -> None:
    if sent is not None:
        context.chose(what, sent, "the peer asked for it, and it goes with our leaf")
    elif wanted:
        context.chose(what, "none", "there is none at present" if there else "the credential has none")
    elif there:
        context.chose(what, "none", "the peer did not ask for it")


def _compressed(context: Context[Any], raw: bytes, asked: Extensions, *, once: bool) -> bytes:
    """Return *raw* compressed, as far as the peer accepts that and it helps (RFC 8879 §4)."""
    ours: dict[int, CertificateCompression] = context.config.compression_table
    if not ours and context.trace is None:
        return raw
    accepted = asked.get(x.COMPRESS_CERTIFICATE) or ()
    algorithm = next((ours[code] for code in ours if code in accepted), None)
    compress = _compress if once else _compressed_message
    sent = None if algorithm is None else compress(algorithm, raw)
    if context.trace is not None and (accepted or ours):
        chosen = "none"
        if not ours or not accepted:
            reason = "none is configured here" if not ours else "the peer accepts none"
        elif algorithm is None:
            reason = "the peer accepts none of ours"
        elif sent is None:
            reason = f"{algorithm.name} would not make it smaller"
        else:
            chosen = algorithm.name
            reason = f"the first of ours that the peer accepts: {len(sent)} bytes instead of {len(raw)}"
        context.chose("certificate_compression", chosen, reason, _names(ours), tuple(map(compression_name, accepted)))
    return raw if sent is None else sent


def _compress(algorithm: CertificateCompression, raw: bytes) -> bytes | None:
    body = raw[HEADER_LENGTH:]
    compressed = algorithm.compress(body)
    if compressed is None:
        return None
    return handshake_message(CompressedCertificate(algorithm.code, len(body), compressed))


# A credential's chain is compressed once, not for every client.
_compressed_message = functools.lru_cache(maxsize=64)(_compress)


# ---- the peer's ----------------------------------------------------------------------------------------------------


def tell_stapled(context: Context[Any], of_leaf: Extensions, requested: Container[int]) -> None:
    """Tell the observer what came with the peer's leaf of what was asked for. Call only while tracing."""
    response, scts = of_leaf.get(x.OCSP_RESPONSE), of_leaf.get(x.SCTS)
    for what, body, came in (
        ("peer_ocsp_response", x.OCSP_RESPONSE, None if response is None else f"{len(response)} bytes"),
        ("peer_scts", x.SCTS, None if scts is None else str(len(scts))),
    ):
        if came is not None:
            context.chose(what, came, "asked for, and it came with the peer's leaf")
        elif body.extension_type in requested:
            context.chose(what, "none", "asked for, and the peer sent none")


def decompressed(context: Context[Any], message: CompressedCertificate) -> Certificate:
    """Return the Certificate that *message* stands for (RFC 8879 §4, §5; attacks F1, F2).

    Raises UnexpectedMessage where compression was not offered at all, IllegalParameter for an algorithm that was not,
    BadCertificate for what cannot be decompressed to exactly the length declared, DecodeError for a malformed result.
    """
    offered: dict[int, CertificateCompression] = context.config.decompression_table
    if not offered:
        raise UnexpectedMessage(
            "CompressedCertificate, and compression was not offered", rfc="8879 §4", code="TLS-BAD-COMPRESSION"
        )
    algorithm = offered.get(message.algorithm)
    if algorithm is None:
        raise IllegalParameter(
            f"the certificate is compressed with {compression_name(message.algorithm)}, which was not offered",
            rfc="8879 §4",
            code="TLS-BAD-COMPRESSION",
        )
    data, length = message.compressed_certificate_message, message.uncompressed_length
    if length > MAX_HANDSHAKE_BODY[H.CERTIFICATE]:
        raise BadCertificate(
            f"a compressed certificate of {length} bytes, allowed are {MAX_HANDSHAKE_BODY[H.CERTIFICATE]}",
            rfc="8879 §5",
            code="TLS-COMPRESSION-BOMB",
        )
    try:
        body = algorithm.decompress(data, length)
        if len(body) != length:
            raise ValueError(f"it has {len(body)} bytes, declared are {length}")
    except ValueError as error:
        raise BadCertificate(
            f"the certificate cannot be decompressed with {algorithm.name}: {error}",
            rfc="8879 §4",
            code="TLS-COMPRESSION-BOMB" if isinstance(error, Overlong) else "TLS-BAD-COMPRESSION",
        ) from error
    certificate = Certificate.decode(body)
    if context.trace is not None:
        reason = f"the peer's choice of those offered: {len(data)} bytes instead of {length}"
        context.chose("certificate_compression", algorithm.name, reason, _names(offered))
        context.trace(
            CertificateDecompressed(
                algorithm=algorithm.code,
                name=algorithm.name,
                compressed_size=len(data),
                size=length,
                body=certificate,
            )
        )
    return certificate


def tell_uncompressed(context: Context[Any]) -> None:
    """Tell the observer that the peer did not compress, where it might have. Call only while tracing."""
    if offered := context.config.decompression_table:
        context.chose("certificate_compression", "none", "the peer sent its certificate as it is", _names(offered))


def _names(table: dict[int, CertificateCompression]) -> tuple[str, ...]:
    return tuple(algorithm.name for algorithm in table.values())
