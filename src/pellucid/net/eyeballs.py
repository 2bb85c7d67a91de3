"""Which address to try next, and when: Happy Eyeballs v2 (RFC 8305) without sockets, clocks or threads.

`Race` is told what happened and the time, and answers what may start when. Both the blocking and the async
connect run on it. Here too: what went wrong, told as one error that lists every attempt.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import idna

from pellucid.errors import Circumstances, Explained
from pellucid.limits import CONNECTION_ATTEMPT_DELAY_SECONDS

__all__ = [
    "Address",
    "ConnectFailed",
    "ConnectRefused",
    "ConnectTimedOut",
    "FailedAttempt",
    "NameNotResolved",
    "Race",
    "Resolve",
    "addresses_of",
    "connect_error",
    "known_addresses",
    "lookup_name",
]

Resolve = Mapping[str, str | Sequence[str]]
"""Host name → address or addresses to use instead of asking the resolver."""

MAX_ADDRESSES: Final = 32  # a longer answer is not searched further


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: an address family and what `socket.connect` takes for it."""

    family: int
    sockaddr: tuple[str | int, ...]

    @property
    def host(self) -> str:
        return str(self.sockaddr[0])

    @property
    def port(self) -> int:
        return int(self.sockaddr[1])

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.family == socket.AF_INET6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One address that did not answer as hoped, why, and after how many seconds."""

    address: Address
    error: OSError
    seconds: float

    @property
    def reason(self) -> str:
        return self.error.strerror or str(self.error) or type(self.error).__name__


class ConnectFailed(Explained, OSError):
    """No address of the host could be connected to. attempts: what was tried, in order; may be empty."""

    code = "TCP-UNREACHABLE"

    def __init__(self, code: int, message: str, attempts: Sequence[FailedAttempt] = ()) -> None:
        super().__init__(code, message)
        self.attempts = tuple(attempts)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.attempts)


class ConnectRefused(ConnectFailed, ConnectionRefusedError):
    """Every address refused."""

    code = "TCP-REFUSED"


class ConnectTimedOut(ConnectFailed, TimeoutError):
    """The time was up, or every address let its own run out."""

    code = "TCP-TIMEOUT"


class NameNotResolved(ConnectFailed, socket.gaierror):
    """The host has no address that the resolver knows of."""

    code = "DNS-NOT-FOUND"


def connect_error(
    host: str, port: int, attempts: Sequence[FailedAttempt], lookup: OSError | None, *, timeout: float | None
) -> ConnectFailed:
    """Return the one error for a connect that came to nothing.

    lookup:  what the resolver answered if it failed.   timeout: the seconds that ran out, None if they did not.
    """
    tried = "; ".join(f"{attempt.address}: {attempt.reason}" for attempt in attempts)
    where = f"cannot connect to {host} port {port}"
    if timeout is not None:
        during = tried or "its name was still being resolved"
        late = ConnectTimedOut(errno.ETIMEDOUT, f"{where}: nobody answered within {timeout:g} s ({during})", attempts)
        if not tried:
            late.code = "DNS-TIMEOUT"
        return _about(late, host, port, timeout)
    if not attempts:
        reason = "it has no address" if lookup is None else lookup.strerror
        code = None if lookup is None else lookup.errno
        unknown = NameNotResolved(socket.EAI_NONAME if code is None else code, f"cannot resolve {host}: {reason}")
        return _about(unknown, host, port)
    codes = {attempt.error.errno for attempt in attempts}
    code = attempts[-1].error.errno or errno.EHOSTUNREACH
    kind = ConnectFailed
    if codes == {errno.ECONNREFUSED}:
        kind = ConnectRefused
    elif codes == {errno.ETIMEDOUT}:
        kind = ConnectTimedOut
    failed = kind(code, f"{where}: {tried}", attempts)
    if kind is ConnectFailed and errno.ECONNREFUSED in codes:
        failed.code = "TCP-REFUSED"  # somebody was there to refuse: the other addresses are the lesser news
    return _about(failed, host, port)


def _about(error: ConnectFailed, host: str, port: int, seconds: float | None = None) -> ConnectFailed:
    error.circumstances = Circumstances(role="client", server_name=host, port=port, seconds=seconds)
    return error


def lookup_name(host: str) -> bytes:
    """Return *host* as the resolver wants it: ASCII, A-labels (RFC 5891).

    Raises NameNotResolved for what cannot be a host name.
    """
    try:
        name = host.encode("ascii") if host.isascii() else idna.encode(host, uts46=True)
    except UnicodeError as error:  # idna.IDNAError is one
        raise NameNotResolved(socket.EAI_NONAME, f"cannot resolve {host!r}: {error}") from None
    if not name or b"\0" in name or len(name) > 255:
        raise NameNotResolved(socket.EAI_NONAME, f"cannot resolve {host!r}: not a host name")
    return name


def known_addresses(host: str, port: int, resolve: Resolve | None) -> tuple[Address, ...] | None:
    """Return the addresses that need no resolver: a literal, or what *resolve* says of *host*; None if there are none.

    Raises NameNotResolved if *resolve* names something that is not an address.
    """
    listed = None if resolve is None else resolve.get(host)
    if listed is not None:
        literals: Sequence[str] = (listed,) if isinstance(listed, str) else listed
    elif _is_literal(host):
        literals = (host,)
    else:
        return None
    found: list[Address] = []
    for literal in literals:
        try:
            found += addresses_of(
                socket.getaddrinfo(literal, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            )
        except (socket.gaierror, UnicodeError):
            raise NameNotResolved(
                socket.EAI_NONAME, f"cannot resolve {host}: {literal!r} is not an IP address"
            ) from None
    return tuple(found)


def addresses_of(answer: Iterable[tuple[object, ...]]) -> list[Address]:
    """Return the addresses in an answer of getaddrinfo, in its order (RFC 6724), each once, at most 32."""
    found: dict[Address, None] = {}
    for family, _kind, _protocol, _name, sockaddr in answer:
        if isinstance(family, int) and isinstance(sockaddr, tuple) and len(found) < MAX_ADDRESSES:
            found[Address(int(family), sockaddr)] = None
    return list(found)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Race:
    """The order and the pace of the attempts (RFC 8305 §4, §5). Times are seconds of any one clock.

    One question to the resolver asks for both families, so there is no waiting for the slower answer (§3); in return
    the hosts file is obeyed and the order is RFC 6724's.
    resolving: whether an answer of the resolver is still to come.
    """

    def __init__(self, *, resolving: bool = False) -> None:
        self._resolving = resolving
        self._waiting: dict[int, deque[Address]] = {}
        """by family, the one of the first address first"""
        self._last_family: int | None = None
        self._not_before = 0.0

    def answered(self, addresses: Iterable[Address]) -> None:
        """Take the addresses, the preferred one first; none says that there are none."""
        self._resolving = False
        for address in addresses:
            self._waiting.setdefault(address.family, deque()).append(address)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to start and nothing more can be found."""
        return not self._resolving and not any(self._waiting.values())

    def next_start(self) -> float | None:
        """Return when the next attempt may start; None while there is no address to try."""
        return self._not_before if any(self._waiting.values()) else None

    def start(self, now: float) -> Address:
        """Return the address to try now. Families take turns (§4); the next attempt may start 250 ms later (§5)."""
        ready = [family for family, addresses in self._waiting.items() if addresses]
        family = next((other for other in ready if other != self._last_family), ready[0])
        self._last_family = family
        self._not_before = now + CONNECTION_ATTEMPT_DELAY_SECONDS
        return self._waiting[family].popleft()

    def failed(self, now: float) -> None:
        """An attempt failed: the next one need not wait for its turn."""
        self._not_before = min(self._not_before, now)
