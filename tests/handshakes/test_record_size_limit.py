"""record_size_limit (RFC 8449): both ends name a limit, and each obeys the other's in every protected record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, ServerConfig
from pellucid.config import pad_to_multiple
from pellucid.crypto.pyca import PYCA
from pellucid.errors import RecordOverflow
from pellucid.explain.fields import message_fields
from pellucid.handshake.actions import LimitRecords
from pellucid.messages import extensions as x
from pellucid.record.reader import RecordReader
from pellucid.record.writer import RecordWriter
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType, NamedGroup
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.trace import ChoiceMade, Direction, Epoch, MessageTraced, RecordTraced, TraceEvent
from tests.illegal import evil
from tests.support.pair import (
    CHUNKINGS,
    Chunking,
    Pair,
    as_sent,
    asking_server_config,
    client_config,
    credential,
    data_of,
    events_of,
    server_config,
)
from tests.support.scripted import traffic_secret

TAG = 16


@pytest.fixture(params=CHUNKINGS)
def chunking(request: pytest.FixtureRequest) -> Chunking:
    return CHUNKINGS[request.param]


def recorded(config: Any, seen: list[TraceEvent], **changes: Any) -> Any:
    return dataclasses.replace(config, trace=lambda: seen.append, trace_records=True, **changes)


def sizes(seen: list[TraceEvent], direction: Direction) -> list[int]:
    """How many bytes the protected records had inside."""
    return [
        event.content_size + 1 + event.padding_size
        for event in seen
        if isinstance(event, RecordTraced) and event.direction is direction and event.sequence is not None
    ]


@pytest.mark.rfc("8449 §4", "an endpoint generates no protected record larger than the limit it receives")
@pytest.mark.parametrize(
    ("clients", "servers"), [(64, 64), (64, 2**14 + 1), (2**14 + 1, 64), (1000, 333), (16384, 500)]
)
@pytest.mark.parametrize("traced", [False, True], ids=["short ways", "traced"])
def test_each_end_obeys_the_others_limit(clients: int, servers: int, traced: bool, chunking: Chunking) -> None:
    client = client_config(record_size_limit=clients, credentials=(credential("p256", "client.test"),))
    server = asking_server_config(record_size_limit=servers)
    seen: list[TraceEvent] = []
    if traced:
        client, server = recorded(client, seen), recorded(server, [])
    pair = Pair.of(client, server, chunking=chunking).connect()
    payload = bytes(range(256)) * 80  # more than one record of any limit
    for sender, receiver, limit in ((pair.client, pair.server, servers), (pair.server, pair.client, clients)):
        sender.send_data(payload)
        sender.send_data(b"short")
        sender.send_data(bytes(limit))
        sender.send_key_update()
        sender.send_data(payload)
        sender.close()
        stream = sender.data_to_send()
        inside = [len(record) - 5 - TAG for record in as_sent(stream)]
        assert max(inside) == min(limit, 2**14 + 1)
        for piece in chunking(stream):
            receiver.receive_data(piece)
        events, error = events_of(receiver)
        assert error is None
        assert data_of(events) == payload + b"short" + bytes(limit) + payload
        assert receiver.peer_closed
    if traced:
        assert max(sizes(seen, Direction.SENT)) <= servers
        assert max(sizes(seen, Direction.RECEIVED)) <= clients


@pytest.mark.rfc(
    "8449 §4", "the protected messages of the handshake are subject to the limit, unprotected ones are not"
)
def test_handshake_records_obey_the_limit(chunking: Chunking) -> None:
    ours: list[TraceEvent] = []
    client = recorded(client_config(record_size_limit=64, credentials=(credential("p256", "client.test"),)), ours)
    pair = Pair.of(client, asking_server_config(record_size_limit=100), chunking=chunking).connect()
    assert max(sizes(ours, Direction.RECEIVED)) == 64
    assert max(sizes(ours, Direction.SENT)) == 100
    plain = [event for event in ours if isinstance(event, RecordTraced) and event.sequence is None]
    assert max(event.content_size for event in plain) > 100  # ClientHello
    assert pair.server.negotiated is not None and pair.server.negotiated.peer is not None


@pytest.mark.rfc("8449 §4", "padding does not make a record exceed the limit")
def test_padding_stays_within_the_limit(chunking: Chunking) -> None:
    seen: list[TraceEvent] = []
    server = recorded(server_config(padding=pad_to_multiple(512)), seen)
    pair = Pair.of(client_config(record_size_limit=200), server, chunking=chunking).connect()
    events, error = pair.send(pair.server, bytes(1000))
    assert error is None and data_of(events) == bytes(1000)
    assert set(sizes(seen, Direction.SENT)) == {200}


@pytest.mark.parametrize(
    ("clients", "servers", "sent"),
    [
        (None, None, (2**14 + 1, 2**14 + 1)),
        (None, 64, (2**14 + 1, 2**14 + 1)),  # not offered, so not answered
        (100, None, (2**14 + 1, 100)),
    ],
)
@pytest.mark.rfc("8449 §4", "without the extension records of any size are sent; a server answers it to obey a limit")
def test_limits_hold_only_where_they_are_negotiated(
    clients: int | None, servers: int | None, sent: tuple[int, int], chunking: Chunking
) -> None:
    client, server = client_config(record_size_limit=clients), server_config(record_size_limit=servers)
    pair = Pair.of(client, server, chunking=chunking).connect()
    for sender, receiver, size in ((pair.client, pair.server, sent[0]), (pair.server, pair.client, sent[1])):
        sender.send_data(bytes(40_000))
        stream = sender.data_to_send()
        assert max(len(record) - 5 - TAG for record in as_sent(stream)) == size
        receiver.receive_data(stream)
        assert data_of(events_of(receiver)[0]) == bytes(40_000)


@pytest.mark.rfc("8449 §4", "in TLS 1.3 the server sends record_size_limit in EncryptedExtensions")
def test_limits_are_told_with_the_reason(chunking: Chunking) -> None:
    seen: dict[str, list[TraceEvent]] = {"client": [], "server": []}
    client = recorded(client_config(record_size_limit=100), seen["client"])
    Pair.of(client, recorded(server_config(record_size_limit=70), seen["server"]), chunking=chunking).connect()
    told = {
        end: [e for e in events if isinstance(e, ChoiceMade) and e.what == "record_size_limit"]
        for end, events in seen.items()
    }
    assert [(e.chosen, e.reason) for e in told["client"]] == [
        ("70 bytes sent, 100 received", "the server answered with its own")
    ]
    assert [(e.chosen, e.reason) for e in told["server"]] == [
        ("100 bytes sent, 70 received", "the client named its own")
    ]
    fields = {
        event.message_type: dict(message_fields(event)).get("record limit")
        for event in seen["client"]
        if isinstance(event, MessageTraced)
    }
    assert (fields[H.CLIENT_HELLO], fields[H.ENCRYPTED_EXTENSIONS]) == ("100 bytes", "70 bytes")


def test_a_server_that_does_not_answer_is_told_of(chunking: Chunking) -> None:
    seen: list[TraceEvent] = []
    client = evil.good_client(recorded(evil.client_config(record_size_limit=100), seen))
    server = evil.evil_server(edit=evil.changing_extensions(H.ENCRYPTED_EXTENSIONS, without_limit), rewrite=unlimited)
    evil.connected(client, server)
    told = [e for e in seen if isinstance(e, ChoiceMade) and e.what == "record_size_limit"]
    assert [(e.chosen, e.reason) for e in told] == [("none", "the server does not answer it")]
    server.send_data(bytes(5000))
    for piece in chunking(server.data_to_send()):
        client.receive_data(piece)
    assert data_of(events_of(client)[0]) == bytes(5000)


@pytest.mark.rfc("8449 §4", "the limit is negotiated anew in every handshake")
def test_limit_is_the_same_after_hello_retry_request(chunking: Chunking) -> None:
    client = client_config(record_size_limit=80)
    server = server_config(groups=(NamedGroup.SECP256R1,), cookie_key=bytes(32))
    pair = Pair.of(client, server, chunking=chunking).connect()
    assert pair.client.negotiated is not None and pair.client.negotiated.retried
    pair.server.send_data(bytes(500))
    assert max(map(len, as_sent(pair.server.data_to_send()))) == 5 + 80 + TAG


# ---- what must not be ------------------------------------------------------------------------------------------------


def without_limit(extensions: list[Any]) -> list[Any]:
    return [e for e in extensions if e.extension_type != E.RECORD_SIZE_LIMIT]


def naming(limit: bytes) -> Callable[[list[Any]], list[Any]]:
    return lambda extensions: [x.Extension(E.RECORD_SIZE_LIMIT, limit), *without_limit(extensions)]


def unlimited(peer: evil.Evil, actions: list[Any]) -> list[Any]:
    return [action for action in actions if not isinstance(action, LimitRecords)]


ends = pytest.mark.parametrize("victim", ["client", "server"])
chunks = pytest.mark.parametrize("chunk", [1, 700, None])


def against(victim: str, limit: int = 100, **cheats: Any) -> tuple[Connection, evil.Evil]:
    """A victim that names *limit*, and a peer that cheats."""
    if victim == "client":
        return evil.good_client(evil.client_config(record_size_limit=limit)), evil.evil_server(**cheats)
    client = evil.evil_client(evil.client_config(record_size_limit=2**14 + 1), **cheats)
    return evil.good_server(evil.server_config(record_size_limit=limit)), client


@ends
@chunks
@pytest.mark.rfc("8449 §4", "a limit below 64 is illegal_parameter")
@pytest.mark.parametrize("value", [0, 1, 63])
def test_a_limit_below_64_is_illegal_parameter(victim: str, value: int, chunk: int | None) -> None:
    kind = H.ENCRYPTED_EXTENSIONS if victim == "client" else H.CLIENT_HELLO
    pair = against(victim, edit=evil.changing_extensions(kind, naming(value.to_bytes(2, "big"))))
    error = evil.refused(*pair, A.ILLEGAL_PARAMETER, chunk=chunk)
    assert "at least 64" in error.reason


@ends
@pytest.mark.rfc("8449 §4", "record_size_limit is a uint16")
@pytest.mark.parametrize("value", [b"", b"\x40", b"\0\x40\0"])
def test_a_limit_of_another_length_is_decode_error(victim: str, value: bytes) -> None:
    kind = H.ENCRYPTED_EXTENSIONS if victim == "client" else H.CLIENT_HELLO
    evil.refused(*against(victim, edit=evil.changing_extensions(kind, naming(value))), A.DECODE_ERROR)


@chunks
@pytest.mark.rfc("8449 §4", "a client may refuse a limit above the protocol's with illegal_parameter")
def test_a_servers_limit_above_the_maximum_is_illegal_parameter(chunk: int | None) -> None:
    cheat = evil.changing_extensions(H.ENCRYPTED_EXTENSIONS, naming((2**14 + 2).to_bytes(2, "big")))
    evil.refused(*against("client", edit=cheat), A.ILLEGAL_PARAMETER, chunk=chunk)


@pytest.mark.rfc("8449 §4", "a server does not enforce the maximum: the client may know a version that has another")
def test_a_clients_limit_above_the_maximum_is_as_good_as_none(chunking: Chunking) -> None:
    edit = evil.changing_extensions(H.CLIENT_HELLO, naming(b"\xff\xff"))
    client = evil.evil_client(evil.client_config(record_size_limit=2**14 + 1), edit=edit)
    server = evil.good_server()
    evil.connected(client, server)
    server.send_data(bytes(20_000))
    stream = server.data_to_send()
    assert max(map(len, as_sent(stream))) == 5 + 2**14 + 1 + TAG
    for piece in chunking(stream):
        client.receive_data(piece)
    assert data_of(events_of(client)[0]) == bytes(20_000)


@pytest.mark.rfc("8449 §5", "a server that knows record_size_limit ignores max_fragment_length")
@pytest.mark.parametrize("value", [b"\x01", b"\x09", b"", b"\x01\x02"])
def test_a_server_ignores_max_fragment_length(value: bytes, chunking: Chunking) -> None:
    edit = evil.changing_extensions(
        H.CLIENT_HELLO, lambda extensions: [x.Extension(E.MAX_FRAGMENT_LENGTH, value), *extensions]
    )
    client = evil.evil_client(evil.client_config(record_size_limit=700), edit=edit)
    seen: list[TraceEvent] = []
    server = evil.good_server(recorded(evil.server_config(), seen))
    evil.connected(client, server)
    server.send_data(bytes(2000))
    assert max(map(len, as_sent(server.data_to_send()))) == 5 + 700 + TAG
    answered = [e.body for e in seen if isinstance(e, MessageTraced) and e.message_type == H.ENCRYPTED_EXTENSIONS]
    assert E.MAX_FRAGMENT_LENGTH not in {e.extension_type for body in answered for e in body.extensions}  # type: ignore[attr-defined]


@pytest.mark.rfc("8449 §5", "a client treats both max_fragment_length and record_size_limit as a fatal error")
def test_a_server_that_answers_max_fragment_length_too_is_refused() -> None:
    def both(extensions: list[Any]) -> list[Any]:
        return [*extensions, x.Extension(E.MAX_FRAGMENT_LENGTH, b"\x01")]

    evil.refused(
        *against("client", edit=evil.changing_extensions(H.ENCRYPTED_EXTENSIONS, both)), A.UNSUPPORTED_EXTENSION
    )


def test_a_server_that_answers_a_limit_that_was_not_offered_is_refused() -> None:
    cheat = evil.changing_extensions(H.ENCRYPTED_EXTENSIONS, naming(b"\x40\x01"))
    evil.refused(evil.good_client(), evil.evil_server(edit=cheat), A.UNSUPPORTED_EXTENSION)


@ends
@chunks
@pytest.mark.parametrize("size", [101, 5000])
@pytest.mark.rfc("8449 §4", "a record larger than the limit that was advertised is record_overflow")
def test_application_data_past_the_limit_is_record_overflow(victim: str, size: int, chunk: int | None) -> None:
    good, bad = against(victim)
    evil.connected(good, bad, chunk=chunk)
    bad.send_data(b"good")
    bad.sealed(bytes(size - 1) + b"\x17")
    evil.deliver(bad.data_to_send(), good, chunk)
    events, error = events_of(good)
    assert data_of(events) == b"good"
    assert isinstance(error, RecordOverflow)
    assert "8449" in str(error)


@ends
@pytest.mark.rfc("8449 §4", "the limit counts content type and padding")
@pytest.mark.parametrize("inner", [b"x" * 99 + b"\x17", b"x\x17" + bytes(98), b"\x17" + bytes(99)])
def test_a_record_at_the_limit_is_taken_and_one_byte_more_is_not(victim: str, inner: bytes, chunking: Chunking) -> None:
    good, bad = against(victim)
    evil.connected(good, bad)
    bad.sealed(inner)
    for piece in chunking(bad.data_to_send()):
        good.receive_data(piece)
    assert events_of(good)[1] is None
    bad.sealed(inner + b"\0")
    for piece in chunking(bad.data_to_send()):
        if good._error is None:
            good.receive_data(piece)
    assert isinstance(events_of(good)[1], RecordOverflow)


@chunks
@pytest.mark.rfc("8449 §4", "EncryptedExtensions itself is under the limit it agrees to")
def test_a_handshake_record_past_the_limit_is_record_overflow(chunk: int | None) -> None:
    """The record that the answer comes in was read before it was known that there is a limit."""
    error = evil.refused(*against("client", rewrite=unlimited), A.RECORD_OVERFLOW, chunk=chunk)
    assert error.rfc == "8449 §4"


@chunks
def test_a_clients_handshake_record_past_the_limit_is_record_overflow(chunk: int | None) -> None:
    server = evil.good_server(evil.asking_server(record_size_limit=64))
    client = evil.evil_client(evil.client_with_certificate(record_size_limit=2**14 + 1), rewrite=unlimited)
    evil.refused(server, client, A.RECORD_OVERFLOW, chunk=chunk)


@ends
@pytest.mark.rfc("8449 §4", "alerts are subject to the limit")
def test_a_padded_alert_past_the_limit_is_record_overflow(victim: str) -> None:
    good, bad = against(victim)
    evil.connected(good, bad)
    bad.sealed(bytes((1, A.CLOSE_NOTIFY, ContentType.ALERT)) + bytes(98))
    evil.deliver(bad.data_to_send(), good)
    assert isinstance(events_of(good)[1], RecordOverflow)


@pytest.mark.rfc("8449 §4", "the limits are those of the handshake that made the keys: early data has none")
def test_a_limit_does_not_hold_for_early_data() -> None:
    reader, writer = RecordReader(PYCA.tag_error, None), RecordWriter(None, None, b"\x03\x03")
    for epoch, fits in ((Epoch.EARLY, True), (Epoch.HANDSHAKE, False), (Epoch.APPLICATION, False)):
        secret = traffic_secret(PYCA.suites[0].code, bytes(32), epoch)
        reader.install(secret)
        writer.install(secret)
        if epoch is Epoch.EARLY:
            reader.restrict(100)
        writer.application_data(bytes(100))
        stream = writer.take()
        if fits:
            assert reader.next_record(stream, 0) == ((ContentType.APPLICATION_DATA, bytes(100), True), len(stream))
        else:
            with pytest.raises(RecordOverflow):
                reader.next_record(stream, 0)


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc("8449 §4", "no limit below 64 is sent, and none above the protocol's maximum")
@pytest.mark.parametrize("limit", [63, 0, -1, 2**14 + 2])
def test_an_impossible_limit_is_refused(limit: int) -> None:
    for make in (client_config, server_config):
        with pytest.raises(OSError, match="record_size_limit is 64 to 16385"):
            make(record_size_limit=limit)


def test_both_ends_of_what_is_possible_are_allowed() -> None:
    configs: list[ClientConfig | ServerConfig] = []
    for limit in (64, 2**14 + 1):
        configs += [client_config(record_size_limit=limit), server_config(record_size_limit=limit)]
    assert [config.record_size_limit for config in configs] == [64, 64, 16385, 16385]
