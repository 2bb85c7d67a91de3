"""Ports for programs that cannot say which one the system gave them, and ports at which nobody listens."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOWEST: Final = 20_000
_SHARES: Final = 16
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _below_ephemeral() -> int:
    """Return the first port that the system gives to who asks for port 0 (RFC 6056 §2.1), or a usual one."""
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 32_768


def _candidates() -> Iterator[int]:
    """Yield ports for ever: of this process of pytest's own share, from where other runs will hardly be."""
    end = max(_below_ephemeral(), _LOWEST + _SHARES * 64)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _SHARES
    share = range(_LOWEST + worker, end, _SHARES)
    first = os.getpid() * 61 % len(share)
    return itertools.cycle((*share[first:], *share[:first]))


_next: Final = _candidates()


def free_port() -> int:
    """Return a port at which nobody listens, on either loopback, and which nobody else in these tests will get.

    A port that bind() gave and that was closed again will not do: the system may give it to the next who asks for
    port 0, a server of another test, long before a program has started that is to listen there.
    """
    return next(port for port in _next if _is_free(port))


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno != errno.EADDRINUSE:
                continue  # this machine has no IPv6
            return False
    return True
