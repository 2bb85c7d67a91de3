"""A connection once more, to the same bytes: what it drew from outside is recorded, and given again.

    recorder = Recorder()
    config = recording(config, recorder)       # for one connection
    …                                          # whatever it is used for: sockets, SSLContext, sans-I/O
    assert replay(recorder, config).identical  # now, or from a file: read_jsonl(…), written with reveal=True

What is drawn is entropy, the time, key exchanges, signatures and sessions: the record holds their results, so that a
replay needs no private key, and leaves the configuration's stores alone. They are secrets.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pellucid.config import ClientConfig, ServerConfig
from pellucid.connection import Connection
from pellucid.errors import PeerError, TLSError, UsageError
from pellucid.events import NEED_DATA
from pellucid.explain.outside import drawing_client, drawing_server
from pellucid.explain.recorder import Recorder
from pellucid.explain.records import open_record
from pellucid.messages import extensions as x
from pellucid.messages.handshake import ClientHello, KeyUpdate
from pellucid.registry import ContentType
from pellucid.trace import (
    ClosedTraced,
    Direction,
    Epoch,
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    OutsideDrawn,
    RecordTraced,
    Secret,
    TcpConnected,
    TraceEvent,
)

__all__ = ["Replay", "recording", "replay"]

C = TypeVar("C", ClientConfig, ServerConfig)


def recording(config: C, recorder: Recorder) -> C:
    """Return *config* for one connection that *recorder* watches, and that can be replayed from it."""

    def draw(what: str, fresh: Callable[[], bytes]) -> bytes:
        value = fresh()
        recorder(OutsideDrawn(what=what, value=Secret(value)))
        return value

    if isinstance(config, ServerConfig):
        return replace(drawing_server(config, draw), trace=lambda: recorder, trace_records=True)
    return replace(drawing_client(config, draw, fresh=True), trace=lambda: recorder, trace_records=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay came to. sent: what the connection sent; expected: what it sent when it was recorded.

    error: what ended it, if anything did.
    """

    connection: Connection = field(repr=False)
    sent: bytes = field(repr=False)
    expected: bytes = field(repr=False)
    error: TLSError | None

    @property
    def identical(self) -> bool:
        return self.sent == self.expected


def replay(recorded: Recorder, config: ClientConfig | ServerConfig, *, server_name: str | None = None) -> Replay:
    """Return what a fresh connection makes of the recorded peer's bytes, and of what was done with it.

    config:      as it was recorded with; its private keys are not used.
    server_name: of a client, where the record does not have it: for an address, which no ClientHello names.
    Raises UsageError for a record that has lost events, or was not made by `recording`.
    """
    left: dict[str, deque[bytes]] = defaultdict(deque)
    for drawn in recorded.of(OutsideDrawn):
        left[drawn.what].append(drawn.value.reveal())
    if recorded.dropped:
        raise UsageError(f"{recorded.dropped} events are missing from the record")
    if not any(left["random"]):
        raise UsageError("the record does not have what was drawn: see explain.recording; in a file, reveal=True")

    def draw(what: str, _fresh: Callable[[], bytes]) -> bytes:
        if not left[what]:
            raise UsageError(f"another {what} is drawn than the record has: was the configuration another?")
        return left[what].popleft()

    if isinstance(config, ServerConfig):
        connection = _server(recorded, replace(drawing_server(config, draw), trace=None))
    else:
        connection = _client(recorded, replace(drawing_client(config, draw, fresh=False), trace=None), server_name)
    player = _Player(connection)
    for event in recorded.events:
        player.play(event)
    player.take()
    expected = b"".join(one.raw for one in recorded.of(RecordTraced) if one.direction is Direction.SENT)
    return Replay(connection=player.connection, sent=bytes(player.sent), expected=expected, error=player.error)


def _server(recorded: Recorder, config: ServerConfig) -> Connection:
    connected = recorded.first(TcpConnected)
    return Connection.server(config, peer_address="" if connected is None else connected.peer_address)


def _client(recorded: Recorder, config: ClientConfig, server_name: str | None) -> Connection:
    name = server_name or _server_name(recorded)
    if name is None:
        raise UsageError("the record does not say what the server was called: server_name")
    return Connection.client(config, name)


def _server_name(recorded: Recorder) -> str | None:
    completed = recorded.first(HandshakeCompleted)
    if completed is not None and completed.server_name:
        return completed.server_name
    hello = next((one.body for one in recorded.of(MessageTraced) if isinstance(one.body, ClientHello)), None)
    try:
        return None if hello is None else x.decode_extensions(x.M.CH, hello.extensions).get(x.SERVER_NAME)
    except PeerError:
        return None


class _Player:
    """Does with a connection what the record says was done with the first."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent = bytearray()
        self.error: TLSError | None = None
        self._keys: list[KeysInstalled] = []
        connection.start()

    def play(self, event: TraceEvent) -> None:
        try:
            self._play(event)
            while self.connection.next_event() is not NEED_DATA:
                pass
        except TLSError as error:
            self.error = self.error or error

    def take(self) -> None:
        """Take what is to be sent. Not after each event: a KeyUpdate that is owed would go out too early."""
        self.sent += self.connection.data_to_send()

    def _play(self, event: TraceEvent) -> None:
        connection = self.connection
        match event:
            case KeysInstalled():
                self._keys.append(event)
            case RecordTraced(direction=Direction.RECEIVED):
                connection.receive_data(event.raw)
            case RecordTraced(content_type=ContentType.APPLICATION_DATA) if event.sequence is not None:
                data = open_record(event, self._keys).content
                if event.epoch is Epoch.EARLY:
                    connection.send_early_data(data)
                else:
                    connection.send_data(data)
            case MessageTraced(direction=Direction.SENT, body=KeyUpdate(request_update=asks)):
                if connection._update_owed:
                    self.take()  # it goes out by itself, with whatever is taken next
                else:
                    connection.send_key_update(request_peer=bool(asks))
            case ClosedTraced(direction=Direction.SENT):
                connection.close()
            case ClosedTraced(how="truncated"):
                connection.receive_data(b"")
            case _:
                pass
