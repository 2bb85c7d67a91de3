"""The other sides: servers and proxies whose TLS is OpenSSL's, through the standard library; and a client.

They are made when first asked for, once in a process, listen on 127.0.0.1 and stay until it ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import http.client
import http.server
import select
import shutil
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from hypercorn.asyncio import serve
from hypercorn.config import Config

import pellucid
from pellucid.testing.ca import CA

__all__ = [
    "AUTHORITY",
    "CREDENTIAL",
    "FILES",
    "SHARED",
    "STRANGER",
    "Address",
    "Files",
    "Shared",
    "echoed",
    "fetched",
    "stdlib_server_context",
]

BODY: Final = b"hello over TLS\n"
SECONDS: Final = 20.0

AUTHORITY: Final = CA("Ecosystem root")
STRANGER: Final = CA("Nobody's root")
_LEAF: Final = AUTHORITY.issue("localhost")
CREDENTIAL: Final = pellucid.Credential.from_pem(_LEAF.chain_pem, _LEAF.key_pem)


class Files:
    """The root, the servers' chain and their key, as files; they go when the process ends."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pellucid-ecosystem-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.ca, self.chain, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        self.ca.write_bytes(AUTHORITY.root_pem)
        self.chain.write_bytes(_LEAF.chain_pem)
        self.key.write_bytes(_LEAF.key_pem)
        self.key.chmod(0o600)


FILES: Final = Files()


def stdlib_server_context(*alpn: str) -> ssl.SSLContext:
    """Return OpenSSL's context for a server with the certificate for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(FILES.chain, FILES.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Address:
    """Where a server listens. url: under the name that its certificate is for; wrong_url: under another."""

    def __init__(self, port: int, scheme: str = "https") -> None:
        self.host, self.port = "localhost", port
        self.url = f"{scheme}://localhost:{port}"
        self.wrong_url = f"{scheme}://127.0.0.1:{port}"


class Shared:
    """The servers of this process."""

    @cached_property
    def https(self) -> Address:
        """HTTP/1.1 over TLS. GET answers BODY, POST what was posted."""
        return Address(_http_server(stdlib_server_context("http/1.1")))

    @cached_property
    def h2(self) -> Address:
        """HTTP/2 over TLS, and HTTP/1.1 for those who do not offer it. GET answers BODY, POST what was posted."""
        return Address(_hypercorn(stdlib_server_context("h2", "http/1.1")))

    @cached_property
    def echo(self) -> Address:
        """TLS, and every byte comes back."""
        return Address(_threaded(_Echo, stdlib_server_context()))

    @cached_property
    def starttls(self) -> Address:
        """In the open until a line STARTTLS, which is answered by a line OK; then as `echo`."""
        return Address(_threaded(_StartTls, stdlib_server_context()))

    @cached_property
    def proxy(self) -> Address:
        """An HTTP proxy in the open that knows CONNECT."""
        return Address(_threaded(_Connect, None), "http")

    @cached_property
    def tls_proxy(self) -> Address:
        """The same over TLS: what goes through it to an HTTPS server is TLS in TLS."""
        return Address(_threaded(_Connect, stdlib_server_context("http/1.1")))

    @cached_property
    def tunnels(self) -> list[str]:
        """host:port of every tunnel that was asked of a proxy here, in order."""
        return []


SHARED: Final = Shared()


# ---- HTTP ------------------------------------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        self._answer(BODY)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's thread: a client that refuses us, or says nothing, keeps nobody else waiting.
        request.settimeout(SECONDS)
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as stream:
            super().finish_request(stream, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)


def _http_server(context: ssl.SSLContext) -> int:
    server = _HttpServer(("127.0.0.1", 0), _Handler)
    server.context = context
    return _serve(server)


def _serve(server: socketserver.BaseServer) -> int:
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    atexit.register(close)
    port: int = server.server_address[1]  # type: ignore[assignment]
    return port


async def _application(scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's
    if scope["type"] != "http":
        return
    body = b""
    while scope["method"] == "POST":
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = body if scope["method"] == "POST" else BODY
    headers = [(b"content-length", b"%d" % len(answer)), (b"x-http-version", scope["http_version"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class _HypercornConfig(Config):
    context: ssl.SSLContext
    ssl_enabled = True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self.context


def _hypercorn(context: ssl.SSLContext) -> int:
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    config = _HypercornConfig()
    config.context = context
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = config.shutdown_timeout = 0.5
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        ready.set()
        await serve(_application, config, shutdown_trigger=stopping.wait)  # type: ignore[arg-type]

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(SECONDS)

    def close() -> None:
        stop[0]()
        thread.join(5)

    atexit.register(close)
    return port


# ---- bytes, and proxies ----------------------------------------------------------------------------------------------


class _Threaded(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    context: ssl.SSLContext | None

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients leave, or refuse us, as they are meant to."""

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)


def _threaded(handler: type[socketserver.BaseRequestHandler], context: ssl.SSLContext | None) -> int:
    server = _Threaded(("127.0.0.1", 0), handler)
    server.context = context
    return _serve(server)


class _Echo(socketserver.BaseRequestHandler):
    server: _Threaded

    def handle(self) -> None:
        assert self.server.context is not None
        self.request.settimeout(SECONDS)
        with self.server.context.wrap_socket(self.request, server_side=True) as stream:
            while data := stream.recv(2**16):
                stream.sendall(data)
            with contextlib.suppress(OSError):
                stream.unwrap()


class _StartTls(_Echo):
    def handle(self) -> None:
        self.request.settimeout(SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            byte = self.request.recv(1)
            if not byte:
                return
            line += byte
        if line.strip() == b"STARTTLS":
            self.request.sendall(b"OK\r\n")
            super().handle()


class _Connect(socketserver.BaseRequestHandler):
    """CONNECT, to this machine only, whatever the host's name; Proxy-Authorization is not asked for."""

    server: _Threaded

    def handle(self) -> None:
        client = self.request
        client.settimeout(SECONDS)
        if self.server.context is not None:
            client = self.server.context.wrap_socket(client, server_side=True)
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(2**12)
                if not data:
                    return
                head += data
            head, _, early = head.partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode("ascii").split(" ", 2)
            if method != "CONNECT":
                client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                return
            SHARED.tunnels.append(target)
            with socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2])), SECONDS) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if early:
                    server.sendall(early)
                with contextlib.suppress(OSError):
                    _relay(client, server)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what each sends to the other until both have ended. In one thread: OpenSSL's objects are not for two."""
    across = {one: other, other: one}
    sending = [one, other]
    while sending:
        held = [sock for sock in sending if isinstance(sock, ssl.SSLSocket) and sock.pending()]
        ready = held or select.select(sending, [], [], SECONDS)[0]
        if not ready:
            return
        for source in ready:
            source.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
                if data := source.recv(2**16):
                    across[source].settimeout(SECONDS)
                    across[source].sendall(data)
                else:
                    sending.remove(source)
                    _end(across[source])


def _end(target: socket.socket) -> None:
    """Say that nothing more comes, and do not wait for the answer."""
    target.settimeout(0)
    with contextlib.suppress(OSError):
        if isinstance(target, ssl.SSLSocket):
            target.unwrap()
        else:
            target.shutdown(socket.SHUT_WR)


# ---- clients ---------------------------------------------------------------------------------------------------------


def fetched(
    port: int, path: str = "/", *, context: ssl.SSLContext | None = None, method: str = "GET", body: bytes | None = None
) -> bytes:
    """Return what a server on 127.0.0.1 answers the standard library's client, which speaks HTTP/1.1 over OpenSSL."""
    if context is None:
        context = ssl.create_default_context(cafile=FILES.ca)
    connection = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context)
    with contextlib.closing(connection):
        connection.request(method, path, body=body)
        with contextlib.closing(connection.getresponse()) as response:
            answer = response.read()
            assert response.status == 200, (response.status, answer)
            return answer


def echoed(port: int, data: bytes = BODY, *, context: ssl.SSLContext | None = None) -> bytes:
    """Return what comes back of *data* from an echo server on 127.0.0.1: asked by OpenSSL, through ssl."""
    if context is None:
        context = ssl.create_default_context(cafile=FILES.ca)
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as stream,
    ):
        stream.sendall(data)
        answer = b""
        while len(answer) < len(data) and (more := stream.recv(2**16)):
            answer += more
        # Without close_notify the server would rightly say that it was cut off.
        stream.unwrap()
        return answer
