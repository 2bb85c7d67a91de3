"""The presentation language at its bounds: what fits is encoded, what does not is refused on either side."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid.errors import DecodeError, UsageError
from pellucid.messages.handshake import EXTENSION, Extension
from pellucid.wire import (
    Codec,
    WireStruct,
    empty,
    fixed,
    mapped,
    opaque,
    optional,
    pairs,
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


@wire_struct
class Pair(WireStruct):
    """A structure in a structure."""

    first: int = wire(u8)
    second: bytes = wire(opaque(0, 3))


@wire_struct
class Whole(WireStruct):
    """One field of each kind."""

    number: int = wire(u16)
    numbers: tuple[int, ...] = wire(uint_vector(2, 2, 6))
    pairs: tuple[Pair, ...] = wire(vector(Pair.codec, 0, 20))
    tail: bytes = wire(rest)


WHOLE = Whole(0x0102, (3, 4), (Pair(5, b"ab"), Pair(6, b"")), b"tail")
WHOLE_BYTES = bytes.fromhex("0102 04 0003 0004 06 05 026162 06 00") + b"tail"


@pytest.mark.parametrize(("codec", "width"), [(u8, 1), (u16, 2), (u24, 3), (u32, 4)])
@pytest.mark.rfc("9846 §3.3", "numbers are big-endian")
def test_numbers(codec: Codec[int], width: int) -> None:
    most = 256**width - 1
    assert codec.encode(most) == b"\xff" * width
    assert codec.encode(1) == bytes(width - 1) + b"\x01"
    assert codec.decode(b"\x09" + b"\xff" * width, 1, 1 + width) == (most, 1 + width)
    for wrong in (most + 1, -1):
        with pytest.raises(UsageError):
            codec.encode(wrong)
    with pytest.raises(DecodeError):
        codec.decode(bytes(width), 1, width)


@pytest.mark.parametrize(
    ("codec", "prefix", "least", "most"),
    [
        (opaque(0, 32), 1, 0, 32),
        (opaque(1, 255), 1, 1, 255),
        (opaque(0, 256), 2, 0, 256),
        (opaque(1, 2**16 - 1), 2, 1, 2**16 - 1),
        (opaque(0, 2**16), 3, 0, 2**16),
        (opaque(5, 5), 1, 5, 5),
    ],
)
@pytest.mark.rfc("9846 §3.4", "a vector's length takes as many bytes as its ceiling needs, and keeps its bounds")
def test_opaque_at_its_bounds(codec: Codec[bytes], prefix: int, least: int, most: int) -> None:
    for size in {least, most}:
        raw = codec.encode(b"x" * size)
        assert raw == size.to_bytes(prefix, "big") + b"x" * size
        assert codec.decode(raw, 0, len(raw)) == (b"x" * size, len(raw))
    for size in {least - 1, most + 1} - {-1}:
        with pytest.raises(UsageError):
            codec.encode(b"x" * size)
        if size < 256**prefix:
            raw = size.to_bytes(prefix, "big") + b"x" * size
            with pytest.raises(DecodeError, match="allowed are"):
                codec.decode(raw, 0, len(raw))


@pytest.mark.rfc("9846 §3.4", "a vector's length is a multiple of its elements' size")
def test_number_vector() -> None:
    codec = uint_vector(2, 2, 6)
    assert codec.encode((1, 2, 3)) == bytes.fromhex("06000100020003")
    assert codec.decode(bytes.fromhex("0400010002ff"), 0, 6) == ((1, 2), 5)
    for wrong in ((), (1, 2, 3, 4), (65536,), (-1,)):
        with pytest.raises(UsageError):
            codec.encode(wrong)
    for raw in ("00", "03000100", "080001000200030004", "0400010"[:6], "04"):
        data = bytes.fromhex(raw)
        with pytest.raises(DecodeError):
            codec.decode(data, 0, len(data))


def test_vector_items_may_not_run_over_their_vector() -> None:
    codec = vector(opaque(0, 9), 0, 9)
    assert codec.decode(bytes.fromhex("03 01aa 00"), 0, 4) == ((b"\xaa", b""), 4)
    with pytest.raises(DecodeError):
        codec.decode(bytes.fromhex("03 03aa 00 00"), 0, 5)  # there are bytes, but they are not the vector's


def test_structure_is_encoded_in_the_order_of_its_fields() -> None:
    raw = WHOLE.encode()
    assert raw == WHOLE_BYTES
    assert Whole.decode(raw) == WHOLE
    assert repr(Whole.codec) == "Codec(Whole)"


def test_structure_says_where_it_went_wrong() -> None:
    with pytest.raises(DecodeError, match=r"Whole: numbers: a length of 8, allowed are 2 to 6"):
        Whole.decode(bytes.fromhex("0102 08 0001000200030004 00"))
    with pytest.raises(DecodeError, match=r"Pair: 1 bytes follow its end"):
        Pair.decode(b"\x01\x00\x00")


def test_structure_is_a_value() -> None:
    assert Whole.decode(WHOLE_BYTES) == WHOLE
    assert hash(Whole.decode(WHOLE_BYTES)) == hash(WHOLE)
    assert Whole.decode(WHOLE_BYTES) != dataclasses.replace(WHOLE, number=5)


def test_spans_name_each_part_and_its_place() -> None:
    spans = {span.path: (span.start, span.end, span.value) for span in Whole.codec.spans(WHOLE_BYTES)}
    assert spans["number"] == (0, 2, 0x0102)
    assert spans["numbers"] == (2, 7, (3, 4))
    assert spans["numbers[1]"] == (5, 7, 4)
    assert spans["pairs"][:2] == (7, 14)
    assert spans["pairs[0]"] == (8, 12, Pair(5, b"ab"))
    assert spans["pairs[0].second"] == (9, 12, b"ab")
    assert spans["pairs[1].first"] == (12, 13, 6)
    assert spans["tail"] == (14, 18, b"tail")


def test_fixed_rest_and_empty() -> None:
    assert fixed(3).decode(b"abcd", 1, 4) == (b"bcd", 4)
    with pytest.raises(DecodeError):
        fixed(3).decode(b"abcd", 2, 4)
    with pytest.raises(UsageError):
        fixed(3).encode(b"ab")
    assert rest.decode(b"abcd", 1, 3) == (b"bc", 3)
    assert empty.decode(b"", 0, 0) == (True, 0)
    assert empty.encode(True) == b""


def test_optional_vector_may_be_missing_at_the_end_only() -> None:
    codec = optional(vector(u8, 0, 5))
    assert codec.decode(b"", 0, 0) == ((), 0)
    assert codec.decode(b"\x00", 0, 1) == ((), 1)
    assert codec.decode(b"\x02\x01\x02", 0, 3) == ((1, 2), 3)
    with pytest.raises(DecodeError):
        codec.decode(b"\x02\x01", 0, 2)
    assert next(codec.spans(b"", 0, 0, "list")).value == ()


def test_mapped_values_may_refuse() -> None:
    def load(value: int) -> str:
        if value > 9:
            raise DecodeError("not a digit")
        return str(value)

    digit = mapped(u8, load, int, "digit")
    assert digit.decode(b"\x07", 0, 1) == ("7", 1)
    assert digit.encode("7") == b"\x07"
    with pytest.raises(DecodeError, match="digit: not a digit"):
        digit.decode_all(b"\x0a", "digit")


def test_pairs_equal_the_structure_they_stand_for() -> None:
    @wire_struct
    class Declared(WireStruct):
        """As RFC 9846 §4.3 writes it."""

        extension_type: int = wire(u16)
        extension_data: bytes = wire(opaque(0, 2**16 - 1))

    for code, data in ((0, b""), (0xFFFF, b"x"), (51, b"y" * 65535)):
        raw = Declared(code, data).encode()
        assert EXTENSION.encode(Extension(code, data)) == raw
        assert EXTENSION.decode(raw, 0, len(raw)) == (Extension(code, data), len(raw))
    not_empty: Codec[Any] = pairs(Extension, "Entry", 1)
    for raw in (b"", b"\0\0\0", b"\0\1\0\2x", b"\0\1\0\0"):
        with pytest.raises(DecodeError):
            not_empty.decode(raw, 0, len(raw))
    with pytest.raises(UsageError):
        not_empty.encode(Extension(1, b""))
