"""Handshakes as lines of the standard library's logging, under `pellucid.handshake`. Nothing secret, nothing long.

A line is one line whatever the peer sends: its text is escaped and cut. Off until somebody asks for it.
"""

from __future__ import annotations

import logging
from typing import Final

from pellucid.integrations.handshakes import Handshake, HandshakeReporter
from pellucid.registry import alert_name, exchange_name, suite_name
from pellucid.trace import AlertTraced, Direction, Role, TraceEvent

__all__ = ["LOGGER", "HandshakeLog", "log_to"]

LOGGER: Final = "pellucid.handshake"
_QUIET: Final = frozenset({0, 90})  # close_notify, user_canceled

logging.getLogger(LOGGER).addHandler(logging.NullHandler())


class HandshakeLog(HandshakeReporter):
    """Logs each handshake, and each error alert after one.

    completed, failed: the levels. `record.pellucid` of each has the facts as a dictionary, for structured logs.
    """

    def __init__(self, logger: logging.Logger, *, completed: int = logging.INFO, failed: int = logging.WARNING) -> None:
        self._logger = logger
        self._completed = completed
        self._failed = failed

    def tell(self, handshake: Handshake) -> None:
        level = self._completed if handshake.completed else self._failed
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", _line(handshake), extra={"pellucid": _facts(handshake)})

    def later(self, role: Role, event: TraceEvent) -> None:
        if not isinstance(event, AlertTraced) or event.description in _QUIET:
            return
        if self._logger.isEnabledFor(self._failed):
            how = "sent" if event.direction is Direction.SENT else "received"
            name = alert_name(event.description)
            facts = {"role": role.value, "alert": name, "alert_sent": event.direction is Direction.SENT}
            self._logger.log(
                self._failed, "%s", f"{role.value}: {how} {name} after the handshake", extra={"pellucid": facts}
            )


def log_to(
    logger: logging.Logger | str = LOGGER, *, completed: int = logging.INFO, failed: int = logging.WARNING
) -> HandshakeLog:
    """Return what logs handshakes to *logger*: for a configuration's `trace`; for `SSLContext.on_handshake` what it has
    of that name.

    The levels are those of handshakes that were completed and of those that failed. Handlers are the application's.
    """
    found = logging.getLogger(logger) if isinstance(logger, str) else logger
    return HandshakeLog(found, completed=completed, failed=failed)


def _line(handshake: Handshake) -> str:
    who = f"{handshake.role.value} handshake" + (f" for {handshake.server_name}" if handshake.server_name else "")
    took = f"{handshake.seconds * 1000:.1f} ms"
    if handshake.completed and handshake.cipher_suite is not None:
        facts = [suite_name(handshake.cipher_suite), exchange_name(handshake.group)]
        facts += [handshake.alpn] if handshake.alpn else []
        facts += ["resumed"] if handshake.resumed else []
        facts += [f"early data: {handshake.early_data.value}"] if handshake.early_data is not None else []
        return f"{who} completed in {took}: {', '.join(facts)}"
    alert = ""
    if handshake.alert is not None:
        alert = f" ({'sent' if handshake.alert_sent else 'received'} {alert_name(handshake.alert)})"
    return f"{who} failed after {took}: {handshake.code}{alert}: {handshake.reason}"


def _facts(handshake: Handshake) -> dict[str, object]:
    suite, alert = handshake.cipher_suite, handshake.alert
    return {
        "role": handshake.role.value,
        "completed": handshake.completed,
        "seconds": handshake.seconds,
        "code": handshake.code,
        "reason": handshake.reason,
        "alert": None if alert is None else alert_name(alert),
        "alert_sent": handshake.alert_sent,
        "cipher_suite": None if suite is None else suite_name(suite),
        "group": exchange_name(handshake.group) if handshake.completed else None,
        "alpn": handshake.alpn,
        "server_name": handshake.server_name,
        "resumed": handshake.resumed,
        "early_data": None if handshake.early_data is None else handshake.early_data.value,
    }
