"""A client with one fault: it connects to a server that is to be tested, misbehaves, and tells what it heard."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from pellucid.config import ClientConfig
from pellucid.errors import TLSError
from pellucid.testing.bent import BentConnection, Edit
from pellucid.testing.ca import CA
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.fault import chain_edit
from pellucid.testing.faults.mint import Mint
from pellucid.testing.faults.registry import fault_named
from pellucid.testing.faults.server import JOIN_SECONDS, PACE_SECONDS
from pellucid.trace import Role
from pellucid.verify.webpki import dangerous_accept_any

__all__ = ["FaultyClient", "Heard"]

_CONNECT_SECONDS: Final = 10.0
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a faulty client heard of its victim.

    complete: whether the handshake was, as the client saw it.   alert: the error alert that came; None for none.
    received: application data.   error: how the conversation ended, if it was not with close_notify.
    """

    complete: bool
    alert: int | None
    received: bytes
    error: TLSError | None


class FaultyClient:
    """A context manager: a client that commits the fault *name* against whom it is sent to.

    name: one of FAULTS, of a client.   pace: seconds between the bytes of a slow client.
    seconds: how long a conversation may last.
    It verifies nobody. `ca_pem` is the CA of its own certificate, for servers that ask for one.
    """

    def __init__(self, name: str, *, pace: float = PACE_SECONDS, seconds: float = _SECONDS) -> None:
        self.fault = fault_named(name, Role.CLIENT)
        self._pace, self._seconds = pace, seconds
        recipe = self.fault.recipe
        self._shown = recipe.shown(Mint(CA("Pellucid fault CA"), recipe.host))
        self._stopping = threading.Event()
        self._links: set[Link] = set()
        self._threads: list[threading.Thread] = []

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the CA that a server should trust to notice the fault."""
        return self._shown.ca_pem

    def run(self, address: str, port: int, *, server_name: str = "localhost") -> Heard:
        """Connect, misbehave, and return what was heard. Returns when the server has ended the connection.

        Raises OSError if no connection can be made.
        """
        sock = socket.create_connection((address, port), _CONNECT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(sock, self._stopping, seconds=self._seconds, pace=self._pace)
        link.slow = self.fault.recipe.slow
        self._links.add(link)
        try:
            return self._talk(link, server_name)
        finally:
            self._links.discard(link)
            link.close()

    def start(self, address: str, port: int, *, server_name: str = "localhost") -> Future[Heard]:
        """Do the same in a thread, for a test that is the server itself: what was heard is the future's result."""
        heard: Future[Heard] = Future()
        heard.set_running_or_notify_cancel()  # it ends by `close`

        def work() -> None:
            try:
                heard.set_result(self.run(address, port, server_name=server_name))
            except Exception as error:  # noqa: BLE001  # it is the future's
                heard.set_exception(error)

        thread = threading.Thread(target=work, name=f"fault {self.fault.name}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return heard

    def close(self) -> None:
        """End what still runs, in whatever thread. A second call does nothing."""
        self._stopping.set()
        for link in tuple(self._links):
            link.interrupt()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def __enter__(self) -> FaultyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _talk(self, link: Link, server_name: str) -> Heard:
        recipe = self.fault.recipe
        if recipe.link is not None:
            recipe.link(link)
            return Heard(complete=False, alert=None, received=b"", error=None)
        connection = BentConnection.bent_client(self._config(), server_name, edit=self._edit(), rewrite=recipe.rewrite)
        request = f"GET / HTTP/1.1\r\nHost: {server_name}\r\nConnection: close\r\n\r\n".encode()
        conversation = Conversation(connection, link, recipe, request=request)
        conversation.run()
        return Heard(
            complete=conversation.complete,
            alert=conversation.alert,
            received=conversation.received,
            error=conversation.error,
        )

    def _config(self) -> ClientConfig:
        settings: dict[str, Any] = {  # Any: each field's own type
            "verifier": dangerous_accept_any(),
            "credentials": (self._shown.credential,),
            "certificate_compression": (),
            "alpn": ("http/1.1",),
            "sessions": None,
            **self.fault.recipe.config,
        }
        return ClientConfig(**settings)

    def _edit(self) -> Edit:
        return chain_edit(self.fault.recipe, self._shown)
