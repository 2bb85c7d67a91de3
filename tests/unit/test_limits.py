"""Limits that are no other room's subject: the largest message of each type, and what holds between the numbers."""

from __future__ import annotations

import pytest

from pellucid import NEED_DATA, Connection, limits
from pellucid.errors import DecodeError, IllegalParameter, PeerError
from pellucid.messages.handshake import BODIES
from pellucid.registry import HandshakeType as H
from pellucid.registry import handshake_type_name
from tests.support.pair import NAME, client_config, server_config


@pytest.mark.rfc("9846 §5.1", "a record's fragment has at most 2^14 bytes")
def test_numbers_fit_each_other() -> None:
    assert limits.MAX_PLAINTEXT == 2**14
    assert limits.MAX_INNER_PLAINTEXT == limits.MAX_PLAINTEXT + 1
    assert limits.MAX_CIPHERTEXT == limits.MAX_PLAINTEXT + 256
    # The short way makes one record of what it is given; bulk steps are cut into full records.
    assert 0 < limits.MAX_PLAINTEXT < limits.FULL_RECORD
    assert limits.BULK_STEP % limits.MAX_PLAINTEXT == 0 and limits.BULK_STEP > 0
    assert limits.MAX_SEQUENCE == 2**64 - 1
    assert limits.MAX_EPOCH == 2**48 - 1
    assert limits.MAX_HANDSHAKE_BODY[H.CERTIFICATE] >= limits.MAX_CERTIFICATE_LIST
    assert limits.MAX_HANDSHAKE_BODY[H.CLIENT_HELLO] > limits.MAX_COOKIE
    # §5.5: 2^24.5 full-size records for AES-GCM
    assert limits.REKEY_AFTER_RECORDS <= 2**24.5


def test_every_message_that_may_come_has_a_limit() -> None:
    assert set(BODIES) - {H.HELLO_RETRY_REQUEST} <= set(limits.MAX_HANDSHAKE_BODY)


def first_record(kind: int, length: int) -> bytes:
    return b"\x16\x03\x03\x00\x04" + bytes((kind,)) + length.to_bytes(3, "big")


@pytest.mark.parametrize(("server", "kind"), [(True, H.CLIENT_HELLO), (False, H.SERVER_HELLO)])
def test_message_longer_than_its_limit_is_refused_from_its_header(server: bool, kind: int) -> None:
    for extra in (0, 1):
        victim = Connection.server(server_config()) if server else Connection.client(client_config(), NAME)
        victim.data_to_send()
        victim.receive_data(first_record(kind, limits.MAX_HANDSHAKE_BODY[kind] + extra))
        if extra:
            with pytest.raises(IllegalParameter, match=handshake_type_name(kind)):
                victim.next_event()
        else:
            assert victim.next_event() is NEED_DATA


def test_largest_client_hello_is_read_to_its_end() -> None:
    """At the limit it is decoded like any other: here it is not one."""
    victim = Connection.server(server_config())
    size = limits.MAX_HANDSHAKE_BODY[H.CLIENT_HELLO]
    data = bytes((H.CLIENT_HELLO,)) + size.to_bytes(3, "big") + bytes(size)
    for at in range(0, len(data), limits.MAX_PLAINTEXT):
        piece = data[at : at + limits.MAX_PLAINTEXT]
        assert victim.next_event() is NEED_DATA
        victim.receive_data(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece)
    with pytest.raises(PeerError) as caught:
        victim.next_event()
    assert isinstance(caught.value, DecodeError)
