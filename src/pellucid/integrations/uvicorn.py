"""uvicorn over `pellucid.SSLContext`: its protocols, with scopes that know the connection a request came on.

    config = uvicorn.Config(app, http=uvicorn_protocol(), ssl_context_factory=lambda *_: pellucid.SSLContext(server))

`scope["extensions"]` of HTTP requests and WebSockets then has "tls" and "pellucid" (`integrations.asgi`). Over another
TLS, and without any, the protocols are uvicorn's own.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Final

from pellucid.errors import UsageError
from pellucid.integrations.asgi import Early, Introduced, OwnConnection, recorder_of
from pellucid.integrations.ssl_engine import Facts
from pellucid.integrations.trace_of import facts_of

__all__ = ["uvicorn_protocol"]

_PROTOCOLS: Final = {
    "h11": ("uvicorn.protocols.http.h11_impl", "H11Protocol"),
    "httptools": ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol"),
    "auto": ("uvicorn.protocols.http.auto", "AutoHTTPProtocol"),
}


def uvicorn_protocol(http: str | type[asyncio.Protocol] = "auto") -> Any:  # Any: a class of uvicorn's, and more
    """Return the protocol class for `uvicorn.Config(http=…)`.

    http: "h11", "httptools", "auto" (httptools if it is installed), or a class of one's own derived from these.
    Raises UsageError for another name, ImportError where what it needs is not installed.
    """
    base: Any = http
    if isinstance(http, str):
        if http not in _PROTOCOLS:
            raise UsageError(f"uvicorn's protocols are {', '.join(_PROTOCOLS)}, not {http!r}")
        module, name = _PROTOCOLS[http]
        base = getattr(importlib.import_module(module), name)
    return type(f"Pellucid{base.__name__}", (_Introducing, base), {})


class _Introducing(asyncio.Protocol):
    """Comes before a protocol of uvicorn's: introduces the connection to the application, and tells what came early."""

    app: Any  # Any: an ASGI application, and uvicorn's class of WebSocket protocols
    ws_protocol_class: Any
    _early: Early | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        found = transport.get_extra_info("ssl_object")
        tls = found if isinstance(found, Facts) else facts_of(transport)
        if tls is None:
            return
        own = OwnConnection(tls, recorder_of(tls.trace), retire=_nothing, flush=_nothing)
        self.app = Introduced(self.app, own)
        self._early = Early(tls)
        if (make := self.ws_protocol_class) is not None:

            def introduced(*arguments: Any, **options: Any) -> Any:
                protocol = make(*arguments, **options)
                protocol.app = Introduced(protocol.app, own)
                return protocol

            self.ws_protocol_class = introduced

    def data_received(self, data: bytes) -> None:
        early = self._early
        while data and early is not None:
            now, data = early.take(data)
            super().data_received(now)
        if data:
            super().data_received(data)


async def _nothing() -> None:
    """HTTP/1.1 has no frames of its own: a KeyUpdate goes out with the next answer, which also says that it closes."""
