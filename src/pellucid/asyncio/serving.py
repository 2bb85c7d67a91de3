"""Serving: `create_server` and `start_server`, over TCP and Unix sockets. Each client asks for its configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pellucid.asyncio.protocol import Answer, Begun, Settings, Start, Wire
from pellucid.asyncio.streams import LIMIT, StreamProtocol
from pellucid.config import ConfigSource, ServerConfig, current_config
from pellucid.connection import Connection
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.setup import observer_of, socket_address
from pellucid.net.tcp import trace_wrapped
from pellucid.trace import Observer, Role, unwatched

__all__ = [
    "create_server",
    "create_unix_server",
    "server_start",
    "start_server",
    "start_unix_server",
    "wire_factory",
]

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
Trace = Callable[[], Observer | None]


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | None = None,
    port: int | None = None,
    config: ServerConfig | ConfigSource | None = None,
    *,
    limit: int = LIMIT,
    **options: Any,  # Any: those of create_server, each of its own type
) -> asyncio.Server:
    """Return a server that calls *client_connected_cb* with (reader, writer) of each client, after its handshake.

    The options are `create_server`'s. A coroutine function becomes a task.
    """
    return await create_server(_streams(client_connected_cb, limit), host, port, config, **options)


async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | None = None,
    port: int | None = None,
    config: ServerConfig | ConfigSource | None = None,
    *,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
    trace: Trace | None = None,
    answer: Answer | None = None,
    **listening: Any,  # Any: those of loop.create_server, each of its own type
) -> asyncio.Server:
    """Return a server with a protocol for each client, as `loop.create_server` does.

    config:    a source of one is asked once for each connection.
    trace:     called for each connection, returns who watches it; instead of whom the configuration names.
    listening: sock, family, flags, backlog, reuse_address, reuse_port, start_serving: the event loop's.
    The protocol is made after the handshake, or once early data is accepted, where the configuration takes any
    (`max_early_data`): "ssl_object" tells of it, as `early_bytes` and `handshake_complete`. A client whose handshake
    fails is told why and is gone; `trace` and the logger "pellucid.asyncio" (DEBUG) have it.
    """
    loop = asyncio.get_running_loop()
    settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)
    return await loop.create_server(wire_factory(protocol_factory, config, trace, settings), host, port, **listening)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: str | None = None,
    config: ServerConfig | ConfigSource | None = None,
    *,
    limit: int = LIMIT,
    **options: Any,  # Any: those of create_unix_server, each of its own type
) -> asyncio.Server:
    """Return a server on a Unix socket; the rest as `start_server`."""
    return await create_unix_server(_streams(client_connected_cb, limit), path, config, **options)


async def create_unix_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    path: str | None = None,
    config: ServerConfig | ConfigSource | None = None,
    *,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
    trace: Trace | None = None,
    answer: Answer | None = None,
    **listening: Any,  # Any: those of loop.create_unix_server, each of its own type
) -> asyncio.Server:
    """Return a server on a Unix socket; the rest as `create_server`."""
    loop = asyncio.get_running_loop()
    settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)
    return await loop.create_unix_server(wire_factory(protocol_factory, config, trace, settings), path, **listening)


def wire_factory(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    config: ServerConfig | ConfigSource | None,
    trace: Trace | None,
    settings: Settings,
) -> Callable[[], Wire]:
    """Return what makes the protocol of each accepted connection. Raises UsageError without a configuration."""
    start = server_start(config, trace)
    loop = asyncio.get_running_loop()
    return lambda: Wire(loop, start, protocol_factory, settings)


def server_start(config: ServerConfig | ConfigSource | None, trace: Trace | None) -> Start:
    """Return what begins a server's end once there is a transport. Raises UsageError without a configuration."""
    current_config(config)  # type: ignore[arg-type]  # what is none raises UsageError here, before anything listens

    def start(transport: asyncio.BaseTransport) -> Begun:
        current = current_config(config)  # type: ignore[arg-type]
        observer = observer_of(current, None if trace is None else trace())
        sock = transport.get_extra_info("socket")
        if observer is not None and sock is not None:
            trace_wrapped(sock, observer, Role.SERVER)
        peer = socket_address(lambda: transport.get_extra_info("peername"))[0]
        connection = Connection.server(current, peer_address=peer, trace=unwatched if observer is None else observer)
        return Begun(connection, current, observer)

    return start


def _streams(client_connected_cb: ClientConnected, limit: int) -> Callable[[], asyncio.BaseProtocol]:
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit, loop=loop)
        return StreamProtocol(reader, client_connected_cb, loop=loop)

    return factory
