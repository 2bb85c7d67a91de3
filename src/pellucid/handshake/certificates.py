"""What a Certificate message travels as: ours made and compressed, theirs decompressed (RFC 9846 §4.5.1, RFC 8879).

Whom it names and whether that is to be believed is authenticate's question.
"""

from __future__ import annotations

import functools
from typing import Any

from pellucid.config import Credential
from pellucid.crypto.compression import CertificateCompression
from pellucid.errors import BadCertificate, IllegalParameter, UnexpectedMessage
from pellucid.handshake.core import Context
from pellucid.limits import MAX_HANDSHAKE_BODY
from pellucid.messages import extensions as x
from pellucid.messages.extensions import Extensions
from pellucid.messages.handshake import (
    HEADER_LENGTH,
    Certificate,
    CertificateEntry,
    CompressedCertificate,
    handshake_message,
)
from pellucid.registry import HandshakeType as H
from pellucid.registry import compression_name
from pellucid.trace import CertificateDecompressed

# ---- our own -------------------------------------------------------------------------------------------------------


def certificate_message(context: Context[Any], credential: Credential | None, asked: Extensions) -> bytes:
    """Return our Certificate or CompressedCertificate, header included; with an empty list for None (§4.5.1).

    asked: the extensions of the peer's ClientHello or CertificateRequest.
    """
    raw = _encoded_chain(() if credential is None else credential.chain)
    return raw if credential is None else _compressed(context, raw, asked)


@functools.lru_cache(maxsize=64)
def _encoded_chain(chain: tuple[bytes, ...]) -> bytes:
    return handshake_message(Certificate(b"", tuple(CertificateEntry(der, ()) for der in chain)))


def _compressed(context: Context[Any], raw: bytes, asked: Extensions) -> bytes:
    """Return *raw* compressed, as far as the peer accepts that and it helps (RFC 8879 §4)."""
    accepted = asked.get(x.COMPRESS_CERTIFICATE) or ()
    ours: dict[int, CertificateCompression] = context.config.compression_table
    algorithm = next((ours[code] for code in ours if code in accepted), None)
    sent = None if algorithm is None else _compressed_message(algorithm, raw)
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


@functools.lru_cache(maxsize=64)  # a credential's chain is compressed once, not for every client
def _compressed_message(algorithm: CertificateCompression, raw: bytes) -> bytes | None:
    body = raw[HEADER_LENGTH:]
    compressed = algorithm.compress(body)
    if compressed is None:
        return None
    return handshake_message(CompressedCertificate(algorithm.code, len(body), compressed))


# ---- the peer's ----------------------------------------------------------------------------------------------------


def decompressed(context: Context[Any], message: CompressedCertificate) -> Certificate:
    """Return the Certificate that *message* stands for (RFC 8879 §4, §5; attacks F1, F2).

    Raises UnexpectedMessage where compression was not offered at all, IllegalParameter for an algorithm that was not,
    BadCertificate for what cannot be decompressed to exactly the length declared, DecodeError for a malformed result.
    """
    offered: dict[int, CertificateCompression] = context.config.decompression_table
    if not offered:
        raise UnexpectedMessage("CompressedCertificate, and compression was not offered", rfc="8879 §4")
    algorithm = offered.get(message.algorithm)
    if algorithm is None:
        raise IllegalParameter(
            f"the certificate is compressed with {compression_name(message.algorithm)}, which was not offered",
            rfc="8879 §4",
        )
    data, length = message.compressed_certificate_message, message.uncompressed_length
    if length > MAX_HANDSHAKE_BODY[H.CERTIFICATE]:
        raise BadCertificate(
            f"a compressed certificate of {length} bytes, allowed are {MAX_HANDSHAKE_BODY[H.CERTIFICATE]}",
            rfc="8879 §5",
        )
    try:
        body = algorithm.decompress(data, length)
        if len(body) != length:
            raise ValueError(f"it has {len(body)} bytes, declared are {length}")
    except ValueError as error:
        raise BadCertificate(
            f"the certificate cannot be decompressed with {algorithm.name}: {error}", rfc="8879 §4"
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
