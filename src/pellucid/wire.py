"""The presentation language (RFC 9846 §3) as combinators: one declaration decodes, encodes, and tells byte spans.

A codec decodes from (data, offset, end) to (value, next offset) and encodes a value to bytes. Bounds are executed in
both directions: a value out of bounds cannot be encoded, bytes out of bounds raise DecodeError. Nothing here knows a
message. Composition happens once, at import: decoding runs closures over precomputed constants.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar, dataclass_transform

from pellucid.errors import DecodeError, UsageError

__all__ = [
    "Codec",
    "Span",
    "WireStruct",
    "empty",
    "fixed",
    "mapped",
    "opaque",
    "optional",
    "pairs",
    "rest",
    "u8",
    "u16",
    "u24",
    "u32",
    "uint_vector",
    "vector",
    "wire",
    "wire_struct",
]

T = TypeVar("T")
U = TypeVar("U")
P = TypeVar("P", bound=tuple[int, bytes])

Decode = Callable[[bytes, int, int], tuple[T, int]]
Encode = Callable[[T], bytes]


class Span(NamedTuple):
    """Where a field stands: *path* such as "cipher_suites" or "extensions[3]"; offsets from the body's begin."""

    path: str
    start: int
    end: int
    value: object


class Codec(Generic[T]):
    """One type of the presentation language.

    decode: (data, offset, end) → (value, next offset); raises DecodeError. Never reads past end.
    encode: value → bytes; raises UsageError if the value does not fit.
    kind:   as the RFC writes the type, e.g. "opaque<0..32>".
    """

    __slots__ = ("_spans", "decode", "encode", "kind")

    def __init__(
        self,
        decode: Decode[T],
        encode: Encode[T],
        kind: str,
        spans: Callable[[bytes, int, int, str], Iterator[Span]] | None = None,
    ) -> None:
        self.decode = decode
        self.encode = encode
        self.kind = kind
        self._spans = spans

    def __repr__(self) -> str:
        return f"Codec({self.kind})"

    def decode_all(self, data: bytes, what: str) -> T:
        """Return the value that *data* holds and nothing besides; *what* names it in the error."""
        try:
            value, offset = self.decode(data, 0, len(data))
        except DecodeError as error:
            raise DecodeError(f"{what}: {error.reason}", rfc=error.rfc) from None
        if offset != len(data):
            raise DecodeError(f"{what}: {len(data) - offset} bytes follow its end", rfc="9846 §6")
        return value

    def spans(self, data: bytes, start: int = 0, end: int | None = None, path: str = "") -> Iterator[Span]:
        """Yield each field's place, a structure before its parts. *data* must decode."""
        stop = len(data) if end is None else end
        value, after = self.decode(data, start, stop)
        if path:
            yield Span(path, start, after, value)
        if self._spans is not None:
            yield from self._spans(data, start, after, path)


# ---- numbers and bytes -------------------------------------------------------------------------------------


def _uint(width: int) -> Codec[int]:
    def decode(data: bytes, offset: int, end: int) -> tuple[int, int]:
        after = offset + width
        if after > end:
            raise DecodeError(f"{end - offset} bytes where a number of {width} should be", rfc="9846 §3.3")
        return int.from_bytes(data[offset:after], "big"), after

    def encode(value: int) -> bytes:
        try:
            return value.to_bytes(width, "big")
        except OverflowError:
            raise UsageError(f"{value} does not fit into {width} bytes") from None

    return Codec(decode, encode, f"uint{8 * width}")


u8: Final = _uint(1)
u16: Final = _uint(2)
u24: Final = _uint(3)
u32: Final = _uint(4)


def fixed(length: int) -> Codec[bytes]:
    """Return the codec of opaque[length]."""

    def decode(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        after = offset + length
        if after > end:
            raise DecodeError(f"{end - offset} bytes where {length} should be", rfc="9846 §3.4")
        return data[offset:after], after

    def encode(value: bytes) -> bytes:
        if len(value) != length:
            raise UsageError(f"{len(value)} bytes where {length} should be")
        return value

    return Codec(decode, encode, f"opaque[{length}]")


def _decode_rest(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    return data[offset:end], end


rest: Final = Codec[bytes](_decode_rest, bytes, "opaque[rest]")
"""All that is left: for bodies whose length is the hash's (Finished), and for extensions we do not look into."""


def _decode_empty(data: bytes, offset: int, end: int) -> tuple[bool, int]:
    return True, offset


empty: Final = Codec[bool](_decode_empty, lambda _: b"", "empty")
"""An extension that says what it says by being there."""


def _prefix_width(maximum: int) -> int:
    """Return the bytes that a vector's length takes (RFC 9846 §3.4)."""
    return (maximum.bit_length() + 7) // 8


def _bad_length(data: bytes, offset: int, end: int, width: int, bounds: tuple[int, int]) -> DecodeError:
    """Return what is wrong with the vector at *offset*: called once something is."""
    start = offset + width
    if start > end:
        return DecodeError(f"{end - offset} bytes where a length of {width} should be", rfc="9846 §3.4")
    length = int.from_bytes(data[offset:start], "big")
    if start + length > end:
        return DecodeError(f"a length of {length} where {end - start} bytes are left", rfc="9846 §3.4")
    return DecodeError(f"a length of {length}, allowed are {bounds[0]} to {bounds[1]}", rfc="9846 §3.4")


def _prefixed(body: bytes, width: int, minimum: int, maximum: int) -> bytes:
    if not minimum <= len(body) <= maximum:
        raise UsageError(f"a vector of {len(body)} bytes, allowed are {minimum} to {maximum}")
    return len(body).to_bytes(width, "big") + body


def opaque(minimum: int, maximum: int) -> Codec[bytes]:
    """Return the codec of opaque<minimum..maximum>."""
    width = _prefix_width(maximum)

    def decode(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        start = offset + width
        length = int.from_bytes(data[offset:start], "big")
        after = start + length
        if after > end or not minimum <= length <= maximum:
            raise _bad_length(data, offset, end, width, (minimum, maximum))
        return data[start:after], after

    def encode(value: bytes) -> bytes:
        return _prefixed(value, width, minimum, maximum)

    return Codec(decode, encode, f"opaque<{minimum}..{maximum}>")


def uint_vector(size: int, minimum: int, maximum: int) -> Codec[tuple[int, ...]]:
    """Return the codec of uintN<minimum..maximum>, N = 8·size bits, size 1 or 2; bounds in bytes."""
    width = _prefix_width(maximum)
    letter = {1: "B", 2: "H"}[size]
    unpack = struct.unpack

    def decode(data: bytes, offset: int, end: int) -> tuple[tuple[int, ...], int]:
        start = offset + width
        length = int.from_bytes(data[offset:start], "big")
        after = start + length
        if after > end or not minimum <= length <= maximum:
            raise _bad_length(data, offset, end, width, (minimum, maximum))
        if length % size:
            raise DecodeError(f"a list of {size}-byte values is {length} bytes long", rfc="9846 §3.4")
        return unpack(f">{length // size}{letter}", data[start:after]), after

    def encode(value: tuple[int, ...]) -> bytes:
        try:
            body = struct.pack(f">{len(value)}{letter}", *value)
        except struct.error:
            raise UsageError(f"a value of {value} does not fit into {size} bytes") from None
        return _prefixed(body, width, minimum, maximum)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        values, _ = decode(data, start, end)
        for i, value in enumerate(values):
            at = start + width + i * size
            yield Span(f"{path}[{i}]", at, at + size, value)

    return Codec(decode, encode, f"uint{8 * size}<{minimum}..{maximum}>", spans)


# ---- composition -------------------------------------------------------------------------------------------


def vector(item: Codec[T], minimum: int, maximum: int) -> Codec[tuple[T, ...]]:
    """Return the codec of Item<minimum..maximum>; bounds in bytes."""
    width = _prefix_width(maximum)
    decode_item = item.decode
    encode_item = item.encode

    def decode(data: bytes, offset: int, end: int) -> tuple[tuple[T, ...], int]:
        start = offset + width
        length = int.from_bytes(data[offset:start], "big")
        after = start + length
        if after > end or not minimum <= length <= maximum:
            raise _bad_length(data, offset, end, width, (minimum, maximum))
        offset = start
        items: list[T] = []
        append = items.append
        while offset < after:
            value, offset = decode_item(data, offset, after)
            append(value)
        return tuple(items), after

    def encode(value: tuple[T, ...]) -> bytes:
        return _prefixed(b"".join(map(encode_item, value)), width, minimum, maximum)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        offset, i = start + width, 0
        while offset < end:
            _, following = decode_item(data, offset, end)
            yield from item.spans(data, offset, end, f"{path}[{i}]")
            offset, i = following, i + 1

    return Codec(decode, encode, f"{item.kind}<{minimum}..{maximum}>", spans)


def optional(inner: Codec[tuple[T, ...]]) -> Codec[tuple[T, ...]]:
    """Return the codec of a vector that may be missing altogether at the end of its message; then it is ()."""

    def decode(data: bytes, offset: int, end: int) -> tuple[tuple[T, ...], int]:
        if offset == end:
            return (), offset
        return inner.decode(data, offset, end)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        if start != end and inner._spans is not None:
            yield from inner._spans(data, start, end, path)

    return Codec(decode, inner.encode, inner.kind, spans)


def mapped(inner: Codec[U], load: Callable[[U], T], dump: Callable[[T], U], kind: str) -> Codec[T]:
    """Return *inner* with its value turned by *load* (which may raise PeerError) and back by *dump*."""

    def decode(data: bytes, offset: int, end: int) -> tuple[T, int]:
        value, after = inner.decode(data, offset, end)
        return load(value), after

    def encode(value: T) -> bytes:
        return inner.encode(dump(value))

    return Codec(decode, encode, kind, inner._spans)


def pairs(make: Callable[[int, bytes], P], kind: str, minimum: int) -> Codec[P]:
    """Return the codec of struct { uint16; opaque<minimum..2^16-1> }: an Extension or a KeyShareEntry.

    Equal to what wire_struct would make of it; in one function because a ClientHello has dozens.
    """

    def decode(data: bytes, offset: int, end: int) -> tuple[P, int]:
        start = offset + 4
        if start > end:
            raise DecodeError(f"{end - offset} bytes where a {kind} should be", rfc="9846 §4.3")
        after = start + (data[offset + 2] << 8 | data[offset + 3])
        if after > end:
            raise DecodeError(f"a {kind} of {after - start} bytes where {end - start} are left", rfc="9846 §4.3")
        if after - start < minimum:
            raise DecodeError(f"a {kind} with nothing in it", rfc="9846 §3.4")
        return make(data[offset] << 8 | data[offset + 1], data[start:after]), after

    def encode(value: P) -> bytes:
        code, body = value
        return u16.encode(code) + _prefixed(body, 2, minimum, 2**16 - 1)

    return Codec(decode, encode, kind)


# ---- structures --------------------------------------------------------------------------------------------

S = TypeVar("S", bound="WireStruct")


class WireStruct:
    """What @wire_struct adds: `codec`, `encode()` and `decode()`."""

    __slots__ = ()
    codec: ClassVar[Codec[Any]]  # Any: a class variable cannot name the class it stands in

    def encode(self) -> bytes:
        """Return the bytes on the wire. Raises UsageError if a field is out of its bounds."""
        return self.codec.encode(self)

    @classmethod
    def decode(cls: type[S], data: bytes) -> S:
        """Return the structure that *data* holds and nothing besides. Raises DecodeError."""
        value: S = cls.codec.decode_all(data, cls.__name__)
        return value


def wire(codec: Codec[T]) -> T:
    """Declare a field of a wire_struct: its type on the wire."""
    value: T = dataclasses.field(metadata={"codec": codec})
    return value


@dataclass_transform(frozen_default=True, field_specifiers=(wire,))
def wire_struct(cls: type[S]) -> type[S]:
    """Make *cls* a frozen dataclass with a codec compiled from its fields, in their order (RFC 9846 §3.6)."""
    made = dataclasses.dataclass(slots=True, unsafe_hash=True)(cls)  # frozen for the type checker: see value.py
    fields: tuple[tuple[str, Codec[Any]], ...] = tuple((f.name, f.metadata["codec"]) for f in dataclasses.fields(made))  # type: ignore[arg-type]  # it is one now
    decoders = tuple(codec.decode for _, codec in fields)
    encoders = tuple((name, codec.encode) for name, codec in fields)

    def decode(data: bytes, offset: int, end: int) -> tuple[S, int]:
        values: list[object] = []
        try:
            for decode_field in decoders:
                value, offset = decode_field(data, offset, end)
                values.append(value)
        except DecodeError as error:
            raise DecodeError(f"{fields[len(values)][0]}: {error.reason}", rfc=error.rfc) from None
        return made(*values), offset

    def encode(value: S) -> bytes:
        return b"".join([encode_field(getattr(value, name)) for name, encode_field in encoders])

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        offset = start
        for name, codec in fields:
            _, after = codec.decode(data, offset, end)
            yield from codec.spans(data, offset, end, f"{path}.{name}" if path else name)
            offset = after

    made.codec = Codec(decode, encode, made.__name__, spans)
    return made
