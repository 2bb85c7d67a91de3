"""A server with one fault, on this machine's loopback, for as long as a test or a person wants to meet it."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from pellucid.config import ClientAuthentication, ClientConfig, ServerConfig
from pellucid.errors import UsageError
from pellucid.testing.bent import BentConnection
from pellucid.testing.ca import CA
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.fault import Fault, Listening, chain_edit
from pellucid.testing.faults.mint import Mint, Shown
from pellucid.testing.faults.registry import fault_named
from pellucid.trace import Observer, Role
from pellucid.verify.trust import TrustStore

__all__ = ["FaultyServer", "client_config"]

_MAX_CONNECTIONS: Final = 32
_CONNECTION_SECONDS: Final = 120.0
_KEPT: Final = 256
_BACKLOG: Final = 128
_ACCEPT_SECONDS: Final = 0.25  # until it is looked whether to go on, where nothing wakes `accept`
_FILLERS: Final = 4
JOIN_SECONDS: Final = 5.0
PACE_SECONDS: Final = 1.0


class FaultyServer:
    """A context manager: a server that commits the fault *name* against everyone who connects.

    name:  one of FAULTS, of a server.   port: 0 for a free one.   pace: seconds between the bytes of a slow server.
    limit: how many connections it takes at a time; others are closed at once.   seconds: how long each may last.
    trace, trace_records: as in a configuration; an observer for each connection.

    Clients connect to `address`, `port` and ask for `host`; `client_config` has what they need to notice the fault, and
    to trust nobody but this server's CA. To a client that notices nothing it answers over HTTP/1.1.
    """

    def __init__(
        self,
        name: str,
        *,
        port: int = 0,
        pace: float = PACE_SECONDS,
        seconds: float = _CONNECTION_SECONDS,
        limit: int = _MAX_CONNECTIONS,
        trace: Callable[[], Observer | None] | None = None,
        trace_records: bool = False,
    ) -> None:
        self.fault = fault_named(name, Role.SERVER)
        self.address = "127.0.0.1"
        self.host = self.fault.recipe.host
        self._pace, self._seconds, self._limit = pace, seconds, limit
        self._shown = self.fault.recipe.shown(Mint(CA("Pellucid fault CA"), self.host))
        self._config = self._server_config(trace, trace_records=trace_records)
        self._heard: collections.deque[Conversation] = collections.deque(maxlen=_KEPT)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._links: dict[threading.Thread, Link] = {}
        self._accepting: threading.Thread | None = None
        self._fillers: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it lets two programs have one port
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((self.address, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """Where to ask; its host may have to be resolved to `address` by hand."""
        return f"https://{self.host}:{self.port}/"

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the CA that clients of this server trust."""
        return self._shown.ca_pem

    @property
    def crl(self) -> bytes:
        """A revocation list for clients, DER; b"" if the fault is not about one."""
        return self._shown.crl

    @property
    def public_key_pem(self) -> bytes:
        """The raw public key that clients know the server by, PEM; b"" if the fault is not about one."""
        return self._shown.public_key_pem

    @property
    def client_pem(self) -> bytes:
        """A certificate with its key for clients to show, PEM; b"" if the fault is not about one."""
        return self._shown.client_pem

    @property
    def client_config(self) -> ClientConfig:
        """A configuration that trusts this server's CA, and has what the fault needs to be noticed."""
        return client_config(self.fault, self._shown)

    @property
    def alerts(self) -> tuple[int, ...]:
        """The error alerts that came, AlertDescription code points, oldest first."""
        with self._lock:
            return tuple(heard.alert for heard in self._heard if heard.alert is not None)

    # ---- its life ----

    def start(self) -> FaultyServer:
        """Listen, and serve in the background."""
        if self._accepting is not None or self._stopping.is_set():
            raise UsageError("a faulty server is started once")
        listening = self.fault.recipe.listening
        if listening is Listening.FULL:
            self._fill()
        elif listening is Listening.YES:
            self._socket.listen(_BACKLOG)
            self._socket.settimeout(_ACCEPT_SECONDS)
            self._accepting = threading.Thread(target=self._accept, name=f"fault {self.fault.name}", daemon=True)
            self._accepting.start()
        return self

    def close(self) -> None:
        """End all connections and stop listening. A second call does nothing."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        with self._lock:
            links = dict(self._links)
        for link in links.values():
            link.interrupt()
        for sock in self._fillers:
            sock.close()
        for thread in (*links, *([self._accepting] if self._accepting else ())):
            thread.join(JOIN_SECONDS)
        self._socket.close()

    def __enter__(self) -> FaultyServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- connections ----

    def _fill(self) -> None:
        """Listen with a queue that is full already: further connections are not answered."""
        self._socket.listen(0)
        for _ in range(_FILLERS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.connect_ex((self.address, self.port))
            self._fillers.append(sock)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._stopping.wait(0.05):
                    return
                continue
            with contextlib.suppress(OSError):  # it may have gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(sock, self._stopping, seconds=self._seconds, pace=self._pace)
            thread = threading.Thread(target=self._talk, args=(link,), name=f"fault {self.fault.name}", daemon=True)
            with self._lock:
                welcome = len(self._links) < self._limit and not self._stopping.is_set()
                if welcome:
                    self._links[thread] = link
                    thread.start()  # under the lock: `close` joins what it finds here
            if not welcome:
                link.close()

    def _talk(self, link: Link) -> None:
        recipe = self.fault.recipe
        link.slow = recipe.slow
        try:
            if recipe.link is not None:
                recipe.link(link)
                return
            edit = chain_edit(recipe, self._shown)
            connection = BentConnection.bent_server(self._config, edit=edit, rewrite=recipe.rewrite)
            conversation = Conversation(connection, link, recipe, reply=self._reply)
            with self._lock:
                self._heard.append(conversation)
            conversation.run()
        finally:
            link.close()
            with self._lock:
                self._links.pop(threading.current_thread(), None)

    def _reply(self) -> bytes:
        body = f"{self.fault.name}: {self.fault.summary}. You did not notice.\n".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Connection: close\r\n\r\n" + body

    def _server_config(self, trace: Callable[[], Observer | None] | None, *, trace_records: bool) -> ServerConfig:
        # The Certificate travels as it is, to be edited. HTTP/1.1 is what is answered in; clients that do not speak it
        # are not refused, so that they meet the fault.
        settings: dict[str, Any] = {  # Any: each field's own type
            "credentials": (self._shown.credential,),
            "certificate_compression": (),
            "alpn": ("http/1.1", "http/1.0", "h2"),
            "trace": trace,
            "trace_records": trace_records,
            **self.fault.recipe.config,
        }
        if settings.get("client_authentication") is ClientAuthentication.REQUIRED:
            settings["client_trust"] = TrustStore.from_pem(self._shown.ca_pem, origin="fault CA")
        return ServerConfig(**settings)


def client_config(fault: Fault, shown: Shown) -> ClientConfig:
    """Return the configuration of a client that trusts the CA of *shown* and would notice *fault*."""
    settings: dict[str, Any] = {  # Any: each field's own type
        "trust": TrustStore.from_pem(shown.ca_pem, origin="fault CA"),
        "alpn": ("http/1.1",),
        "sessions": None,
        **fault.needs.config,
        **shown.config,
    }
    return ClientConfig(**settings)
