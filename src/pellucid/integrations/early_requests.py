"""ASGI applications and early data: only safe requests that may be replays come to the application (RFC 8470)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from pellucid.integrations.asgi import EXTENSION

__all__ = ["MAX_EARLY_DATA", "EarlyGate"]

MAX_EARLY_DATA: Final = 16_384

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOO_EARLY: Final = 425
_MARK: Final = b"early-data"
_MARK_LENGTH: Final = len(_MARK)
_BODY: Final = b"too early: it may be a replay. Ask again once the handshake is complete.\n"
_BODY_SECONDS: Final = 10.0  # for the body of a request that is refused


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
        told = (scope.get("extensions") or {}).get(EXTENSION) or {}
        early = bool(told.get("early_data"))
        marked = _is_marked(scope["headers"])
        if not early and not marked and "early_data" in told:
            # What is so of nearly every request: there is nothing to add to its scope. 3 µs of a request's 50.
            await self._application(scope, receive, send)
            return
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
            headers.append((_MARK, b"1"))
        extensions = {**(scope.get("extensions") or {}), EXTENSION: {**told, "early_data": early}}
        await self._application({**scope, "headers": headers, "extensions": extensions}, receive, send)


def _is_marked(headers: Any) -> bool:  # Any: ASGI's pairs
    return any(len(name) == _MARK_LENGTH and name.lower() == _MARK for name, _ in headers)


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
