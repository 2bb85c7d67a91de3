"""The codecs of wire.py as Python text, and the functions that are compiled of it: one structure, one function.

Calling a closure for each field of a message takes three times as long. What the text says equals what the closures
say; where a value does not fit they are asked, and say what is wrong. Nothing here knows a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Never, Protocol, TypeVar

from pellucid.errors import DecodeError

S = TypeVar("S")

new_pair: Final = tuple.__new__
"""Makes a NamedTuple; its own is a call of Python, 0.2 µs for each extension of a hello."""


class Inline(NamedTuple):
    """A codec as Python text, for the functions that wire_struct compiles; it says what the closures say.

    decode:  lines that read `data` from `offset` up to `end` and set `{v}` and `offset`.
    encode:  an expression of `{v}`, after the lines in *prepare*. Where the value does not fit it raises OverflowError
             or struct.error: the closure is asked then, and says what is wrong.
    names:   what the text speaks of besides; `{i}` stands for the field's number, in the names too.
    """

    decode: str
    encode: str
    prepare: str = ""
    names: Mapping[str, object] = {}


# ---- what is wrong with bytes ------------------------------------------------------------------------------


def short(left: int, wanted: int) -> DecodeError:
    return DecodeError(f"{left} bytes where {wanted} should be", rfc="9846 §3.4")


def bad_length(data: bytes, offset: int, end: int, width: int, bounds: tuple[int, int]) -> DecodeError:
    """Return what is wrong with the vector at *offset*: called once something is."""
    start = offset + width
    if start > end:
        return DecodeError(f"{end - offset} bytes where a length of {width} should be", rfc="9846 §3.4")
    length = int.from_bytes(data[offset:start], "big")
    if start + length > end:
        return DecodeError(f"a length of {length} where {end - start} bytes are left", rfc="9846 §3.4")
    return DecodeError(f"a length of {length}, allowed are {bounds[0]} to {bounds[1]}", rfc="9846 §3.4")


def odd_length(size: int, length: int) -> DecodeError:
    return DecodeError(f"a list of {size}-byte values is {length} bytes long", rfc="9846 §3.4")


def bad_pair(data: bytes, offset: int, end: int, kind: str) -> DecodeError:
    start = offset + 4
    if start > end:
        return DecodeError(f"{end - offset} bytes where a {kind} should be", rfc="9846 §4.3")
    length = data[offset + 2] << 8 | data[offset + 3]
    if start + length > end:
        return DecodeError(f"a {kind} of {length} bytes where {end - start} are left", rfc="9846 §4.3")
    return DecodeError(f"a {kind} with nothing in it", rfc="9846 §3.4")


def misplaced(error: DecodeError, where: str) -> DecodeError:
    """Return *error* with the name of the field or structure that it is in. Nothing is decoded again for that."""
    return DecodeError(f"{where}: {error.reason}", rfc=error.rfc)


def beyond(what: str, left: int) -> DecodeError:
    return DecodeError(f"{what}: {left} bytes follow its end", rfc="9846 §6")


# ---- the text ----------------------------------------------------------------------------------------------


def _number_text(width: int) -> str:
    return " | ".join(f"data[offset + {i}] << {8 * (width - 1 - i)}" for i in range(width)).removesuffix(" << 0")


def _length_text(width: int, minimum: int, maximum: int) -> str:
    """Return the lines that find a vector: it is data[start:after]."""
    bad = f"raise bad_length(data, offset, end, {width}, ({minimum}, {maximum}))"
    return (
        f"start = offset + {width}\n"
        f"if start > end: {bad}\n"
        f"length = {_number_text(width)}\nafter = start + length\n"
        f"if after > end or not {minimum} <= length <= {maximum}: {bad}"
    )


def _prefixed_text(width: int, minimum: int, maximum: int) -> str:
    """Return the expression of `_prefixed`."""
    return f'(len({{v}}).to_bytes({width}, "big") + {{v}} if {minimum} <= len({{v}}) <= {maximum} else misfit({{v}}))'


def uint(width: int) -> Inline:
    return Inline(
        f"if offset + {width} > end: raise short(end - offset, {width})\n{{v}} = {_number_text(width)}\n"
        f"offset += {width}",
        f'{{v}}.to_bytes({width}, "big")',
    )


def fixed(length: int) -> Inline:
    return Inline(
        f"if offset + {length} > end: raise short(end - offset, {length})\n"
        f"{{v}} = data[offset : offset + {length}]\noffset += {length}",
        f"({{v}} if len({{v}}) == {length} else misfit({{v}}))",
    )


REST: Final = Inline("{v} = data[offset:end]\noffset = end", "bytes({v})")


def opaque(width: int, minimum: int, maximum: int) -> Inline:
    return Inline(
        f"{_length_text(width, minimum, maximum)}\n{{v}} = data[start:after]\noffset = after",
        _prefixed_text(width, minimum, maximum),
    )


def uint_vector(size: int, width: int, minimum: int, maximum: int) -> Inline:
    letter = {1: "B", 2: "H"}[size]
    return Inline(
        f"{_length_text(width, minimum, maximum)}\n"
        f"if length % {size}: raise odd_length({size}, length)\n"
        f'{{v}} = unpack(">%d{letter}" % (length // {size}), data[start:after])\noffset = after',
        _prefixed_text(width, minimum, maximum),
        f'{{v}} = pack(">%d{letter}" % len({{v}}), *{{v}})',
    )


def vector(
    decode_item: Callable[[bytes, int, int], Any], encode_item: Callable[[Any], bytes], width: int, *bounds: int
) -> Inline:
    return Inline(
        f"{_length_text(width, *bounds)}\n"
        "offset = start\nitems = []\n"
        "while offset < after:\n    item, offset = decode_item_{i}(data, offset, after)\n    items.append(item)\n"
        "{v} = tuple(items)",
        _prefixed_text(width, *bounds),
        '{v} = b"".join(map(encode_item_{i}, {v}))',
        {"decode_item_{i}": decode_item, "encode_item_{i}": encode_item},
    )


def pairs_vector(make: type[tuple[int, bytes]], kind: str, width: int, minimum: int, maximum: int) -> Inline:
    return Inline(
        f"{_length_text(width, minimum, maximum)}\n"
        "stop, offset, items = after, start, []\n"
        "while offset < stop:\n"
        "    start = offset + 4\n"
        "    if start > stop: raise bad_pair(data, offset, stop, kind_{i})\n"
        "    code, size = pair_head(data, offset)\n"
        "    after = start + size\n"
        "    if after > stop: raise bad_pair(data, offset, stop, kind_{i})\n"
        "    items.append(new_pair(make_{i}, (code, data[start:after])))\n"
        "    offset = after\n"
        "{v} = tuple(items)",
        _prefixed_text(
            width, minimum, min(maximum, 2**16 - 1)
        ),  # what is too long for its 16 bits is for the whole too
        '{v} = b"".join([(code << 16 | len(body)).to_bytes(4, "big") + body for code, body in {v}])',
        {"kind_{i}": kind, "make_{i}": make},
    )


def optional(inner: Inline | None) -> Inline | None:
    if inner is None:
        return None
    read = inner.decode.replace("\n", "\n    ")
    return inner._replace(decode=f"if offset == end: {{v}} = ()\nelse:\n    {read}")


def mapped(inner: Inline | None, load: Callable[[Any], Any], dump: Callable[[Any], Any]) -> Inline | None:
    if inner is None or "load_{i}" in inner.names:
        return None
    return Inline(
        f"{inner.decode}\n{{v}} = load_{{i}}({{v}})",
        inner.encode,
        f"{{v}} = dump_{{i}}({{v}})\n{inner.prepare}",
        {**inner.names, "load_{i}": load, "dump_{i}": dump},
    )


# ---- the functions -----------------------------------------------------------------------------------------


class Closures(Protocol):
    """A codec: what is asked where a value or bytes do not fit."""

    @property
    def decode(self) -> Callable[[bytes, int, int], Any]: ...
    @property
    def encode(self) -> Callable[[Any], bytes]: ...


def _misfit(value: object) -> Never:
    raise OverflowError


_SPACE: Final[dict[str, object]] = {
    "DecodeError": DecodeError,
    "bad_length": bad_length,
    "bad_pair": bad_pair,
    "beyond": beyond,
    "misfit": _misfit,
    "misplaced": misplaced,
    "new": object.__new__,
    "new_pair": new_pair,
    "odd_length": odd_length,
    "pack": struct.pack,
    "pair_head": struct.Struct(">HH").unpack_from,
    "short": short,
    "unfit": (OverflowError, struct.error),
    "unpack": struct.unpack,
}


def functions(
    made: type[S], plain: Closures, fields: Sequence[tuple[str, Closures, Inline | None]]
) -> tuple[Callable[[bytes, int, int], tuple[S, int]], Callable[[bytes], S], Callable[[S], bytes]]:
    """Return `codec.decode`, `decode` and `encode` of the structure *made*, without a call for each field.

    The text compiled is made of our own declarations alone.
    """
    space: dict[str, Any] = {
        **_SPACE,
        "encode_plainly": plain.encode,
        "made": made,
        "names": tuple(name for name, *_ in fields),
        "what": made.__name__,
    }
    lines: list[str] = []
    loads: list[str] = []
    parts: list[str] = []
    for i, (name, codec, text) in enumerate(fields):
        inline = text or Inline(
            "{v}, offset = decode_{i}(data, offset, end)",
            "encode_{i}({v})",
            names={"decode_{i}": codec.decode, "encode_{i}": codec.encode},
        )
        space |= {key.format(i=i): value for key, value in inline.names.items()}
        lines += [f"field = {i}", *inline.decode.format(v=f"v{i}", i=i).split("\n")]
        loads += [f"v{i} = value.{name}", *inline.prepare.format(v=f"v{i}", i=i).split("\n")]
        parts.append(inline.encode.format(v=f"v{i}", i=i))
    lines += ["value = new(made)", *(f"value.{name} = v{i}" for i, (name, *_) in enumerate(fields))]
    body = "\n".join(f"        {line}" for line in lines)
    before = "\n".join(f"        {line}" for line in loads)
    source = (
        f"def decode(data, offset, end):\n    try:\n{body}\n        return value, offset\n"
        "    except DecodeError as error: raise misplaced(error, names[field]) from None\n\n"
        f"def decode_whole(data):\n    offset, end = 0, len(data)\n    try:\n{body}\n"
        "    except DecodeError as error: raise misplaced(misplaced(error, names[field]), what) from None\n"
        "    if offset == end: return value\n    raise beyond(what, end - offset)\n\n"
        f"def encode(value):\n    try:\n{before}\n        return {' + '.join(parts) or repr(b'')}\n"
        "    except unfit: pass\n    return encode_plainly(value)\n"
    )
    exec(compile(source, f"<{made.__name__}>", "exec"), space)  # noqa: S102  # our own declarations, at import
    return space["decode"], space["decode_whole"], space["encode"]
