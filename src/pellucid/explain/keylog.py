"""The key log file (RFC 9850): one line a secret, for Wireshark and its kin. Whoever reads it reads the connection."""

from __future__ import annotations

import os

from pellucid.messages.handshake import ClientHello
from pellucid.trace import MessageTraced, Secret, SecretDerived, TraceEvent

__all__ = ["LABELS", "KeyLogWriter", "key_log_line"]

LABELS = frozenset(
    {
        "CLIENT_EARLY_TRAFFIC_SECRET",
        "EARLY_EXPORTER_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    }
)
"""RFC 9850 §2.1. Secrets after a KeyUpdate have none: readers derive them."""


def key_log_line(label: str, client_random: bytes, secret: Secret) -> str:
    """Return the line of one secret, with its newline. client_random: the first ClientHello's, 32 bytes."""
    return f"{label} {client_random.hex()} {secret.reveal().hex()}\n"


class KeyLogWriter:
    """The observer of one connection that appends its secrets to the file at *path* as they are derived.

    The file is made readable to its owner alone, and is opened anew for each secret, so that any number of writers,
    threads and processes may share it: an append of one line is not torn.

    Raises OSError at once if it cannot be written. Later it does not, for no connection should break because of a full
    disk: `problem` then has what went wrong, and nothing more of this connection is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.problem: OSError | None = None
        self._path = os.fspath(path)
        self._client_random: bytes | None = None
        os.close(self._open())

    def __call__(self, event: TraceEvent) -> None:
        if isinstance(event, MessageTraced):
            if self._client_random is None and isinstance(event.body, ClientHello):
                self._client_random = event.body.random
        elif isinstance(event, SecretDerived) and event.keylog and self._client_random is not None:
            self._append(key_log_line(event.keylog, self._client_random, event.secret))

    def _append(self, line: str) -> None:
        if self.problem is not None:
            return
        try:
            descriptor = self._open()
            try:
                os.write(descriptor, line.encode("ascii"))
            finally:
                os.close(descriptor)
        except OSError as error:
            self.problem = error

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        return os.open(self._path, flags, 0o600)
