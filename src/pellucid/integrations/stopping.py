"""The ssl-shaped context of a server that has to stop: its connections then close without waiting for the peers."""

from __future__ import annotations

import ssl
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

    def __init__(self, config: ServerConfig | ConfigSource, recorder: Callable[[], Recorder] | None = None) -> None:
        super().__init__(config)
        self._recorder = recorder

    def wrap_bio(  # type: ignore[override]  # as there, but for the servers' side alone
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *_: object, **__: object
    ) -> SSLObject:
        engine = self.new_engine(server_side=True, server_hostname=None)
        return _Object._create(incoming, outgoing, engine=engine, server_side=True, server_hostname=None)

    def _observer(self, config: ClientConfig | ServerConfig) -> Observer | None:
        others = super()._observer(config)
        return others if self._recorder is None else watched(self._recorder(), others)


class _Object(SSLObject):
    def unwrap(self) -> None:
        try:
            super().unwrap()
        except ssl.SSLWantReadError:
            if not cast(StoppingContext, self.context).stopping:
                raise
            self._tls.close()  # it may still have waited for the end of a handshake
            self._send()
