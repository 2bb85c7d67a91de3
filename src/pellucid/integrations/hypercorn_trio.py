"""hypercorn's trio worker over Pellucid: what `integrations.hypercorn` does for asyncio.

hypercorn's connections are ours while `trio_connections()` runs; they read through a stream of ours, which gives early
data or other data and notes in the context which it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import hypercorn.trio.run
from hypercorn.trio.tcp_server import TCPServer

from pellucid.integrations.asgi import Early, Introduced, OwnConnection, recorder_of
from pellucid.integrations.trace_of import facts_of

__all__ = ["trio_connections"]

_blocks: Final[list[object]] = []
"""one for each block of `trio_connections` that runs"""


@contextlib.contextmanager
def trio_connections() -> Iterator[None]:
    """Have hypercorn's trio worker tell each application of its own connection while the block runs."""
    # hypercorn has no parameter for the class of its connections.
    module: Any = hypercorn.trio.run
    _blocks.append(module)
    module.TCPServer = _Server
    try:
        yield
    finally:
        _blocks.pop()
        if not _blocks:
            module.TCPServer = TCPServer


class _Server(TCPServer):
    """hypercorn's connection, which introduces itself to the application."""

    def __init__(self, app: Any, *arguments: Any) -> None:
        super().__init__(app, *arguments)
        stream: Any = self.stream
        tls = facts_of(stream)
        if tls is None:
            return
        own = OwnConnection(tls, recorder_of(tls.trace), retire=_nothing, flush=_nothing)
        application: Any = Introduced(app, own)
        self.app = application
        reading: Any = _Stream(stream, Early(tls))
        self.stream = reading


class _Stream:
    """What of trio.SSLStream hypercorn uses. It asks for send_eof too, and makes do without, as trio's has none."""

    def __init__(self, stream: Any, early: Early) -> None:
        self._stream = stream
        self._early = early
        self._rest = b""
        self.do_handshake = stream.do_handshake
        self.send_all = stream.send_all
        self.aclose = stream.aclose
        self.transport_stream = stream.transport_stream

    def selected_alpn_protocol(self) -> str | None:
        protocol: str | None = self._stream.selected_alpn_protocol()
        return protocol

    async def receive_some(self, size: int) -> bytes:
        """Return data that came early, or data that did not; the context of whoever awaits this says which."""
        data, self._rest = self._early.take(self._rest or bytes(await self._stream.receive_some(size)))
        return data


async def _nothing() -> None:
    """Trio's connections are told to go by the answer alone: a KeyUpdate goes out with the next one."""
