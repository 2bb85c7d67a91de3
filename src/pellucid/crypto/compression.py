"""Certificate compression (RFC 8879): the shape of an algorithm, and zlib, which is always there.

brotli and zstd need packages of their own: pellucid.integrations.certificate_compression.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Protocol

from pellucid.registry import CertificateCompressionAlgorithm, compression_name


class CertificateCompression(Protocol):
    """One algorithm of RFC 8879 §7.3. Hashable, for what `compress` gives for a credential is kept.

    code: 0..65535, as on the wire.   name: for people.
    """

    @property
    def code(self) -> int: ...
    @property
    def name(self) -> str: ...

    def __hash__(self) -> int: ...

    def compress(self, data: bytes, /) -> bytes | None:
        """Return *data*, a Certificate message without its header, compressed; None: it is better sent as it is."""
        ...

    def decompress(self, data: bytes, length: int, /) -> bytes:
        """Return the *length* bytes that *data* stands for.

        data: the peer's, 1..65,528 bytes.   length: what the peer declares, at most 65,536.
        No more than a small multiple of *length* may be allocated, whatever *data* says (attack F1).
        Raises ValueError if *data* is malformed, stands for another number of bytes, or has bytes after its end.
        """
        ...


class Overlong(ValueError):
    """Compressed data stands for more than was declared."""


@dataclass(frozen=True, slots=True)
class Zlib:
    """RFC 1950. level: 0..9, as zlib's; -1 is its default of 6."""

    level: int = -1

    @property
    def code(self) -> int:
        return CertificateCompressionAlgorithm.ZLIB

    @property
    def name(self) -> str:
        return compression_name(self.code)

    def compress(self, data: bytes, /) -> bytes | None:
        return if_smaller(zlib.compress(data, self.level), data)

    def decompress(self, data: bytes, length: int, /) -> bytes:
        stream = zlib.decompressobj()
        try:
            # One byte more than declared is enough to see that there are more.
            out = stream.decompress(data, length + 1)
        except zlib.error as error:
            raise ValueError(f"it is no zlib data: {error}") from error
        if len(out) > length:
            raise Overlong(f"it is longer than the {length} bytes declared")
        if len(out) != length:
            raise ValueError(f"it is shorter than the {length} bytes declared")
        if not stream.eof:
            raise ValueError("it is cut off")
        if stream.unused_data:
            raise ValueError(f"{len(stream.unused_data)} bytes follow its end")
        return out


def if_smaller(compressed: bytes, data: bytes) -> bytes | None:
    """Return *compressed*, or None if it gains nothing over *data*."""
    return compressed if len(compressed) < len(data) else None


ZLIB: Final = Zlib()
