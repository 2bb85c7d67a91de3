"""uvicorn over `pellucid.asyncio`: its protocols (h11, httptools, WebSockets) on our transports, without sslproto.

    pellucid.uvicorn.run(app, pellucid.ServerConfig(credentials=[…]), port=8443)

Everything else is uvicorn's: its options, its signals, its logs. Applications see ASGI's `tls` extension and ours
(`integrations.asgi`), and no unsafe request that may be a replay (RFC 8470).
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn

from pellucid.asyncio.joining import JoiningTransport
from pellucid.asyncio.protocol import Answer, Settings, Wire
from pellucid.asyncio.serving import wire_factory
from pellucid.asyncio.transport import Transport
from pellucid.config import ConfigSource, ServerConfig, current_config
from pellucid.errors import UsageError
from pellucid.integrations.early_requests import EarlyGate
from pellucid.integrations.uvicorn import uvicorn_protocol
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.trace import Observer

__all__ = ["Server", "run"]


def run(app: Any, config: ServerConfig | ConfigSource, **options: Any) -> None:  # Any: an ASGI application, and options
    """Serve *app* until a signal ends that. options: `uvicorn.Config`'s, such as host, port, http, log_level.

    One process: `workers` and `reload` start others, to which no private key goes. Raises UsageError for these, and for
    uvicorn's `ssl_…` options: what is served is *config*'s, or what a source of one has at the time.
    """
    Server(uvicorn.Config(app, **options), config).run()


class Server(uvicorn.Server):
    """uvicorn's server, whose connections are of `pellucid.asyncio`.

    config, tls: uvicorn's configuration, and ours or a source of ours, which each connection asks for it.
    handshake_timeout, shutdown_timeout, trace, answer: as for `pellucid.asyncio.create_server`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        tls: ServerConfig | ConfigSource,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS,
        trace: Callable[[], Observer | None] | None = None,
        answer: Answer | None = None,
    ) -> None:
        if config.is_ssl or config.ssl_context_factory is not None:
            raise UsageError("uvicorn's ssl_… options and a configuration of Pellucid's: which one is meant?")
        if config.workers > 1 or config.reload:
            raise UsageError("workers and reload start processes to which no private key goes: run one, or several")
        current_config(tls)
        super().__init__(config)
        self._tls = tls
        self._trace = trace
        self._settings = Settings(handshake_timeout=handshake_timeout, shutdown_timeout=shutdown_timeout, answer=answer)
        self._wires: weakref.WeakSet[Wire] = weakref.WeakSet()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen: uvicorn does, and gets our protocol around its own for each connection."""
        config = self.config
        http = _joined(uvicorn_protocol(config.http_protocol_class))
        config.loaded_app = EarlyGate(config.loaded_app)

        def protocol(**of_uvicorn: Any) -> Wire:  # Any: config, server_state, app_state, _loop
            wire = wire_factory(lambda: http(**of_uvicorn), self._tls, self._trace, self._settings)()
            self._wires.add(wire)
            return wire

        config.http_protocol_class = cast(Any, protocol)
        await super().startup(sockets)

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        """As uvicorn says it; that it is https it tells from a context, which there is none of."""
        self.config.ssl = cast(Any, self._tls)
        try:
            super()._log_started_message(listeners)
        finally:
            self.config.ssl = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does. It does not know of connections whose handshake goes on: these end at once."""
        for wire in tuple(self._wires):
            if wire.protocol is None:
                wire.abort()
        await super().shutdown(sockets)


class _Joined(asyncio.Protocol):
    """Comes before a protocol of uvicorn's, and has its answers leave in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(JoiningTransport(transport) if isinstance(transport, Transport) else transport)


def _joined(base: Any) -> Any:  # Any: a class of uvicorn's, and more
    return type(base.__name__, (_Joined, base), {})
