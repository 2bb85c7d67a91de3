"""TLS for asyncio, native: its functions with a configuration of ours where it has `ssl`, and its own transports.

The bytes go from the event loop's one receive buffer through the core to the application's protocol, without the
stdlib's `sslproto` in between. asyncio's event loops and uvloop run it alike. docs/guides/asyncio.md: when to use what.
"""

from pellucid.asyncio.connecting import (
    create_connection,
    create_unix_connection,
    open_connection,
    open_unix_connection,
)
from pellucid.asyncio.facts import TransportFacts
from pellucid.asyncio.serving import create_server, create_unix_server, start_server, start_unix_server
from pellucid.asyncio.transport import Transport
from pellucid.asyncio.upgrading import start_tls, start_tls_streams

__all__ = [
    "Transport",
    "TransportFacts",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_tls",
    "start_tls_streams",
    "start_unix_server",
]
