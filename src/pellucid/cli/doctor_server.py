"""The server that `pellucid doctor` has programs talk to: real HTTPS on this machine, by the development CA."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from typing import Final

from pellucid.config import Credential, ServerConfig
from pellucid.net.listener import Listener, listen
from pellucid.net.sync import Stream

__all__ = ["Probes", "probes"]

_MAX_REQUEST: Final = 2**16
_SECONDS: Final = 15.0
_REFS: Final = b"001e# service=git-upload-pack\n00000000"  # a repository in which nothing is
_PAGE: Final = b"<!doctype html><title>pellucid doctor</title><p>It was trusted.</p>\n"


class Probes:
    """Hands out URLs, and knows which of them were asked for: a client asks only whom it trusts."""

    def __init__(self, listener: Listener) -> None:
        self.port = listener.address[1]
        self._asked: set[str] = set()
        self._lock = threading.Lock()

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}/"

    def url(self) -> str:
        """Return a URL that nobody was given before."""
        return f"{self.origin}{secrets.token_hex(8)}/"

    def asked(self, url: str) -> bool:
        """Whether something below *url* was asked for."""
        with self._lock:
            return url.removeprefix(self.origin).partition("/")[0] in self._asked

    def answer(self, stream: Stream) -> None:
        """Answer one request."""
        stream.settimeout(_SECONDS)
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _MAX_REQUEST:
            data = stream.recv()
            if not data:
                return
            head += data
        target = head.split(b" ", 2)[1].decode("latin-1") if head.count(b" ") >= 2 else ""
        with self._lock:
            self._asked.add(target.lstrip("/").partition("/")[0])
        git = "/info/refs" in target
        kind, body = (b"application/x-git-upload-pack-advertisement", _REFS) if git else (b"text/html", _PAGE)
        length = b"%d" % len(body)
        stream.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length
            + b"\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n" + body
        )  # fmt: skip
        stream.close()


@contextlib.contextmanager
def probes(credential: Credential) -> Iterator[Probes]:
    """Serve until the block is left."""
    with listen("127.0.0.1", 0, ServerConfig(credentials=(credential,))) as listener:
        found = Probes(listener)
        thread = threading.Thread(target=listener.serve, args=(found.answer,), name="pellucid-doctor", daemon=True)
        thread.start()
        try:
            yield found
        finally:
            listener.close()
            thread.join(_SECONDS)
