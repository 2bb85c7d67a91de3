"""Loopback only: servers that bind every interface get a network namespace of their own, and the check that none does.

The server runs in a namespace whose one interface is its loopback. The listening socket that our side connects to is
made here, on 127.0.0.1, and handed to a small program in there, which passes on what comes.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.interop.process import Program, running

PORT: Final = 4433
_PROGRAM: Final = Path(__file__).resolve().parent / "programs" / "python" / "confined.py"
_LISTEN: Final = "0A"


@functools.cache
def missing() -> str | None:
    """Return why servers cannot be confined here, None if they can."""
    if sys.platform != "linux" or not all(shutil.which(name) for name in ("unshare", "setpriv")):
        return "there are no network namespaces (Linux, unshare and setpriv of util-linux)"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, timeout=10.0, check=False)
    return f"no network namespace can be made: {tried.stderr.strip()}" if tried.returncode else None


@contextlib.contextmanager
def confined(command: Sequence[str | Path], *, cwd: Path) -> Iterator[tuple[Program, int]]:
    """Run *command*, which must listen on PORT, in a namespace of its own; yield it and our port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = int(listener.getsockname()[1])
        number = listener.fileno()
        inner = [sys.executable, "-I", "-S", _PROGRAM, str(number), str(PORT), *command]
        with running([*_unshare(), *inner], cwd=cwd, pass_fds=[number]) as program:
            listener.close()
            yield program, port


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


# ---- who listens where ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening TCP socket that a process or a descendant of it holds open."""

    pid: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    def is_loopback(self) -> bool:
        mapped = self.address.ipv4_mapped if isinstance(self.address, ipaddress.IPv6Address) else None
        return (mapped or self.address).is_loopback


def reachable_sockets(pid: int) -> list[Listening]:
    """Return where *pid* and its descendants listen, but for sockets in a namespace with nothing but loopback."""
    found = []
    for process in _family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            inodes = _socket_inodes(process)
            tables = {"self"} if _interfaces(process) == {"lo"} else {"self", str(process)}
            listening = {entry: where for table in sorted(tables) for entry, where in _table(table).items()}
            found += [Listening(process, *listening[inode]) for inode in sorted(inodes & listening.keys())]
    return found


def _family(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The name, in parentheses, may hold anything; after it come the state and the parent.
            state, parent, *_ = (directory / "stat").read_text().rpartition(")")[2].split()
            if state not in "ZX":  # has ended, and may not be asked any more
                parents[int(directory.name)] = int(parent)
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _interfaces(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return inodes


def _table(
    process: str,
) -> dict[str, tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    """Return inode → address and port of the sockets that listen in the namespace of *process*."""
    found = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # no IPv6
            for line in Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    address, _, port = fields[1].rpartition(":")
                    found[fields[9]] = (_address(address), int(port, 16))
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that the kernel prints as words of four bytes in its own byte order."""
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return ipaddress.ip_address(b"".join(words))
