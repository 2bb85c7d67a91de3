"""A capture file that opens already decrypted: pcapng with a Decryption Secrets Block, from the trace alone.

Nobody listens at a network interface, so no privilege is needed: the packets are made of the records that the trace
tells of (`trace_records`), and the secrets (RFC 9850) stand before what they open. Everything is written as it happens:
no more is held than handshakes that are not complete, in bounds. Whoever reads the file reads the connections.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

from pellucid._version import __version__
from pellucid.explain.keylog import key_log_line
from pellucid.explain.private import open_private
from pellucid.explain.recorder import Recorder
from pellucid.explain.tcpip import Endpoint, Flow
from pellucid.messages.handshake import ClientHello
from pellucid.registry import AlertDescription
from pellucid.trace import (
    AlertTraced,
    ClosedTraced,
    Direction,
    HandshakeCompleted,
    MessageTraced,
    Observer,
    RecordTraced,
    Role,
    SecretDerived,
    TcpConnected,
    TcpPacket,
    TraceEvent,
)

__all__ = ["PcapngWriter", "write_pcapng"]

# draft-ietf-opsawg-pcapng: block types, options, and the type of secrets that is TLS's key log.
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_PACKET: Final = 6
_SECRETS: Final = 10
_KEY_LOG: Final = 0x544C534B
_RAW_IP: Final = 101
_END, _COMMENT, _NAME, _APPLICATION, _RESOLUTION, _FLAGS = 0, 1, 2, 4, 9, 2
_NANOSECONDS: Final = 9
_INBOUND, _OUTBOUND = 1, 2

_MAX_HELD: Final = 2**18
_MAX_HOLDING: Final = 256
_OPENING: Final = 8
_UNKNOWN: Final = (Endpoint("192.0.2.1", 49152), Endpoint("192.0.2.2", 443))
_MADE_UP: Final = "where this connection went from and to was not seen: its addresses are made up"


class PcapngWriter:
    """Writes any number of connections to one capture file, each as it happens.

    file:    a path, made readable to its owner alone, what was there is overwritten; or an open binary file.
    secrets: whether the secrets are written too; without them the file holds what an eavesdropper sees.
    clock:   seconds since 1970.

    Raises OSError at once if the file cannot be written. Later it does not, for no connection should break because of a
    full disk: `problem` then has what went wrong, and nothing more is written. Safe for threads.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        secrets: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.problem: OSError | None = None
        self.secrets = secrets
        self.clock = clock
        self._lock = threading.RLock()
        self._owned = isinstance(file, str | os.PathLike)
        self._file: BinaryIO | io.FileIO = _private(os.fspath(file)) if isinstance(file, str | os.PathLike) else file
        self._holding: dict[_Connection, None] = {}
        try:
            self._append(_HEAD)
        except OSError:
            self._close()
            raise

    def observer(self) -> Observer:
        """Return the observer of one new connection. Its records are written only if `trace_records` is set."""
        return _Connection(self, self._lock)

    def write(self, blocks: bytes) -> None:
        """Append whole blocks."""
        if self.problem is not None or self._file.closed:
            return
        try:
            self._append(blocks)
        except OSError as error:
            self.problem = error

    def _append(self, blocks: bytes) -> None:
        left = memoryview(blocks)
        while left:  # a file that is not buffered may take a part
            left = left[self._file.write(left) or len(left) :]
        self._file.flush()

    def holds(self, one: _Connection) -> None:
        """Remember that *one* has something to write yet. Of too many, the first must write it now."""
        self._holding[one] = None
        if len(self._holding) > _MAX_HOLDING:
            next(iter(self._holding)).flush()

    def holds_nothing(self, one: _Connection) -> None:
        self._holding.pop(one, None)

    def close(self) -> None:
        """Write what is still held, and close the file if it was opened here."""
        with self._lock:
            for one in tuple(self._holding):
                one.flush()
            self._close()

    def _close(self) -> None:
        if self._owned:
            self._file.close()

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_pcapng(recorded: Recorder, file: str | os.PathLike[str] | BinaryIO, *, secrets: bool = True) -> None:
    """Write what was recorded of one connection to *file*, with the times at which it happened.

    Without its records (`trace_records=True` in the configuration) the capture is empty.
    """
    now = recorded.started_at
    with PcapngWriter(file, secrets=secrets, clock=lambda: now) as writer:
        observer = writer.observer()
        for seconds, event in recorded.recorded:
            now = recorded.started_at + seconds
            observer(event)


class _Connection:
    """The observer of one connection.

    What is traced is held until the handshake is complete and it is known from where to where it went: readers want to
    know the secrets before the message after which they are used, and the addresses before everything.
    """

    def __init__(self, writer: PcapngWriter, lock: threading.RLock) -> None:
        self._writer = writer
        self._lock = lock
        self._clock = writer.clock
        self._flow: Flow | None = None
        self._client: bool | None = None
        """whether this end is the client; None: not known yet"""
        self._connected: TcpConnected | None = None
        self._packets: list[TcpPacket] = []
        self._random: bytes | None = None
        self._complete = False
        self._secrets: list[str] = []
        self._held: list[tuple[float, RecordTraced]] = []
        self._size = 0
        self._ended: set[Direction] = set()

    def __call__(self, event: TraceEvent) -> None:
        with self._lock:
            self._take(event)

    def precede(self, events: Iterable[TraceEvent]) -> None:
        """Take the TCP handshake, also when it is told late."""
        with self._lock:
            for event in events:
                self._take(event)

    def _take(self, event: TraceEvent) -> None:
        if isinstance(event, RecordTraced):
            self._record(event)
        elif isinstance(event, MessageTraced):
            if self._random is None and isinstance(event.body, ClientHello):
                self._random = event.body.random
        elif isinstance(event, SecretDerived):
            if event.keylog and self._random is not None and self._writer.secrets:
                self._secrets.append(key_log_line(event.keylog, self._random, event.secret))
        elif isinstance(event, HandshakeCompleted):
            self._complete = True
            self._release()
        elif isinstance(event, AlertTraced | ClosedTraced):
            self._closing(event)
        elif isinstance(event, TcpPacket) and len(self._packets) < _OPENING:
            self._packets.append(event)
        elif isinstance(event, TcpConnected):
            self._connected = event
            self._client = event.role is Role.CLIENT
            self._release()

    def flush(self) -> None:
        """Write what is held, secrets first, with addresses that are made up if there are no others."""
        if self._secrets:
            self._writer.write(secrets_block("".join(self._secrets).encode("ascii")))
            self._secrets.clear()
        if self._flow is None and self._held:
            self._open()
        for moment, record in self._held:
            self._write(moment, record)
        self._held.clear()
        self._size = 0
        self._writer.holds_nothing(self)

    def _release(self) -> None:
        if self._complete and self._connected is not None:
            self.flush()

    def _record(self, record: RecordTraced) -> None:
        if self._client is None:
            self._client = record.direction is Direction.SENT  # a client speaks first
        if self._complete and self._flow is not None:
            self._write(self._clock(), record)
            return
        self._held.append((self._clock(), record))
        self._size += len(record.raw)
        self._writer.holds(self)
        if self._size > _MAX_HELD:
            self.flush()

    def _open(self) -> None:
        """Write the TCP handshake, which ended before the first record."""
        told, ends, comment, took = self._connected, _UNKNOWN, _MADE_UP, 0.0
        if told is not None and told.local_address and told.peer_address:
            local, peer = Endpoint(told.local_address, told.local_port), Endpoint(told.peer_address, told.peer_port)
            ends, comment, took = (local, peer) if self._client else (peer, local), "", told.seconds or 0.0
        self._flow = Flow(*ends, info=None if told is None else told.info)
        before = self._held[0][0]
        packets = tuple(((one.direction is Direction.SENT) is bool(self._client), one) for one in self._packets)
        seen = {one.raw: one.seconds for one in self._packets}
        blocks = []
        for number, raw in enumerate(self._flow.opening(packets)):
            moment = before - took + (seen.get(raw) or took * number / 2)
            sent = (number != 1) is bool(self._client)
            blocks.append(packet_block(raw, moment, sent=sent, comment=comment if number == 0 else ""))
        self._writer.write(b"".join(blocks))
        self._packets.clear()

    def _write(self, moment: float, record: RecordTraced) -> None:
        if self._flow is not None and record.direction not in self._ended:
            sent = record.direction is Direction.SENT
            packets = self._flow.data(record.raw, to_server=sent is bool(self._client))
            self._writer.write(b"".join(packet_block(raw, moment, sent=sent) for raw in packets))

    def _closing(self, event: AlertTraced | ClosedTraced) -> None:
        warning = isinstance(event, AlertTraced) and event.description in _NOT_THE_END
        if warning or event.direction in self._ended:
            return
        self.flush()
        how = event.how if isinstance(event, ClosedTraced) else ""
        if how == "silence":
            return
        self._ended.add(event.direction)
        if self._flow is not None:
            sent = event.direction is Direction.SENT
            last = self._flow.end(to_server=sent is bool(self._client), reset=how == "reset")
            self._writer.write(packet_block(last, self._clock(), sent=sent))


_NOT_THE_END: Final = frozenset({AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED})
"""Of the first ClosedTraced tells."""


# ---- blocks --------------------------------------------------------------------------------------------------------


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    told = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options if value)
    return told + struct.pack("<HH", _END, 0) if told else b""


def secrets_block(lines: bytes) -> bytes:
    """Return a Decryption Secrets Block with lines of a key log."""
    return _block(_SECRETS, struct.pack("<II", _KEY_LOG, len(lines)) + _padded(lines))


def packet_block(packet: bytes, moment: float, *, sent: bool, comment: str = "") -> bytes:
    """Return an Enhanced Packet Block. moment: seconds since 1970."""
    high, low = divmod(max(0, round(moment * 10**_NANOSECONDS)), 2**32)
    flags = struct.pack("<I", _OUTBOUND if sent else _INBOUND)
    head = struct.pack("<IIIII", 0, high & 0xFFFFFFFF, low, len(packet), len(packet))
    return _block(_PACKET, head + _padded(packet) + _options((_COMMENT, comment.encode()), (_FLAGS, flags)))


_HEAD: Final = _block(
    _SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((_APPLICATION, f"pellucid {__version__}".encode()))
) + _block(
    _INTERFACE,
    struct.pack("<HHI", _RAW_IP, 0, 0) + _options((_NAME, b"pellucid"), (_RESOLUTION, bytes((_NANOSECONDS,)))),
)


def _private(path: str) -> io.FileIO:
    """Return the file at *path*, empty, for its owner alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(open_private(path, flags), "wb", buffering=0)  # what a full disk did not take is not tried again
