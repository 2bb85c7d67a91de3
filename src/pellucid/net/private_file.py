"""A small file of the user's own that processes share: mode 0600, locked while it changes, replaced as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pellucid.errors import UsageError

try:
    import fcntl
except ImportError:
    _LOCKS = False  # Windows: two processes there may change it at one time
else:
    _LOCKS = True

__all__ = ["PrivateFile", "reason_of"]

_LOCK_SECONDS: Final = 2.0  # that another process holds the file for no longer than; it takes milliseconds
_POLL_SECONDS: Final = 0.005
_OPEN: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class PrivateFile:
    """The file at *path*, made when it is first opened; its directory exists.

    what:     what is kept in it, for people.   max_size: bytes of it that are read, and one more if there are more.
    """

    def __init__(self, path: Path, what: str, max_size: int) -> None:
        self.path = path
        self._what = what
        self._max_size = max_size

    @contextlib.contextmanager
    def locked(self) -> Iterator[bytes]:
        """Give what the file holds, while no other process changes it.

        Raises OSError, and UsageError for a file to refuse: a link, another user's, one that others may open.
        """
        deadline = time.monotonic() + _LOCK_SECONDS
        descriptor = self._open(deadline)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(self._max_size + 1)
            if not _LOCKS:
                os.close(descriptor)  # Windows does not replace a file that is open.
                descriptor = -1
            yield data
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def replace(self, data: bytes) -> None:
        """Put a new file in the place of the old one: a reader sees one or the other, whatever happens."""
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise

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
                f"{self.path}: others may open it (mode {mode:04o}); {self._what} are kept in one of mode 0600"
            )


def reason_of(error: OSError) -> str:
    """Return why a file could not be opened, in words."""
    return "a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror or str(error)


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
