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

from pellucid import inlined
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
    "pairs_vector",
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

    __slots__ = ("_spans", "decode", "encode", "inline", "kind")

    def __init__(
        self,
        decode: Decode[T],
        encode: Encode[T],
        kind: str,
        spans: Callable[[bytes, int, int, str], Iterator[Span]] | None = None,
        inline: inlined.Inline | None = None,
    ) -> None:
        self.inline = inline
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
            raise inlined.misplaced(error, what) from None
        if offset != len(data):
            raise inlined.beyond(what, len(data) - offset)
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


def _encode_uint(value: int, width: int) -> bytes:
    try:
        return value.to_bytes(width, "big")
    except OverflowError:
        raise UsageError(f"{value} does not fit into {width} bytes") from None


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise UsageError(f"{len(value)} bytes where {length} should be")
    return value


def _uint(width: int) -> Codec[int]:
    def decode(data: bytes, offset: int, end: int) -> tuple[int, int]:
        after = offset + width
        if after > end:
            raise inlined.short(end - offset, width)
        return int.from_bytes(data[offset:after], "big"), after

    def encode(value: int) -> bytes:
        return _encode_uint(value, width)

    return Codec(decode, encode, f"uint{8 * width}", inline=inlined.uint(width))


u8: Final = _uint(1)
u16: Final = _uint(2)
u24: Final = _uint(3)
u32: Final = _uint(4)


def fixed(length: int) -> Codec[bytes]:
    """Return the codec of opaque[length]."""

    def decode(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        after = offset + length
        if after > end:
            raise inlined.short(end - offset, length)
        return data[offset:after], after

    def encode(value: bytes) -> bytes:
        return _exactly(value, length)

    return Codec(decode, encode, f"opaque[{length}]", inline=inlined.fixed(length))


def _decode_rest(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    return data[offset:end], end


rest: Final = Codec[bytes](_decode_rest, bytes, "opaque[rest]", inline=inlined.REST)
"""All that is left: for bodies whose length is the hash's (Finished), and for extensions we do not look into."""


def _decode_empty(data: bytes, offset: int, end: int) -> tuple[bool, int]:
    return True, offset


empty: Final = Codec[bool](_decode_empty, lambda _: b"", "empty")
"""An extension that says what it says by being there."""


def _prefix_width(maximum: int) -> int:
    """Return the bytes that a vector's length takes (RFC 9846 §3.4)."""
    return (maximum.bit_length() + 7) // 8


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
            raise inlined.bad_length(data, offset, end, width, (minimum, maximum))
        return data[start:after], after

    def encode(value: bytes) -> bytes:
        return _prefixed(value, width, minimum, maximum)

    return Codec(decode, encode, f"opaque<{minimum}..{maximum}>", inline=inlined.opaque(width, minimum, maximum))


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
            raise inlined.bad_length(data, offset, end, width, (minimum, maximum))
        if length % size:
            raise inlined.odd_length(size, length)
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

    inline = inlined.uint_vector(size, width, minimum, maximum)
    return Codec(decode, encode, f"uint{8 * size}<{minimum}..{maximum}>", spans, inline)


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
            raise inlined.bad_length(data, offset, end, width, (minimum, maximum))
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

    inline = inlined.vector(decode_item, encode_item, width, minimum, maximum)
    return Codec(decode, encode, f"{item.kind}<{minimum}..{maximum}>", spans, inline)


def optional(inner: Codec[tuple[T, ...]]) -> Codec[tuple[T, ...]]:
    """Return the codec of a vector that may be missing altogether at the end of its message; then it is ()."""

    def decode(data: bytes, offset: int, end: int) -> tuple[tuple[T, ...], int]:
        if offset == end:
            return (), offset
        return inner.decode(data, offset, end)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        if start != end and inner._spans is not None:
            yield from inner._spans(data, start, end, path)

    return Codec(decode, inner.encode, inner.kind, spans, inlined.optional(inner.inline))


def mapped(inner: Codec[U], load: Callable[[U], T], dump: Callable[[T], U], kind: str) -> Codec[T]:
    """Return *inner* with its value turned by *load* (which may raise PeerError) and back by *dump*."""

    def decode(data: bytes, offset: int, end: int) -> tuple[T, int]:
        value, after = inner.decode(data, offset, end)
        return load(value), after

    def encode(value: T) -> bytes:
        return inner.encode(dump(value))

    return Codec(decode, encode, kind, inner._spans, inlined.mapped(inner.inline, load, dump))


def pairs(make: type[P], kind: str, minimum: int) -> Codec[P]:
    """Return the codec of struct { uint16; opaque<minimum..2^16-1> }: an Extension or a KeyShareEntry.

    make: a NamedTuple of the two.
    """

    def decode(data: bytes, offset: int, end: int) -> tuple[P, int]:
        start = offset + 4
        if start > end:
            raise inlined.bad_pair(data, offset, end, kind)
        after = start + (data[offset + 2] << 8 | data[offset + 3])
        if after > end or after - start < minimum:
            raise inlined.bad_pair(data, offset, end, kind)
        return inlined.new_pair(make, (data[offset] << 8 | data[offset + 1], data[start:after])), after

    def encode(value: P) -> bytes:
        code, body = value
        return _encode_uint(code, 2) + _prefixed(body, 2, minimum, 2**16 - 1)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        code, body = decode(data, start, end)[0]
        yield Span(f"{path}.{first}", start, start + 2, code)
        yield Span(f"{path}.{second}", start + 2, start + 4 + len(body), body)

    first, second = vars(make)["_fields"]
    return Codec(decode, encode, kind, spans)


def pairs_vector(make: type[P], kind: str, item_minimum: int, minimum: int, maximum: int) -> Codec[tuple[P, ...]]:
    """Return `vector(pairs(make, kind, item_minimum), minimum, maximum)`, in one loop: hellos have dozens."""
    item = pairs(make, kind, item_minimum)
    plain = vector(item, minimum, maximum)
    width = _prefix_width(maximum)

    def decode(data: bytes, offset: int, end: int) -> tuple[tuple[P, ...], int]:
        start = offset + width
        stop = start + int.from_bytes(data[offset:start], "big")
        if stop > end or not minimum <= stop - start <= maximum:
            raise inlined.bad_length(data, offset, end, width, (minimum, maximum))
        items: list[P] = []
        offset = start
        while offset < stop:
            start = offset + 4
            if start > stop:
                raise inlined.bad_pair(data, offset, stop, kind)
            after = start + (data[offset + 2] << 8 | data[offset + 3])
            if after > stop or after - start < item_minimum:
                raise inlined.bad_pair(data, offset, stop, kind)
            items.append(inlined.new_pair(make, (data[offset] << 8 | data[offset + 1], data[start:after])))
            offset = after
        return tuple(items), stop

    def encode(value: tuple[P, ...]) -> bytes:
        parts = []
        for code, body in value:
            size = len(body)
            if not item_minimum <= size < 2**16 or not 0 <= code < 2**16:
                return plain.encode(value)  # which says what is wrong
            parts.append((code << 16 | size).to_bytes(4, "big") + body)
        return _prefixed(b"".join(parts), width, minimum, maximum)

    inline = None if item_minimum else inlined.pairs_vector(make, kind, width, minimum, maximum)
    return Codec(decode, encode, plain.kind, plain._spans, inline)


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
    fields = fields_of(made)
    plain = plain_codec(made)

    def spans(data: bytes, start: int, end: int, path: str) -> Iterator[Span]:
        offset = start
        for name, codec in fields:
            _, after = codec.decode(data, offset, end)
            yield from codec.spans(data, offset, end, f"{path}.{name}" if path else name)
            offset = after

    decode, decode_whole, encode = inlined.functions(
        made, plain, [(name, codec, codec.inline) for name, codec in fields]
    )
    made.codec = Codec(decode, encode, made.__name__, spans)
    # One call instead of three for each message.
    type.__setattr__(made, "encode", encode)
    type.__setattr__(made, "decode", staticmethod(decode_whole))
    return made


def fields_of(made: type[WireStruct]) -> tuple[tuple[str, Codec[Any]], ...]:
    """Return the names and codecs of a structure's fields."""
    return tuple((f.name, f.metadata["codec"]) for f in dataclasses.fields(made))  # type: ignore[arg-type]  # it is one


def plain_codec(made: type[S]) -> Codec[S]:
    """Return the codec of a structure as it is written, field by field: what is compiled equals it.

    Where a value does not fit, the compiled function asks this one, which says what is wrong.
    """
    fields = fields_of(made)

    def decode(data: bytes, offset: int, end: int) -> tuple[S, int]:
        values = []
        for name, codec in fields:
            try:
                value, offset = codec.decode(data, offset, end)
            except DecodeError as error:
                raise inlined.misplaced(error, name) from None
            values.append(value)
        return made(*values), offset

    def encode(value: S) -> bytes:
        return b"".join([codec.encode(getattr(value, name)) for name, codec in fields])

    return Codec(decode, encode, made.__name__)
