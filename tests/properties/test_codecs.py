"""Every message and every extension body: what is encoded decodes to itself; nothing cut, nothing appended is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.errors import DecodeError, PeerError, UsageError
from pellucid.messages import extensions as x
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, Extension, WireStruct, handshake_message, message_type
from pellucid.registry import HandshakeType as H
from pellucid.registry import extension_name, handshake_type_name
from tests.properties.strategies import structures, values
from tests.support.soak import examples

MESSAGES = {code: body for code, body in BODIES.items() if code != H.HELLO_RETRY_REQUEST}
MESSAGE_IDS = [handshake_type_name(code) for code in MESSAGES]
EXTENSIONS = x.BODIES
EXTENSION_IDS = [
    f"{extension_name(body.extension_type)}-{'-'.join(m.name for m in body.messages)}" for body in EXTENSIONS
]
CLOSED = [body for body in EXTENSIONS if body.codec.kind != "opaque[rest]"]
CLOSED_IDS = [i for i, body in zip(EXTENSION_IDS, EXTENSIONS, strict=True) if body in CLOSED]

few = settings(max_examples=examples(25), deadline=None)


def encoded(draw: st.DrawFn, strategy: st.SearchStrategy[Any], encode: Any) -> tuple[Any, bytes]:
    """A value and its encoding; a value that breaks a bound in bytes is drawn again."""
    value = draw(strategy)
    try:
        return value, encode(value)
    except UsageError:
        assume(False)
        raise


@st.composite
def messages(draw: st.DrawFn, body: type[WireStruct]) -> tuple[Any, bytes]:
    return encoded(draw, structures(body), lambda value: value.encode())


@st.composite
def bodies(draw: st.DrawFn, body: x.Body[Any]) -> tuple[Any, bytes]:
    return encoded(draw, values(body.codec), body.codec.encode)


def decoded(body: x.Body[Any], data: bytes) -> Any:
    extension = Extension(body.extension_type, data)
    found = x.decode_extensions(body.messages[0], [extension], requested={body.extension_type})
    assert found.present == (body.extension_type,)
    return found.get(body)


def changed_everywhere(raw: bytes) -> Iterator[bytes]:
    for at, byte in enumerate(raw):
        for other in {(byte - 1) & 0xFF, (byte + 1) & 0xFF, 0, 0xFF} - {byte}:
            yield raw[:at] + bytes((other,)) + raw[at + 1 :]


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "body"), MESSAGES.items(), ids=MESSAGE_IDS)
@given(data=st.data())
@few
def test_message_decodes_to_itself(code: int, body: type[WireStruct], data: st.DataObject) -> None:
    value, raw = data.draw(messages(body))
    assert body.decode(raw) == value
    assert body.decode(raw).encode() == raw
    framed = handshake_message(value)
    assert framed[HEADER_LENGTH:] == raw
    assert message_type(framed) == code


@pytest.mark.parametrize(("code", "body"), MESSAGES.items(), ids=MESSAGE_IDS)
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None)
@pytest.mark.rfc("9846 §6", "a message that cannot be parsed is decode_error")
def test_message_cut_anywhere_is_decode_error(code: int, body: type[WireStruct], data: st.DataObject) -> None:
    """Two may end earlier: a hello of an older version has no extensions, and Finished's length is the hash's."""
    value, raw = data.draw(messages(body))
    for cut in range(len(raw)):
        try:
            shorter: Any = body.decode(raw[:cut])
        except DecodeError:
            continue
        if code == H.FINISHED:
            assert shorter.verify_data == raw[:cut]
        else:
            assert code in {H.CLIENT_HELLO, H.SERVER_HELLO}
            assert shorter.extensions == ()
            assert cut == len(raw) - 2 - sum(4 + len(e.extension_data) for e in value.extensions)


@pytest.mark.parametrize(
    ("code", "body"),
    [(code, body) for code, body in MESSAGES.items() if code != H.FINISHED],
    ids=[name for name in MESSAGE_IDS if name != "Finished"],
)
@given(data=st.data(), tail=st.binary(min_size=1, max_size=3))
@settings(max_examples=examples(10), deadline=None)
@pytest.mark.rfc("9846 §6", "extra data behind a message's end is decode_error")
def test_message_with_more_behind_it_is_decode_error(
    code: int, body: type[WireStruct], data: st.DataObject, tail: bytes
) -> None:
    _, raw = data.draw(messages(body))
    with pytest.raises(DecodeError):
        body.decode(raw + tail)


@pytest.mark.parametrize(("code", "body"), MESSAGES.items(), ids=MESSAGE_IDS)
@given(data=st.data())
@few
def test_any_bytes_decode_to_what_encodes_to_them_or_are_decode_error(
    code: int, body: type[WireStruct], data: st.DataObject
) -> None:
    """Random bytes, and good messages with bytes changed, so that more than the first length is reached."""
    _, raw = data.draw(messages(body))
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4)) if raw else 0):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for tried in (bytes(changed), data.draw(st.binary(max_size=120))):
        try:
            value: Any = body.decode(tried)
        except DecodeError:
            continue
        again = value.encode()
        assert again == tried or (again == tried + b"\0\0" and value.extensions == ())


@pytest.mark.parametrize(("code", "body"), MESSAGES.items(), ids=MESSAGE_IDS)
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None)
def test_every_byte_changed_decodes_to_what_encodes_to_it_or_is_decode_error(
    code: int, body: type[WireStruct], data: st.DataObject
) -> None:
    """Each byte in turn, lengths among them: one less, one more, none, the most."""
    _, raw = data.draw(messages(body))
    for tried in changed_everywhere(raw):
        try:
            value: Any = body.decode(tried)
        except DecodeError:
            continue
        again = value.encode()
        assert again == tried or (again == tried + b"\0\0" and value.extensions == ())


@pytest.mark.parametrize(("code", "body"), MESSAGES.items(), ids=MESSAGE_IDS)
@given(data=st.data())
@settings(max_examples=examples(10), deadline=None)
def test_spans_tile_the_message(code: int, body: type[WireStruct], data: st.DataObject) -> None:
    """What the explainer colours: top-level fields without a gap, and every part inside its whole."""
    value, raw = data.draw(messages(body))
    top = 0
    open_spans: list[tuple[int, int]] = []
    for span in body.codec.spans(raw):
        assert 0 <= span.start <= span.end <= len(raw)
        if "." not in span.path and "[" not in span.path:
            assert span.start == top
            top = span.end
            assert getattr(value, span.path) == span.value
            open_spans = [(span.start, span.end)]
        else:
            assert open_spans[0][0] <= span.start and span.end <= open_spans[0][1]
    assert top == len(raw)


# ---- extensions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", EXTENSIONS, ids=EXTENSION_IDS)
@given(data=st.data())
@few
def test_extension_decodes_to_itself(body: x.Body[Any], data: st.DataObject) -> None:
    value, raw = data.draw(bodies(body))
    assert decoded(body, raw) == value
    assert body.extension(value) == Extension(body.extension_type, raw)


@pytest.mark.parametrize("body", CLOSED, ids=CLOSED_IDS)
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None)
@pytest.mark.rfc("9846 §6", "a message that cannot be parsed is decode_error")
def test_extension_cut_anywhere_is_decode_error(body: x.Body[Any], data: st.DataObject) -> None:
    _, raw = data.draw(bodies(body))
    for cut in range(len(raw)):
        with pytest.raises(DecodeError):
            decoded(body, raw[:cut])


MAY_BE_ILLEGAL = {x.SERVER_NAME, x.RECORD_SIZE_LIMIT, x.CLIENT_CERTIFICATE_TYPES, x.SERVER_CERTIFICATE_TYPES}


@pytest.mark.parametrize("body", CLOSED, ids=CLOSED_IDS)
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None)
def test_extension_with_any_byte_changed_decodes_or_is_a_peer_error(body: x.Body[Any], data: st.DataObject) -> None:
    """IllegalParameter where a body is well-formed and its content is not: a server_name that is no host name, a
    record_size_limit that is too small, a list of certificate types that says nothing."""
    _, raw = data.draw(bodies(body))
    for tried in changed_everywhere(raw):
        try:
            value = decoded(body, tried)
        except PeerError as error:
            assert isinstance(error, DecodeError) or body in MAY_BE_ILLEGAL
            continue
        if body.codec is not x.SERVER_NAME.codec:  # it is put in lower case, and other name types are dropped
            assert body.codec.encode(value) == tried


@pytest.mark.parametrize("body", CLOSED, ids=CLOSED_IDS)
@given(data=st.data(), tail=st.binary(min_size=1, max_size=3))
@settings(max_examples=examples(6), deadline=None)
@pytest.mark.rfc("9846 §6", "extra data behind a message's end is decode_error")
def test_extension_with_more_behind_it_is_decode_error(body: x.Body[Any], data: st.DataObject, tail: bytes) -> None:
    _, raw = data.draw(bodies(body))
    with pytest.raises(DecodeError):
        decoded(body, raw + tail)


@pytest.mark.parametrize("message", x.M, ids=lambda message: message.name)
@given(
    extensions=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(sorted(x.KNOWN)), st.integers(0, 0xFFFF)),
            st.one_of(st.binary(max_size=12), st.just(b"\0\x02\x03\x04"), st.just(b"\x02\x03\x04")),
        ),
        max_size=6,
    )
)
@settings(max_examples=examples(60), deadline=None)
def test_any_extensions_are_decoded_or_a_peer_error(message: x.M, extensions: list[tuple[int, bytes]]) -> None:
    codes = [code for code, _ in extensions]
    try:
        found = x.decode_extensions(message, [Extension(*pair) for pair in extensions], requested=frozenset(codes))
    except PeerError as error:
        assert error.alert
        return
    assert list(found.present) == codes
    assert len(set(codes)) == len(codes)
