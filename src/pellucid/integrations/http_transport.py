"""What the transports for httpx and httpx2 share: our network under their pools, early data, errors of both families.

A request that is safe and has no body may travel with the ClientHello (RFC 8470), where the context's configuration
has `early_data` and a session allows it. What answers such a request must be safe to ask twice. Where the server says
425 it is made again without; where it rejects the early data, it is sent again, or made anew, by itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any, ClassVar, Final

from pellucid.config import ClientConfig
from pellucid.errors import Explained
from pellucid.integrations.http_tls import AnotherProtocol, both, early_host
from pellucid.integrations.httpcore import AsyncBackend, Backend
from pellucid.integrations.ssl_context import SSLContext

__all__ = ["AsyncTransport", "Transport"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOO_EARLY: Final = 425

Origin = tuple[str, int | None]


class _Shared:
    """What both kinds of transport have. library, core: httpx and httpcore, or httpx2 and httpcore2."""

    library: ClassVar[ModuleType]
    core: ClassVar[ModuleType]
    _early: bool

    def _settings(self, context: SSLContext | None, proxy: Any, settings: dict[str, Any]) -> dict[str, Any]:
        # Any: what httpx takes
        context = SSLContext() if context is None else context
        config = context.config(server_side=False)
        over_tls = False
        if proxy is not None:
            proxy = proxy if isinstance(proxy, self.library.Proxy) else self.library.Proxy(proxy)
            over_tls = proxy.url.scheme == "https"
            if over_tls and proxy.ssl_context is None:
                proxy.ssl_context = context
        # To an https proxy nothing goes early: it would be its CONNECT.
        self._early = isinstance(config, ClientConfig) and config.early_data and not over_tls
        return {**settings, "verify": context, "proxy": proxy}

    def _wants_early(self, request: Any) -> bool:  # Any: a Request
        headers = request.headers
        return (
            self._early
            and request.url.scheme == "https"
            and request.method in _SAFE
            and "content-length" not in headers
            and "transfer-encoding" not in headers
        )

    def _told(self, error: Any) -> Any:  # Any: a TransportError; one that is ours too, where the cause is
        cause = error.__cause__
        return both(cause, type(error), error) if isinstance(cause, Explained) else error


class Transport(_Shared):
    """The blocking one. `integrations.httpx.HTTPTransport` is it, of httpx's own kind."""

    def __init__(
        self, context: SSLContext | None = None, *, proxy: Any = None, **settings: Any
    ) -> None:  # Any: what httpx takes
        super().__init__(**self._settings(context, proxy, settings))
        pool: Any = self._pool  # type: ignore[attr-defined]  # httpx has no parameter for the network
        pool._network_backend = Backend(self.core)
        self._gate = _Gate()

    def handle_request(self, request: Any) -> Any:  # Any: a Request and a Response of the library's
        origin = (request.url.host, request.url.port)
        with self._gate.passing(origin, self._wants_early(request)) as early:
            try:
                response = self._sent(request, origin[0] if early else None)
            except AnotherProtocol:
                response = self._sent(request, None)
        if early and response.status_code == _TOO_EARLY:  # RFC 8470 §5.2
            response.read()
            response.close()
            response = self._sent(request, None)
        return response

    def _sent(self, request: Any, early: str | None) -> Any:  # Any: see above
        token = early_host.set(early)
        try:
            return super().handle_request(request)  # type: ignore[misc]  # httpx's class
        except self.library.TransportError as error:
            told = self._told(error)
            raise told from told.__cause__
        finally:
            early_host.reset(token)


class AsyncTransport(_Shared):
    """The async one, for asyncio and trio."""

    def __init__(
        self, context: SSLContext | None = None, *, proxy: Any = None, **settings: Any
    ) -> None:  # Any: what httpx takes
        super().__init__(**self._settings(context, proxy, settings))
        pool: Any = self._pool  # type: ignore[attr-defined]  # httpx has no parameter for the network
        pool._network_backend = AsyncBackend(self.core)
        self._gate = _AsyncGate()

    async def handle_async_request(self, request: Any) -> Any:  # Any: a Request and a Response of the library's
        origin = (request.url.host, request.url.port)
        async with self._gate.passing(origin, self._wants_early(request)) as early:
            try:
                response = await self._sent(request, origin[0] if early else None)
            except AnotherProtocol:
                response = await self._sent(request, None)
        if early and response.status_code == _TOO_EARLY:  # RFC 8470 §5.2
            await response.aread()
            await response.aclose()
            response = await self._sent(request, None)
        return response

    async def _sent(self, request: Any, early: str | None) -> Any:  # Any: see above
        token = early_host.set(early)
        try:
            return await super().handle_async_request(request)  # type: ignore[misc]  # httpx's class
        except self.library.TransportError as error:
            told = self._told(error)
            raise told from told.__cause__
        finally:
            early_host.reset(token)


class _Gate:
    """Has a request that may go early alone with its origin until it is answered.

    Otherwise, on a connection of HTTP/2, bytes of another request might be among those that go early.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active: Counter[Origin] = Counter()
        self._alone: set[Origin] = set()

    @contextmanager
    def passing(self, origin: Origin, wanted: bool) -> Iterator[bool]:
        """Give whether the request may go early; wait while another one does."""
        with self._changed:
            self._changed.wait_for(lambda: origin not in self._alone)
            early = wanted and not self._active[origin]
            self._active[origin] += 1
            if early:
                self._alone.add(origin)
        try:
            yield early
        finally:
            with self._changed:
                _leave(self._active, origin)
                if early:
                    self._alone.discard(origin)
                self._changed.notify_all()


class _AsyncGate:
    """As `_Gate`, for tasks of one event loop."""

    def __init__(self) -> None:
        self._active: Counter[Origin] = Counter()
        self._alone: dict[Origin, Any] = {}  # Any: anyio's Event

    @asynccontextmanager
    async def passing(self, origin: Origin, wanted: bool) -> AsyncIterator[bool]:
        """As `_Gate.passing`."""
        while (answered := self._alone.get(origin)) is not None:
            await answered.wait()
        early = wanted and not self._active[origin]
        self._active[origin] += 1
        if early:
            from anyio import Event  # noqa: PLC0415  # only who is async needs it

            self._alone[origin] = Event()
        try:
            yield early
        finally:
            _leave(self._active, origin)
            if early:
                self._alone.pop(origin).set()


def _leave(active: Counter[Origin], origin: Origin) -> None:
    active[origin] -= 1
    if not active[origin]:
        del active[origin]
