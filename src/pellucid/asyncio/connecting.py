"""Connecting: `create_connection` and `open_connection`, over TCP and Unix sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from pellucid.asyncio.protocol import Answer, Begun, Settings, Start, Wire
from pellucid.asyncio.streams import LIMIT, StreamProtocol
from pellucid.asyncio.transport import Transport
from pellucid.config import ClientConfig
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.setup import new_connection, observer_of, refuse_other_than_client
from pellucid.net.tcp import trace_wrapped
from pellucid.trace import Observer, Role

__all__ = [
    "client_start",
    "create_connection",
    "create_unix_connection",
    "open_connection",
    "open_unix_connection",
]

P = TypeVar("P", bound=asyncio.BaseProtocol)
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_NOTHING: Final = b""


async def open_connection(
    host: str | None = None,
    port: int | None = None,
    config: ClientConfig | None = None,
    *,
    limit: int = LIMIT,
    **options: Any,  # Any: those of create_connection, each of its own type
) -> Opened:
    """Return (reader, writer) of a verified connection; the options are `create_connection`'s.

    They are asyncio's own StreamReader and StreamWriter. The reader ends with the peer's close_notify; it raises
    TruncatedStream where the connection ends without one, AlertReceived where the peer gave up.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop=loop)
    transport, protocol = await create_connection(
        lambda: StreamProtocol(reader, loop=loop), host, port, config, **options
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def create_connection(
    protocol_factory: Callable[[], P],
    host: str | None = None,
    port: int | None = None,
    config: ClientConfig | None = None,
    *,
    server_hostname: str | None = None,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
    trace: Observer | None = None,
    answer: Answer | None = None,
    early_data: bytes = b"",
) -> tuple[Transport, P]:
    """Return (transport, protocol) of a verified connection, as `loop.create_connection` does.

    config:            None: the system's roots, and the defaults.
    server_hostname:   whom the certificate must be for; None: *host*. A connected *sock* without a host needs it.
    sock … flags:      are the event loop's; uvloop does not have happy_eyeballs_delay and interleave.
    handshake_timeout: seconds for TLS, after TCP; DeadlineExceeded (a TimeoutError) then. None: no end.
    shutdown_timeout:  seconds that `close` waits at most, without progress, for a peer that takes nothing more.
    trace:             watches the connection, instead of whom the configuration names.
    answer:            an async function, called with each pause that said PENDING.
    early_data:        sent with the ClientHello if a session allows all of it, and never again: "ssl_object" says, as
                       `early_data`, what became of it. It can be replayed (RFC 9846 §8).
    raises:            OSError if there is no connection; PeerError, AlertReceived, TruncatedStream if it is none to
                       trust; UsageError for what cannot be asked for. Cancelled, it leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    name = server_hostname if server_hostname is not None else host
    start = client_start(config, name, trace, port=port or 0, early_data=early_data)
    settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)
    tcp: dict[str, Any] = {"family": family, "proto": proto, "flags": flags}  # Any: each of its own type
    if happy_eyeballs_delay is not None:
        tcp["happy_eyeballs_delay"] = happy_eyeballs_delay
    if interleave is not None:
        tcp["interleave"] = interleave
    if local_addr is not None:
        tcp["local_addr"] = local_addr

    def connect(factory: Callable[[], Wire]) -> Awaitable[object]:
        if sock is not None:
            return loop.create_connection(factory, sock=sock)
        return loop.create_connection(factory, host, port, **tcp)  # type: ignore[arg-type]  # None for both raises ValueError

    return await _connected(protocol_factory, start, settings, early_data, connect)


async def open_unix_connection(
    path: str | None = None, config: ClientConfig | None = None, *, limit: int = LIMIT, **options: Any
) -> Opened:
    """Return (reader, writer) over a Unix socket; the options are `create_unix_connection`'s."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop=loop)
    transport, protocol = await create_unix_connection(
        lambda: StreamProtocol(reader, loop=loop), path, config, **options
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def create_unix_connection(
    protocol_factory: Callable[[], P],
    path: str | None = None,
    config: ClientConfig | None = None,
    *,
    server_hostname: str | None = None,
    sock: socket.socket | None = None,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
    trace: Observer | None = None,
    answer: Answer | None = None,
    early_data: bytes = b"",
) -> tuple[Transport, P]:
    """Return (transport, protocol) over a Unix socket, which has no name: *server_hostname* must be given.

    The rest as `create_connection`.
    """
    loop = asyncio.get_running_loop()
    start = client_start(config, server_hostname, trace, early_data=early_data)
    settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)

    def connect(factory: Callable[[], Wire]) -> Awaitable[object]:
        return loop.create_unix_connection(factory, path, sock=sock)

    return await _connected(protocol_factory, start, settings, early_data, connect)


async def _connected(
    protocol_factory: Callable[[], P],
    start: Start,
    settings: Settings,
    early_data: bytes,
    connect: Callable[[Callable[[], Wire]], Awaitable[object]],
) -> tuple[Transport, P]:
    """Connect, shake hands; whatever interrupts it takes the connection with it."""
    loop = asyncio.get_running_loop()
    made: list[P] = []

    def factory() -> P:
        made.append(protocol_factory())
        return made[0]

    waiter: asyncio.Future[Transport] = loop.create_future()
    wire = Wire(loop, start, factory, settings, waiter, early_data=early_data)
    try:
        await connect(lambda: wire)
        return await waiter, made[0]
    except BaseException:
        wire.cancel()
        raise


def client_start(
    config: ClientConfig | None,
    server_hostname: str | None,
    trace: Observer | None,
    *,
    port: int = 0,
    early_data: bytes = b"",
) -> Start:
    """Return what begins a client's end once there is a transport. Raises UsageError for what cannot be asked for."""
    refuse_other_than_client(config)
    observer = observer_of(config, trace)
    connection = new_connection(config, server_hostname, observer, port=port, early_data=early_data)

    def start(transport: asyncio.BaseTransport) -> Begun:
        sock = transport.get_extra_info("socket")
        if observer is not None and sock is not None:
            trace_wrapped(sock, observer, Role.CLIENT)
        return Begun(connection, connection.config, observer, server_hostname)

    return start
