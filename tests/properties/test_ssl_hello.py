"""A server that reads the ClientHello for its callbacks answers every client as one that has none."""

from __future__ import annotations

import itertools
import ssl

from hypothesis import example, given
from hypothesis import strategies as st

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.integrations.ssl_context import SSLContext
from pellucid.testing.ca import CA

AUTHORITY = CA("hello root")
LEAF = AUTHORITY.issue("localhost")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
PLAIN = SSLContext(ServerConfig(credentials=(CREDENTIAL,)))
ASKING = SSLContext(ServerConfig(credentials=(CREDENTIAL,)))
ASKED: list[str | None] = []
ASKING.sni_callback = lambda _, name, __: ASKED.append(name)
HELLO = Connection.client(ClientConfig(trust=AUTHORITY.trust), "localhost").data_to_send()


def answered(context: SSLContext, pieces: list[bytes]) -> tuple[str, bytes]:
    """What becomes of a server that is sent *pieces* and then nothing: how it ends, and its alert."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    said = b""
    for piece in [*pieces, b""]:
        if piece:
            incoming.write(piece)
        else:
            incoming.write_eof()
        for _ in range(2):
            try:
                server.do_handshake()
            except ssl.SSLWantReadError:
                said += outgoing.read()
            except ssl.SSLError as error:
                said += outgoing.read()
                return type(error).__name__, said if said[:1] == b"\x15" else b""
    return "", b""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    length=st.none() | st.integers(0, len(HELLO)),
    tail=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 2**16), max_size=4),
)
def test_callbacks_change_no_answer_to_any_bytes(
    changes: list[tuple[int, int]], length: int | None, tail: bytes, cuts: list[int]
) -> None:
    data = bytearray(HELLO)
    for at, value in changes:
        data[at % len(data)] = value
    sent = split(bytes(data[:length]) + tail, cuts)
    ASKED.clear()
    assert answered(ASKING, sent) == answered(PLAIN, sent)
    assert len(ASKED) <= 1


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=3))
@example(b"\x14\x00\x00\x00\x01", [])
@example(b"\x17\x03\x03\x40\x00", [])
@example(b"\x17\x03\x03\x40\x01", [])
@example(b"\x16\x03\x03\x40\x01", [])
@example(b"\x15\x03\x03\x00\x00", [])
def test_callbacks_are_not_asked_about_what_is_no_hello(data: bytes, cuts: list[int]) -> None:
    ASKED.clear()
    sent = split(data, cuts)
    assert answered(ASKING, sent) == answered(PLAIN, sent)
    assert not ASKED
