"""Mail servers for the cells: aiosmtpd over any context, in a thread of its own, and a few lines of POP3."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from aiosmtpd.smtp import SMTP

SECONDS = 20.0


class Inbox:
    """A handler of aiosmtpd's that keeps what it is given. tls: of each message, what its session had for TLS."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.tls: list[Any] = []
        self.port = 0

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # Any: aiosmtpd's
        self.messages.append(envelope.content)
        # At once under TLS aiosmtpd keeps the transport's, after STARTTLS it keeps the protocol's.
        self.tls.append(server.transport.get_extra_info("ssl_object"))
        return "250 OK"


@contextlib.contextmanager
def smtp_server(context: ssl.SSLContext, *, starttls: bool) -> Iterator[Inbox]:
    """Run aiosmtpd. starttls: mail is taken after STARTTLS only; else it is TLS from the first byte."""
    inbox = Inbox()
    own: dict[str, Any] = {"tls_context": context, "require_starttls": True} if starttls else {}
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # of clients that refuse us, as they are meant to

        def protocol() -> SMTP:
            return SMTP(inbox, hostname="mail.example", loop=loop, enable_SMTPUTF8=True, **own)

        server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=None if starttls else context)
        inbox.port = server.sockets[0].getsockname()[1]
        ready.set()
        await loop.run_in_executor(None, stop.wait)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(SECONDS)
    try:
        yield inbox
    finally:
        stop.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


@contextlib.contextmanager
def pop3_server(context: ssl.SSLContext, mail: bytes, *, stls: bool) -> Iterator[int]:
    """Give each client one message, and yield the port. stls: TLS begins after STLS (RFC 2595)."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # closed: the end of the block
                return
            sock.settimeout(SECONDS)
            with sock, contextlib.suppress(OSError):
                _pop3(sock, context, mail, stls=stls)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(SECONDS)
        assert not thread.is_alive()


def _pop3(sock: socket.socket, context: ssl.SSLContext, mail: bytes, *, stls: bool) -> None:
    if stls:
        sock.sendall(b"+OK in the open\r\n")
        while (command := _line(sock).upper()) == b"CAPA":
            sock.sendall(b"+OK\r\nSTLS\r\n.\r\n")
        if command != b"STLS":
            sock.sendall(b"-ERR STLS first\r\n")
            return
        sock.sendall(b"+OK begin TLS\r\n")
    with context.wrap_socket(sock, server_side=True) as stream:
        if not stls:
            stream.sendall(b"+OK ready\r\n")
        while command := _line(stream).upper().split(b" ")[0]:
            answer = {b"USER": b"+OK\r\n", b"PASS": b"+OK\r\n", b"STAT": b"+OK 1 %d\r\n" % len(mail)}.get(command)
            if command == b"RETR":
                answer = b"+OK\r\n" + mail + b".\r\n"
            stream.sendall(answer or (b"+OK bye\r\n" if command == b"QUIT" else b"-ERR what?\r\n"))
            if command == b"QUIT":
                return


def _line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        line += byte
    return line[:-2]
