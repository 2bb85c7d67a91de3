"""The quick ways through the hellos equal the plain ones: what is remembered, prepared or written at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TLSError
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Extension
from tests.properties.strategies import values
from tests.support.soak import examples


def outcome(call: Callable[[], Any]) -> object:
    """What is returned, or the error's kind and text."""
    try:
        found = call()
    except TLSError as error:
        return type(error), str(error)
    return (found.present, found._values) if isinstance(found, x.Extensions) else found


@st.composite
def extensions_of(draw: st.DrawFn, message: x.M) -> tuple[Extension, ...]:
    """Mostly well-formed and in place; some twice, some misplaced, unknown, cut or changed."""
    found = []
    for body in draw(st.lists(st.sampled_from([*x.TABLE[message].values(), *x.BODIES[:6]]), max_size=8)):
        try:
            data = body.codec.encode(draw(values(body.codec)))
        except TLSError:
            data = b""
        if draw(st.integers(0, 9)) == 0:
            data = draw(st.sampled_from([data[:-1], data + b"\0", b"", bytes(len(data))]))
        found.append(Extension(body.extension_type, data))
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), Extension(draw(st.sampled_from([0x0A0A, 0xFFFF, 43])), b""))
    return tuple(found)


@pytest.mark.parametrize("message", x.M, ids=lambda message: message.name)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_extensions_that_come_again_are_what_they_were(message: x.M, data: st.DataObject) -> None:
    extensions = data.draw(extensions_of(message))
    codes = frozenset(code for code, _ in extensions)
    requested = codes if data.draw(st.booleans()) else frozenset(list(codes)[:2])
    expected = outcome(lambda: x._decode(message, extensions, requested))
    for _ in range(2):
        assert outcome(lambda: x.decode_extensions(message, extensions, requested=requested)) == expected
