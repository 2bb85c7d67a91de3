"""The async face, for asyncio and trio: `pellucid.aio.connect`, `listen`, `wrap`. Needs anyio."""

try:
    import anyio as _anyio  # noqa: F401
except ImportError as error:
    raise ImportError("pellucid.aio needs anyio: pip install 'pellucid[aio]'") from error

from pellucid.net.aio import Listener, Stream, connect, listen, wrap

__all__ = ["Listener", "Stream", "connect", "listen", "wrap"]
