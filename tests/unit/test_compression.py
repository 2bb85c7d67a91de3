"""Certificate compression's algorithms against whatever a peer may send: attack F1, for each of them."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.crypto.compression import ZLIB, CertificateCompression, Zlib
from pellucid.errors import UsageError
from pellucid.integrations import certificate_compression
from pellucid.integrations.certificate_compression import Brotli, Zstd, installed
from pellucid.registry import CertificateCompressionAlgorithm as Algorithm
from tests.support.needs import need_module
from tests.support.pair import credential

TEXT = b"".join(credential().chain) * 4
BOMB = 16 * 2**20


def algorithm(name: str) -> CertificateCompression:
    """The algorithm; its package missing fails in CI and skips elsewhere."""
    module = {"brotli": "brotli", "zstd": "zstandard"}.get(name)
    if module is not None:
        need_module(module)
    return {"zlib": Zlib, "brotli": Brotli, "zstd": Zstd}[name]()


def squeezed(name: str, data: bytes) -> bytes:
    """*data* compressed by the library itself, however little it helps."""
    if name == "zlib":
        return zlib.compress(data)
    if name == "brotli":
        import brotli

        return bytes(brotli.compress(data, quality=5))
    import zstandard

    return bytes(zstandard.ZstdCompressor().compress(data))


EACH = pytest.mark.parametrize("name", ["zlib", "brotli", "zstd"])


@EACH
@pytest.mark.rfc("8879 §4", "zlib, brotli and zstd are RFC 1950, RFC 7932 and Zstandard")
def test_algorithm_gives_back_what_went_in(name: str) -> None:
    one = algorithm(name)
    compressed = one.compress(TEXT)
    assert compressed is not None
    assert len(compressed) < len(TEXT)
    assert one.decompress(compressed, len(TEXT)) == TEXT
    assert one.decompress(squeezed(name, TEXT), len(TEXT)) == TEXT
    assert (one.name, one.code) == (name, {"zlib": 1, "brotli": 2, "zstd": 3}[name])


@EACH
def test_algorithm_that_gains_nothing_leaves_it_plain(name: str) -> None:
    assert algorithm(name).compress(os.urandom(500)) is None


@EACH
@pytest.mark.rfc("8879 §4", "another length than declared is refused")
@pytest.mark.parametrize("difference", [-1000, -1, 1, 1000])
def test_algorithm_another_length_than_declared_is_refused(name: str, difference: int) -> None:
    one = algorithm(name)
    with pytest.raises(ValueError, match=r"declared"):
        one.decompress(squeezed(name, TEXT), len(TEXT) + difference)


@EACH
def test_algorithm_bytes_after_the_end_are_refused(name: str) -> None:
    one = algorithm(name)
    compressed = squeezed(name, TEXT)
    for extra in (b"\0", b"more", compressed):
        with pytest.raises(ValueError, match=r"follow its end|declared"):
            one.decompress(compressed + extra, len(TEXT))


@EACH
@pytest.mark.rfc("8879 §4", "what cannot be decompressed is refused")
def test_algorithm_data_cut_anywhere_is_refused(name: str) -> None:
    one = algorithm(name)
    compressed = squeezed(name, TEXT)
    for cut in range(len(compressed)):
        with pytest.raises(ValueError, match="it "):
            one.decompress(compressed[:cut], len(TEXT))


@EACH
@given(data=st.binary(max_size=200), length=st.integers(0, 65_536))
@settings(max_examples=200, deadline=None)
def test_algorithm_any_bytes_are_refused_or_have_the_length_declared(name: str, data: bytes, length: int) -> None:
    one = algorithm(name)
    try:
        out = one.decompress(data, length)
    except ValueError:
        return
    assert len(out) == length


@EACH
@pytest.mark.parametrize("declared", [4, 4096, 65_536])
@pytest.mark.rfc("8879 §5", "the result is limited to the length declared")
def test_algorithm_does_not_unfold_a_bomb(name: str, declared: int) -> None:
    """F1: 16 MiB of zeros in a few bytes. What Python can see of memory stays small, and no time is spent."""
    one = algorithm(name)
    bomb = squeezed(name, bytes(BOMB))
    assert len(bomb) < 20_000
    one.decompress(squeezed(name, TEXT), len(TEXT))  # whatever is loaded at first use
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="declared"):
            one.decompress(bomb, declared)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 65_536


def test_zstd_bomb_without_a_size_in_its_frame_does_not_unfold() -> None:
    one = algorithm("zstd")
    import zstandard

    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(BOMB))
    with pytest.raises(ValueError, match="declared"):
        one.decompress(bomb, 65_536)


def test_zstd_second_frame_is_not_taken_for_part_of_the_first() -> None:
    one = algorithm("zstd")
    import zstandard

    half = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    assert one.decompress(half, len(TEXT)) == TEXT
    for declared in (len(TEXT), 2 * len(TEXT)):
        with pytest.raises(ValueError, match=r"it |follow"):
            one.decompress(half + half, declared)


def test_zlib_stream_that_wants_a_dictionary_is_refused() -> None:
    stream = zlib.compressobj(zdict=TEXT)
    with pytest.raises(ValueError, match="zlib"):
        ZLIB.decompress(stream.compress(TEXT) + stream.flush(), len(TEXT))


def test_zlib_takes_neither_gzip_nor_raw_deflate() -> None:
    for window in (31, -15):
        stream = zlib.compressobj(wbits=window)
        with pytest.raises(ValueError, match="zlib"):
            ZLIB.decompress(stream.compress(TEXT) + stream.flush(), len(TEXT))


def test_installed_always_has_zlib_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed()[-1] is ZLIB
    codes = [one.code for one in installed()]
    assert codes == [code for code in (Algorithm.BROTLI, Algorithm.ZSTD, Algorithm.ZLIB) if code in codes]

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(certificate_compression.importlib, "import_module", missing)
    certificate_compression._module.cache_clear()
    try:
        assert installed() == (ZLIB,)
        for one, package in ((Brotli, "brotli"), (Zstd, "zstandard")):
            with pytest.raises(UsageError, match=rf"{package} needs .*pellucid\[compression\]"):
                one()
    finally:
        certificate_compression._module.cache_clear()


def test_brotli_that_cannot_bound_its_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "1.1.0"
        Decompressor = object

    monkeypatch.setattr(certificate_compression.importlib, "import_module", lambda name: Old)
    certificate_compression._module.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"1\.1\.0 cannot bound"):
            Brotli()
    finally:
        certificate_compression._module.cache_clear()
