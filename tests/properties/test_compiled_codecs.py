"""What is compiled of a structure's declaration equals the declaration, field by field: values, bytes and errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.errors import PeerError, TLSError
from pellucid.handshake import cookie
from pellucid.messages.handshake import Extension
from pellucid.sessions import client, psk, server, tickets
from pellucid.signers import messages as signer_messages
from pellucid.wire import WireStruct, fields_of, plain_codec
from tests.properties.strategies import STRUCTS, structures
from tests.support.soak import examples

KEPT = {
    f"{module.__name__}.{thing.__name__}": thing
    for module in (client, cookie, psk, server, signer_messages, tickets)
    for thing in vars(module).values()
    if isinstance(thing, type) and issubclass(thing, WireStruct) and thing is not WireStruct
}
"""structures that no strategy is derived of: their bytes are made of random ones"""


def outcome(call: Callable[..., Any], *arguments: object) -> object:
    """What is returned, or the error's kind and text."""
    try:
        return call(*arguments)
    except TLSError as error:
        return type(error), str(error)
    except (TypeError, AttributeError, ValueError) as error:
        return type(error)  # no value of its field


def whole(struct: type[WireStruct], data: bytes) -> Any:
    return plain_codec(struct).decode_all(data, struct.__name__)


@pytest.mark.parametrize("struct", STRUCTS.values(), ids=STRUCTS)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_compiled_structure_equals_its_declaration(struct: type[WireStruct], data: st.DataObject) -> None:
    value: Any = data.draw(structures(struct))
    raw = outcome(plain_codec(struct).encode, value)
    assert outcome(value.encode) == outcome(struct.codec.encode, value) == raw
    assume(isinstance(raw, bytes))
    assert isinstance(raw, bytes)
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for tried in (raw, bytes(changed), raw[:cut], raw + b"\0"):
        assert outcome(struct.decode, tried) == outcome(whole, struct, tried)
        for begin, end in ((0, len(tried)), (0, cut), (len(tried) // 2, len(tried))):
            expected = outcome(plain_codec(struct).decode, tried, begin, end)
            assert outcome(struct.codec.decode, tried, begin, end) == expected


@pytest.mark.parametrize("struct", KEPT.values(), ids=KEPT)
@given(data=st.binary(max_size=400))
@settings(max_examples=examples(25), deadline=None)
def test_compiled_structure_takes_the_bytes_that_its_declaration_takes(struct: type[WireStruct], data: bytes) -> None:
    for tried in (data, b"\2\x13\x01" + data, bytes(len(data)), bytes(300)):
        expected = outcome(plain_codec(struct).decode, tried, 0, len(tried))
        assert outcome(struct.codec.decode, tried, 0, len(tried)) == expected
        assert outcome(struct.decode, tried) == outcome(whole, struct, tried)
        if isinstance(expected, tuple) and isinstance(expected[0], WireStruct):
            assert expected[0].encode() == plain_codec(struct).encode(expected[0]) == tried[: expected[1]]


WRONG: tuple[object, ...] = (
    *(-1, 256, 2**16, 2**24, 2**32, 2**64, -1.0, 1e300, float("nan"), "\ud800", "x" * 256),
    *(b"", b"x" * 33, b"x" * 256, b"x" * 2**16, (), (-1,), (2**16,), tuple(range(2**15)), (b"",), (b"x" * 2**16,)),
    *(
        (Extension(2**16, b""),),
        (Extension(-1, b""),),
        (Extension(0, bytes(2**16)),),
        (Extension(0, bytes(2**15)),) * 2,
    ),
)
KNOWN_VALUES = (
    *(b"\0" * size for size in range(80)),
    *(b"\1x", b"\0\1x", b"\0\0\1x", b"\2xx", b"\0\2xx"),
    *(b"\x20" + bytes(32), b"\0\x21\x20" + bytes(32), b"\0\x07\0\1x" + bytes(4), b"\0\x40" + bytes(64)),
)


@pytest.mark.parametrize("struct", (STRUCTS | KEPT).values(), ids=(STRUCTS | KEPT))
def test_value_out_of_its_bounds_is_the_declarations_error(struct: type[WireStruct]) -> None:
    for name, _ in fields_of(struct):
        value = some(struct)
        kind = type(getattr(value, name))
        for wrong in WRONG:
            if isinstance(wrong, kind) and not (kind is tuple and wrong and not _alike(getattr(value, name), wrong)):
                changed = dataclasses.replace(value, **{name: wrong})  # type: ignore[type-var]  # it is a dataclass
                assert outcome(changed.encode) == outcome(plain_codec(struct).encode, changed)


def _alike(one: Any, other: Any) -> bool:
    return not one or type(one[0]) is type(other[0])


def some(struct: type[WireStruct]) -> Any:
    """A value of *struct*: for each field the first of what is known that decodes."""

    def first(codec: Any) -> object:
        for tried in KNOWN_VALUES:
            try:
                return codec.decode(tried, 0, len(tried))[0]
            except PeerError:
                continue
        raise AssertionError(f"no bytes are known that {codec} takes")

    return struct(*(first(codec) for _, codec in fields_of(struct)))
