"""A real HTTPS server for tests: an ASGI or WSGI application, or pages in a dictionary, on this machine alone.

HTTP/1.1 over TLS 1.3 with the standard library's parser, a thread for each connection. It needs no extra; `pellucid
serve` and `pellucid.integrations.serving` are for everything else.
"""

from __future__ import annotations

import contextlib
import http.server
import inspect
import io
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.listener import listen
from pellucid.net.sync import Stream
from pellucid.testing.ca import CA
from pellucid.testing.https_applications import Application, Page, Request, asgi_application, pages, wsgi_application
from pellucid.testing.https_responses import Response, read_body

__all__ = ["HttpsServer", "Page", "Request"]

_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_SECONDS: Final = 10.0


class HttpsServer:
    """Serves *application* from `with` on, until it is left.

    application: an ASGI or a WSGI application, or a dictionary of paths: text, bytes, JSON or a `Page` for each.
    ca:          who issues its certificate; None: a CA made for it.   names: whom the certificate is for.
    credential:  shown instead of such a certificate.
    seconds:     how long it waits for a client, and for an ASGI application's answers at its end.
    config:      further fields of its ServerConfig: client_trust, client_authentication, alpn, trace, …
    """

    def __init__(
        self,
        application: Any,  # an ASGI or WSGI application is any callable
        *,
        ca: CA | None = None,
        names: tuple[str, ...] = _NAMES,
        credential: Credential | None = None,
        seconds: float = _SECONDS,
        **config: Any,  # each field's own type
    ) -> None:
        self.ca = CA("HTTPS server of a test") if ca is None else ca
        if credential is None:
            leaf = self.ca.issue(*names, purposes=("server",))
            credential = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
        self.host = names[0]
        self.address = "127.0.0.1"
        self.seconds = seconds
        self.requests: list[Request] = []
        """what clients asked for, in the order of arrival"""
        self.errors: list[Exception] = []
        """what the application raised; its client got a 500"""
        self.port = 0
        """where it listens, once it does"""
        self._application = _application(application)
        self._config = replace(ServerConfig(credentials=(credential,), alpn=("http/1.1",)), **config)
        self._open = contextlib.ExitStack()
        self._path: Path | None = None

    @property
    def url(self) -> str:
        """Its address for a client, with a slash at the end."""
        return f"https://{self.host}:{self.port}/"

    @property
    def ca_path(self) -> Path:
        """The CA in a file, while it serves: `verify=` of requests, `--cacert` of curl."""
        if self._path is None:
            raise RuntimeError("the server was not started")
        return self._path

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the CA to trust."""
        return self.ca.root_pem

    @property
    def client_config(self) -> ClientConfig:
        """A configuration that trusts its CA and nobody else, for `pellucid.connect`."""
        return ClientConfig(trust=self.ca.trust)

    @property
    def client_context(self) -> SSLContext:
        """A context that trusts its CA and nobody else: `verify=` of httpx, `ssl=` of aiohttp and asyncio."""
        return SSLContext(self.client_config)

    def __enter__(self) -> HttpsServer:
        with contextlib.ExitStack() as opening:
            directory = opening.enter_context(tempfile.TemporaryDirectory(prefix="pellucid-https-"))
            self._path = Path(directory) / "ca.pem"
            self._path.write_bytes(self.ca.root_pem)
            self._application.start()
            opening.callback(self._application.stop, self.seconds)
            listener = listen(self.address, 0, self._config)
            self.port = listener.address[1]
            thread = threading.Thread(
                target=listener.serve,
                args=(self._connection,),
                kwargs={"on_error": self._broken},
                name="pellucid-https-server",
                daemon=True,
            )
            thread.start()
            opening.callback(thread.join, self.seconds)
            opening.callback(listener.close)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __repr__(self) -> str:
        return f"<HttpsServer {self.url}, {len(self.requests)} requests>"

    # ---- within ------------------------------------------------------------------------------------------------------

    def _broken(self, stream: Stream, error: Exception) -> None:
        """A client that went, or does not trust us, is its test's to see; anything else is kept."""
        if not isinstance(error, OSError):
            self.errors.append(error)

    def _connection(self, stream: Stream) -> None:
        stream.settimeout(self.seconds)
        _Handler(stream, self, self._answer)

    def _answer(self, request: Request, response: Response) -> None:
        self.requests.append(request)
        try:
            self._application.answer(request, response)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever an application may raise
            self.errors.append(error)
            response.fail(f"{type(error).__name__}: {error}")


def _application(given: Any) -> Application:  # Any: an ASGI or WSGI application is any callable
    if isinstance(given, Mapping):
        return pages(given)
    if not callable(given):
        raise TypeError(f"{given!r} is neither an application nor a dictionary of pages")
    asynchronous = inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(type(given).__call__)
    return asgi_application(given) if asynchronous else wsgi_application(given)


class _Raw(io.RawIOBase):
    """A stream as a file to read from."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # Any: typeshed's WriteableBuffer
        return self._stream.recv_into(buffer)


class _Handler(http.server.BaseHTTPRequestHandler):
    """The standard library's parser of requests over a stream, one request after the other."""

    protocol_version = "HTTP/1.1"

    def __init__(self, stream: Stream, server: HttpsServer, answer: Callable[[Request, Response], None]) -> None:
        self.stream = stream
        self.answer = answer
        super().__init__(stream, stream.peer_address, server)  # type: ignore[arg-type]  # setup is our own

    def setup(self) -> None:
        self.rfile = io.BufferedReader(_Raw(self.stream))
        self.wfile = _Writer(self.stream)  # type: ignore[assignment]  # every write goes out at once

    def finish(self) -> None:
        self.rfile.close()

    def parse_request(self) -> bool:
        """Answer a request of whatever method."""
        if super().parse_request():
            self._one()
        return False  # it was answered, or refused: handle_one_request has nothing left to do

    def _one(self) -> None:
        response = Response(self.wfile, self.request_version, head=self.command == "HEAD")
        body, problem = read_body(self.rfile, self.headers)
        if problem:
            self.close_connection = True
            self.send_error(HTTPStatus.BAD_REQUEST, problem)
            return
        request = Request(
            method=self.command,
            target=self.path,
            headers=tuple((name, value) for name, value in self.headers.items()),
            body=body,
            connection=self.stream.connection,
            client=self.stream.peer_address,
            server=self.stream.local_address,
        )
        self.answer(request, response)
        response.end()
        self.close_connection = self.close_connection or response.close

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""


class _Writer(io.RawIOBase):
    """A stream as a file to write to."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # Any: typeshed's ReadableBuffer
        self._stream.sendall(data)
        return len(data)
