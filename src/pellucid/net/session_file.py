"""A client's sessions in a file, so that the next process resumes where this one was."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import MAX_SESSION_FILE, MAX_SESSION_SERVERS, MAX_SESSIONS_PER_SERVER
from pellucid.net.private_file import PrivateFile, reason_of
from pellucid.sessions import stored
from pellucid.sessions.client import ClientSession, MemorySessionStore, SessionKey
from pellucid.sessions.shared import Shared
from pellucid.wire import WireStruct, fixed, opaque, u8, u16, vector, wire, wire_struct

_MAGIC: Final = b"pellucid sessions\n"
_VERSION: Final = 1

T = TypeVar("T")


class FileSessionStore(Shared):
    """A ClientSessionStore that survives the process. **The file holds secrets**: the keys of sessions to come.

    Who reads it can take the user's place wherever a session authenticated a client certificate, and can read what is
    sent as early data. It is made with mode 0600 and replaced as a whole; where the system has advisory locks, no two
    processes use one ticket. It has at most MAX_SESSION_FILE bytes, the sessions of the servers used last.

    A file of ours that is damaged, or of another version, counts as empty, and the next session replaces it. Once the
    store exists, nothing that happens to the file ends a connection: no session is taken or kept, and `problem` says
    why. Every call reads the file anew, and blocks for the time of reading and writing it.

    path:    its directory exists.
    problem: what went wrong last, in a line; None: nothing.
    raises:  UsageError, when made: if the file cannot be opened or made; if it is a symbolic link, or another user's,
             or open to others; and if it is there and was never ours, so that a slip of the pen destroys nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        per_server: int = MAX_SESSIONS_PER_SERVER,
        servers: int = MAX_SESSION_SERVERS,
    ) -> None:
        MemorySessionStore(per_server, servers)  # refuses what cannot be
        self.path = Path(path)
        self.problem: str | None = None
        self._per_server = per_server
        self._servers = servers
        self._mutex = threading.Lock()
        self._file = PrivateFile(self.path, "sessions", MAX_SESSION_FILE)
        try:
            with self._mutex, self._file.locked() as data:
                self._read(data)
        except UsageError:
            raise
        except OSError as error:
            raise UsageError(f"{self.path}: {reason_of(error)}") from error

    def put(self, key: SessionKey, session: ClientSession) -> None:
        self._change(lambda kept: kept.put(key, session), otherwise=None)

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        # Should the file not become shorter by the session, the session is not used: it might be used again.
        return self._change(lambda kept: kept.take(key, now), otherwise=None)

    def discard(self, key: SessionKey) -> None:
        self._change(lambda kept: kept.discard(key), otherwise=None)

    def __repr__(self) -> str:
        return f"FileSessionStore({str(self.path)!r})"

    def _change(self, change: Callable[[MemorySessionStore], T], otherwise: T) -> T:
        try:
            with self._mutex, self._file.locked() as data:
                kept = self._read(data)
                before = self._encode(kept)
                result = change(kept)
                after = self._encode(kept)
                if after != before:
                    self._file.replace(after)
                return result
        except OSError as error:  # UsageError among them: the file became one that is refused
            self.problem = error.reason if isinstance(error, UsageError) else f"{self.path}: {reason_of(error)}"
            return otherwise

    # ---- the file ----

    def _read(self, data: bytes) -> MemorySessionStore:
        kept = MemorySessionStore(self._per_server, self._servers)
        if not data:
            return kept
        if not data.startswith(_MAGIC):
            raise UsageError(f"{self.path}: not a file of sessions, and so not replaced by one")
        try:
            read = _sessions_in(data)
        except DecodeError as error:
            self.problem = f"{self.path}: {error.reason}; it counts as empty"
            return kept
        for key, session in read:
            kept.put(key, session)
        return kept

    def _encode(self, kept: MemorySessionStore) -> bytes:
        """Return the file of *kept*; of what would make it too large, the servers used longest ago are left out."""
        entries: list[_Entry] = []
        left = MAX_SESSION_FILE - len(_MAGIC) - 4
        for key, sessions in reversed(kept.items()):
            entry = _Entry(
                host=key.host.encode(),
                port=key.port,
                scope=key.scope,
                sessions=tuple(session.encode() for session in sessions),
            )
            left -= len(entry.encode())
            if left < 0:
                break
            entries.append(entry)
        return _MAGIC + _File(version=_VERSION, entries=tuple(reversed(entries))).encode()


def _sessions_in(data: bytes) -> list[tuple[SessionKey, ClientSession]]:
    """Return what a file of ours holds, in its order. Raises DecodeError."""
    if len(data) > MAX_SESSION_FILE:
        raise DecodeError(f"more than {MAX_SESSION_FILE} bytes")
    stored.require_version(data[len(_MAGIC) :], _VERSION, "sessions")
    found = []
    for entry in _File.decode(data[len(_MAGIC) :]).entries:
        try:
            key = SessionKey(host=entry.host.decode(), port=entry.port, scope=entry.scope)
        except (UsageError, UnicodeDecodeError):
            raise DecodeError("the name of a server is damaged") from None
        found += [(key, ClientSession.decode(session)) for session in entry.sessions]
    return found


@wire_struct
class _Entry(WireStruct):
    """sessions: the oldest first."""

    host: bytes = wire(opaque(0, 2**16 - 1))
    port: int = wire(u16)
    scope: bytes = wire(fixed(32))
    sessions: tuple[bytes, ...] = wire(vector(opaque(1, 2**24 - 1), 0, 2**24 - 1))

    def __repr__(self) -> str:
        return "_Entry(<hidden>)"


@wire_struct
class _File(WireStruct):
    """entries: the server used longest ago first."""

    version: int = wire(u8)
    entries: tuple[_Entry, ...] = wire(vector(_Entry.codec, 0, 2**24 - 1))

    def __repr__(self) -> str:
        return "_File(<hidden>)"
