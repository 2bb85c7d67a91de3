"""Servers that speak the beginning of seven protocols, and then TLS: each reads what clients say by its own rules.

They share no code with pellucid.inspection.starttls, and `openssl s_client -starttls` is a client of theirs too.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import pellucid

TIMEOUT: Final = 10.0


class Wrong(Exception):
    """The client said what it must not."""


class Wire:
    """A socket, read in lines and in numbers of bytes. said: all that the client sent."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.said = b""

    def take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise Wrong("it closed")
            data += piece
        self.said += data
        return data

    def line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.take(1)
            if len(line) > 1000:
                raise Wrong("a line without end")
        return line[:-2]

    def until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            data += self.take(1)
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def demand(self, condition: object, what: object) -> None:
        if not condition:
            raise Wrong(repr(what))


def smtp(wire: Wire) -> None:
    wire.send(b"220-mail.example ESMTP\r\n220 ready\r\n")
    ehlo = wire.line()
    wire.demand(re.fullmatch(rb"EHLO (\[[0-9.]+\]|\[IPv6:[0-9a-f:]+\]|[A-Za-z0-9.-]+)", ehlo), ehlo)
    wire.send(b"250-mail.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
    command = wire.line()
    wire.demand(command == b"STARTTLS", command)
    wire.send(b"220 2.0.0 go ahead\r\n")


def imap(wire: Wire) -> None:
    wire.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    while True:
        tag, _, command = wire.line().partition(b" ")
        wire.demand(re.fullmatch(rb"[A-Za-z0-9.]+", tag), tag)
        if command.upper() == b"CAPABILITY":
            wire.send(b"* CAPABILITY IMAP4rev2 IMAP4rev1 STARTTLS LOGINDISABLED\r\n%b OK done\r\n" % tag)
            continue
        wire.demand(command.upper() == b"STARTTLS", command)
        wire.send(b"%b OK begin\r\n" % tag)
        return


def pop3(wire: Wire) -> None:
    wire.send(b"+OK POP3 <1896.697170952@mail.example>\r\n")
    command = wire.line()
    wire.demand(command.upper() == b"STLS", command)
    wire.send(b"+OK begin\r\n")


def ldap(wire: Wire) -> None:
    tag, length = wire.take(2)
    wire.demand(tag == 0x30 and length < 0x80, (tag, length))
    message = wire.take(length)
    wire.demand(message[:2] == b"\x02\x01", message)  # messageID: an INTEGER of one byte
    wire.demand(message[3] == 0x77 and message[4] == len(message) - 5, message)
    wire.demand(message[5:7] == b"\x80\x16" and message[7:] == b"1.3.6.1.4.1.1466.20037", message)
    # ExtendedResponse: success, no DN, no message, and the name again; its length in the long form.
    response = b"\x0a\x01\x00\x04\x00\x04\x00\x8a\x16" + b"1.3.6.1.4.1.1466.20037"
    body = b"\x02\x01" + message[2:3] + b"\x78\x81" + bytes((len(response),)) + response
    wire.send(b"\x30" + bytes((len(body),)) + body)


def postgres(wire: Wire) -> None:
    length, code = struct.unpack(">II", wire.take(8))
    wire.demand((length, code) == (8, 80877103), (length, code))
    wire.send(b"S")


def mysql(wire: Wire) -> None:
    capabilities = 0xDFFF_FFFF  # with CLIENT_SSL, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION
    packet = b"\x0a8.4.3\0" + struct.pack("<I", 17) + b"12345678\0" + struct.pack("<H", capabilities & 0xFFFF)
    packet += b"\xff" + struct.pack("<HH", 2, capabilities >> 16) + b"\x15" + bytes(10) + b"123456789012\0"
    packet += b"caching_sha2_password\0"
    wire.send(struct.pack("<I", len(packet))[:3] + b"\0" + packet)
    header = wire.take(4)
    wire.demand(header == b"\x20\0\0\x01", header)
    flags, _, _ = struct.unpack("<IIB", wire.take(9))
    wire.demand(flags & 0x0800 and flags & 0x0200, hex(flags))
    wire.take(23)


def xmpp(wire: Wire) -> None:
    opening = wire.until(b">")
    if opening.startswith(b"<?xml"):
        opening = wire.until(b">")
    wire.demand(b"http://etherx.jabber.org/streams" in opening and b"jabber:client" in opening, opening)
    wire.demand(re.search(rb"""\bto=['"][^'"]+['"]""", opening), opening)
    wire.send(
        b"<?xml version='1.0'?><stream:stream from='example' id='1' version='1.0' xml:lang='en' xmlns='jabber:client'"
        b" xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    wire.send(
        b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
        b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
        b"</stream:features>"
    )
    asked = wire.until(b">")
    wire.demand(re.match(rb"<starttls\s+xmlns=['\"]urn:ietf:params:xml:ns:xmpp-tls['\"]\s*/?>", asked), asked)
    if not asked.endswith(b"/>"):
        wire.until(b"</starttls>")
    wire.send(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")


SPOKEN: Final[dict[str, Callable[[Wire], None]]] = {
    "smtp": smtp,
    "imap": imap,
    "pop3": pop3,
    "ldap": ldap,
    "postgres": postgres,
    "mysql": mysql,
    "xmpp": xmpp,
}

# What a server says once TLS runs, to whatever it is asked.
ANSWERS: Final = {"smtp": b"250 ok\r\n", "imap": b"p3 OK done\r\n", "pop3": b"+OK\r\n.\r\n"}


@dataclass
class StartTLSServer:
    """A server on 127.0.0.1: *speak* until TLS begins, then Pellucid's end with *config*, which answers *answer*."""

    speak: Callable[[Wire], None]
    config: pellucid.ServerConfig | None
    answer: bytes = b""
    said: list[bytes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __enter__(self) -> StartTLSServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(TIMEOUT)
            wire = Wire(sock)
            try:
                self.speak(wire)
                self.said.append(wire.said)
                if self.config is not None:
                    self._talk(sock)
            except Wrong as error:
                self.wrong.append(str(error))
            except OSError:
                return  # the client has gone, or refuses: it is asked what it thinks

    def _talk(self, sock: socket.socket) -> None:
        stream = pellucid.wrap(sock, self.config)
        stream.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):
            while stream.recv():
                stream.sendall(self.answer)
        stream.close()


@contextlib.contextmanager
def silent(first: bytes = b"", *, drip: float | None = None) -> Iterator[int]:
    """Give the port of a server that says *first* and nothing more, or one byte every *drip* seconds for ever."""
    stop = threading.Event()

    def speak(wire: Wire) -> None:
        wire.send(first)
        while not stop.wait(TIMEOUT if drip is None else drip):
            wire.send(b"x" if drip is not None else b"")

    with StartTLSServer(speak, None) as server:
        try:
            yield server.port
        finally:
            stop.set()
