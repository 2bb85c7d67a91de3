"""HTTP/1.1 for the server of tests: a request's body, and a response that is written as it comes."""

from __future__ import annotations

from collections.abc import Iterable
from email.message import Message
from http import HTTPStatus
from typing import Final, Protocol

__all__ = ["Response", "read_body"]

MAX_BODY: Final = 2**26
_MAX_LINE: Final = 2**12
_WITHOUT_BODY: Final = frozenset({204, 304})

Headers = Iterable[tuple[str, str]]


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


def read_body(stream: _Reader, headers: Message) -> tuple[bytes, str]:
    """Return the whole body of a request, and what is wrong with it, "" if nothing is."""
    coding = (headers.get("transfer-encoding") or "").strip().lower()
    length = headers.get("content-length")
    if coding == "chunked" and length is None:
        return _chunked(stream)
    if coding:
        return b"", "that transfer coding is not understood"
    if length is None:
        return b"", ""
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
        return b"", "its length is not understood"
    body = stream.read(int(length))
    return body, "" if len(body) == int(length) else "it is not all there"


def _chunked(stream: _Reader) -> tuple[bytes, str]:
    body = bytearray()
    while True:
        head = stream.readline(_MAX_LINE).partition(b";")[0].strip()
        try:
            size = int(head, 16)
        except ValueError:
            return b"", "a chunk has no size"
        if size < 0 or len(body) + size > MAX_BODY:
            return b"", "it is too long"
        if size == 0:
            break
        body += stream.read(size)
        if stream.readline(3) != b"\r\n":
            return b"", "a chunk has no end"
    while stream.readline(_MAX_LINE).strip():  # trailers
        continue
    return bytes(body), ""


class Response:
    """One response. close: whether the connection ends with it; started: whether its head is out."""

    def __init__(self, stream: _Writer, version: str, *, head: bool) -> None:
        self.close = version == "HTTP/1.0"
        self.started = False
        self._stream = stream
        self._old = version == "HTTP/1.0"
        self._head = head
        self._chunked = False
        self._bare = head

    def start(self, status: int, headers: Headers, reason: str = "") -> None:
        """Send the head. Without a Content-Length the body is chunked, or ends with the connection (HTTP/1.0)."""
        if self.started:
            raise RuntimeError("the response was started already")
        given = [(name, value) for name, value in headers if name.lower() not in {"transfer-encoding", "connection"}]
        if any("\r" in part or "\n" in part for header in given for part in header):
            raise ValueError("a header has a line break")
        self.started = True
        self._bare = self._head or status in _WITHOUT_BODY or status < 200
        sized = any(name.lower() == "content-length" for name, _ in given)
        if not sized and not self._bare:
            if self._old:
                self.close = True
            else:
                self._chunked = True
                given.append(("Transfer-Encoding", "chunked"))
        if self.close:
            given.append(("Connection", "close"))
        lines = [
            f"HTTP/1.1 {status} {reason or _phrase(status)}",
            *(f"{name}: {value}" for name, value in given),
            "",
            "",
        ]
        self._stream.write("\r\n".join(lines).encode("latin-1"))

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if not self.started:
            raise RuntimeError("the response was not started")
        if self._bare or not data:
            return
        self._stream.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """Send what ends the body."""
        if self._chunked:
            self._stream.write(b"0\r\n\r\n")

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a response whose body is there."""
        self.start(status, [*headers, ("Content-Length", str(len(body)))])
        self.write(body)

    def fail(self, why: str) -> None:
        """Say that the application failed; where the head is out, by ending the connection in the middle."""
        self.close = True
        if self.started:
            raise ConnectionAbortedError(f"the application failed in the middle of its response: {why}")
        self.whole(500, [("Content-Type", "text/plain; charset=utf-8")], f"500: {why}\n".encode())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
