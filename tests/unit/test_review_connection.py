"""The edges of a Connection's life: closed before it began, ended while paused, given buffers of other items."""

from __future__ import annotations

import array
from collections.abc import Callable

import pytest

from pellucid import (
    PENDING,
    ApplicationData,
    CloseNotify,
    Connection,
    HandshakeComplete,
    InternalError,
    TLSError,
    TruncatedStream,
    UsageError,
    VerificationNeeded,
    pad_to_multiple,
)
from pellucid.registry import ContentType
from pellucid.trace import AlertTraced, ClosedTraced, TraceEvent
from pellucid.verify.request import VerificationRequest
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import NAME, as_sent, authority, client_config, deliver, events_of, pump, server_config


def _types(data: bytes) -> list[int]:
    """The outer content types of the records in *data*."""
    return [record[0] for record in as_sent(data)]


def _pair(**changes: object) -> tuple[Connection, Connection]:
    """A client, configured with *changes*, and a server, past their handshake."""
    client = Connection.client(client_config(**changes), NAME)
    server = Connection.server(server_config())
    pump(client, server)
    events_of(client)
    events_of(server)
    return client, server


# ---- the end before the end of the handshake -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "alerts"),
    [
        (lambda client: client.close(), 2),
        (lambda client: client.fail(80), 1),
        (lambda client: client.receive_data(b""), 0),
    ],
    ids=["close", "fail", "end of stream"],
)
def test_a_client_that_is_over_before_it_began_sends_no_client_hello(
    end: Callable[[Connection], None], alerts: int
) -> None:
    client = Connection.client(client_config(), NAME)
    end(client)
    assert _types(client.data_to_send()) == [ContentType.ALERT] * alerts
    assert client.data_to_send() == b""
    client.start()
    assert client.data_to_send() == b""
    assert client.state == "START"


@pytest.mark.rfc("9846 §6.1", "nothing is sent after close_notify")
def test_nothing_follows_the_close_notify_of_a_client_that_closed_during_its_handshake() -> None:
    client, server = Connection.client(client_config(), NAME), Connection.server(server_config())
    deliver(client.data_to_send(), server)
    client.close()
    assert _types(client.data_to_send()) == [ContentType.ALERT, ContentType.ALERT]
    with pytest.raises(UsageError):
        client.receive_data(server.data_to_send())
    assert client.data_to_send() == b""
    assert not client.handshake_complete
    assert client.closed
    with pytest.raises(UsageError):
        client.send_data(b"after the end")
    assert client.data_to_send() == b""


@pytest.mark.rfc("9846 §6.1", "nothing is sent after close_notify")
def test_nothing_follows_the_close_notify_of_a_server_that_closed_before_client_hello() -> None:
    client, server = Connection.client(client_config(), NAME), Connection.server(server_config())
    server.close()
    assert _types(server.data_to_send()) == [ContentType.ALERT, ContentType.ALERT]
    with pytest.raises(UsageError):
        server.receive_data(client.data_to_send())
    assert server.data_to_send() == b""


def test_both_alerts_of_a_close_during_the_handshake_are_told() -> None:
    told: list[TraceEvent] = []
    client = Connection.client(client_config(), NAME, trace=told.append)
    client.start()
    client.close()
    assert [event.description for event in told if isinstance(event, AlertTraced)] == [90, 0]


# ---- the end during a pause ------------------------------------------------------------------------------------------


class _Later:
    """Answers later, as a verifier would that asks somebody else."""

    authorities = ()

    def __init__(self) -> None:
        self.request: VerificationRequest | None = None

    def verify(self, request: VerificationRequest) -> object:
        self.request = request
        return PENDING

    def answer(self) -> object:
        assert self.request is not None
        return WebPKIVerifier(authority().trust).verify(self.request)


@pytest.mark.parametrize("closed", [True, False], ids=["close_notify", "truncated"])
def test_what_came_before_the_end_is_read_after_the_pause(closed: bool) -> None:
    """A server may send data and close_notify with its first flight, and be gone while we still verify it."""
    later = _Later()
    client, server = Connection.client(client_config(verifier=later), NAME), Connection.server(server_config())
    deliver(client.data_to_send(), server)
    flight = server.data_to_send()
    server._writer.application_data(b"early")
    if closed:
        server._writer.alert(1, 0)
    deliver(flight + server.data_to_send(), client)
    client.receive_data(b"")
    (event,), error = events_of(client)
    assert isinstance(event, VerificationNeeded)
    assert error is None
    client.resume(later.answer())
    seen, error = events_of(client)
    assert isinstance(seen[0], HandshakeComplete)
    assert seen[1] == ApplicationData(b"early")
    assert seen[2:] == ([CloseNotify()] if closed else [])
    assert (error is None) if closed else isinstance(error, TruncatedStream)


def test_an_end_in_a_pause_with_nothing_before_it_is_told_at_once() -> None:
    later = _Later()
    client, server = Connection.client(client_config(verifier=later), NAME), Connection.server(server_config())
    deliver(client.data_to_send(), server)
    deliver(server.data_to_send(), client)
    client.receive_data(b"")
    assert isinstance(events_of(client)[1], TruncatedStream)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_failure_while_failing_sends_one_alert() -> None:
    """A KeyUpdate that is owed and cannot be padded is one error, told once."""
    broken = False

    def policy(content_type: int, length: int) -> int:
        if broken and content_type == ContentType.HANDSHAKE:
            raise RuntimeError("no")
        return 0

    client, server = _pair(padding=policy)
    broken = True
    server.send_key_update(request_peer=True)
    deliver(server.data_to_send(), client)
    assert len(_types(client.data_to_send())) == 1
    assert isinstance(events_of(client)[1], InternalError)


def test_an_observer_that_fails_at_the_end_of_the_stream_fails_the_connection_alone() -> None:
    def observer(event: TraceEvent) -> None:
        if isinstance(event, ClosedTraced):
            raise RuntimeError("no")

    client = Connection.client(client_config(), NAME, trace=observer)
    client.start()
    client.receive_data(b"")
    assert isinstance(events_of(client)[1], InternalError)
    with pytest.raises(TLSError):
        client.receive_data(b"more")


# ---- buffers ---------------------------------------------------------------------------------------------------------

_NUMBERS = array.array("I", range(1000))
_MANY = array.array("I", range(40_000))


@pytest.mark.parametrize("padded", [False, True], ids=["plain", "padded"])
@pytest.mark.parametrize(
    "data",
    [
        _NUMBERS,
        memoryview(_NUMBERS),
        memoryview(_MANY),
        memoryview(bytes(range(12))).cast("B", (3, 4)),
        memoryview(bytes(range(200))).cast("b"),
        memoryview(bytes(100_000)).cast("c"),
        memoryview(bytes(range(200)))[::3],
        memoryview(bytes(range(256)) * 300)[::2],
    ],
    ids=["array", "numbers", "many numbers", "two dimensions", "signed", "characters", "steps", "many steps"],
)
def test_a_buffer_of_any_items_is_sent_as_its_bytes(data: memoryview, padded: bool) -> None:
    client, server = _pair(padding=pad_to_multiple(64)) if padded else _pair()
    client.send_data(data)
    client.send_data(b"end")
    deliver(client.data_to_send(), server)
    seen, error = events_of(server)
    assert error is None
    assert b"".join(event.data for event in seen) == bytes(data) + b"end"
