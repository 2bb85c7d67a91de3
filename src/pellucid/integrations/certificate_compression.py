"""Certificate compression with brotli and zstd (RFC 8879), over the packages of those names: `pellucid[compression]`.

For `certificate_compression` of a configuration, preferred first: `(Brotli(), Zstd(), ZLIB)`, or `installed()`.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any, Final

from pellucid.crypto.compression import ZLIB, CertificateCompression, Overlong, if_smaller
from pellucid.errors import UsageError
from pellucid.registry import CertificateCompressionAlgorithm, compression_name

__all__ = ["ZLIB", "Brotli", "Zstd", "installed"]

_MAX_ZSTD_WINDOW: Final = 2**23
"""bytes; what every decoder should have room for (RFC 8878 §3.1.1.1.2)"""


@functools.cache
def _module(name: str) -> Any:  # Any: neither package need be there, not even for the type checker
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"certificate compression with {name} needs `pip install 'pellucid[compression]'`") from error
    if name == "brotli" and not hasattr(module.Decompressor, "can_accept_more_data"):
        # Before 1.2 nothing bounds what a Decompressor makes (CVE-2025-6176).
        raise UsageError(f"brotli {module.__version__} cannot bound its output; 1.2 or newer is needed")
    return module


@dataclass(frozen=True, slots=True)
class Brotli:
    """RFC 7932. quality: 0..11; a chain is compressed once, so the default is the best.

    Raises UsageError where the package is missing, or older than 1.2.
    """

    quality: int = 11

    def __post_init__(self) -> None:
        _module("brotli")

    @property
    def code(self) -> int:
        return CertificateCompressionAlgorithm.BROTLI

    @property
    def name(self) -> str:
        return compression_name(self.code)

    def compress(self, data: bytes, /) -> bytes | None:
        compressed: bytes = _module("brotli").compress(data, quality=self.quality)
        return if_smaller(compressed, data)

    def decompress(self, data: bytes, length: int, /) -> bytes:
        brotli = _module("brotli")
        stream = brotli.Decompressor()
        try:
            # The limit is one of blocks: at most one of 64 KiB more is made. Bytes after the end are an error of its.
            out: bytes = stream.process(data, output_buffer_limit=length + 1)
        except brotli.error as error:
            raise ValueError(f"it is no brotli data, or bytes follow its end: {error}") from error
        if len(out) > length:
            raise Overlong(f"it is longer than the {length} bytes declared")
        if not stream.is_finished():
            raise ValueError("it is cut off")
        if len(out) != length:
            raise ValueError(f"it is shorter than the {length} bytes declared")
        return out


@dataclass(frozen=True, slots=True)
class Zstd:
    """RFC 8878. level: 1..22; a chain is compressed once, so the default is the best.

    Raises UsageError where the package is missing.
    """

    level: int = 22

    def __post_init__(self) -> None:
        _module("zstandard")

    @property
    def code(self) -> int:
        return CertificateCompressionAlgorithm.ZSTD

    @property
    def name(self) -> str:
        return compression_name(self.code)

    def compress(self, data: bytes, /) -> bytes | None:
        compressed: bytes = _module("zstandard").ZstdCompressor(level=self.level).compress(data)
        return if_smaller(compressed, data)

    def decompress(self, data: bytes, length: int, /) -> bytes:
        zstandard = _module("zstandard")
        try:
            # A size in the frame's header is what would be allocated, whatever limit is given.
            told = zstandard.get_frame_parameters(data).content_size
            if told not in (length, zstandard.CONTENTSIZE_UNKNOWN):
                raise ValueError(f"its frame has {told} bytes, declared are {length}")
            decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
            out: bytes = decoder.decompress(data, max_output_size=max(length, 1), allow_extra_data=False)
            if len(out) != length:
                raise ValueError(f"it is shorter than the {length} bytes declared")
            # That lets a second frame pass. The first one's size is known now: it can be asked where it ended.
            stream = decoder.decompressobj()
            stream.decompress(data)
        except zstandard.ZstdError as error:
            raise ValueError(f"it is no zstd data, or longer than the {length} bytes declared: {error}") from error
        if not stream.eof or stream.unused_data:
            raise ValueError("bytes follow its end")
        return out


def installed() -> tuple[CertificateCompression, ...]:
    """Return the algorithms that can be used here, preferred first; zlib is always one of them."""
    found: list[CertificateCompression] = []
    for algorithm in (Brotli, Zstd):
        try:
            found.append(algorithm())
        except UsageError:
            continue
    return (*found, ZLIB)
