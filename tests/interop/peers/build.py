"""Programs that have to be compiled: once for all, under a lock, into a cache that git ignores."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tests.interop.peers.own import CACHE
from tests.interop.process import PeerFailed

_BUILD_SECONDS: Final = 300.0


def built(name: str, compiler: str, sources: Iterable[Path], command: Callable[[Path], list[str]]) -> Path:
    """Return where *name* was built to; build it unless these *sources* were, by this *compiler* (its version).

    command: the directory to build into → the command. Raises PeerFailed with the compiler's output.
    """
    digest = hashlib.sha256(compiler.encode())
    for source in sources:
        digest.update(source.read_bytes())
    directory = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "built").exists():
            directory.mkdir(exist_ok=True)
            done = subprocess.run(
                command(directory), capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
            )
            if done.returncode != 0:
                raise PeerFailed(f"{name} cannot be built:\n{done.stdout}{done.stderr}")
            (directory / "built").touch()
    return directory
