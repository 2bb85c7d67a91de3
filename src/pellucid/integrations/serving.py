"""A server that runs until it is told to stop: hypercorn over Pellucid, on one or several sockets.

Each listener has its own configuration, and all have one application. `Server.run` is for a running event loop; signals
and what is printed are its caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from pellucid.config import ConfigSource, ServerConfig
from pellucid.explain.recorder import Recorder
from pellucid.integrations.hypercorn import OpenConnections, connections
from pellucid.integrations.stopping import StoppingContext
from pellucid.limits import HANDSHAKE_TIMEOUT_SECONDS

__all__ = ["BACKLOG", "Listening", "Server", "SharedSocket"]

BACKLOG: Final = 128
_LAST_SECONDS: Final = 1.0  # for closing connections, after the time of grace
_MESSAGES: Final = 4  # of a request's body, read ahead of the application
_UPLOAD_SECONDS: Final = 10.0  # for the rest of a request whose answer has been given
_LOOK_SECONDS: Final = 0.02  # between two looks at what is still to come
_QUIET: Final = 3  # looks at nothing: between two a connection may be on its way from hand to hand
_FIRST_SECONDS: Final = 2.0  # for the first request on a connection whose handshake is done
_KEEP_ALIVE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where to listen and how. sock: bound, not blocking; recorder: made for each connection, for the application."""

    sock: socket.socket
    config: ServerConfig | ConfigSource
    recorder: Callable[[], Recorder] | None = None


class SharedSocket(socket.socket):
    """A listening socket that several processes accept from. Its queue keeps its length, whatever asyncio asks for."""

    _let_go = False

    def listen(self, backlog: int = BACKLOG, /) -> None:
        if not self._let_go:
            super().listen(BACKLOG)

    def let_go(self) -> None:
        """Accept no more here; once all processes have let go the kernel refuses connections.

        The descriptor stays open, for the event loop has it: of a socket that nothing ever comes to.
        """
        with contextlib.suppress(OSError), socket.socket(self.family, socket.SOCK_DGRAM) as silent:
            os.dup2(silent.fileno(), self.fileno(), inheritable=False)
            self._let_go = True


class Server:
    """Serves *application* on all of *listeners*. Not started twice.

    grace:      seconds that requests may still run once it is told to stop.
    ready:      called once, when all listen and the application has started.
    keep_alive: seconds that an idle connection is kept.
    logger:     of hypercorn's own news: warnings and errors, which an application's exceptions are.
    shares:     whether other processes accept from the same sockets, which are SharedSockets. Then a turn of the loop
                takes a connection or two, so that those who are idle get theirs, and `drain` can be called.
    """

    def __init__(
        self,
        application: Any,  # an ASGI application is any callable
        listeners: Sequence[Listening],
        *,
        grace: float,
        ready: Callable[[], None],
        keep_alive: float = _KEEP_ALIVE_SECONDS,
        logger: logging.Logger | None = None,
        shares: bool = False,
    ) -> None:
        self._sockets = [one.sock for one in listeners]
        self._ending = _Ending(application)
        self._grace = grace
        self._ready = ready
        self._stop = asyncio.Event()
        self._waiting = len(listeners)
        self._contexts = [StoppingContext(one.config, one.recorder) for one in listeners]
        self._settings = []
        for one, context in zip(listeners, self._contexts, strict=True):
            settings = _HypercornConfig(context, [one.sock], self._listens)
            settings.graceful_timeout = grace + _LAST_SECONDS
            settings.shutdown_timeout = grace + _LAST_SECONDS
            settings.keep_alive_timeout = keep_alive
            settings.errorlog = logger
            if shares:
                context.counts = True
                settings.open_connections = OpenConnections()
                settings.backlog = 1  # asyncio accepts so many in one go
            self._settings.append(settings)

    async def drain(self, kept_seconds: float) -> None:
        """Take no further connections, and wait for those that were taken: their handshakes, and their first requests.

        Others are told with their next answer to take another connection, and have *kept_seconds* to ask for one: who
        is cut off between two requests may just have sent the second. `stop` ends the wait. For a server that `shares`
        its sockets, before `stop`: what nobody has accepted waits there for other processes, if there are any.
        """
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
                if isinstance(sock, SharedSocket):
                    sock.let_go()
        every = [one.open_connections for one in self._settings if one.open_connections is not None]
        for those in every:
            those.retiring = True
        kept_until = loop.time() + kept_seconds
        quiet = 0
        while quiet < _QUIET and not self._stop.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
            new = any(one.shaking for one in self._contexts) or any(one.expected(_FIRST_SECONDS) for one in every)
            quiet = 0 if new or (any(map(len, every)) and loop.time() < kept_until) else quiet + 1

    def stop(self) -> None:
        """Take no further connections, and end when the running requests are done, or the time of grace is over."""
        for context in self._contexts:
            context.stopping = True
        self._stop.set()

    def hurry(self) -> None:
        """End the running requests."""
        self._ending.over.set()

    async def run(self) -> None:
        """Return once the server has stopped. Raises hypercorn's LifespanFailureError and LifespanTimeoutError."""
        with connections():
            await self._run()

    async def _run(self) -> None:
        applications: list[Any] = [self._ending, *(_Follower(self._ending) for _ in self._settings[1:])]
        every = [
            asyncio.create_task(hypercorn_serve(one, settings, shutdown_trigger=self._stop.wait, mode="asgi"))
            for one, settings in zip(applications, self._settings, strict=True)
        ]
        serving = asyncio.ensure_future(_all(every))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stop.is_set():
            over = asyncio.create_task(self._ending.over.wait())
            await asyncio.wait({serving, over}, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            self._ending.over.set()
            await asyncio.wait({serving}, timeout=self._grace + 4 * _LAST_SECONDS)
            if not serving.done():  # connections whose peers take nothing: asyncio.run cancels them
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                return
        try:
            await serving
        except asyncio.CancelledError:
            # hypercorn asks connections for their outcome that it has cancelled itself, when the time was over
            if not self._stop.is_set():
                raise

    def _listens(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._ready()


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all of *tasks*; when one fails, or this is cancelled, the others are cancelled."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _HypercornConfig(Config):
    """hypercorn's configuration, with our context and our sockets."""

    def __init__(self, context: StoppingContext, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__()
        self._context = context
        self._bound = sockets
        self._ready = ready
        self.open_connections: OpenConnections | None = None
        self.ssl_handshake_timeout = HANDSHAKE_TIMEOUT_SECONDS
        self.include_server_header = False

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> StoppingContext:
        return self._context

    def create_sockets(self) -> Sockets:
        """Start to listen: the application is up."""
        for sock in self._bound:
            sock.listen(BACKLOG)
        self._ready()
        return Sockets(self._bound, [], [])


class _Follower:
    """The application as the second listener and others see it: the first starts and ends it."""

    def __init__(self, application: _Ending) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] != "lifespan":
            await self._application(scope, receive, send)
            return
        await receive()
        await self._application.started.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


class _Ending:
    """The application, whose requests are ended when their time is over. hypercorn's own way of doing so waits for
    ever where HTTP/2 is spoken: its connections want to be told that the request has come to an end.
    """

    def __init__(self, application: Any) -> None:  # Any: an ASGI application is any callable
        self.over = asyncio.Event()
        self.started = asyncio.Event()
        """whether the application is up: it has said so, or has no lifespan"""
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        reading = None
        if scope["type"] == "http" and scope["http_version"] == "2":
            exchange = _Exchange(receive, send)
            reading = asyncio.ensure_future(exchange.read())
            scope = {**scope, "asgi": {**scope["asgi"], "spec_version": "2.4"}}
            receive, send = exchange.receive, exchange.send
        request = asyncio.ensure_future(self._application(scope, receive, send))
        over = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait({request, over}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                request.cancel()
                await asyncio.wait({request})
            if not request.cancelled():
                with contextlib.suppress(_ClientGone):
                    request.result()
        finally:
            over.cancel()
            request.cancel()
            if reading is not None:
                reading.cancel()

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set()

        try:
            await self._application(scope, receive, tell)
        finally:
            self.started.set()


class _ClientGone(OSError):
    """What `send` raises once the client has gone (ASGI 2.4)."""


class _Exchange:
    """One request over HTTP/2, and two things hypercorn leaves undone there. Data that come for a request which has
    been answered in full break the connection: here an answer ends when its request has ended. And an answer that
    nobody takes any more waits for ever: here `send` ends when the client has gone.
    """

    def __init__(self, receive: Any, send: Any) -> None:  # Any: ASGI's callables
        self._receive = receive
        self._send = send
        self._messages: asyncio.Queue[Any] = asyncio.Queue(_MESSAGES)
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()
        self._answered = False

    async def read(self) -> None:
        """Take what comes of the request, until the client has gone: a task beside the application."""
        while not self._gone.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
            if not message.get("more_body"):
                self._ended.set()
            if not self._answered:
                await self._messages.put(message)

    async def receive(self) -> Any:  # Any: ASGI's dictionaries, here and below
        if self._gone.is_set() and self._messages.empty():
            return {"type": "http.disconnect"}
        return await self._messages.get()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body") and not self._ended.is_set():
            await self._pass({**message, "more_body": True})
            await self._rest()
            message = {"type": "http.response.body", "body": b""}
        await self._pass(message)

    async def _pass(self, message: Any) -> None:
        if self._gone.is_set():
            raise _ClientGone("the client has gone")
        sending = asyncio.ensure_future(self._send(message))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():  # "gone" comes too when hypercorn is just about to be done with the last message
                await asyncio.wait({sending}, timeout=_LAST_SECONDS)
            if not sending.done():
                raise _ClientGone("the client has gone")
            sending.result()
        finally:
            sending.cancel()
            gone.cancel()

    async def _rest(self) -> None:
        """Drop what the request still sends."""
        self._answered = True
        while not self._messages.empty():
            self._messages.get_nowait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _UPLOAD_SECONDS)
