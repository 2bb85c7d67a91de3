"""STARTTLS: `start_tls` over a transport that carried plaintext until now, `start_tls_streams` for asyncio's streams.

Nothing that came in plaintext crosses over by itself: what waits unread is an error. Somebody on the path can have put
it there, to be taken for what the peer said under TLS (CVE-2011-0411, and all that were found after it).
"""

from __future__ import annotations

import asyncio
from typing import Any

from pellucid.asyncio.connecting import client_start
from pellucid.asyncio.protocol import Answer, Settings, Start, Wire
from pellucid.asyncio.serving import server_start
from pellucid.asyncio.streams import LIMIT, StreamProtocol
from pellucid.asyncio.transport import Transport
from pellucid.config import ClientConfig, ConfigSource, ServerConfig
from pellucid.errors import UsageError
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.setup import refuse_early_bytes, socket_address
from pellucid.trace import Observer

__all__ = ["start_tls", "start_tls_streams"]


async def start_tls(
    transport: Any,  # Any: uvloop's are no asyncio.Transport
    protocol: asyncio.BaseProtocol,
    config: ClientConfig | ServerConfig | ConfigSource | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    received: bytes = b"",
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
    trace: Observer | None = None,
    answer: Answer | None = None,
    early_data: bytes = b"",
    former: tuple[asyncio.StreamWriter, asyncio.BaseProtocol] | None = None,
) -> Transport:
    """Return the transport that carries *protocol* over TLS from now on, as `loop.start_tls` does. Takes *transport*.

    transport: any of asyncio's or ours (TLS in TLS). Its own protocol hears no more of it.
    protocol:  its `connection_made` is called with the new transport, once the handshake is complete.
    received:  a server's: ciphertext that was read already, behind a PROXY header, or where the client did not wait
               for the answer to its STARTTLS. It is taken as TLS because it was asked for; a client must have none.
    former:    streams that had the transport: held, and told of its end.
    raises:    UsageError if the server has spoken before the ClientHello; else what `create_connection` does. The
               transport is closed then.
    """
    if not (hasattr(transport, "write") and hasattr(transport, "pause_reading")):
        raise TypeError(f"transport {transport!r} does not read and write")
    try:
        transport.pause_reading()
        if server_side:
            if isinstance(config, ClientConfig):
                raise UsageError("a server takes a ServerConfig")
            start = server_start(config, None if trace is None else lambda: trace)
        else:
            _refuse_plaintext(transport, received)
            start = _client_start(transport, config, server_hostname, trace, early_data)
    except BaseException:
        transport.abort()
        raise
    loop = asyncio.get_running_loop()
    settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)
    waiter: asyncio.Future[Transport] = loop.create_future()
    wire = Wire(
        loop, start, lambda: protocol, settings, waiter, early_data=early_data, received=received, former=former
    )
    transport.set_protocol(wire)
    try:
        wire.connection_made(transport)
        transport.resume_reading()
        return await waiter
    except BaseException:
        wire.cancel()
        raise


async def start_tls_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    config: ClientConfig | ServerConfig | ConfigSource | None = None,
    *,
    server_side: bool = False,
    take_buffered: bool = False,
    limit: int = LIMIT,
    **options: Any,  # Any: those of start_tls, each of its own type
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a new (reader, writer) over TLS; the options are `start_tls`'s. The old ones are used up.

    take_buffered: a server's: what *reader* holds is the beginning of the client's TLS. Otherwise, and for a client
                   always, it is UsageError that it holds anything: nobody knows who sent it.
    """
    loop = asyncio.get_running_loop()
    transport: Any = writer.transport  # Any: asyncio types it as one that only writes
    try:
        await writer.drain()
        reader.feed_eof()
        buffered = await reader.read()  # what is there: it does not wait
        transport.pause_reading()
        former = (writer, transport.get_protocol())
        if buffered and not (server_side and take_buffered):
            raise UsageError(
                f"{len(buffered)} bytes came in plaintext and were not read before TLS was to begin: they may be "
                "somebody's on the path"
            )
    except BaseException:
        transport.abort()
        raise
    fresh = asyncio.StreamReader(limit, loop=loop)
    protocol = StreamProtocol(fresh, loop=loop)
    upgraded = await start_tls(
        transport, protocol, config, server_side=server_side, received=buffered, former=former, **options
    )
    return fresh, asyncio.StreamWriter(upgraded, protocol, fresh, loop)


def _client_start(
    transport: asyncio.BaseTransport,
    config: ClientConfig | ServerConfig | ConfigSource | None,
    server_hostname: str | None,
    trace: Observer | None,
    early_data: bytes,
) -> Start:
    if config is not None and not isinstance(config, ClientConfig):
        raise UsageError("a client takes a ClientConfig: server_side=True makes it the server's end")
    port = socket_address(lambda: transport.get_extra_info("peername"))[1]
    return client_start(config, server_hostname, trace, port=port, early_data=early_data)


def _refuse_plaintext(transport: asyncio.BaseTransport, received: bytes) -> None:
    """Raise UsageError if the server has spoken before the ClientHello, as far as anybody can see that by now.

    What comes later, before its ServerHello, is taken for TLS and is none: it ends the handshake.
    """
    sock = transport.get_extra_info("socket")
    if received or sock is None or transport.get_extra_info("sslcontext") is not None:
        refuse_early_bytes(None, received)
        return
    with sock.dup() as raw:
        refuse_early_bytes(raw, b"")
