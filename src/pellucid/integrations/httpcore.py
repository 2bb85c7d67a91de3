"""A network backend for httpcore and httpcore2: their connections, with Pellucid's TLS on them and errors that explain.

What httpcore raises is both its own class and ours: the report is there, and nothing of it is lost where httpcore drops
an error's cause. Give the pool a `pellucid.SSLContext`; the module that the pool is of says whose errors are raised:

    httpcore.ConnectionPool(ssl_context=pellucid.SSLContext(), network_backend=Backend(httpcore))

For httpx and httpx2 there are whole transports: `integrations.httpx`, `integrations.httpx2`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import ModuleType
from typing import Any, Final

from pellucid.errors import TLSError
from pellucid.integrations.http_tls import Steps, Tls, both, network_error
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.net.operations import RECEIVE_SIZE
from pellucid.net.tcp import trace_wrapped
from pellucid.trace import Role

__all__ = ["AsyncBackend", "Backend"]

_CLOSE_SECONDS: Final = 1.0


def _tls(library: ModuleType, context: object, server_hostname: str | None, inner: Any) -> Tls:  # Any: a stream
    """Return a new connection over *inner*. Raises ConfigurationError if *context* is somebody else's."""
    if not isinstance(context, SSLContext):
        raise ConfigurationError(
            "this network backend does TLS with Pellucid: give the pool, and an https proxy, a pellucid.SSLContext as "
            f"ssl_context; {type(context).__name__} is another"
        )
    tls = Tls(library, context, server_hostname)
    sock = inner.get_extra_info("socket")
    if tls.engine.observer is not None and isinstance(sock, socket.socket):
        trace_wrapped(sock, tls.engine.observer, Role.CLIENT)
    return tls


def _cut_short(library: ModuleType) -> Exception:
    error: Exception = both(TLSError("an earlier write was cut short; nothing more is sent"), library.WriteError)
    return error


class Backend:
    """Makes the connections of a pool that blocks. library: httpcore or httpcore2, whichever the pool is of.

    inner: makes the connections underneath; None: the library's own.
    """

    def __init__(self, library: ModuleType, inner: Any = None) -> None:  # Any: a NetworkBackend
        self._library = library
        self._inner = library.SyncBackend() if inner is None else inner

    def connect_tcp(self, host: str, port: int, **settings: Any) -> Stream:  # Any: httpcore's
        with network_error(self._library, host, port):
            return Stream(self._library, self._inner.connect_tcp(host, port, **settings))

    def connect_unix_socket(self, path: str, **settings: Any) -> Stream:  # Any: httpcore's
        return Stream(self._library, self._inner.connect_unix_socket(path, **settings))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class Stream:
    """One of the library's streams, whose TLS is Pellucid's once it is asked for."""

    def __init__(self, library: ModuleType, inner: Any) -> None:  # Any: a NetworkStream, or one of these
        self._library = library
        self._inner = inner
        self._network = (TLSError, library.NetworkError, library.TimeoutException)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._inner.read(max_bytes, timeout)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: object, server_hostname: str | None = None, timeout: float | None = None
    ) -> TLSStream:
        """Return this stream under TLS, in TLS if it is under TLS already."""
        try:
            stream = TLSStream(self, _tls(self._library, ssl_context, server_hostname, self))
            stream.begin(timeout)
        except BaseException:
            self.close()
            raise
        return stream

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore's
        return self._inner.get_extra_info(info)


class TLSStream(Stream):
    """A stream under TLS. One thread may read while another writes."""

    def __init__(self, inner: Stream, tls: Tls) -> None:
        super().__init__(inner._library, inner)
        self._tls = tls
        self._core = threading.Lock()  # around the engine; never held while waiting
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._beginning = threading.RLock()
        self._cut = False

    def begin(self, timeout: float | None) -> None:
        """Shake hands, unless the request is to travel with the ClientHello: then once it is there."""
        if not self._tls.start():
            self._shake(timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._shake(timeout)
        with self._reading, self._tls.errors(self._library.ReadError):
            while True:
                with self._core:
                    data = self._tls.engine.read(max_bytes)
                if data is not None:
                    return data
                received = self._inner.read(RECEIVE_SIZE, timeout)
                with self._core:
                    self._tls.engine.feed(received)
                with contextlib.suppress(*self._network):  # what the peer said before it left is read all the same
                    self._flush(timeout, wait=False)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._beginning:
            if self._tls.hold(buffer):
                return
        self._shake(timeout)
        with self._tls.errors(self._library.WriteError):
            view = memoryview(buffer)
            while view:
                with self._core:
                    size = self._tls.engine.write(view)
                view = view[size:]
                self._flush(timeout, wait=True)

    def close(self) -> None:
        try:
            if self._tls.ready:
                with contextlib.suppress(*self._network):  # the peer is gone: there is nobody to be told
                    with self._core:
                        self._tls.engine.close()
                    self._flush(_CLOSE_SECONDS, wait=False)
        finally:
            self._tls.over()
            self._inner.close()

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore's
        if info == "ssl_object":
            return self._tls.facts
        if info == "is_readable" and self._tls.engine.pending:
            return True
        return self._inner.get_extra_info(info)

    def _shake(self, timeout: float | None) -> None:
        with self._beginning:
            if self._tls.ready:
                return
            steps = self._tls.shake()
            with self._tls.connecting(timeout):
                self._drive(steps, timeout)

    def _drive(self, steps: Steps, timeout: float | None) -> None:
        answer: bytes | None = None
        while True:
            try:
                output = steps.send(answer)
            except StopIteration:
                return
            try:
                answer = self._inner.read(RECEIVE_SIZE, timeout) if output is None else None
                if output is not None:
                    self._inner.write(output, timeout)
            except (self._library.NetworkError, self._library.TimeoutException) as error:
                steps.throw(error)

    def _flush(self, timeout: float | None, *, wait: bool) -> None:
        """Send what there is to send. wait: for another writer; else leave it to that one, who looks again."""
        while True:
            with self._core:
                if not self._tls.engine.has_output():
                    return
            if not self._writing.acquire(blocking=wait):
                return
            try:
                if self._cut:
                    raise _cut_short(self._library)
                with self._core:
                    data = self._tls.engine.take()
                if data:
                    self._cut = True
                    self._inner.write(data, timeout)
                    self._cut = False
            finally:
                self._writing.release()


class AsyncBackend:
    """Makes the connections of an async pool, on asyncio or trio. library, inner: as `Backend` has them."""

    def __init__(self, library: ModuleType, inner: Any = None) -> None:  # Any: an AsyncNetworkBackend
        self._library = library
        self._inner = library.AnyIOBackend() if inner is None else inner

    async def connect_tcp(self, host: str, port: int, **settings: Any) -> AsyncStream:  # Any: httpcore's
        with network_error(self._library, host, port):
            return AsyncStream(self._library, await self._inner.connect_tcp(host, port, **settings))

    async def connect_unix_socket(self, path: str, **settings: Any) -> AsyncStream:  # Any: httpcore's
        return AsyncStream(self._library, await self._inner.connect_unix_socket(path, **settings))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class AsyncStream:
    """As `Stream`."""

    def __init__(self, library: ModuleType, inner: Any) -> None:  # Any: an AsyncNetworkStream, or one of these
        self._library = library
        self._inner = inner
        self._network = (TLSError, library.NetworkError, library.TimeoutException)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = await self._inner.read(max_bytes, timeout)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: object, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncTLSStream:
        """Return this stream under TLS, in TLS if it is under TLS already."""
        try:
            stream = AsyncTLSStream(self, _tls(self._library, ssl_context, server_hostname, self))
            await stream.begin(timeout)
        except BaseException:
            await self.aclose()
            raise
        return stream

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore's
        return self._inner.get_extra_info(info)


class AsyncTLSStream(AsyncStream):
    """A stream under TLS. One task may read while another writes; what is cancelled while it writes ends writing."""

    def __init__(self, inner: AsyncStream, tls: Tls) -> None:
        from anyio import Lock  # noqa: PLC0415  # only who is async needs it

        super().__init__(inner._library, inner)
        self._tls = tls
        self._reading = Lock()
        self._writing = Lock()
        self._beginning = Lock()
        self._cut = False

    async def begin(self, timeout: float | None) -> None:
        """As `TLSStream.begin`."""
        if not self._tls.start():
            await self._shake(timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await self._shake(timeout)
        async with self._reading:
            with self._tls.errors(self._library.ReadError):
                while True:
                    data = self._tls.engine.read(max_bytes)
                    if data is not None:
                        return data
                    self._tls.engine.feed(await self._inner.read(RECEIVE_SIZE, timeout))
                    with contextlib.suppress(*self._network):  # as TLSStream's
                        await self._flush(timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._tls.hold(buffer):
            return
        await self._shake(timeout)
        with self._tls.errors(self._library.WriteError):
            view = memoryview(buffer)
            while view:
                view = view[self._tls.engine.write(view) :]
                await self._flush(timeout)

    async def aclose(self) -> None:
        try:
            if self._tls.ready:
                with contextlib.suppress(*self._network):  # the peer is gone: there is nobody to be told
                    self._tls.engine.close()
                    await self._flush(_CLOSE_SECONDS)
        finally:
            self._tls.over()
            await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore's
        if info == "ssl_object":
            return self._tls.facts
        if info == "is_readable" and self._tls.engine.pending:
            return True
        return self._inner.get_extra_info(info)

    async def _shake(self, timeout: float | None) -> None:
        if self._tls.ready:
            return
        async with self._beginning:
            if self._tls.ready:
                return
            steps = self._tls.shake()
            with self._tls.connecting(timeout):
                await self._drive(steps, timeout)

    async def _drive(self, steps: Steps, timeout: float | None) -> None:
        answer: bytes | None = None
        while True:
            try:
                output = steps.send(answer)
            except StopIteration:
                return
            try:
                answer = await self._inner.read(RECEIVE_SIZE, timeout) if output is None else None
                if output is not None:
                    await self._inner.write(output, timeout)
            except (self._library.NetworkError, self._library.TimeoutException) as error:
                steps.throw(error)

    async def _flush(self, timeout: float | None) -> None:
        while self._tls.engine.has_output():
            async with self._writing:
                if self._cut:
                    raise _cut_short(self._library)
                if data := self._tls.engine.take():
                    self._cut = True
                    await self._inner.write(data, timeout)
                    self._cut = False
