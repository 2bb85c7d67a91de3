"""Servers' keys in a file, for TrustOnFirstUse: a line each, for people to read, as those of ssh's known_hosts."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pellucid.errors import UsageError
from pellucid.net.private_file import PrivateFile, reason_of
from pellucid.verify.first_use import KnownPeer
from pellucid.verify.names import normalize_server_name, shown
from pellucid.verify.pins import parse_pin, pin_text

__all__ = ["FileKnownPeers"]

_MAX_FILE: Final = 2**20  # bytes; a line has about 100
_HEAD: Final = (
    "# Pellucid: keys of servers, as first seen. One a line: host, port (0: not known), pin, when.\n"
    "# Take a line out to meet that server anew.\n"
)


class FileKnownPeers:
    """KnownPeers that survive the process, in a text file of mode 0600 that several processes may share.

    A line is `host port sha256/… 2026-11-26T20:45:00Z`; those that begin with # are kept. Every call reads the file
    anew, and blocks for the time of reading and writing it. What is wrong with the file ends the handshake: who cannot
    read what is known believes nobody.

    path:   its directory exists; the file is made with the first key that is remembered, or by a look-up.
    raises: UsageError, when made and later: for a file that cannot be opened, that others may open, that has a line
            which is none of these, or two for one server, or more than 1 MiB.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = PrivateFile(self.path, "known keys", _MAX_FILE)
        self._mutex = threading.Lock()
        with self._opened() as text:
            self._parse(text)

    def lookup(self, host: str, port: int) -> KnownPeer | None:
        with self._opened() as text:
            return self._parse(text).get((host, port))

    def remember(self, peer: KnownPeer) -> KnownPeer:
        with self._opened() as text:
            known = self._parse(text).get((peer.host, peer.port))
            if known is None:
                parted = text if not text or text.endswith("\n") else text + "\n"
                self._replace((parted or _HEAD) + _line(peer))
            return known or peer

    def forget(self, host: str, port: int) -> bool:
        host = normalize_server_name(host)
        with self._opened() as text:
            if (host, port) not in self._parse(text):
                return False
            lines = text.splitlines(keepends=True)
            self._replace("".join(line for line in lines if _is_note(line) or _peer(line)[:2] != (host, port)))
            return True

    def peers(self) -> tuple[KnownPeer, ...]:
        """Return all that are known, in the order in which they were met."""
        with self._opened() as text:
            return tuple(self._parse(text).values())

    def __repr__(self) -> str:
        return f"FileKnownPeers({str(self.path)!r})"

    @contextmanager
    def _opened(self) -> Iterator[str]:
        try:
            with self._mutex, self._file.locked() as data:
                yield self._text(data)
        except UsageError:
            raise
        except OSError as error:
            raise UsageError(f"{self.path}: {reason_of(error)}") from error

    def _text(self, data: bytes) -> str:
        if len(data) > _MAX_FILE:
            raise UsageError(f"{self.path}: more than {_MAX_FILE} bytes")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError(f"{self.path}: not a file of known keys") from None

    def _parse(self, text: str) -> dict[tuple[str, int], KnownPeer]:
        found: dict[tuple[str, int], KnownPeer] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if _is_note(line):
                continue
            try:
                peer = _peer(line)
            except (ValueError, UsageError):
                raise UsageError(f"{self.path}, line {number}: {shown(line)} is no known key") from None
            if (peer.host, peer.port) in found:
                raise UsageError(f"{self.path}, line {number}: a second key of {peer.host} {peer.port}")
            found[peer.host, peer.port] = peer
        return found

    def _replace(self, text: str) -> None:
        data = text.encode()
        if len(data) > _MAX_FILE:
            raise UsageError(f"{self.path}: it would have more than {_MAX_FILE} bytes")
        self._file.replace(data)


def _is_note(line: str) -> bool:
    return not line.strip() or line.startswith("#")


def _line(peer: KnownPeer) -> str:
    when = datetime.datetime.fromtimestamp(int(peer.first_seen), datetime.UTC)
    return f"{peer.host} {peer.port} {pin_text(peer.pin)} {when:%Y-%m-%dT%H:%M:%SZ}\n"


def _peer(line: str) -> KnownPeer:
    host, port, pin, when = line.split()
    if normalize_server_name(host) != host or not 0 <= int(port) < 2**16:
        raise ValueError("not as it is written")
    moment = datetime.datetime.strptime(when, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    return KnownPeer(host, int(port), parse_pin(pin), moment.timestamp())
