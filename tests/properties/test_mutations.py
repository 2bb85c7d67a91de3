"""Whatever is changed in a peer's flight, on the wire or inside: nothing completes on it, no wrong data comes out."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import Connection, HandshakeComplete, PeerError
from pellucid.crypto.compression import ZLIB
from pellucid.messages.handshake import message_type
from pellucid.registry import HandshakeType as H
from pellucid.registry import handshake_type_name
from pellucid.trace import Role
from tests.properties.recordings import Outcome, Recording, editing, fresh, record
from tests.support.pair import events_of, pump
from tests.support.soak import examples

TEXT = b"what the peer said, and nothing else"


@functools.cache
def recording(role: Role, mutual: bool, resumed: str = "") -> Recording:
    return record(
        role,
        [lambda peer: peer.send_data(TEXT), lambda peer: peer.send_data(TEXT * 500), Connection.close],
        mutual=mutual,
        resumed=resumed,
    )


@functools.cache
def unchanged(role: Role, mutual: bool, resumed: str = "") -> Outcome:
    return recording(role, mutual, resumed).play()


def harmless(recorded: Recording) -> set[int]:
    """Where the RFC demands that nobody looks: legacy_record_version of what is not protected (§5.1)."""
    found, at = set(), 0
    for raw in recorded.records():
        if raw[0] != 23:
            found |= {at + 1, at + 2}
        at += len(raw)
    return found


def check(recorded: Recording, expected: Outcome, at: int, changed: bytes) -> None:
    outcome = recorded.play(stream=changed)
    if at in harmless(recorded):
        assert outcome == expected
        return
    # Cut short, or shorter than its header now says: nothing of what is left may differ from the truth.
    truth = expected.events
    assert len(outcome.events) <= len(truth)
    for event, true in zip(outcome.events, truth, strict=False):
        assert event == true or true.data.startswith(event.data)
    assert outcome.events != truth
    if at < recorded.handshake:
        assert outcome.events == ()


@pytest.mark.parametrize("mutual", [False, True], ids=["server-only", "mutual"])
@pytest.mark.parametrize("role", Role)
@given(where=st.integers(0, 2**20), change=st.integers(1, 255))
@settings(max_examples=examples(80, soak=4_000), deadline=None)
@pytest.mark.rfc("9846 §5.2", "a record that was changed on its way is bad_record_mac")
@pytest.mark.rfc("9846 §5.1", "legacy_record_version is ignored")
def test_changed_byte_on_the_wire_is_never_believed(role: Role, mutual: bool, where: int, change: int) -> None:
    recorded = recording(role, mutual)
    # Half of the flips in the handshake, which is short against the data behind it.
    at = where // 2 % recorded.handshake if where % 2 else where // 2 % len(recorded.stream)
    changed = recorded.stream[:at] + bytes((recorded.stream[at] ^ change,)) + recorded.stream[at + 1 :]
    check(recorded, unchanged(role, mutual), at, changed)


def skipped(recorded: Recording) -> range:
    """Where a rejected client's early data is: nobody reads it, nor the legacy_record_version before it."""
    at = 0
    for raw in recorded.records():
        if raw[0] == 23:
            stop = at + sum(len(record) for record in recorded.records()[2:4])
            return range(at + 1, stop) if recorded.resumed == "rejected" and recorded.role is Role.SERVER else range(0)
        at += len(raw)
    return range(0)


@pytest.mark.parametrize("resumed", ["session", "early", "rejected"])
@pytest.mark.parametrize("role", Role)
@given(where=st.integers(0, 2**20), change=st.integers(1, 255))
@settings(max_examples=examples(60, soak=3_000), deadline=None)
@pytest.mark.rfc("9846 §5.2", "a record that was changed on its way is bad_record_mac")
def test_changed_byte_in_a_resumed_handshake_is_never_believed(
    role: Role, resumed: str, where: int, change: int
) -> None:
    """Early data that came before it is delivered, as it was sent; the handshake does not complete on it."""
    recorded, truth = recording(role, False, resumed), unchanged(role, False, resumed)
    at = where // 2 % recorded.handshake if where % 2 else where // 2 % len(recorded.stream)
    changed = recorded.stream[:at] + bytes((recorded.stream[at] ^ change,)) + recorded.stream[at + 1 :]
    outcome = recorded.play(stream=changed)
    if at in skipped(recorded) and outcome == truth:
        return
    if at in harmless(recorded):
        assert outcome == truth
        return
    assert outcome.events != truth.events
    for event, true in zip(outcome.events, truth.events, strict=False):
        assert event == true or true.data.startswith(event.data)
    if at < recorded.handshake:
        completed = [event for event in truth.events if isinstance(event, tuple) and len(event) == 6]
        assert outcome.events.count(completed[-1]) < truth.events.count(completed[-1])


@pytest.mark.parametrize("role", Role)
@given(where=st.integers(0, 2**20), length=st.integers(1, 40), insert=st.binary(max_size=40))
@settings(max_examples=examples(60, soak=3_000), deadline=None)
def test_removed_or_inserted_bytes_are_never_believed(role: Role, where: int, length: int, insert: bytes) -> None:
    recorded = recording(role, False)
    at = where // 2 % recorded.handshake if where % 2 else where // 2 % len(recorded.stream)
    changed = recorded.stream[:at] + insert + recorded.stream[at + length :]
    if changed == recorded.stream:
        return
    outcome, truth = recorded.play(stream=changed), unchanged(role, False).events
    for event, true in zip(outcome.events, truth, strict=False):
        assert event == true or true.data.startswith(event.data)


SENT = {
    Role.SERVER: (
        H.SERVER_HELLO,
        H.ENCRYPTED_EXTENSIONS,
        H.CERTIFICATE_REQUEST,
        H.CERTIFICATE,
        H.COMPRESSED_CERTIFICATE,
        H.CERTIFICATE_VERIFY,
        H.FINISHED,
    ),
    Role.CLIENT: (H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED),
}


@pytest.mark.parametrize(
    ("sender", "kind"),
    [(sender, kind) for sender, kinds in SENT.items() for kind in kinds],
    ids=[f"{sender.value}-{handshake_type_name(kind)}" for sender, kinds in SENT.items() for kind in kinds],
)
@given(where=st.integers(0, 2**20), change=st.integers(1, 255))
@settings(max_examples=examples(30, soak=1_200), deadline=None)
@pytest.mark.rfc("9846 §4.5.3", "Finished holds the whole handshake together")
def test_changed_byte_inside_a_message_is_refused(sender: Role, kind: int, where: int, change: int) -> None:
    """The cheat holds the right keys: it changes a message after its own transcript has taken the true one."""

    def edit(raw: bytes) -> bytes:
        if message_type(raw) != kind:
            return raw
        at = where % len(raw)
        return raw[:at] + bytes((raw[at] ^ change,)) + raw[at + 1 :]

    # The tests' server does not compress, and the client does not care.
    compressing = {"certificate_compression": (ZLIB,)} if kind == H.COMPRESSED_CERTIFICATE else {}
    cheat = editing(fresh(sender, mutual=True, **compressing), edit)
    victim = fresh(sender.peer, mutual=True)
    pump(victim, cheat)
    events, error = events_of(victim)
    assert events == []
    assert not victim.handshake_complete
    if error is None:
        # A length that promises more than there is: the victim waits, and nothing can come.
        victim.receive_data(b"")
        with pytest.raises(OSError, match="without close_notify"):
            victim.next_event()
    else:
        assert isinstance(error, PeerError)


@pytest.mark.parametrize("resumed", ["", "session", "early"])
@given(where=st.integers(0, 2**20), change=st.integers(1, 255))
@settings(max_examples=examples(60, soak=3_000), deadline=None)
@pytest.mark.rfc("9846 §4.5.3", "a ClientHello that was changed on its way does not lead to a connection")
def test_changed_client_hello_completes_at_neither_end(resumed: str, where: int, change: int) -> None:
    client, server = fresh(Role.CLIENT, resumed=resumed), fresh(Role.SERVER, resumed=resumed)
    hello = client.data_to_send()
    hello = hello[: 5 + int.from_bytes(hello[3:5], "big")]
    at = where % len(hello)
    if at in {1, 2}:
        return  # legacy_record_version: nobody looks at it
    server.receive_data(hello[:at] + bytes((hello[at] ^ change,)) + hello[at + 1 :])
    pump(client, server)
    for connection in (client, server):
        events, _ = events_of(connection)
        assert not any(isinstance(event, HandshakeComplete) for event in events)
