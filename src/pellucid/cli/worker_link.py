"""How the parent of `pellucid serve --workers` and one of its workers talk: messages, and the register of early data.

Two pairs of sockets a worker, inherited, never named in a file system: one for messages, which are few; one for the
questions to the register, whose answers a handshake waits for. Ticket keys go this way and no other: arguments and
environment of a process can be read by others, a file outlives it.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from pellucid.errors import UsageError
from pellucid.sessions.early_data import ReplayGuard

__all__ = ["ANSWER_SECONDS", "AskingGuard", "Frames", "Kind", "LinkClosed", "Register", "receive", "send", "send_json"]

ANSWER_SECONDS: Final = 0.25  # that a handshake with early data waits for the parent at most
_SILENT_SECONDS: Final = 1.0  # that nobody is asked after a question without an answer
_HEAD: Final = struct.Struct("!BI")
_MAX_PAYLOAD: Final = 2**20
_MAX_KEY: Final = 64
_QUESTION: Final = struct.Struct(f"!QddB{_MAX_KEY}s")
_ANSWER: Final = struct.Struct("!QB")
_READ: Final = 65_536


class Kind(IntEnum):
    """What a message is. From the parent: what to serve; the ring of ticket keys; stop, in so many seconds, and as
    another takes this one's place; end the running requests. From the worker: it listens; it cannot, and why.
    """

    SETUP = 1
    KEYS = 2
    STOP = 3
    HURRY = 4
    READY = 5
    FAILED = 6


class LinkClosed(Exception):
    """The other process has gone."""


# ---- messages --------------------------------------------------------------------------------------------------------


class Frames:
    """Bytes as they come → messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, link: socket.socket) -> tuple[list[tuple[Kind, bytes]], bool]:
        """Read *link*, which does not block; return the messages that are whole now, and whether it goes on."""
        try:
            data = link.recv(_READ)
            return self.feed(data), bool(data)
        except BlockingIOError:
            return [], True
        except (OSError, LinkClosed):
            return [], False

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Return the messages that are whole now. Raises LinkClosed for what no message of ours is."""
        self._held += data
        found = []
        while len(self._held) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._held)
            if length > _MAX_PAYLOAD or kind not in iter(Kind):
                raise LinkClosed("not a message")
            end = _HEAD.size + length
            if len(self._held) < end:
                break
            found.append((Kind(kind), bytes(self._held[_HEAD.size : end])))
            del self._held[:end]
        return found


def send(link: socket.socket, kind: Kind, payload: bytes = b"") -> None:
    """Send a message. Raises OSError where the other process has gone, or has not read for long."""
    link.sendall(_HEAD.pack(kind, len(payload)) + payload)


def send_json(link: socket.socket, kind: Kind, value: Mapping[str, Any]) -> None:
    send(link, kind, json.dumps(value).encode())


def receive(link: socket.socket, wanted: Kind) -> bytes:
    """Wait for the next message, of kind *wanted*, on a socket that blocks. Raises LinkClosed."""
    head = _exactly(link, _HEAD.size)
    kind, length = _HEAD.unpack(head)
    if kind != wanted or length > _MAX_PAYLOAD:
        raise LinkClosed("another message was expected")
    return _exactly(link, length)


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise LinkClosed("the other process has gone")
        data += part
    return data


# ---- the register of early data --------------------------------------------------------------------------------------


class Register:
    """The parent's end: answers one worker's questions from the register that all workers share.

    link: does not block. A worker that reads no answers gets none, and takes no early data.
    """

    def __init__(self, link: socket.socket, guard: ReplayGuard) -> None:
        self._link = link
        self._guard = guard
        self._held = bytearray()

    def answer(self) -> bool:
        """Answer what has come; False once the worker has gone."""
        try:
            data = self._link.recv(_READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._held += data
        while len(self._held) >= _QUESTION.size:
            number, now, issued_at, length, key = _QUESTION.unpack_from(self._held)
            del self._held[: _QUESTION.size]
            first = self._guard.first_use(key[:length], now=now, issued_at=issued_at) is True
            try:
                self._link.send(_ANSWER.pack(number, first))
            except BlockingIOError:
                continue
            except OSError:
                return False
        return bool(data)


class AskingGuard:
    """A worker's end: a ReplayGuard that asks the parent, and says no where the parent is not sure in time.

    So a ClientHello is accepted once by all workers together. Whoever waits holds up its worker, as a register in
    memory would by its lock: some 100 µs where the parent is idle, which it is; at most *seconds*. After a question
    that was not answered nobody is asked for a second: early data is rejected, which costs its clients a round trip.
    """

    def __init__(self, link: socket.socket, window_seconds: float, *, seconds: float = ANSWER_SECONDS) -> None:
        self.window_seconds = window_seconds
        self._link = link
        self._seconds = seconds
        self._lock = threading.Lock()
        self._number = 0
        self._held = b""
        self._silent_until = 0.0

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        if not 1 <= len(key) <= _MAX_KEY:
            raise UsageError(f"a ClientHello is known by 1 to {_MAX_KEY} bytes, not {len(key)}")
        with self._lock:
            asked = time.monotonic()
            if asked < self._silent_until:
                return False
            self._number += 1
            question = _QUESTION.pack(self._number, now, issued_at, len(key), key)
            try:
                return self._answered(question, asked + self._seconds)
            except (OSError, LinkClosed):
                self._silent_until = time.monotonic() + _SILENT_SECONDS
                return False

    def _answered(self, question: bytes, end: float) -> bool:
        """Return the answer to this question; to one before it, given too late, nobody listens any more."""
        self._link.settimeout(self._seconds)
        self._link.sendall(question)
        while True:
            while len(self._held) < _ANSWER.size:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no answer in time")
                self._link.settimeout(left)
                part = self._link.recv(_READ)
                if not part:
                    raise LinkClosed("the parent has gone")
                self._held += part
            number, first = _ANSWER.unpack_from(self._held)
            self._held = self._held[_ANSWER.size :]
            if number == self._number:
                return bool(first == 1)
