"""The ssl-shaped context of a server that has to stop: its connections then close without waiting for the peers."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable
from typing import cast

from pellucid.config import ClientConfig, ConfigSource, ServerConfig
from pellucid.explain.recorder import Recorder
from pellucid.integrations.asgi import watched
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_object import SSLObject
from pellucid.trace import Observer

__all__ = ["StoppingContext"]


class StoppingContext(SSLContext):
    """Our context. Once the server is `stopping`, its connections say close_notify and do not wait for the peer's.

    A client that keeps a connection for later reads nothing until then, and asyncio would wait for half a minute.
    recorder: makes what records each connection, beside the observer that the configuration names; None: nothing does.
    """

    stopping = False
    counts = False
    """whether handshakes are counted: where a server has to know when the last of them is over"""

    def __init__(self, config: ServerConfig | ConfigSource, recorder: Callable[[], Recorder] | None = None) -> None:
        super().__init__(config)
        self._recorder = recorder
        self._begun: weakref.WeakSet[_Object] = weakref.WeakSet()

    def wrap_bio(  # type: ignore[override]  # as there, but for the servers' side alone
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *_: object, **__: object
    ) -> SSLObject:
        engine = self.new_engine(server_side=True, server_hostname=None)
        made = _Object._create(incoming, outgoing, engine=engine, server_side=True, server_hostname=None)
        if self.counts:
            self._begun.add(made)
        return made

    @property
    def shaking(self) -> int:
        """How many connections are in their handshakes."""
        self._begun = weakref.WeakSet(one for one in self._begun if one.is_shaking)
        return len(self._begun)

    def _observer(self, config: ClientConfig | ServerConfig) -> Observer | None:
        others = super()._observer(config)
        return others if self._recorder is None else watched(self._recorder(), others)


class _Object(SSLObject):
    @property
    def is_shaking(self) -> bool:
        engine = self._tls
        over = engine.error is not None or engine.peer_closed or engine.connection.closed
        return not over and not engine.connection.handshake_complete

    def unwrap(self) -> None:
        try:
            super().unwrap()
        except ssl.SSLWantReadError:
            if not cast(StoppingContext, self.context).stopping:
                raise
            self._tls.close()  # it may still have waited for the end of a handshake
            self._send()
