"""The buffers of an event loop, one to read into and one to seal into. An idle connection holds none of them.

That it can be shared: a loop asks for the buffer, fills it and says so without doing anything else in between, and the
connection copies out of it, or opens right from it, all that it wants before it returns.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Final

from pellucid.limits import RECEIVE_HEADROOM

__all__ = ["Buffers", "buffers_of"]

READ_SIZE: Final = 2**18
SEALED_SIZE: Final = 2**18 + 16 * 32  # 16 full records


class Buffers:
    """data: the bytes; room: of them, where the transport reads to, from RECEIVE_HEADROOM on."""

    __slots__ = ("data", "room", "sealed")

    def __init__(self) -> None:
        self.sealed = bytearray(SEALED_SIZE)
        """to seal bulk data into; who gave any of it to a transport that still has it puts a new one in its place"""
        self.data = bytearray(RECEIVE_HEADROOM + READ_SIZE)
        self.room = memoryview(self.data)[RECEIVE_HEADROOM:]


_buffers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]] = weakref.WeakKeyDictionary()


def buffers_of(loop: asyncio.AbstractEventLoop) -> Buffers:
    """Return the buffer of *loop*, made with its first connection."""
    found = _buffers.get(loop)
    if found is None:
        found = _buffers[loop] = Buffers()
    return found
