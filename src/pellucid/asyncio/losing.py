"""A connection's end: whose it was, what its socket still has to say, and what is made after it."""

from __future__ import annotations

import asyncio
from typing import Final

from pellucid.connection import Connection
from pellucid.errors import AlertReceived, PeerError, TLSError, UsageError
from pellucid.events import NEED_DATA
from pellucid.net.script import MAX_DRAINED
from pellucid.net.setup import socket_address

__all__ = ["nothing_more", "peer_address", "unread_alert"]

_READ: Final = 2**18


def unread_alert(lower: asyncio.BaseTransport, connection: Connection) -> TLSError | None:
    """Read what the peer said before it reset the connection: writing finds the reset before reading does.

    lower: what is gone; its socket is still there while it says so.
    """
    sock = lower.get_extra_info("socket")
    if sock is None or lower.get_extra_info("sslcontext") is not None:
        return None
    try:
        with sock.dup() as raw:
            for _ in range(MAX_DRAINED // _READ):
                connection.receive_data(raw.recv(_READ))
                while connection.next_event() is not NEED_DATA:
                    continue
    except (AlertReceived, PeerError) as error:
        return error
    except (OSError, NotImplementedError):
        return None
    return None


def peer_address(transport: asyncio.BaseTransport) -> tuple[str, int]:
    return socket_address(lambda: transport.get_extra_info("peername"))


def nothing_more() -> asyncio.BaseProtocol:
    raise UsageError("the connection is over")
