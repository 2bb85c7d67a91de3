"""What `SSLContext.on_handshake` delivers: the record of a connection, once, when its handshake is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from pellucid.explain.recorder import Recorder
from pellucid.registry import AlertDescription
from pellucid.trace import AlertTraced, ClosedTraced, HandshakeCompleted, TraceEvent

__all__ = ["HandshakeCallback", "HandshakeWatch"]

HandshakeCallback = Callable[[Recorder], object]

_WARNINGS: Final = frozenset({AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED})
_log: Final = logging.getLogger("pellucid")


class HandshakeWatch:
    """The observer of one connection. Its recorder goes on recording after it was delivered."""

    def __init__(self, callbacks: tuple[HandshakeCallback, ...]) -> None:
        self.recorder = Recorder()
        self._callbacks = callbacks

    def __call__(self, event: TraceEvent) -> None:
        self.recorder(event)
        if self._callbacks and (
            isinstance(event, HandshakeCompleted | ClosedTraced)
            or (isinstance(event, AlertTraced) and event.description not in _WARNINGS)
        ):
            self.over()

    def precede(self, events: Iterable[TraceEvent]) -> None:
        self.recorder.precede(events)

    def over(self) -> None:
        """Deliver the record, if that has not been done. What a callback raises is logged: no connection breaks."""
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback(self.recorder)
            except Exception as error:  # noqa: BLE001  # the application's own
                _log.error("a callback of on_handshake failed", exc_info=error)
