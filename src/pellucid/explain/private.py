"""Files with secrets in them: for their owner alone."""

from __future__ import annotations

import os
import stat
import sys

__all__ = ["open_private"]


def open_private(path: str, flags: int) -> int:
    """Open the file at *path* and return its descriptor; the mode is 0600, also of a file that is there already.

    A device or a pipe keeps its mode: /dev/null is everybody's. Raises OSError, as for a file of somebody else's.
    """
    descriptor = os.open(path, flags, 0o600)
    if sys.platform != "win32":
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor
