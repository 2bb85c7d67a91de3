"""The fuzzer's oracle: bytes from a peer raise PeerError, AlertReceived or TruncatedStream, and nothing else, anywhere.

A victim is brought to any state by a good recording, cut anywhere; then it gets noise, changed records, records out of
turn, and whatever a peer that holds the right keys could seal.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import NEED_DATA, AlertReceived, Connection, PeerError, TLSError, TruncatedStream
from pellucid.messages.handshake import BODIES, handshake_message
from pellucid.registry import HandshakeType as H
from pellucid.trace import Role
from tests.properties.recordings import Recording, record
from tests.properties.strategies import structures
from tests.support.soak import examples

ALLOWED = (PeerError, AlertReceived, TruncatedStream)

KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "-mutual": {"mutual": True},
    "-retried": {"retry": True},
    "-resumed": {"resumed": "session"},
    "-early": {"resumed": "early"},
    "-early-rejected": {"resumed": "rejected"},
}
VICTIMS = [(role, kind) for role in Role for kind in KINDS]
VICTIM_IDS = [f"{role.value}{kind}" for role, kind in VICTIMS]


@functools.cache
def recording(role: Role, kind: str) -> Recording:
    return record(
        role,
        [
            lambda peer: peer.send_data(b"first"),
            lambda peer: peer.send_data(b"a" * 20_000),
            lambda peer: peer.send_key_update(request_peer=True),
            lambda peer: peer.send_data(b"second"),
            Connection.close,
        ],
        each_message=True,
        **KINDS[kind],
    )


# ---- what is done to it ----------------------------------------------------------------------------------------------


def sealed(victim: Connection, content_type: int, content: bytes, padding: int) -> bytes:
    """A record that opens under the keys that the victim reads with; an unprotected one if it has none."""
    keys = victim._reader._keys
    if keys is None:
        return bytes((content_type, 3, 3)) + len(content).to_bytes(2, "big") + content
    inner = content + bytes((content_type,)) + bytes(padding)
    header = b"\x17\x03\x03" + (len(inner) + keys.tag_length).to_bytes(2, "big")
    return header + keys.aead.encrypt((keys.iv ^ keys.sequence).to_bytes(12, "big"), inner, header)


@st.composite
def handshake_bytes(draw: st.DrawFn) -> bytes:
    """One or two well-formed messages of any type, or a header that promises anything."""
    found = b""
    for _ in range(draw(st.integers(1, 2))):
        code = draw(st.sampled_from(sorted(BODIES)))
        try:
            raw = handshake_message(draw(structures(BODIES[code])))
        except TLSError:  # a bound in bytes; another message will do
            raw = bytes((code, 0, 0, 0))
        found += raw
    if draw(st.booleans()):
        return found
    return bytes((draw(st.sampled_from([*BODIES, 0, 254])),)) + draw(st.binary(min_size=3, max_size=40))


contents = st.one_of(
    st.tuples(st.just(22), handshake_bytes()),
    st.tuples(st.just(21), st.binary(max_size=4)),
    st.tuples(st.just(21), st.builds(lambda level, code: bytes((level, code)), st.integers(1, 2), st.integers(0, 255))),
    st.tuples(st.just(23), st.binary(max_size=40)),
    st.tuples(st.just(20), st.sampled_from([b"\x01", b"\x02", b"", b"\x01\x01"])),
    st.tuples(st.integers(0, 255), st.binary(max_size=20)),
)

actions = st.one_of(
    st.tuples(st.just("noise"), st.binary(min_size=1, max_size=80)),
    st.tuples(
        st.just("noise"),
        st.builds(
            lambda kind, length, body: bytes((kind, 3, 3)) + length.to_bytes(2, "big") + body,
            st.sampled_from([20, 21, 22, 23, 24]),
            st.one_of(st.integers(0, 40), st.sampled_from([2**14, 2**14 + 1, 2**14 + 256, 2**14 + 257, 65535])),
            st.binary(max_size=40),
        ),
    ),
    st.tuples(st.just("sealed"), contents, st.integers(0, 20)),
    st.tuples(st.just("next"), st.just(0), st.just(0)),
    st.tuples(st.just("flip"), st.integers(0, 2**16), st.integers(1, 255)),
    st.tuples(st.just("skip"), st.just(0), st.just(0)),
    st.tuples(st.just("again"), st.just(0), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 2**16), st.just(0)),
    st.tuples(st.just("end")),
)


class Attack:
    """Feeds a victim and watches that it keeps the promise."""

    def __init__(self, recording: Recording, start: int) -> None:
        self.records = recording.records()
        self.at = min(start, len(self.records))
        self.victim = recording.victim()
        self.error: TLSError | None = None
        self.feed(b"".join(self.records[: self.at]))

    def bytes_of(self, action: tuple[Any, ...]) -> bytes:
        kind = action[0]
        following = self.record_at(self.at)
        if kind == "noise":
            return bytes(action[1])
        if kind == "sealed":
            return sealed(self.victim, *action[1], action[2])
        if kind == "end":
            return b""
        if kind == "again":
            return self.record_at(self.at - 1)
        self.at += 1
        if kind == "flip":
            at = action[1] % len(following)
            return following[:at] + bytes((following[at] ^ action[2],)) + following[at + 1 :]
        if kind == "cut":
            return following[: 1 + action[1] % len(following)]
        if kind == "skip":
            self.at += 1
            return self.record_at(self.at - 1)
        return following

    def record_at(self, index: int) -> bytes:
        """A record of the recording; an unprotected close_notify before its begin and after its end."""
        inside = 0 <= index < len(self.records)
        return self.records[index] if inside else b"\x15\x03\x03\x00\x02\x01\x00"

    def feed(self, data: bytes) -> None:
        try:
            self.victim.receive_data(data)
            while self.victim.next_event() is not NEED_DATA:
                pass
        except ALLOWED as error:
            if self.error is not None:
                assert error is self.error, "another error than the first"
            self.error = error
        else:
            assert self.error is None, "the error was forgotten"
        sent = self.victim.data_to_send()
        if self.error is not None:
            assert len(sent) <= 6 + 5 + 2 + 17 + 1200, "more than an answer that waited, and an alert"
            assert self.victim.data_to_send() == b""
            assert self.victim.closed


@pytest.mark.parametrize(("role", "kind"), VICTIMS, ids=VICTIM_IDS)
@given(start=st.integers(0, 14), todo=st.lists(actions, min_size=1, max_size=5))
@settings(max_examples=examples(100, soak=6_000), deadline=None)
@pytest.mark.rfc("9846 §6.2", "whatever a peer sends ends in an error alert or is legal, and the error stays")
def test_any_bytes_raise_what_is_promised(role: Role, kind: str, start: int, todo: list[tuple[Any, ...]]) -> None:
    attack = Attack(recording(role, kind), start)
    for action in todo:
        attack.feed(attack.bytes_of(action))


@pytest.mark.parametrize(("role", "kind"), VICTIMS, ids=VICTIM_IDS)
def test_every_state_is_reached(role: Role, kind: str) -> None:
    """The recordings pass through every state of Appendix A that waits for something: the test above starts in each."""
    recorded = recording(role, kind)
    victim = recorded.victim()
    states = [victim.state]
    for one in recorded.records():
        victim.receive_data(one)
        if victim.state != states[-1]:
            states.append(victim.state)
    wanted = {
        (Role.CLIENT, ""): "WAIT_SH WAIT_EE WAIT_CERT_CR WAIT_CV WAIT_FINISHED CONNECTED",
        (Role.CLIENT, "-mutual"): "WAIT_SH WAIT_EE WAIT_CERT_CR WAIT_CERT WAIT_CV WAIT_FINISHED CONNECTED",
        (Role.CLIENT, "-retried"): "WAIT_SH WAIT_EE WAIT_CERT_CR WAIT_CV WAIT_FINISHED CONNECTED",
        (Role.CLIENT, "-resumed"): "WAIT_SH WAIT_EE WAIT_FINISHED CONNECTED",
        (Role.CLIENT, "-early"): "WAIT_SH WAIT_EE WAIT_FINISHED CONNECTED",
        (Role.CLIENT, "-early-rejected"): "WAIT_SH WAIT_EE WAIT_FINISHED CONNECTED",
        (Role.SERVER, "-resumed"): "START WAIT_FINISHED CONNECTED",
        (Role.SERVER, "-early"): "START WAIT_EOED WAIT_FINISHED CONNECTED",
        (Role.SERVER, "-early-rejected"): "START WAIT_FINISHED CONNECTED",
        (Role.SERVER, ""): "START WAIT_FINISHED CONNECTED",
        (Role.SERVER, "-mutual"): "START WAIT_CERT WAIT_CV WAIT_FINISHED CONNECTED",
        (Role.SERVER, "-retried"): "START WAIT_FINISHED CONNECTED",
    }
    assert states == wanted[role, kind].split()
    assert victim.peer_closed
    assert victim.negotiated is not None and victim.negotiated.retried is (kind == "-retried")
    assert victim.negotiated.resumed is ("resumed" in KINDS[kind])
    assert len(recorded.records()) <= 14 + 2


@pytest.mark.parametrize(("role", "kind"), VICTIMS, ids=VICTIM_IDS)
@pytest.mark.rfc("9846 §E.4", "each side sends one change_cipher_spec, the server after its first message")
def test_one_change_cipher_spec_from_each_side(role: Role, kind: str) -> None:
    """The client's stands before its second flight: before its second ClientHello, if there is one."""
    types = [one[0] for one in recording(role, kind).records()]
    assert types.count(20) == 1
    assert types.index(20) == 1


@pytest.mark.parametrize(("role", "kind"), VICTIMS, ids=VICTIM_IDS)
@given(cut=st.integers(0, 2**20))
@settings(max_examples=examples(20, soak=800), deadline=None)
@pytest.mark.rfc("9846 §6.1", "a stream that ends without close_notify is a truncation")
def test_end_of_stream_anywhere_is_a_truncation(role: Role, kind: str, cut: int) -> None:
    recorded = recording(role, kind)
    victim = recorded.victim()
    before_close = len(recorded.stream) - len(recorded.records()[-1])
    stream = recorded.stream[: cut % (before_close + 1)]
    if stream:
        victim.receive_data(stream)
    victim.receive_data(b"")
    with pytest.raises(TruncatedStream):
        while victim.next_event() is not NEED_DATA:
            pass


@given(data=st.binary(min_size=1, max_size=200), length=st.integers(1, 2000))
@settings(max_examples=examples(40, soak=2_000), deadline=None)
def test_plain_noise_to_a_server_is_refused_or_waited_for(data: bytes, length: int) -> None:
    victim = recording(Role.SERVER, "").victim()
    hello = bytes((22, 3, 1)) + (length + 4).to_bytes(2, "big") + bytes((H.CLIENT_HELLO,)) + length.to_bytes(3, "big")
    for first in (data, hello + data):
        victim = recording(Role.SERVER, "").victim()
        victim.receive_data(first)
        try:
            assert victim.next_event() is NEED_DATA
        except PeerError:
            assert victim.data_to_send()[0] == 21
