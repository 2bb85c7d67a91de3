"""How bytes are cut on their way changes nothing: the same events, the same error, the same answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import Connection, HandshakeComplete, pad_to_multiple
from pellucid.trace import Role
from tests.properties.recordings import EARLY, Recording, record
from tests.support.pair import all_at_once, as_sent, events_of, one_byte_at_a_time, random_cuts
from tests.support.soak import examples

Step = tuple[str, int]

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.one_of(st.integers(1, 200), st.sampled_from([4069, 4075, 16384, 16385, 40_000]))),
        st.tuples(st.just("update"), st.integers(0, 1)),
        st.tuples(st.just("empty"), st.integers(1, 3)),
    ),
    max_size=8,
)


def acted(peer: Connection, step: Step) -> None:
    kind, size = step
    if kind == "data":
        peer.send_data(bytes(i & 0xFF for i in range(size)))
    elif kind == "update":
        peer.send_key_update(request_peer=bool(size))
    else:
        for _ in range(size):
            peer._writer._record(23, b"")


def recorded(
    role: Role, mutual: bool, script: list[Step], multiple: int, *, close: bool, resumed: str = ""
) -> Recording:
    todo: list[Any] = [lambda peer, step=step: acted(peer, step) for step in script]
    if close:
        todo.append(Connection.close)
    padding = pad_to_multiple(multiple) if multiple else None
    return record(role, todo, mutual=mutual, each_message=multiple > 0, padding=padding, resumed=resumed)


@pytest.mark.parametrize("role", Role)
@given(
    script=scripts,
    kind=st.sampled_from(["", "mutual", "session", "early", "rejected"]),
    multiple=st.sampled_from([0, 0, 64, 5000]),
    close=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=examples(25, soak=1_200), deadline=None)
@pytest.mark.rfc("9846 §5.1", "record boundaries and the transport's cuts carry no meaning")
def test_events_are_the_same_however_bytes_are_cut(
    role: Role, script: list[Step], kind: str, multiple: int, close: bool, seed: int
) -> None:
    resumed = kind.removeprefix("mutual")
    recording = recorded(role, kind == "mutual", script, multiple, close=close, resumed=resumed)
    expected = recording.play(as_sent)
    assert expected.error is None
    sent = b"".join(bytes(i & 0xFF for i in range(size)) for kind, size in script if kind == "data")
    early = b"".join(EARLY) if kind == "early" and role is Role.SERVER else b""
    assert b"".join(event.data for event in expected.events if hasattr(event, "data")) == early + sent
    for chunking in (all_at_once, random_cuts(seed), random_cuts(seed + 1)):
        assert recording.play(chunking) == expected
    if len(recording.stream) < 10_000:
        assert recording.play(one_byte_at_a_time) == expected


@pytest.mark.parametrize("role", Role)
@given(
    script=scripts,
    resumed=st.sampled_from(["", "session", "early", "rejected"]),
    where=st.integers(0, 2**20),
    change=st.integers(1, 255),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=examples(25, soak=1_200), deadline=None)
def test_error_is_the_same_however_bytes_are_cut(
    role: Role, script: list[Step], resumed: str, where: int, change: int, seed: int
) -> None:
    """One byte changed anywhere: what came before it is delivered, then the same error, whatever the cuts."""
    recording = recorded(role, False, script, 0, close=True, resumed=resumed)
    at = where % len(recording.stream)
    stream = recording.stream[:at] + bytes((recording.stream[at] ^ change,)) + recording.stream[at + 1 :]
    expected = recording.play(all_at_once, stream=stream)
    assert recording.play(random_cuts(seed), stream=stream) == expected
    assert recording.play(random_cuts(seed + 1), stream=stream) == expected
    if len(stream) < 10_000:
        assert recording.play(one_byte_at_a_time, stream=stream) == expected


def test_handshake_completes_three_ways(pair: Any) -> None:
    pair.pump()
    for connection in (pair.client, pair.server):
        events, error = events_of(connection)
        assert error is None
        assert [type(event) for event in events] == [HandshakeComplete]
    assert pair.client.channel_binding() == pair.server.channel_binding()
