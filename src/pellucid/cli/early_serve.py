"""`pellucid serve --early-data`: which requests came as early data, and that only safe ones are answered so (RFC 8470).

hypercorn's connections read through a reader of ours, which gives early data or other data and notes in the context
which it was. hypercorn starts the application in a task whenever a request's header section has ended: the task has
that context, and so the application knows whether the section ended in early data.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer

__all__ = ["MAX_EARLY_DATA", "EarlyGate", "early_requests"]

MAX_EARLY_DATA: Final = 16_384

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOO_EARLY: Final = 425
_BODY: Final = b"too early: it may be a replay. Ask again once the handshake is complete.\n"
_BODY_SECONDS: Final = 10.0  # for the body of a request that is refused

_came_early: ContextVar[bool] = ContextVar("pellucid_came_early", default=False)


class EarlyGate:
    """The application, to which no unsafe request that may be a replay comes.

    A request whose header section ended in early data has `scope["extensions"]["pellucid"]["early_data"]` True and the
    header `early-data: 1`; others have False there. One that has the header from a gateway before us was in early data
    there, and waiting for our handshake would not make it safe: unsafe it is refused too (RFC 8470 §5.1).
    """

    def __init__(self, application: Any) -> None:  # Any: an ASGI application is any callable
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
            return
        early = _came_early.get()
        marked = any(name.lower() == b"early-data" for name, _ in scope["headers"])
        if early or marked:
            if scope["type"] == "websocket":
                await _answer(send, "websocket.http.response")
                return
            if scope["method"] not in _SAFE:
                await _rest(receive)
                await _answer(send, "http.response")
                return
        headers = list(scope["headers"])
        if early and not marked:
            headers.append((b"early-data", b"1"))
        extensions = {**(scope.get("extensions") or {}), "pellucid": {"early_data": early}}
        await self._application({**scope, "headers": headers, "extensions": extensions}, receive, send)


async def _answer(send: Any, kind: str) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_BODY))]
    await send({"type": f"{kind}.start", "status": _TOO_EARLY, "headers": headers})
    await send({"type": f"{kind}.body", "body": _BODY})


async def _rest(receive: Any) -> None:
    """Drop the request's body: the connection goes on, and the client asks again on it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while (await receive()).get("more_body"):
                continue


@contextlib.contextmanager
def early_requests() -> Iterator[None]:
    """Have hypercorn tell early requests from others while the block runs."""
    # hypercorn has no parameter for the class of its connections.
    module: Any = hypercorn.asyncio.run
    before = module.TCPServer
    module.TCPServer = _Server
    try:
        yield
    finally:
        module.TCPServer = before


class _Server(TCPServer):
    """hypercorn's connection, with our reader."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        reader: Any = _Reader(self.reader, self.writer.get_extra_info("ssl_object"))
        self.reader = reader


class _Reader:
    """What of asyncio.StreamReader hypercorn uses. tls: knows how many of the first bytes came as early data."""

    def __init__(self, reader: asyncio.StreamReader, tls: Any) -> None:
        self._reader = reader
        self._tls = tls
        self._position = 0
        self._rest = b""

    def at_eof(self) -> bool:
        return not self._rest and self._reader.at_eof()

    async def read(self, size: int) -> bytes:
        """Return data that came early, or data that did not; the context of whoever awaits this says which."""
        data, self._rest = self._rest or await self._reader.read(size), b""
        early = self._tls.early_bytes - self._position
        if early > 0:
            data, self._rest = data[:early], data[early:]
        self._position += len(data)
        _came_early.set(early > 0)
        return data
