"""The buffer of an event loop that all its connections are read into. An idle connection holds none of it.

That it can be shared: a loop asks for the buffer, fills it and says so without doing anything else in between, and the
connection copies out of it, or opens right from it, all that it wants before it returns.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from pellucid.limits import RECEIVE_HEADROOM

__all__ = ["Buffers", "buffers_of"]

READ_SIZE: Final = 2**18


class Buffers:
    """data: the bytes; room: of them, where the transport reads to, from RECEIVE_HEADROOM on.

    ending: what connections want done when the present turn of the loop is over.
    """

    __slots__ = ("data", "ending", "room")

    def __init__(self) -> None:
        self.data = bytearray(RECEIVE_HEADROOM + READ_SIZE)
        self.ending: list[Callable[[], None]] = []
        self.room = memoryview(self.data)[RECEIVE_HEADROOM:]


_buffers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]] = weakref.WeakKeyDictionary()


def buffers_of(loop: asyncio.AbstractEventLoop) -> Buffers:
    """Return the buffer of *loop*, made with its first connection."""
    found = _buffers.get(loop)
    if found is None:
        found = _buffers[loop] = Buffers()
    return found
