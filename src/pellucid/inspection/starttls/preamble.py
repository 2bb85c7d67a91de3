"""What is said in the open before TLS begins: the driver of a protocol's preamble, without I/O, and its bounds.

A protocol is a generator that yields bytes to send, or None for "more is needed", and reads from an `Inbox`. All that
it reads comes from somebody who has not shown who it is: it is bounded in bytes here, and in time by whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from pellucid.errors import TLSError
from pellucid.explain.text import escaped

__all__ = ["MAX_LINE", "MAX_LINES", "MAX_PREAMBLE", "Inbox", "Preamble", "StartTLSFailed", "StartTLSProtocol", "Steps"]

MAX_PREAMBLE: Final = 65_536  # bytes that a server may say in all before TLS begins
MAX_LINE: Final = 4_096  # RFC 5321 §4.5.3.1 has 512, IMAP servers send long lists of capabilities
MAX_LINES: Final = 200
_MAX_QUOTED: Final = 120  # characters of what a server says that stand in an error

Steps = Generator[bytes | None, None, None]


class StartTLSFailed(TLSError):
    """The server did not go over to TLS. `str()` is one line; what came from the server is escaped in it."""

    def __init__(self, protocol: str, reason: str) -> None:
        super().__init__(f"STARTTLS over {protocol}: {reason}", code="PEER-STARTTLS")
        self.protocol = protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTLSProtocol:
    """How a protocol goes over to TLS, and what is said in it afterwards.

    steps: (server's name, our own address, inbox) → the preamble.   rfc: where it is written.
    alpn:  the protocol's names in ALPN.
    nudge: what is harmless to say once TLS runs, so that the server says something; b"" for nothing.
    answer: how what it says begins, if it says it to that: a regular expression.
    """

    name: str
    port: int
    rfc: str
    steps: Callable[[str, str, Inbox], Steps]
    alpn: tuple[str, ...] = ()
    nudge: bytes = b""
    answer: bytes = b""


class Inbox:
    """What the server has said and nobody has read yet. Raises StartTLSFailed at the bounds."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._data = bytearray()
        self._total = 0
        self._lines = 0
        self._ended = False

    def add(self, data: bytes) -> None:
        """Take bytes from the server; b"" is the end of what it says."""
        self._ended = self._ended or not data
        self._total += len(data)
        if self._total > MAX_PREAMBLE:
            raise self.failed(f"the server said more than {MAX_PREAMBLE} bytes before TLS")
        self._data += data

    def failed(self, reason: str) -> StartTLSFailed:
        return StartTLSFailed(self._protocol, reason)

    def refused(self, said: bytes | str) -> StartTLSFailed:
        """Return the error for an answer that is not the one hoped for."""
        text = said if isinstance(said, str) else said.decode("utf-8", "replace")
        shown = escaped(text.strip())
        return self.failed(f"the server answered: {shown[:_MAX_QUOTED]}{'…' if len(shown) > _MAX_QUOTED else ''}")

    def unexpected(self, said: bytes) -> StartTLSFailed:
        """Return the error for what is not of this protocol at all."""
        return self.failed(f"the server does not speak {self._protocol} here: it sent {bytes(said[:40])!r}")

    def wait(self) -> None:
        """To be called before yielding None: raises StartTLSFailed if nothing more can come."""
        if self._ended:
            reason = "in the middle of what it said" if self._data else "before it went over to TLS"
            raise self.failed(f"the server closed the connection {reason}")

    def line(self) -> Generator[None, None, bytes]:
        """Return the next line without its end."""
        while (end := self._data.find(b"\n")) < 0:
            if len(self._data) > MAX_LINE:
                raise self.failed(f"the server sent a line of more than {MAX_LINE} bytes")
            self.wait()
            yield None
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._lines += 1
        if len(line) > MAX_LINE or self._lines > MAX_LINES:
            raise self.failed(f"the server sent more than {MAX_LINES} lines, or one of more than {MAX_LINE} bytes")
        return line.removesuffix(b"\r")

    def take(self, size: int) -> Generator[None, None, bytes]:
        """Return the next *size* bytes."""
        if size > MAX_PREAMBLE:
            raise self.failed(f"the server announced {size} bytes; at most {MAX_PREAMBLE} are read")
        while len(self._data) < size:
            self.wait()
            yield None
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def some(self) -> Generator[None, None, bytes]:
        """Return what is there, at least one byte."""
        while not self._data:
            self.wait()
            yield None
        taken = bytes(self._data)
        self._data.clear()
        return taken

    def put_back(self, data: bytes) -> None:
        """Undo the reading of *data*."""
        self._data[:0] = data

    @property
    def left(self) -> bytes:
        """What nobody has read."""
        return bytes(self._data)


class Preamble:
    """One preamble under way: `receive_data`, `data_to_send`, `done`."""

    def __init__(self, protocol: StartTLSProtocol, server_name: str, local_address: str) -> None:
        self.protocol = protocol
        self.done = False
        self._inbox = Inbox(protocol.name)
        self._steps = protocol.steps(server_name, local_address, self._inbox)
        self._out = bytearray()
        self._go_on()

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server, b"" for its end. Raises StartTLSFailed."""
        self._inbox.add(data)
        self._go_on()

    def data_to_send(self) -> bytes:
        """Return what is to be sent to the server; b"" for nothing."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _go_on(self) -> None:
        for step in self._steps:
            if step is None:
                return
            self._out += step
        self.done = True
        if left := self._inbox.left:
            # Somebody between could have put it there, to be taken for what the server says under TLS (CVE-2011-0411).
            raise self._inbox.failed(f"{len(left)} bytes came in the open after the server agreed to TLS")
