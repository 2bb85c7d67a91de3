"""A recorded connection replays to the same bytes, from memory and from a file, without its private keys."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, ServerConfig
from pellucid.errors import UsageError
from pellucid.explain import Recorder, describe, read_jsonl, recording, replay, write_jsonl
from pellucid.net.listener import listen
from pellucid.net.sync import connect
from pellucid.registry import NamedGroup
from pellucid.sessions import MemoryServerSessions
from pellucid.trace import OutsideDrawn, Role, SecretDerived
from tests.support.meetings import client as resuming_client
from tests.support.meetings import kept, meet
from tests.support.meetings import server as resuming_server
from tests.support.pair import (
    NAME,
    Pair,
    asking_server_config,
    client_config,
    credential,
    deliver,
    events_of,
    server_config,
)

WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "hybrid group": ({"groups": (NamedGroup.X25519MLKEM768,), "key_shares": None}, {}),
    "retry": ({"groups": (NamedGroup.SECP256R1, NamedGroup.X25519), "key_shares": (NamedGroup.SECP256R1,)}, {}),
    "rsa": ({}, {"credentials": "rsa2048"}),
    "compressed, with tickets": ({}, {"tickets": 2, "certificate_compression": None}),
    "mutual": ({"credentials": "p256"}, {"asking": True}),
}


def configs(way: str) -> tuple[ClientConfig, ServerConfig]:
    ours, theirs = (dict(one) for one in WAYS[way])
    for changes in (ours, theirs):
        if "credentials" in changes:
            changes["credentials"] = (credential(changes["credentials"]),)
    if ours.get("key_shares", 1) is None:
        ours["key_shares"] = ours["groups"]
    if theirs.get("certificate_compression", 1) is None:
        theirs["certificate_compression"] = client_config().certificate_compression
    if way == "retry":
        theirs["groups"] = (NamedGroup.X25519,)
    make = asking_server_config if theirs.pop("asking", False) else server_config
    return client_config(**ours), make(**theirs)


def converse(client: ClientConfig, server: ServerConfig) -> None:
    """Both speak, both change keys, the client closes."""
    pair = Pair(Connection.client(client, NAME), Connection.server(server))
    pair.pump()
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        end.send_data(b"from the " + end.role.value.encode())
        end.send_key_update(request_peer=True)
        end.send_data(bytes(40_000))
        deliver(end.data_to_send(), other)
        assert events_of(other)[1] is None
    pair.server.send_data(b"bye")
    pair.pump()
    pair.client.close()
    pair.pump()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("way", WAYS)
def test_replay_sends_the_same_bytes(way: str, role: Role) -> None:
    client, server = configs(way)
    recorder = Recorder()
    if role is Role.CLIENT:
        config: ClientConfig | ServerConfig = client
        converse(recording(client, recorder), server)
    else:
        config = server
        converse(client, recording(server, recorder))
    again = replay(recorder, config)
    assert again.error is None
    assert len(again.expected) > 40_000
    assert again.identical
    assert again.connection.handshake_complete


@pytest.mark.parametrize("store", ["keys", "memory"])
def test_replay_of_a_resumption_with_early_data(store: str) -> None:
    """Sessions, tickets and what is known of early data are in the record; the true stores are not asked again."""
    sessions = MemoryServerSessions() if store == "memory" else None
    ours, theirs = resuming_client(early_data=True), resuming_server(max_early_data=16_384, sessions=sessions)
    meet(ours, theirs)
    before = kept(ours)
    records = {role: Recorder() for role in Role}
    first, second = recording(ours, records[Role.CLIENT]), recording(theirs, records[Role.SERVER])
    meeting = meet(first, second, early=b"early data").speak()
    assert meeting.resumed
    assert meeting.early == b"early data"
    after = kept(ours)
    assert after >= before
    for role, config in ((Role.CLIENT, ours), (Role.SERVER, theirs)):
        again = replay(records[role], config)
        assert again.error is None
        assert again.identical
        assert again.connection.negotiated is not None
        assert again.connection.negotiated.resumed
    assert kept(ours) == after


def test_replay_from_a_file_needs_the_secrets_in_it() -> None:
    client, server = configs("plain")
    recorder = Recorder()
    converse(recording(client, recorder), server)
    shown, hidden = io.StringIO(), io.StringIO()
    write_jsonl(recorder, shown, reveal=True)
    write_jsonl(recorder, hidden)
    for drawn in recorder.of(OutsideDrawn):
        value = drawn.value.reveal().hex()
        # "session" is empty where no test before this one has left a ticket.
        assert not value or value not in hidden.getvalue() or drawn.what == "public", drawn.what
        assert str(len(drawn.value)) in describe(drawn)
    assert replay(read_jsonl(shown.getvalue().splitlines()), client).identical
    with pytest.raises(UsageError, match="reveal=True"):
        replay(read_jsonl(hidden.getvalue().splitlines()), client)


def test_replay_of_a_failed_handshake_sends_the_same_alert() -> None:
    client, _ = configs("plain")
    recorder = Recorder()
    strange = server_config(credentials=(credential("p256", "other.test"),))
    pair = Pair(Connection.client(recording(client, recorder), NAME), Connection.server(strange))
    pair.pump()
    assert events_of(pair.client)[1] is not None
    pair.pump()
    again = replay(recorder, client)
    assert again.identical
    assert type(again.error).__name__ == "CertificateRejected"


def test_replay_of_a_truncated_connection() -> None:
    client, server = configs("plain")
    recorder = Recorder()
    pair = Pair(Connection.client(recording(client, recorder), NAME), Connection.server(server)).connect()
    pair.client.receive_data(b"")
    assert events_of(pair.client)[1] is not None
    again = replay(recorder, client)
    assert again.identical
    assert type(again.error).__name__ == "TruncatedStream"


def test_replay_over_sockets() -> None:
    client, server = configs("mutual")
    records = {role: Recorder() for role in Role}
    with listen("127.0.0.1", 0, recording(server, records[Role.SERVER])) as listener:

        def answer() -> None:
            with listener.accept(handshake=True) as stream:
                stream.sendall(stream.recv())

        thread = threading.Thread(target=answer)
        thread.start()
        config = recording(client, records[Role.CLIENT])
        with connect("127.0.0.1", listener.address[1], config, server_name=NAME) as stream:
            stream.sendall(b"hello")
            assert stream.recv() == b"hello"
        thread.join(10)
    assert replay(records[Role.CLIENT], client).identical
    assert replay(records[Role.SERVER], server).identical


def test_replay_with_another_configuration_is_not_identical_or_refused() -> None:
    client, server = configs("plain")
    recorder = Recorder()
    converse(recording(client, recorder), server)
    other = replace(client, alpn=("h2",))
    assert not replay(recorder, other).identical
    more = replace(client, key_shares=(NamedGroup.X25519, NamedGroup.SECP256R1))
    assert replay(recorder, more).error is not None or not replay(recorder, more).identical


def test_replay_refuses_a_record_with_holes_or_of_another_making() -> None:
    client, server = configs("plain")
    small = Recorder(limit=20)
    converse(recording(client, small), server)
    with pytest.raises(UsageError, match="missing"):
        replay(small, client)
    plain = Recorder()
    converse(replace(client, trace=lambda: plain), server)
    with pytest.raises(UsageError, match=r"explain\.recording"):
        replay(plain, client)


def test_recording_changes_nothing_but_that_it_is_recorded() -> None:
    """Two recorded connections are as different as any two."""
    client, server = configs("plain")
    recorders = Recorder(), Recorder()
    for recorder in recorders:
        converse(recording(client, recorder), server)
    first, second = ({one.secret.reveal() for one in recorder.of(SecretDerived)} for recorder in recorders)
    assert len(first & second) <= 2  # what is derived of zeros alone
