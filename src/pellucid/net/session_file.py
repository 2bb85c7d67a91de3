"""A client's sessions in a file, so that the next process resumes where this one was."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import MAX_SESSION_FILE, MAX_SESSION_SERVERS, MAX_SESSIONS_PER_SERVER
from pellucid.sessions import stored
from pellucid.sessions.client import ClientSession, MemorySessionStore, SessionKey
from pellucid.sessions.shared import Shared
from pellucid.wire import WireStruct, fixed, opaque, u8, u16, vector, wire, wire_struct

try:
    import fcntl
except ImportError:
    _LOCKS = False  # Windows: two processes there may use one ticket
else:
    _LOCKS = True

_MAGIC: Final = b"pellucid sessions\n"
_VERSION: Final = 1
_LOCK_SECONDS: Final = 2.0  # that another process holds the file for no longer than; it takes milliseconds
_POLL_SECONDS: Final = 0.005
_OPEN: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

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
        try:
            with self._mutex, self._locked() as data:
                self._read(data)
        except UsageError:
            raise
        except OSError as error:
            raise UsageError(f"{self.path}: {_reason(error)}") from error

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
            with self._mutex, self._locked() as data:
                kept = self._read(data)
                before = self._encode(kept)
                result = change(kept)
                after = self._encode(kept)
                if after != before:
                    self._write(after)
                return result
        except OSError as error:  # UsageError among them: the file became one that is refused
            self.problem = error.reason if isinstance(error, UsageError) else f"{self.path}: {_reason(error)}"
            return otherwise

    # ---- the file ----

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bytes]:
        """Give what the file holds, while no other process changes it. Raises OSError, UsageError for one to refuse."""
        deadline = time.monotonic() + _LOCK_SECONDS
        descriptor = self._open(deadline)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_SESSION_FILE + 1)
            if not _LOCKS:
                os.close(descriptor)  # Windows does not replace a file that is open.
                descriptor = -1
            yield data
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self, deadline: float) -> int:
        """Return the file's descriptor, locked. Whoever had the lock may have put a new file in the place of this."""
        while True:
            descriptor = os.open(self.path, _OPEN, 0o600)
            try:
                self._refuse_others(os.fstat(descriptor))
                if not _LOCKS or (_lock(descriptor, deadline) and self._is_in_place(descriptor)):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise TimeoutError("another process keeps it locked")

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _refuse_others(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self.path}: not a file")
        if os.name == "nt":
            return
        if status.st_uid != os.geteuid():
            raise UsageError(f"{self.path}: it belongs to another user")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise UsageError(
                f"{self.path}: others may open it (mode {mode:04o}); sessions are kept in one of mode 0600"
            )

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

    def _write(self, data: bytes) -> None:
        """Put a new file in the place of the old one: a reader sees one or the other, whatever happens."""
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise


def _reason(error: OSError) -> str:
    return "a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror or str(error)


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


def _lock(descriptor: int, deadline: float) -> bool:
    """Lock it, waiting until *deadline*; return whether that was done. The lock ends when the descriptor is closed."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


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
