"""The short and the bulk way of reading and writing records equal the plain way, byte for byte and event for event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pellucid.asyncio.buffers import READ_SIZE
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError
from pellucid.events import NEED_DATA, ApplicationData
from pellucid.limits import (
    BULK_STEP,
    MAX_EMPTY_RECORDS,
    MAX_INNER_PLAINTEXT,
    MAX_PLAINTEXT,
    MIN_RECORD_SIZE_LIMIT,
    RECEIVE_HEADROOM,
)
from pellucid.record.bulk import RECORDS, lent_sealer
from pellucid.record.reader import RecordReader
from pellucid.record.writer import RecordWriter
from pellucid.registry import ContentType
from pellucid.schedule import TrafficSecret
from pellucid.trace import Epoch, RecordTraced, Role
from tests.properties.recordings import fresh, record
from tests.support.pair import Pair, all_at_once, as_sent, data_of, events_of, random_cuts
from tests.support.soak import examples, times

SUITES = list(PYCA.suites)
SUITE_IDS = [suite.name for suite in SUITES]
EDGES = [1, 2, 1005, 1006, 1007, 1008, MAX_PLAINTEXT - 1, MAX_PLAINTEXT]
EDGES += [MAX_PLAINTEXT + 1, 2 * MAX_PLAINTEXT, BULK_STEP - 1, BULK_STEP, BULK_STEP + 1]
EDGES += [RECORDS * MAX_PLAINTEXT, RECORDS * MAX_PLAINTEXT + 1]

sizes = st.one_of(st.integers(1, 300), st.sampled_from(EDGES), st.integers(1, 60_000))
limits = st.one_of(st.just(MAX_INNER_PLAINTEXT), st.integers(MIN_RECORD_SIZE_LIMIT, MAX_INNER_PLAINTEXT))
data_kinds = st.sampled_from([bytes, bytearray, memoryview])


def secret_of(suite: Any) -> TrafficSecret:
    return TrafficSecret(suite=suite, epoch=Epoch.APPLICATION, value=bytes(range(suite.hash_length)))


def content_of(size: int) -> bytes:
    """Bytes that end in zeros and content types often enough to mislead a reader that strips carelessly."""
    return (b"\x17\x00\x16\x15\x00\x00" * (size // 6 + 1))[:size]


def no_padding(content_type: int, length: int) -> int:
    return 0


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
@given(
    todo=st.lists(
        st.tuples(st.sampled_from(["data", "data", "small", "alert", "update"]), sizes, data_kinds), max_size=6
    ),
    limit=limits,
)
@settings(max_examples=examples(30), deadline=None)
@pytest.mark.rfc("9846 §5.1", "data is fragmented into records of at most 2^14 bytes")
@pytest.mark.rfc("8449 §4", "no protected record is larger than the peer's limit")
def test_writer_fast_equals_plain(suite: Any, todo: list[tuple[str, int, Any]], limit: int) -> None:
    """A padding policy that never pads keeps a writer on the plain way."""
    fast, plain = RecordWriter(None, None, b"\x03\x03"), RecordWriter(no_padding, None, b"\x03\x03")
    secret = secret_of(suite)
    for writer in (fast, plain):
        writer.install(secret)
        writer.restrict(limit)
    for kind, size, make in todo:
        data = make(content_of(size))
        if kind == "data":
            fast.application_data(data)
            plain.application_data(data)
        elif kind == "small":
            if (record := fast.one_record(data)) is None:
                fast.application_data(data)
            else:
                fast.out.append(record)
            assert plain.one_record(data) is None
            plain.application_data(data)
        elif kind == "alert":
            for writer in (fast, plain):
                writer.alert(1, 90)
        else:
            secret = secret.next()
            for writer in (fast, plain):
                writer.install(secret)
        assert fast.records_left() == plain.records_left()
    written = fast.take()
    assert written == plain.take()
    assert all(len(piece) <= 5 + limit + suite.tag_length for piece in as_sent(written))


# ---- reading ---------------------------------------------------------------------------------------------------------

records = st.one_of(
    st.tuples(st.just("data"), sizes.map(lambda size: min(size, MAX_PLAINTEXT)), st.just(0)),
    st.tuples(st.just("data"), st.integers(1, 300), st.sampled_from([1, 2, 300, 5000])),
    st.tuples(st.just("data"), st.just(0), st.sampled_from([0, 1, 300])),
    st.tuples(st.just("alert"), st.just(2), st.sampled_from([0, 3])),
    st.tuples(st.just("handshake"), st.integers(1, 50), st.sampled_from([0, 3])),
    st.tuples(st.just("no type"), st.just(0), st.sampled_from([0, 5, 4200])),
    st.tuples(st.just("too long"), st.just(0), st.just(0)),
    st.tuples(st.just("wrong"), st.integers(1, 9000), st.just(0)),
    st.tuples(st.just("short"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("plain"), st.just(0), st.just(0)),
    st.tuples(st.just("empties"), st.sampled_from([1, MAX_EMPTY_RECORDS - 1, MAX_EMPTY_RECORDS]), st.just(0)),
)
TYPES = {"data": ContentType.APPLICATION_DATA, "alert": ContentType.ALERT, "handshake": ContentType.HANDSHAKE}


def stream_of(secret: TrafficSecret, todo: list[tuple[str, int, int]]) -> bytes:
    suite, keys = secret.suite, secret.keys()
    aead, iv, sequence, stream = suite.aead(keys.key), int.from_bytes(keys.iv, "big"), 0, b""

    def sealed(inner: bytes) -> bytes:
        nonlocal sequence
        header = b"\x17\x03\x03" + (len(inner) + suite.tag_length).to_bytes(2, "big")
        sequence += 1
        return header + aead.encrypt((iv ^ (sequence - 1)).to_bytes(12, "big"), inner, header)

    for kind, size, padding in todo:
        if kind in TYPES:
            padding = min(padding, MAX_PLAINTEXT - size)
            stream += sealed(content_of(size) + bytes((TYPES[kind],)) + bytes(padding))
        elif kind == "no type":
            stream += sealed(bytes(padding))
        elif kind == "too long":
            stream += sealed(bytes(MAX_PLAINTEXT + 1) + b"\x17")
        elif kind == "wrong":
            good = sealed(content_of(size) + b"\x17")
            stream += good[:-1] + bytes((good[-1] ^ 1,))
        elif kind == "short":
            stream += b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)
        elif kind == "empties":
            stream += b"".join(sealed(b"\x17") for _ in range(size))
        else:
            stream += b"\x16\x03\x03\x00\x01\x00"
    return stream


def read(secret: TrafficSecret, stream: bytes, *, fast: bool, limit: int = MAX_INNER_PLAINTEXT) -> tuple[Any, ...]:
    """All that a reader gives of *stream*, adjacent data joined, then its error and its counters."""
    reader = RecordReader(PYCA.tag_error, None)
    reader.install(secret)
    reader.restrict(limit)
    found: list[tuple[int, bytes, bool]] = []
    offset, error = 0, None

    def took(content_type: int, content: bytes, protected: bool) -> None:
        if content_type == ContentType.APPLICATION_DATA and protected:
            if found and found[-1][0] == content_type:
                content = found.pop()[1] + content
            if not content:
                return
        found.append((content_type, content, protected))

    try:
        while True:
            if fast:
                plaintext, after, bad = reader.application_data(stream, offset)
                assert (after > offset) is bool(plaintext)
                offset = after
                if plaintext:
                    took(ContentType.APPLICATION_DATA, plaintext, True)
                if bad is not None:
                    raise bad
                if plaintext:
                    continue
            one = reader.next_record(stream, offset)
            if one is None:
                break
            took(*one[0])
            offset = one[1]
    except PeerError as raised:
        error = raised
    keys = reader._keys
    assert keys is not None
    return found, offset, type(error), str(error), keys.sequence, reader._empty


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
@given(todo=st.lists(records, max_size=8), cut=st.integers(0, 30), limit=limits)
@example(todo=[("empties", MAX_EMPTY_RECORDS, 0), ("data", 0, 0)], cut=0, limit=MAX_INNER_PLAINTEXT)
@example(
    todo=[("empties", MAX_EMPTY_RECORDS, 0), ("data", 5, 0), ("empties", MAX_EMPTY_RECORDS, 0)],
    cut=0,
    limit=MAX_INNER_PLAINTEXT,
)
@example(todo=[("data", MAX_PLAINTEXT, 0)] * 9 + [("data", 10, 20)], cut=0, limit=MAX_INNER_PLAINTEXT)
@example(todo=[("data", 99, 0)] * 9 + [("data", 100, 0)], cut=0, limit=100)
@settings(max_examples=examples(60), deadline=None)
@pytest.mark.rfc("9846 §5.4", "a record of zeros only is unexpected_message; padding is stripped")
@pytest.mark.rfc("8449 §4", "a record larger than the limit that was advertised is record_overflow")
def test_reader_fast_equals_plain(suite: Any, todo: list[tuple[str, int, int]], cut: int, limit: int) -> None:
    stream = stream_of(secret_of(suite), todo)
    stream = stream[: len(stream) - cut] if cut < len(stream) else stream
    slow = read(secret_of(suite), stream, fast=False, limit=limit)
    assert read(secret_of(suite), stream, fast=True, limit=limit) == slow


@given(size=sizes, before=sizes)
@settings(max_examples=examples(30), deadline=None)
def test_bulk_buffer_shows_nothing_of_who_used_it_before(size: int, before: int) -> None:
    """The buffers are shared by all connections."""
    secret = secret_of(SUITES[0])
    for content in (b"\xaa" * before, b"\xbb" * size):
        writer = RecordWriter(None, None, b"\x03\x03")
        writer.install(secret)
        writer.application_data(content)
        found, *_ = read(secret, writer.take(), fast=True)
        assert found == [(ContentType.APPLICATION_DATA, content, True)]


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
@given(size=st.integers(0, 400), padding=st.sampled_from([0, 0, 1, 40]), change=st.integers(0, 3))
@settings(max_examples=examples(40), deadline=None)
def test_whole_record_equals_plain_or_changes_nothing(suite: Any, size: int, padding: int, change: int) -> None:
    secret = secret_of(suite)
    data = stream_of(secret, [("data", size, padding)])
    data = {0: data, 1: data[:-1], 2: data + b"\x17", 3: data[:-1] + bytes((data[-1] ^ 1,))}[change]
    reader = RecordReader(PYCA.tag_error, None)
    reader.install(secret)
    short = reader.whole_record(data)
    if short is None:
        assert read(secret, data, fast=False)[:5] == (*_rest_of(reader, data), reader._keys.sequence)  # type: ignore[union-attr]
    else:
        assert (size, padding, change) == (size, 0, 0) and short == content_of(size) != b""


def _rest_of(reader: RecordReader, data: bytes) -> tuple[Any, ...]:
    """What the plain way says after the short one declined."""
    assert reader._keys is not None
    assert reader._keys.sequence == 0
    try:
        one = reader.next_record(data, 0)
    except PeerError as error:
        return [], 0, type(error), str(error)
    if one is None:
        return [], 0, type(None), "None"
    found = [tuple(one[0])] if one[0].content else []
    return found, one[1], type(None), "None"


# ---- the whole connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@given(
    script=st.lists(st.one_of(sizes, st.just(0), st.just(-1)), max_size=6),
    multiple=st.sampled_from([1, 1, 100]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=examples(30), deadline=None)
def test_watched_connection_equals_one_that_takes_the_short_ways(
    role: Role, script: list[int], multiple: int, seed: int
) -> None:
    """trace_records keeps a connection on the plain way: its events are the others'.

    In the script, 0 is a KeyUpdate, -1 an empty record.
    """

    def acting(size: int) -> Any:
        if size > 0:
            return lambda peer: peer.send_data(content_of(size))
        if size == 0:
            return lambda peer: peer.send_key_update(request_peer=True)
        return lambda peer: peer._writer._record(ContentType.APPLICATION_DATA, b"")

    def padding(content_type: int, length: int) -> int:
        return min(-length % multiple, MAX_PLAINTEXT - length)

    recording = record(role, map(acting, script), padding=padding if multiple > 1 else None)
    for chunking in (as_sent, all_at_once, random_cuts(seed)):
        seen: list[Any] = []
        watched = recording.play(chunking, observer=seen.append, trace_records=True)
        assert watched.error is None
        assert any(isinstance(event, RecordTraced) for event in seen)
        assert recording.play(chunking) == watched


@given(
    script=st.lists(st.one_of(sizes, st.just(0), st.just(-1), st.just(-2), st.just(-3)), max_size=8),
    cuts=st.lists(st.integers(1, 70_000) | st.sampled_from([READ_SIZE, 300_000]), min_size=1, max_size=12),
)
@settings(max_examples=examples(60), deadline=None)
def test_bytes_taken_from_a_shared_buffer_equal_those_of_the_plain_calls(script: list[int], cuts: list[int]) -> None:
    """receive_from, and open_bulk before it, against receive_data, however the stream is cut.

    In the script, 0 is a KeyUpdate, -1 an empty record, -2 close_notify and bytes behind it, -3 a record that does not
    open behind ten that do.
    """
    client, plain = connected()
    _, shared = connected()  # with the same keys
    _, piecewise = connected()
    stream = bytearray()
    for size in script:
        if size > 0:
            client.send_data(content_of(size))
        elif size == 0:
            client.send_key_update(request_peer=True)
        elif size == -1:
            client._writer._record(ContentType.APPLICATION_DATA, b"")
        elif size == -3:
            client.send_data(bytes(11 * MAX_PLAINTEXT))
            stream += client.data_to_send()
            stream[-1] ^= 1
            break
        else:
            client.close()
            stream += client.data_to_send()
            stream += b"ignored"
            break
        stream += client.data_to_send()
    buffer = bytearray(b"\xee" * (RECEIVE_HEADROOM + 300_000))
    at, turn, many = 0, 0, times(500, 50_000)
    while at < len(stream):
        # A large stream in pieces of a byte would take minutes.
        piece = bytes(stream[at : at + (cuts[turn % len(cuts)] if turn < many else 70_000)])
        at, turn = at + len(piece), turn + 1
        plain.receive_data(piece)
        buffer[RECEIVE_HEADROOM : RECEIVE_HEADROOM + len(piece)] = piece
        shared.receive_from(buffer, RECEIVE_HEADROOM, RECEIVE_HEADROOM + len(piece))
        buffer[RECEIVE_HEADROOM : RECEIVE_HEADROOM + len(piece)] = piece
        first = opened_in_pieces(piecewise, buffer, RECEIVE_HEADROOM + len(piece))
        wanted = drained(plain)
        assert drained(shared) == wanted
        rest, *others = drained(piecewise)
        assert (first + rest, *others) == wanted
        for one in (shared, piecewise):
            assert one._incoming == plain._incoming
            assert one.trailing_data == plain.trailing_data
        if wanted[2]:
            break
        assert shared.data_to_send() == (sent := plain.data_to_send())
        assert piecewise.data_to_send() == sent


def opened_in_pieces(connection: Any, buffer: bytearray, end: int) -> bytes:
    """What open_bulk gives; the rest is received."""
    start, opened = RECEIVE_HEADROOM, b""
    while start < end:
        plaintext, start = connection.open_bulk(buffer, start, end)
        if not plaintext:
            connection.receive_from(buffer, start, end)
            break
        opened += plaintext
    return opened


@given(todo=st.lists(st.one_of(sizes, st.just(0), st.just(-1)), max_size=8), limit=limits)
@settings(max_examples=examples(40), deadline=None)
def test_data_sealed_into_memory_that_was_used_equals_that_of_the_plain_calls(todo: list[int], limit: int) -> None:
    """In the list, 0 is a KeyUpdate, -1 one that the peer asked for and is owed."""
    plain, reusing = connected()[0], connected()[0]
    for one in (plain, reusing):
        one._writer.restrict(limit)
        one._writer.limit = 40  # the key is soon used up
    sealer = lent_sealer()
    for size in todo:
        if size == 0:
            plain.send_key_update()
            reusing.send_key_update()
        elif size == -1:
            for one in (plain, reusing):
                one._update_owed, one._sending = True, False
        else:
            data = content_of(size)
            plain.send_data(data)
            waiting = reusing._writer.out
            made = reusing.seal_into(data, sealer)
            assert not (made and waiting)
            if not made:
                reusing.send_data(data)
            sealed = bytes(sealer.view[:made]) if made else reusing.data_to_send()
            assert sealed == plain.data_to_send()
    assert reusing.data_to_send() == plain.data_to_send()


@given(
    script=st.lists(st.one_of(sizes, st.just(0), st.just(-1), st.just(-2)), max_size=8),
    cuts=st.lists(st.integers(1, 30_000), max_size=3),
    limit=limits,
)
@settings(max_examples=examples(60), deadline=None)
def test_seal_and_open_record_equal_the_plain_calls(script: list[int], cuts: list[int], limit: int) -> None:
    """In the script, 0 is a KeyUpdate, -1 an empty record, -2 a KeyUpdate that is owed."""
    plain, sealing = connected()[0], connected()[0]
    _, receiver = connected()
    _, opening = connected()
    for one in (plain, sealing):
        one._writer.restrict(limit)
        one._writer.limit = 40
    for size in script:
        for one in (plain, sealing):
            if size == 0:
                one.send_key_update()
            elif size == -1:
                one._writer._record(ContentType.APPLICATION_DATA, b"")
            elif size == -2:
                one._update_owed, one._sending = True, False
        if size > 0:
            plain.send_data(content_of(size))
        stream = plain.data_to_send()
        assert (sealing.seal(content_of(size)) if size > 0 else sealing.data_to_send()) == stream
        for piece in [stream] if not cuts else pieces_of(stream, cuts):
            receiver.receive_data(piece)
            expected = drained(receiver)
            opened = opening.open_record(piece)
            if opened is None:
                opening.receive_data(piece)
                assert drained(opening) == expected
            else:
                assert (opened, [], "") == expected
            assert opening._reader._keys.sequence == receiver._reader._keys.sequence


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """*stream* in pieces of those sizes, the last of them all that is left."""
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    return [piece for piece in (*pieces, stream) if piece]


def test_open_record_waits_for_its_turn() -> None:
    """Not before events that wait: what came first is told first."""
    client, server = connected()
    first, second = client.seal(b"first"), client.seal(b"second")
    server.receive_data(first)
    assert server.open_record(second) is None
    server.receive_data(second)
    assert drained(server) == (b"firstsecond", [], "")


def connected() -> tuple[Any, Any]:
    """A client and a server after their handshake, whose keys are those of all others."""
    client, server = fresh(Role.CLIENT), fresh(Role.SERVER)
    while not (client.handshake_complete and server.handshake_complete):
        for one, other in ((client, server), (server, client)):
            if data := one.data_to_send():
                other.receive_data(data)
                drained(other)
    return client, server


def drained(connection: Any) -> tuple[bytes, list[str], str]:
    """The data that came, joined; the kinds of events; the error."""
    data, kinds = b"", []
    try:
        while (event := connection.next_event()) is not NEED_DATA:
            if isinstance(event, ApplicationData):
                data += event.data
            elif not kinds or kinds[-1] != type(event).__name__:
                kinds.append(type(event).__name__)
    except PeerError as error:
        return data, kinds, str(error)
    return data, kinds, ""


def test_connection_has_no_more_attributes_than_instances_can_share() -> None:
    """CPython keeps up to 30 names for all instances of a class; with more, each access to any of them takes longer.

    One more than these made a round trip of small messages 8 % slower.
    """
    pair = Pair.of().connect()
    assert max(len(vars(pair.client)), len(vars(pair.server))) <= 29


@given(
    head=st.one_of(st.integers(1, 30), st.integers(1, 70_000)),
    spoiled=st.one_of(st.none(), st.none(), st.integers(0, 70_000)),
    close=st.booleans(),
)
@settings(max_examples=examples(40), deadline=None)
@example(head=3, spoiled=None, close=True)
@example(head=3, spoiled=4, close=False)
@example(head=3, spoiled=3, close=False)
def test_cut_record_is_completed_as_if_all_had_come_at_once(head: int, spoiled: int | None, close: bool) -> None:
    """What follows the rest of a cut record is read where it lies; see Connection._complete_record."""
    pair = Pair.of().connect()
    data = content_of(4 * MAX_PLAINTEXT)
    pair.client.send_data(data)
    if close:
        pair.client.close()
    raw = bytearray(pair.client.data_to_send())
    end = len(raw)
    raw += b"trailing" * 3000
    if spoiled is not None:
        raw[spoiled] ^= 0xFF
    pair.server.receive_data(bytes(raw[:head]))
    events, error = events_of(pair.server)
    if error is None:
        pair.server.receive_data(bytes(raw[head:]))
        more, error = events_of(pair.server)
        events += more
    if error is None:
        assert close and data_of(events) == data
        assert pair.server.trailing_data == (raw[end:] if head < end else raw[end:head])
    else:
        assert data.startswith(data_of(events))
        assert not close or (spoiled is not None and spoiled < end)
        assert pair.server.trailing_data == b""
        assert pair.server.data_to_send() != b"", "the peer is told"


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
def test_records_as_long_as_a_full_one_that_do_not_open_are_bad_in_every_suite(suite: Any) -> None:
    """TLS_AES_128_CCM_8_SHA256 has a shorter tag: what has a full record's length is none of its full records."""
    reader = RecordReader(PYCA.tag_error, None)
    reader.install(secret_of(suite))
    bad = (b"\x17\x03\x03\x40\x11" + bytes(16_401)) * 2
    opened, offset, error = reader.application_data(bad, 0)
    assert (opened, offset) == (b"", 0)
    if error is None:
        with pytest.raises(PeerError) as caught:
            reader.next_record(bad, 0)
        error = caught.value
    assert error.reason == "record 0 under the present key does not open"
