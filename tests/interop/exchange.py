"""What the two ends say to each other once the handshake is done: a little HTTP, or lines that come back.

Nothing here knows about TLS: a stream is anything with `sendall` and `recv`.
"""

from __future__ import annotations

import enum
import hashlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

TOKEN: Final = b"pellucid interop: hello\n"
# Its text tells the browser that shows it over which protocol it came.
PAGE: Final = b"""<!doctype html>
<meta charset="utf-8">
<title>pellucid interop</title>
<p id="protocol">unknown</p>
<script>
const [navigation] = performance.getEntriesByType('navigation');
document.getElementById('protocol').textContent = navigation.nextHopProtocol;
</script>
"""
LINE_SIZE: Final = 4096
LARGE_SIZE: Final = 2**20


class Stream(Protocol):
    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...


class Purpose(enum.Enum):
    """What the conversation is to show. INITIATE and ANSWER are seen from the peer."""

    HELLO = "hello"
    LARGE = "large"
    COOKIE = "hello, after a cookie"
    HTTP2 = "HTTP/2, if the peer speaks it"
    INITIATE_KEY_UPDATE = "initiate key update"
    ANSWER_KEY_UPDATE = "answer key update"
    CROSS_KEY_UPDATES = "key updates by both, which cross"
    RESUME = "hello twice, the second time with the first one's ticket"
    EARLY_DATA = "hello twice, the second time in 0-RTT"
    PSK = "hello, with a key that both have from elsewhere"


class WrongAnswer(Exception):
    """The handshake was fine, but what was said afterwards did not arrive as it was sent."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The client says *send*, the server answers *expect*: as the body of an HTTP response, or, if raw, just so.

    http2: the same as a request of HTTP/2; *send* is not used then.
    """

    send: bytes = field(repr=False)
    expect: bytes = field(repr=False)
    raw: bool = False
    http2: bool = False
    method: str = ""
    path: str = ""
    body: bytes = field(default=b"", repr=False)


def large_text() -> bytes:
    """Return 2^20 bytes: lines of 4096, each different, so that an echo by lines can return them too."""
    lines = []
    for number in range(LARGE_SIZE // LINE_SIZE):
        digest = hashlib.sha256(number.to_bytes(4, "big")).hexdigest()
        lines.append((digest * (LINE_SIZE // len(digest)))[: LINE_SIZE - 1].encode() + b"\n")
    return b"".join(lines)


LARGE: Final = large_text()


def http_turn(method: str, path: str, expect: bytes, body: bytes = b"", *, last: bool) -> Turn:
    """Return one request and the body of its response. last: whether the server is to close afterwards."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Connection: {'close' if last else 'keep-alive'}"]
    if method in ("POST", "PUT"):
        head.append(f"Content-Length: {len(body)}")
    send = "\r\n".join([*head, "", ""]).encode() + body
    return Turn(send, expect, method=method, path=path, body=body)


def http_turns(purpose: Purpose) -> tuple[Turn, ...]:
    """Return the conversation with a server that answers as `answer_requests` does and keeps connections alive."""
    if purpose is Purpose.LARGE:
        return (http_turn("POST", "/echo", LARGE, LARGE, last=True),)
    if purpose not in (Purpose.INITIATE_KEY_UPDATE, Purpose.ANSWER_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES):
        return (http_turn("GET", "/hello", TOKEN, last=True),)
    # Key updates that cross do so in the second turn.
    first = (http_turn("GET", "/hello", TOKEN, last=False),) if purpose is Purpose.CROSS_KEY_UPDATES else ()
    # The second request is what shows that both went on with the new keys.
    return (
        *first,
        http_turn("GET", "/hello", TOKEN, last=False),
        http_turn("GET", "/hello", TOKEN, last=True),
    )


def line_turns(data: bytes, *, reverse: bool = False) -> tuple[Turn, ...]:
    """Return *data* line by line for a server that echoes lines, or reverses them."""
    lines = data.splitlines(keepends=True)
    return tuple(Turn(line, line[-2::-1] + b"\n" if reverse else line, raw=True) for line in lines)


class Reader:
    """Bytes of a stream, with what was read too far kept for the next call. Raises WrongAnswer at an early end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        return self._take(self._buffer.index(mark) + len(mark))

    def to_end(self) -> bytes:
        while data := self._stream.recv(2**16):
            self._buffer += data
        return self._take(len(self._buffer))

    def at_end(self) -> bool:
        """Return whether the peer ended the stream and nothing is left."""
        if not self._buffer and (data := self._stream.recv(2**16)):
            self._buffer += data
        return not self._buffer

    @property
    def buffered(self) -> int:
        """How many bytes were read from the stream and not taken yet."""
        return len(self._buffer)

    def starts_with(self, mark: bytes) -> bool:
        """Return whether *mark* comes next; nothing is taken. At least one byte must be there."""
        while len(self._buffer) < len(mark) and mark.startswith(self._buffer):
            self._more()
        return self._buffer.startswith(mark)

    def taken(self) -> bytes:
        """Return what was read and not taken yet, and take it."""
        return self._take(len(self._buffer))

    def message(self) -> tuple[str, bytes]:
        """Return the start line and the body of one HTTP message; without Content-Length it ends with the stream."""
        head = self.until(b"\r\n\r\n").decode("latin-1")
        start, *fields = head.split("\r\n")
        lengths = [line.partition(":")[2] for line in fields if line.lower().startswith("content-length:")]
        if lengths:
            return start, self.exactly(int(lengths[0]))
        return start, self.to_end() if start.startswith("HTTP/") else b""

    def _more(self) -> None:
        data = self._stream.recv(2**16)
        if not data:
            raise WrongAnswer(f"the stream ended after {bytes(self._buffer[-80:])!r}, in the middle of a message")
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def converse(
    stream: Stream,
    turns: Iterable[Turn],
    before_each: Callable[[], object] = lambda: None,
    before_reading: Callable[[int], object] = lambda number: None,
) -> None:
    """Play the client's part. Raises WrongAnswer.

    before_each: called ahead of every request; before_reading: ahead of every response, with its number from 0.
    """
    reader = Reader(stream)
    for number, turn in enumerate(turns):
        before_each()
        if turn.http2:
            check(turn, importlib.import_module("tests.interop.http2").get(stream, turn.path))
            continue
        stream.sendall(turn.send)
        before_reading(number)
        check(turn, reader.exactly(len(turn.expect)) if turn.raw else reader.message()[1])


def check(turn: Turn, answer: bytes) -> None:
    """Raise WrongAnswer unless *answer* is what *turn* expects."""
    if answer != turn.expect:
        what = turn.path or turn.send[:40]
        raise WrongAnswer(
            f"asked {what!r}, expected {len(turn.expect)} bytes {turn.expect[:60]!r}, "
            f"got {len(answer)} bytes {answer[:60]!r}"
        )


def answer_requests(
    stream: Stream,
    before_each: Callable[[], object] = lambda: None,
    before_reading: Callable[[int], object] = lambda number: None,
) -> int:
    """Play the server's part until the client wants no more; return how many requests were answered.

    GET /hello and POST /discard give TOKEN, GET /large gives LARGE, POST /echo what was posted.
    before_each: called ahead of every response; before_reading: ahead of every request, with its number from 0.
    """
    reader = Reader(stream)
    answered = 0
    while True:
        before_reading(answered)
        if _gone(reader, answered):
            break
        if reader.starts_with(b"PRI * HTTP/2.0\r\n"):
            return int(importlib.import_module("tests.interop.http2").answer(stream, reader.taken()))
        start, body, last = _request(reader)
        method, path, *_ = start.split(" ")
        if (method, path) in (("GET", "/hello"), ("POST", "/discard")):
            content, status = TOKEN, "200 OK"
        elif method == "GET" and path == "/large":
            content, status = LARGE, "200 OK"
        elif method in ("POST", "PUT") and path == "/echo":
            content, status = body, "200 OK"
        else:
            content, status = b"no such thing\n", "404 Not Found"
        before_each()
        connection = "close" if last else "keep-alive"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: {connection}\r\n\r\n"
        stream.sendall(head.encode() + content)
        answered += 1
        if last:
            break
    return answered


def ended_abruptly(error: OSError) -> bool:
    """Return whether *error* says that the connection ended without close_notify, in whosever words."""
    return type(error).__name__ in ("TruncatedStream", "SSLEOFError", "ConnectionResetError")


def _gone(reader: Reader, answered: int) -> bool:
    try:
        return reader.at_end()
    except OSError as error:
        # Browsers open spare connections, and leave them without a word. After a word, it would be an error.
        if answered or not ended_abruptly(error):
            raise
        return True


def _request(reader: Reader) -> tuple[str, bytes, bool]:
    head = reader.until(b"\r\n\r\n").decode("latin-1")
    start, *fields = head.split("\r\n")
    values = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    body = reader.exactly(int(values.get("content-length", "0")))
    last = values.get("connection", "").lower() == "close" or start.endswith("HTTP/1.0")
    return start, body, last
