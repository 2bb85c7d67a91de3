"""Fetching issuers' certificates over HTTP from where certificates say they are (RFC 5280 §4.2.2.1), within limits.

The address comes out of a certificate that nobody has vouched for yet, so whoever shows one chooses where this program
connects to. Hence: http alone, port 80, public addresses only, which are checked after the name was resolved and are
the ones connected to; few fetches, few bytes, little time. Nothing that comes back is trusted.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from pellucid.errors import UsageError
from pellucid.limits import (
    ISSUER_CACHE,
    ISSUER_CACHE_SECONDS,
    ISSUER_FETCH_SECONDS,
    ISSUER_FETCHES,
    ISSUER_REDIRECTS,
    MAX_ISSUER_REPLY,
)
from pellucid.net.eyeballs import Address, lookup_name
from pellucid.net.tcp import look_up
from pellucid.verify.names import shown
from pellucid.verify.supplied import certificates_in_reply

__all__ = ["FetchLimits", "IssuerFetcher", "NotFetched", "is_public"]

_MAX_URL: Final = 1024
_MAX_HEAD: Final = 16_384
_MAX_ADDRESSES: Final = 4
_FAILED_SECONDS: Final = 60.0  # how long a failure is remembered
_PRINTABLE: Final = re.compile(r"[!-~]+")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r?\n)")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TUNNELS: Final = tuple(map(ipaddress.IPv6Network, ("2001::/32", "64:ff9b:1::/48", "fec0::/10", "::/96")))

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotFetched(Exception):
    """No certificate came of it; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one verification may cost, and where it may lead.

    fetches:   certificates fetched one after the other: a path may lack several.
    max_bytes: of one reply.   seconds: for all fetches of one verification together.
    redirects: followed for one fetch; each is checked like the first address.
    ports:     that may be connected to; None: all.
    allow_private_addresses: connect to loopback, to private and to other addresses that are not of the internet, too. A
               peer can then have this program ask any host in its network.
    cache_size, cache_seconds: how many addresses' certificates are kept, and for how long.
    """

    fetches: int = ISSUER_FETCHES
    max_bytes: int = MAX_ISSUER_REPLY
    seconds: float = ISSUER_FETCH_SECONDS
    redirects: int = ISSUER_REDIRECTS
    ports: frozenset[int] | None = frozenset({80})
    allow_private_addresses: bool = False
    cache_size: int = ISSUER_CACHE
    cache_seconds: float = ISSUER_CACHE_SECONDS

    def __post_init__(self) -> None:
        numbers = (self.fetches, self.max_bytes, self.seconds, self.redirects, self.cache_size, self.cache_seconds)
        if not all(number >= 0 for number in numbers):
            raise UsageError("the limits of fetching are not negative")


class IssuerFetcher:
    """Fetches certificates, and keeps them for a while; made once and shared by verifiers and threads.

    resolve: host name and port → addresses or the error; default: the system's resolver.
    """

    def __init__(
        self,
        limits: FetchLimits = FetchLimits(),  # a frozen value
        *,
        resolve: Callable[[bytes, int], list[Address] | OSError] = look_up,
    ) -> None:
        self.limits = limits
        self._resolve = resolve
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, tuple[bytes, ...] | str]] = OrderedDict()

    def fetch(self, url: str, deadline: float) -> tuple[bytes, ...]:
        """Return the certificates, DER, at *url*; blocks until *deadline*, of time.monotonic, at the longest.

        Raises NotFetched.
        """
        kept = self._kept_of(url)
        if kept is None:
            _left(deadline)  # a fetch that was not begun has not failed
            try:
                kept = self._ask(url, deadline)
            except (NotFetched, OSError, ValueError) as error:
                kept = shown(str(error) or type(error).__name__)
            self._keep(url, kept)
        if isinstance(kept, str):
            raise NotFetched(kept)
        return kept

    def _kept_of(self, url: str) -> tuple[bytes, ...] | str | None:
        with self._lock:
            until, found = self._kept.get(url, (0.0, None))
            if found is None or until < time.monotonic():
                return None
            self._kept.move_to_end(url)
            return found

    def _keep(self, url: str, found: tuple[bytes, ...] | str) -> None:
        if len(url) > _MAX_URL:
            return
        seconds = self.limits.cache_seconds
        until = time.monotonic() + (min(seconds, _FAILED_SECONDS) if isinstance(found, str) else seconds)
        with self._lock:
            self._kept[url] = (until, found)
            self._kept.move_to_end(url)
            while len(self._kept) > self.limits.cache_size:
                self._kept.popitem(last=False)

    def _ask(self, url: str, deadline: float) -> tuple[bytes, ...]:
        for _ in range(self.limits.redirects + 1):
            where = _checked_url(url, self.limits.ports)
            status, location, body = self._get(where, deadline)
            if status == 200:
                return certificates_in_reply(body)
            if status not in _REDIRECTS or not location:
                raise NotFetched(f"the server answers with the status {status}")
            url = urljoin(url, location)
        raise NotFetched(f"more than {self.limits.redirects} redirects")

    def _get(self, where: SplitResult, deadline: float) -> tuple[int, str, bytes]:
        refused: OSError | None = None
        for address in self._addresses(where, deadline)[:_MAX_ADDRESSES]:
            with socket.socket(address.family, socket.SOCK_STREAM) as sock:
                try:
                    sock.settimeout(_left(deadline))
                    sock.connect(address.sockaddr)
                except OSError as error:
                    refused = error
                    continue
                return _exchange(sock, where, deadline, self.limits.max_bytes)
        raise refused or NotFetched("the name has no address")

    def _addresses(self, where: SplitResult, deadline: float) -> list[Address]:
        """Return what may be connected to: the very addresses, so that nothing is resolved again in between."""
        answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
        name, port = lookup_name(where.hostname or ""), where.port or 80

        def look() -> None:
            answers.put(self._resolve(name, port))

        threading.Thread(target=look, name="pellucid-issuer-name", daemon=True).start()
        try:
            found = answers.get(timeout=_left(deadline))
        except queue.Empty:
            raise NotFetched("the time is over while the name is resolved") from None
        if isinstance(found, OSError):
            raise NotFetched(f"the name cannot be resolved: {found}")
        if not self.limits.allow_private_addresses:
            inside = [str(one.sockaddr[0]) for one in found if not is_public(str(one.sockaddr[0]))]
            if inside:  # all of it: a name that has one such address is none that a public CA uses
                raise NotFetched(f"{inside[0]} is not an address of the internet")
        return found


def is_public(text: str) -> bool:
    """Return whether *text* is an address of the public internet, and leads to no other (RFC 6890, 6052, 3056)."""
    try:
        address: IPAddress = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if any(address in network for network in _TUNNELS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _checked_url(url: str, ports: frozenset[int] | None) -> SplitResult:
    if len(url) > _MAX_URL or not _PRINTABLE.fullmatch(url):
        raise NotFetched("the address is too long, or has characters that addresses have not")
    try:
        where = urlsplit(url)
        port = where.port or 80
    except ValueError as error:
        raise NotFetched(f"it is no address: {error}") from error
    if where.scheme.lower() != "http":
        raise NotFetched(f"only http is fetched, not {where.scheme or 'nothing'}")
    if "@" in where.netloc or not where.hostname:
        raise NotFetched("the address has no host, or names a user")
    if ports is not None and port not in ports:
        raise NotFetched(f"the port {port} is not among those that are connected to")
    return where


def _exchange(sock: socket.socket, where: SplitResult, deadline: float, most: int) -> tuple[int, str, bytes]:
    """Ask for what is at *where*; return status, Location and body. HTTP/1.0, so that the reply is not chunked."""
    target = f"{where.path or '/'}{'?' + where.query if where.query else ''}"
    head = f"GET {target} HTTP/1.0\r\nHost: {where.netloc}\r\nUser-Agent: pellucid\r\nConnection: close\r\n\r\n"
    sock.settimeout(_left(deadline))
    sock.sendall(head.encode("ascii"))
    data = b""
    while (end := _head_end(data)) is None:
        if len(data) > _MAX_HEAD:
            raise NotFetched(f"the reply's head has more than {_MAX_HEAD} bytes")
        piece = _receive(sock, deadline)
        if not piece:
            raise NotFetched("the reply ends in its head")
        data += piece
    status, fields = _head(data[:end])
    body, length = data[end:], _length(fields)
    if "transfer-encoding" in fields:
        raise NotFetched("the reply is in a transfer encoding that was not asked for")
    while status == 200 and len(body) <= most and (length is None or len(body) < length):
        piece = _receive(sock, deadline)
        if not piece:
            break
        body += piece
    if length is not None:
        if status == 200 and len(body) < length <= most:
            raise NotFetched("the reply ends too early")
        body = body[:length]
    if len(body) > most or (length or 0) > most:
        raise NotFetched(f"the reply has more than {most} bytes")
    return status, fields.get("location", ""), body


def _head_end(data: bytes) -> int | None:
    at = data.find(b"\r\n\r\n")
    return None if at < 0 else at + 4


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    status = _STATUS.match(data)
    if status is None:
        raise NotFetched("the reply is no HTTP")
    fields: dict[str, str] = {}
    for line in data.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return int(status[1]), fields


def _length(fields: dict[str, str]) -> int | None:
    text = fields.get("content-length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise NotFetched("the reply's Content-Length is no number")
    return int(text)


def _receive(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(_left(deadline))
    return sock.recv(16_384)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotFetched("the time is over")
    return left
