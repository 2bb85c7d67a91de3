"""asyncio's streams over our transports: its own StreamReader and StreamWriter, and what stands between."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["LIMIT", "StreamProtocol"]

LIMIT: Final = 2**16
"""asyncio's own: of a line, and half of what a reader keeps before the peer is made to wait"""


class StreamProtocol(asyncio.StreamReaderProtocol):
    """asyncio's, for a transport that can send after the peer's close_notify: the writer says when it is over."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True
