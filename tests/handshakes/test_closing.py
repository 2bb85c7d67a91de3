"""Closure, both ends ours (RFC 9846 §6.1): who gives up says so and why, who hears it reads on until close_notify."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pellucid import (
    AlertReceived,
    ApplicationData,
    ClientAuthentication,
    CloseNotify,
    Connection,
    HandshakeComplete,
    TruncatedStream,
    UsageError,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.sessions.client import MemorySessionStore
from pellucid.trace import AlertTraced, ClosedTraced, Direction, TraceEvent
from tests.support.pair import (
    CHUNKINGS,
    Chunking,
    Pair,
    as_sent,
    authority,
    client_config,
    credential,
    deliver,
    events_of,
    server_config,
)

SECTION = "9846 §6.1"
three_ways = pytest.mark.parametrize("chunking", CHUNKINGS.values(), ids=CHUNKINGS)
both = pytest.mark.parametrize("role", ["client", "server"])


def mutual(chunking: Chunking) -> Pair:
    return Pair.of(
        client_config(credentials=(credential("p256", "client.test"),)),
        server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust),
        chunking=chunking,
    )


def ends(pair: Pair, role: str) -> tuple[Connection, Connection]:
    return (pair.client, pair.server) if role == "client" else (pair.server, pair.client)


def steps(pair: Pair) -> Iterator[None]:
    """Shake hands flight by flight; the generator stops in between."""
    for _ in range(4):
        for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
            deliver(sender.data_to_send(), receiver, pair.chunking)
            yield


def say(sender: Connection, description: int, level: int = 1) -> None:
    sender._writer.flush()
    sender._writer._record(ContentType.ALERT, bytes((level, description)))


@pytest.mark.rfc(SECTION, "whoever hears user_canceled reads on until close_notify")
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("after", range(4))
@both
@three_ways
def test_handshake_goes_on_after_user_canceled(chunking: Chunking, role: str, after: int, level: int) -> None:
    """It was said, and not followed by close_notify: the handshake completes, data is read, the end is clean."""
    pair = mutual(chunking)
    here, there = ends(pair, role)
    progress = steps(pair)
    for _ in range(after):
        next(progress)
    if after == 0:
        pair.client.start()
        here, there = pair.client, pair.server
    say(here, A.USER_CANCELED, level)
    for _ in progress:
        pass
    for end in (here, there):
        seen, error = events_of(end)
        assert error is None and [type(event) for event in seen] == [HandshakeComplete]
    here.send_data(b"all the same")
    say(here, A.USER_CANCELED, level)
    here.send_data(b", to the end")
    here.close()
    deliver(here.data_to_send(), there, chunking)
    seen, error = events_of(there)
    assert error is None and seen[-1] == CloseNotify()
    assert b"".join(e.data for e in seen if isinstance(e, ApplicationData)) == b"all the same, to the end"
    assert not there.closed
    there.send_data(b"and back")
    deliver(there.data_to_send(), here, chunking)
    assert events_of(here) == ([ApplicationData(b"and back")], None)


@pytest.mark.rfc(SECTION, "a handshake given up by its user ends with user_canceled and close_notify")
@pytest.mark.parametrize("after", range(1, 4))
@both
@three_ways
def test_peer_hears_that_the_handshake_was_given_up_by_a_user(chunking: Chunking, role: str, after: int) -> None:
    """In whatever state, under whatever keys: the reason is what the peer's user is told, not the close."""
    told: list[TraceEvent] = []
    pair = mutual(chunking)
    here, there = ends(pair, role)
    there._trace = told.append
    progress = steps(pair)
    for _ in range(after):
        next(progress)
    if here.handshake_complete:
        return  # the client has done its part: then it is a close like another
    there.data_to_send()  # what it has sealed already does not arrive
    here.close()
    deliver(here.data_to_send(), there, chunking)
    seen, error = events_of(there)
    heard = [e.description for e in told if isinstance(e, AlertTraced) and e.direction is Direction.RECEIVED]
    assert heard == [A.USER_CANCELED, A.CLOSE_NOTIFY]
    if there.handshake_complete:
        # A server gives up while the client has done its part already: to the client it is a clean end.
        assert error is None and [type(event) for event in seen] == [HandshakeComplete, CloseNotify]
    else:
        assert isinstance(error, AlertReceived)
        assert error.description == A.USER_CANCELED
        assert there.data_to_send() == b""
    with pytest.raises(UsageError, match="closed before"):
        here.next_event()


@both
@three_ways
def test_close_notify_alone_in_the_handshake_is_told_as_such(chunking: Chunking, role: str) -> None:
    pair = Pair.of(chunking=chunking)
    here, there = ends(pair, role)
    if role == "server":
        pair.client.start()
        deliver(pair.client.data_to_send(), pair.server)
        pair.server.data_to_send()
        pair.server._writer.forget()
    say(here, A.CLOSE_NOTIFY)
    deliver(here.data_to_send(), there, chunking)
    _, error = events_of(there)
    assert isinstance(error, AlertReceived) and error.description == A.CLOSE_NOTIFY


@both
def test_user_canceled_without_close_notify_and_then_nothing_is_a_truncation(role: str) -> None:
    for established in (False, True):
        pair = Pair.of()
        if established:
            pair.connect()
        elif role == "server":
            deliver(pair.client.data_to_send(), pair.server)
            pair.server.data_to_send()
            pair.server._writer.forget()
        here, there = ends(pair, role)
        say(here, A.USER_CANCELED)
        deliver(here.data_to_send(), there)
        there.receive_data(b"")
        _, error = events_of(there)
        assert isinstance(error, TruncatedStream)


@pytest.mark.rfc(SECTION, "a close after the handshake is close_notify alone")
@both
@three_ways
def test_close_after_the_handshake_is_close_notify_alone(chunking: Chunking, role: str) -> None:
    seen: list[TraceEvent] = []
    pair = Pair.of(chunking=chunking, client_trace=seen.append, server_trace=seen.append).connect()
    here, there = ends(pair, role)
    seen.clear()
    here.close()
    deliver(here.data_to_send(), there, chunking)
    assert events_of(there) == ([CloseNotify()], None)
    assert [(e.direction, e.description) for e in seen if isinstance(e, AlertTraced)] == [
        (Direction.SENT, A.CLOSE_NOTIFY),
        (Direction.RECEIVED, A.CLOSE_NOTIFY),
    ]
    assert [(e.direction, e.how) for e in seen if isinstance(e, ClosedTraced)] == [
        (Direction.SENT, "close_notify"),
        (Direction.RECEIVED, "close_notify"),
    ]


@pytest.mark.rfc(SECTION, "nothing is sent after close_notify")
def test_server_that_closed_early_sends_no_ticket() -> None:
    """A server may answer early data and close before the client's Finished: no ticket follows its close_notify."""
    client = client_config(early_data=True, sessions=MemorySessionStore())
    server = server_config(tickets=1, tickets_on_resumption=1, max_early_data=1000)
    Pair.of(client, server).pump()
    pair = Pair.of(client, server)
    pair.client.send_early_data(b"early")
    deliver(pair.client.data_to_send(), pair.server)
    events_of(pair.server)
    pair.server.send_data(b"answer")
    pair.server.close()
    flight = list(as_sent(pair.server.data_to_send()))
    for record in flight:
        deliver(record, pair.client)
    seen, error = events_of(pair.client)
    assert error is None and [type(e) for e in seen] == [HandshakeComplete, ApplicationData, CloseNotify]
    deliver(pair.client.data_to_send(), pair.server)
    seen, error = events_of(pair.server)
    assert error is None and [type(e) for e in seen] == [HandshakeComplete]
    assert pair.server.data_to_send() == b""
