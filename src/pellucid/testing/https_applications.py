"""What the server of tests serves: pages in a dictionary, WSGI applications (PEP 3333), ASGI applications (3.0)."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import unquote, unquote_to_bytes

from pellucid.connection import Connection
from pellucid.integrations.asgi import tls_extension
from pellucid.testing.https_responses import Response

__all__ = ["Application", "Page", "Request", "asgi_application", "pages", "wsgi_application"]

_START_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for. target: as it stood in the request line; headers: in order, as they came.

    connection: what it came over: `connection.negotiated`, `connection.peer` for a client's certificate.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(default=b"", repr=False)
    connection: Connection = field(repr=False)
    client: tuple[str, int]
    server: tuple[str, int]

    @property
    def path(self) -> str:
        """The path without its query, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """Return the first header with this name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer in full."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Application(Protocol):
    """Something that answers requests, in the thread of their connection."""

    def start(self) -> None: ...

    def answer(self, request: Request, response: Response) -> None: ...

    def stop(self, seconds: float) -> None: ...


# ---- pages -----------------------------------------------------------------------------------------------------------


def pages(given: Mapping[str, Any]) -> Application:  # Any: text, bytes, a Page, or what JSON can say
    """Return what answers GET and HEAD with the page at the path, and 404 elsewhere. The dictionary may change."""
    return _Pages(given)


class _Pages:
    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self, seconds: float) -> None:
        """Nor to stop."""

    def answer(self, request: Request, response: Response) -> None:
        plain = ("Content-Type", "text/plain; charset=utf-8")
        if request.path not in self._given:
            response.whole(404, [plain], f"404: {request.path}\n".encode())
            return
        page = self._given[request.path]
        if isinstance(page, Page):
            response.whole(page.status, page.headers.items(), page.body)
        elif request.method not in {"GET", "HEAD"}:
            response.whole(405, [plain, ("Allow", "GET, HEAD")], b"405\n")
        elif isinstance(page, bytes):
            response.whole(200, [("Content-Type", "application/octet-stream")], page)
        elif isinstance(page, str):
            response.whole(200, [plain], page.encode())
        else:
            response.whole(200, [("Content-Type", "application/json")], json.dumps(page).encode())


# ---- WSGI ------------------------------------------------------------------------------------------------------------


def wsgi_application(application: Any) -> Application:  # Any: a WSGI application is any callable
    """Return what calls a WSGI application."""
    return _Wsgi(application)


class _Wsgi:
    def __init__(self, application: Any) -> None:
        self._application = application

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self, seconds: float) -> None:
        """Nor to stop."""

    def answer(self, request: Request, response: Response) -> None:
        head: list[tuple[int, list[tuple[str, str]], str]] = []

        def begin() -> None:
            if not response.started:
                if not head:
                    raise RuntimeError("the application did not call start_response")
                status, headers, reason = head[-1]
                response.start(status, headers, reason)

        def write(data: bytes) -> None:
            begin()
            response.write(data)

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if exc_info is not None and response.started:
                raise exc_info[1].with_traceback(exc_info[2])
            if head and exc_info is None:
                raise RuntimeError("start_response was called twice")
            code, _, reason = status.partition(" ")
            head.append((int(code), headers, reason))
            return write

        parts: Iterable[bytes] = self._application(_environ(request), start_response)
        try:
            for part in parts:
                if part:
                    write(part)
            begin()
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()


def _environ(request: Request) -> dict[str, object]:
    path = unquote_to_bytes(request.target.partition("?")[0]).decode("latin-1")
    found: dict[str, object] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": request.server[0],
        "SERVER_PORT": str(request.server[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.client[0],
        "HTTPS": "on",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "pellucid.connection": request.connection,
    }
    if request.body:
        found["CONTENT_LENGTH"] = str(len(request.body))
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            found[key] = value
        elif key not in {"CONTENT_LENGTH", "TRANSFER_ENCODING"}:
            key = f"HTTP_{key}"
            found[key] = f"{found[key]},{value}" if key in found else value
    return found


# ---- ASGI ------------------------------------------------------------------------------------------------------------


def asgi_application(application: Any) -> Application:  # Any: an ASGI application is any callable
    """Return what calls an ASGI application, its lifespan included, in an event loop of its own."""
    return _Asgi(application)


class _Asgi:
    def __init__(self, application: Any) -> None:
        self._application = application
        self._state: dict[str, object] = {}
        self._inbox: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._lifespan: Any = None  # Any: a concurrent future
        self._up = threading.Event()
        self._failed = ""

    def start(self) -> None:
        """Start its loop, and the application. Raises RuntimeError if that says that it failed to start."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pellucid-https-asgi", daemon=True)
        self._thread.start()
        self._lifespan = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        if not self._up.wait(_START_SECONDS):
            self._failed = "it did not start in time"
        if self._failed:
            self._end()
            raise RuntimeError(f"the application did not start: {self._failed}")

    def stop(self, seconds: float) -> None:
        shutdown: dict[str, object] = {"type": "lifespan.shutdown"}
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, shutdown)
        try:
            self._lifespan.result(seconds)
        finally:
            self._end()

    def answer(self, request: Request, response: Response) -> None:
        asyncio.run_coroutine_threadsafe(self._request(request, response), self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

    async def _live(self) -> None:
        """Run the lifespan. An application that knows none raises, or returns: it is up all the same (ASGI)."""
        self._inbox.put_nowait({"type": "lifespan.startup"})

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":
                self._failed = message.get("message") or "it says so"
            self._up.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._application(scope, self._inbox.get, send)
        except Exception as error:  # whatever it raises
            if self._up.is_set() and not self._failed:
                raise RuntimeError("the application failed in its lifespan") from error
        finally:
            self._up.set()

    async def _request(self, request: Request, response: Response) -> None:
        waiting = [{"type": "http.request", "body": request.body, "more_body": False}]
        over = asyncio.Event()

        async def receive() -> dict[str, object]:
            if waiting:
                return waiting.pop()
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                await asyncio.to_thread(response.start, message["status"], headers)
            elif message["type"] == "http.response.body":
                await asyncio.to_thread(response.write, bytes(message.get("body", b"")))
                if not message.get("more_body"):
                    over.set()

        await self._application(_scope(request, self._state), receive, send)
        if not response.started:
            raise RuntimeError("the application sent no response")


def _scope(request: Request, state: dict[str, object]) -> dict[str, object]:
    raw, _, query = request.target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": list(request.client),
        "server": list(request.server),
        "state": dict(state),
        "extensions": {"tls": tls_extension(request.connection)},
        "pellucid.connection": request.connection,
    }
