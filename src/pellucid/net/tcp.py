"""Connects and listens over TCP, with deadlines, and tells a trace what happened.

`Dialer` keeps the attempts of one connect for both the blocking and the async driver; `connect_tcp` is the
blocking one. No TLS here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pellucid.limits import CONNECT_TIMEOUT_SECONDS
from pellucid.net.eyeballs import (
    Address,
    ConnectFailed,
    FailedAttempt,
    NameNotResolved,
    Race,
    Resolve,
    addresses_of,
    connect_error,
    known_addresses,
    lookup_name,
)
from pellucid.net.kernel import save_syn, saved_syn, tcp_info
from pellucid.net.packets import Capture
from pellucid.trace import Observer, Role, TcpConnected, TcpConnectFailed, TcpConnecting, TcpInfo, TcpPacket

__all__ = [
    "Attempt",
    "Dialer",
    "bind_listener",
    "connect_tcp",
    "trace_accepted",
    "trace_connection",
    "trace_wrapped",
]

_IN_PROGRESS: Final = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", 0)}


@dataclass(slots=True, eq=False)
class Attempt:
    """One address being tried. *socket* does not block."""

    address: Address
    socket: socket.socket
    started: float
    capture: Capture | None = None
    unavailable: list[tuple[str, str]] = field(default_factory=list)


class Dialer:
    """The attempts of one connect: starts them, keeps account, tells the trace. Times are the caller's clock.

    Raises NameNotResolved if *host* cannot be a name.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        resolve: Resolve | None = None,
        local_address: tuple[str, int] | None = None,
        trace: Observer | None = None,
    ) -> None:
        self.host = host
        self.port = port
        known = known_addresses(host, port, resolve)
        self.name = b"" if known is not None else lookup_name(host)
        """what to ask the resolver for; b"" if it need not be asked"""
        self.race = Race(resolving=known is None)
        if known is not None:
            self.race.answered(known)
        self.running: set[Attempt] = set()
        self.failures: list[FailedAttempt] = []
        self.lookup_error: OSError | None = None
        self._local_address = local_address
        self._trace = trace
        self._count = 0

    def answered(self, answer: list[Address] | OSError) -> None:
        """Take what the resolver said."""
        if isinstance(answer, OSError):
            self.lookup_error = answer
            answer = []
        self.race.answered(answer)

    def begin(self, now: float) -> Attempt | None:
        """Start the next attempt; None if it failed on the spot, and then the next may follow at once."""
        address = self.race.start(now)
        self._count += 1
        if self._trace is not None:
            self._trace(TcpConnecting(host=self.host, address=address.host, port=address.port, attempt=self._count))
        try:
            attempt = self._open(address, now)
        except OSError as error:
            self._record(FailedAttempt(address, error, 0.0), now)
            return None
        code = attempt.socket.connect_ex(address.sockaddr)
        self.running.add(attempt)
        if code and code not in _IN_PROGRESS:
            self.failed(attempt, _os_error(code), now)
            return None
        return attempt

    def settle(self, attempt: Attempt, now: float) -> bool:
        """The attempt's socket became writable: return whether it is connected. If not, it is recorded and closed."""
        code = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            try:
                attempt.socket.getpeername()
            except OSError as error:
                code = error.errno or errno.ENOTCONN
        if code == 0:
            self.running.discard(attempt)
            return True
        self.failed(attempt, _os_error(code), now)
        return False

    def failed(self, attempt: Attempt, error: OSError, now: float) -> None:
        self.running.discard(attempt)
        _discard(attempt)
        self._record(FailedAttempt(attempt.address, error, now - attempt.started), now)

    @property
    def hopeless(self) -> bool:
        """Whether nothing runs, nothing can be started and nothing more can be found."""
        return self.race.exhausted and not self.running

    def error(self, now: float, timeout: float | None = None) -> ConnectFailed:
        """Return the error of the whole connect. timeout: the seconds that ran out, if they did."""
        unfinished = [
            FailedAttempt(attempt.address, _os_error(errno.ETIMEDOUT), now - attempt.started)
            for attempt in sorted(self.running, key=lambda attempt: attempt.started)
        ]
        for failure in unfinished:
            self._record(failure, now)
        return connect_error(self.host, self.port, self.failures, self.lookup_error, timeout=timeout)

    def close(self) -> None:
        """Close the attempts that did not win."""
        while self.running:
            _discard(self.running.pop())

    def _open(self, address: Address, now: float) -> Attempt:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._local_address is not None:
                sock.bind(self._local_address)
        except OSError:
            sock.close()
            raise
        attempt = Attempt(address, sock, now)
        if self._trace is not None:
            capture = Capture.open(address)
            if isinstance(capture, str):
                attempt.unavailable.append(("packets", capture))
            else:
                attempt.capture = capture
        return attempt

    def _record(self, failure: FailedAttempt, now: float) -> None:
        self.failures.append(failure)
        self.race.failed(now)
        if self._trace is not None:
            address = failure.address
            self._trace(
                TcpConnectFailed(
                    address=address.host, port=address.port, reason=failure.reason, seconds=failure.seconds
                )
            )


def connect_tcp(
    host: str,
    port: int,
    *,
    timeout: float | None = CONNECT_TIMEOUT_SECONDS,
    local_address: tuple[str, int] | None = None,
    resolve: Resolve | None = None,
    trace: Observer | None = None,
) -> socket.socket:
    """Return a connected, blocking socket with TCP_NODELAY: the first address to answer wins (RFC 8305).

    timeout:       seconds for everything, name resolution included; None: no end.
    local_address: (address, port) to connect from; port 0 for any.
    resolve:       host → address(es) that the resolver is not asked for.
    raises:        ConnectFailed with every attempt's reason: ConnectRefused, ConnectTimedOut or NameNotResolved
                   where that is all there is to say. They are ConnectionRefusedError, TimeoutError and socket.gaierror.
    """
    started = time.monotonic()
    dialer = Dialer(host, port, resolve=resolve, local_address=local_address, trace=trace)
    with _Resolver() as resolver, selectors.DefaultSelector() as selector, contextlib.closing(dialer):
        selector.register(resolver, selectors.EVENT_READ)
        if dialer.name:
            resolver.ask(dialer.name, port)
        winner = _race(dialer, resolver, selector, None if timeout is None else started + timeout)
        if winner is None:
            raise dialer.error(time.monotonic(), timeout if not dialer.hopeless else None)
    try:
        winner.socket.setblocking(True)
        if trace is not None:
            if winner.capture is not None:
                winner.capture.wait(winner.socket.getsockname()[1])
            trace_connection(winner, trace, time.monotonic() - started)
    except BaseException:
        winner.socket.close()
        raise
    finally:
        if winner.capture is not None:
            winner.capture.close()
    return winner.socket


def _race(
    dialer: Dialer, resolver: _Resolver, selector: selectors.BaseSelector, deadline: float | None
) -> Attempt | None:
    """Run the race; None if it is lost, or not decided by *deadline*."""
    while not dialer.hopeless:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return None
        start = dialer.race.next_start()
        if start is not None and start <= now:
            attempt = dialer.begin(now)
            if attempt is not None:
                selector.register(attempt.socket, selectors.EVENT_WRITE, attempt)
            continue
        ends = [moment for moment in (start, deadline) if moment is not None]
        for key, _events in selector.select(max(0.0, min(ends) - now) if ends else None):
            now = time.monotonic()
            if key.data is None:
                for answer in resolver.answers():
                    dialer.answered(answer)
                continue
            selector.unregister(key.fileobj)
            if dialer.settle(key.data, now):
                return key.data  # type: ignore[no-any-return]
    return None


class _Resolver:
    """getaddrinfo in a daemon thread: it cannot be interrupted, but need not be waited for."""

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)

    def __enter__(self) -> _Resolver:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._there.close()

    def fileno(self) -> int:
        return self._here.fileno()

    def ask(self, name: bytes, port: int) -> None:
        threading.Thread(target=self._look_up, args=(name, port), name="pellucid-resolve", daemon=True).start()

    def answers(self) -> Iterator[list[Address] | OSError]:
        with contextlib.suppress(BlockingIOError):
            self._here.recv(16)
        while not self._answers.empty():
            yield self._answers.get()

    def _look_up(self, name: bytes, port: int) -> None:
        self._answers.put(look_up(name, port))
        with contextlib.suppress(OSError):  # nobody waits any more
            self._there.send(b"\0")


def look_up(name: bytes, port: int) -> list[Address] | OSError:
    """Return the addresses of both families, or the error. Blocks as long as the resolver likes."""
    try:
        return addresses_of(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    except OSError as error:
        return error
    except UnicodeError as error:
        return NameNotResolved(socket.EAI_NONAME, str(error))


def bind_listener(
    host: str | None, port: int, *, backlog: int, keep_syn: bool
) -> tuple[socket.socket, tuple[tuple[str, str], ...]]:
    """Return a listening socket, and what the kernel will not tell of those it accepts.

    host:     address or name, whose first address is taken; None or "": all addresses, of both families if possible.
    keep_syn: have the kernel keep each client's SYN.
    """
    address = _passive_address(host, port)
    # The protocol by its number: asyncio sets TCP_NODELAY on what such a socket accepts, and on no other.
    sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # On Windows the option means something else: that others may take the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not host else 1)
        unavailable = save_syn(sock) if keep_syn else None
        sock.bind(address.sockaddr)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock, () if unavailable is None else (("client SYN", unavailable),)


def _passive_address(host: str | None, port: int) -> Address:
    if not host:
        return (
            Address(socket.AF_INET6, ("::", port, 0, 0))
            if socket.has_dualstack_ipv6()
            else Address(
                socket.AF_INET,
                ("0.0.0.0", port),  # noqa: S104
            )
        )
    known = known_addresses(host, port, None)
    if known is None:
        answer = socket.getaddrinfo(lookup_name(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        known = tuple(addresses_of(answer))
    if not known:
        raise NameNotResolved(socket.EAI_NONAME, f"cannot resolve {host}: it has no address")
    return known[0]


def trace_connection(winner: Attempt, trace: Observer, seconds: float) -> None:
    """Tell *trace* of a connection made: its packets if they were seen, then TcpConnected."""
    unavailable = list(winner.unavailable)
    packets: tuple[TcpPacket, ...] = ()
    if winner.capture is not None:
        packets = winner.capture.events()
        if len(packets) < 3:
            unavailable.append(("packets", f"{len(packets)} of 3 were seen within 100 ms"))
    for packet in packets:
        trace(packet)
    _trace_connected(winner.socket, trace, Role.CLIENT, seconds, unavailable)


def trace_accepted(sock: socket.socket, trace: Observer, unavailable: tuple[tuple[str, str], ...] = ()) -> None:
    """Tell *trace* of a connection accepted: the client's SYN if the kernel kept it, then TcpConnected."""
    missing = list(unavailable)
    if not missing:
        syn = saved_syn(sock)
        if isinstance(syn, str):
            missing.append(("client SYN", syn))
        else:
            trace(syn)
    _trace_connected(sock, trace, Role.SERVER, None, missing)


def trace_wrapped(sock: socket.socket, trace: Observer, role: Role) -> None:
    """Tell *trace* of a connection that somebody else made, and how it is seen from here."""
    _trace_connected(sock, trace, role, None, [])


def _trace_connected(
    sock: socket.socket, trace: Observer, role: Role, seconds: float | None, unavailable: list[tuple[str, str]]
) -> None:
    info = tcp_info(sock)
    if isinstance(info, str):
        unavailable.append(("TCP_INFO", info))
    local, peer = _name(sock.getsockname), _name(sock.getpeername)
    trace(
        TcpConnected(
            role=role,
            local_address=local[0],
            local_port=local[1],
            peer_address=peer[0],
            peer_port=peer[1],
            seconds=seconds,
            info=info if isinstance(info, TcpInfo) else None,
            unavailable=tuple(unavailable),
        )
    )


def _name(read: object) -> tuple[str, int]:
    """Return (address, port); ("", 0) if the connection is gone already, or is no TCP connection."""
    try:
        name = read() if callable(read) else ()
    except OSError:
        name = ()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else ("", 0)


def _discard(attempt: Attempt) -> None:
    attempt.socket.close()
    if attempt.capture is not None:
        attempt.capture.close()


def _os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
