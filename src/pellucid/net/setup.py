"""What connect, listen and wrap share before any I/O: the connection a configuration asks for, and addresses."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace

from pellucid.config import ClientConfig, ConfigSource, ServerConfig, current_config
from pellucid.connection import Connection
from pellucid.errors import Circumstances, UsageError
from pellucid.net.load import system_trust
from pellucid.record.strangers import stranger
from pellucid.trace import Observer, unwatched

__all__ = [
    "new_connection",
    "observer_of",
    "present",
    "refuse_early_bytes",
    "refuse_other_than_client",
    "send_at_once",
    "socket_address",
    "with_system_trust",
]

_MAX_FILLED = 16
_filled: dict[int, tuple[ClientConfig, ClientConfig]] = {}
"""id of a configuration without trust → itself, and the one with the system's roots; the last few"""


def new_connection(
    config: ClientConfig | ServerConfig | None,
    server_name: str | None,
    trace: Observer | None,
    sock: socket.socket | None = None,
    *,
    port: int = 0,
    early_data: bytes = b"",
) -> Connection:
    """Return the connection without I/O. trace: as `observer_of` gave it.

    early_data: of a client; that there is some says that it may be sent, whatever the configuration says.
    sock: what it will go over, if that is known; a server's cookies are bound to its peer, a client's sessions to the
          port there. port: that port, where the socket is not known yet.
    """
    trace = unwatched if trace is None else trace
    peer, peer_port = ("", port) if sock is None else socket_address(sock.getpeername)
    if isinstance(config, ServerConfig):
        if early_data:
            raise UsageError("a server sends no early data")
        return Connection.server(config, peer_address=peer, trace=trace)
    if server_name is None:
        raise UsageError("a client names the server: server_name")
    config = with_system_trust(config)
    if early_data and not config.early_data:
        config = replace(config, early_data=True)
    return Connection.client(config, server_name, port=port or peer_port, trace=trace)


def present(config: ClientConfig | ServerConfig | ConfigSource | None) -> ClientConfig | ServerConfig | None:
    """Return *config*, or what a source of one has now."""
    return config if config is None or isinstance(config, ClientConfig | ServerConfig) else current_config(config)


def refuse_other_than_client(config: object) -> None:
    """Raise UsageError for what configures no client: a server's configuration, an `ssl.SSLContext`."""
    if config is not None and not isinstance(config, ClientConfig):
        raise UsageError(f"a client takes a ClientConfig, not {type(config).__name__}")


def observer_of(config: ClientConfig | ServerConfig | None, trace: Observer | None) -> Observer | None:
    """Return who watches: *trace*, or whom config.trace names."""
    if trace is not None or config is None or config.trace is None:
        return trace
    return config.trace()


def with_system_trust(config: ClientConfig | None) -> ClientConfig:
    """Return *config*, with the system's roots if it says neither whom to trust, who verifies, nor has a PSK."""
    config = config if config is not None else _DEFAULT
    if config.trust is not None or config.verifier is not None or config.external_psks:
        return config
    trust = system_trust()
    if (known := _filled.get(id(config))) is not None and known[0] is config and known[1].trust is trust:
        return known[1]
    filled = replace(config, trust=trust)
    while len(_filled) >= _MAX_FILLED:
        with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread may have been faster
            del _filled[next(iter(_filled))]
    _filled[id(config)] = (config, filled)
    return filled


def refuse_early_bytes(sock: socket.socket | None, received: bytes) -> None:
    """Raise UsageError if the server spoke before the ClientHello. The socket is left not blocking."""
    waiting = received
    if not waiting and sock is not None:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            waiting = sock.recv(64, socket.MSG_PEEK)
    if waiting:
        who = stranger(waiting)
        spoken = f" ({who.name})" if who.name else ""
        error = UsageError(
            f"there are bytes from the server before the ClientHello: they were sent in plaintext{spoken}",
            code=who.code,
        )
        error.circumstances = Circumstances(role="client", state="START", first_bytes=waiting[:64])
        raise error


def send_at_once(sock: socket.socket) -> None:
    """Have TCP send small records without waiting for more (TCP_NODELAY), where the socket lets it be asked for.

    What is no TCP socket does not, and on BSD neither does one that the client has already reset.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def socket_address(name: Callable[[], object]) -> tuple[str, int]:
    """Return (address, port) of getsockname or getpeername; ("", 0) for what has none."""
    try:
        address = name()
    except OSError:
        return "", 0
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) and len(address) >= 2 else ("", 0)


_DEFAULT = ClientConfig()
