"""SSLSockets that two processes have: whoever closes one first must not speak for the other."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ForkingMixIn
from typing import Any

import pytest

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.testing.ca import CA

AUTHORITY = CA("fork root")
LEAF = AUTHORITY.issue("localhost")
SERVER = ServerConfig(credentials=(Credential.from_pem(LEAF.chain_pem, LEAF.key_pem),))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the child")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ForkingMixIn, HTTPServer):
    timeout = 10


def test_server_that_forks_for_each_client_answers_it() -> None:
    """ForkingMixIn's parent closes its own end of each connection, while the child has not answered yet."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = SSLContext(SERVER).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        plain = socket.create_connection(server.server_address, timeout=10)
        with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
            thread.join(10)  # the parent has closed its own
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with client.makefile("rb") as file:
                assert file.read().endswith(b"\r\n\r\nfrom the child")  # and close_notify, which the child said


def goodbyes(between: Callable[[SSLContext, Any], None]) -> bytes:
    """Return what the peer reads of a connection that is closed after *between*, or raise what it finds."""
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    ends: list[Any] = []
    thread = threading.Thread(
        target=lambda: ends.append(SSLContext(SERVER).wrap_socket(far, server_side=True, suppress_ragged_eofs=False))
    )
    thread.start()
    client = SSLContext(ClientConfig(trust=AUTHORITY.trust)).wrap_socket(near, server_hostname="localhost")
    thread.join(10)
    with ends[0] as server:
        server.send(b"tickets came before this")  # unread, they would reset the connection
        client.recv(100)
        between(client.context, client)
        client.close()
        received: bytes = server.recv(10)
        return received


def forked(_: object, __: object) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def test_close_says_close_notify_only_where_nobody_else_can_have_the_socket() -> None:
    assert goodbyes(lambda *_: None) == b""
    with pytest.raises(ssl.SSLEOFError):
        goodbyes(forked)


def test_shutdown_says_close_notify_after_a_fork_too() -> None:
    def between(context: SSLContext, client: Any) -> None:
        forked(context, client)
        client.shutdown(socket.SHUT_WR)

    assert goodbyes(between) == b""
