"""The buffer of an event loop that all its connections are read into. An idle connection holds none of it.

That it can be shared: a loop asks for the buffer, fills it and says so without doing anything else in between, and the
connection copies out of it, or opens right from it, all that it wants before it returns. Only who opens piece by piece
runs the user's protocol in between, and that may feed a connection inside this one: see `busy`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from pellucid.limits import FULL_RECORD, RECEIVE_HEADROOM
from pellucid.record.bulk import RECORDS

__all__ = ["Buffers", "buffers_of"]

READ_SIZE: Final = RECORDS * FULL_RECORD
"""What a piece of bulk data has, sealed: such a read cuts no record. One of 256 KiB did each time: 5 % more work."""


class Buffers:
    """data: the bytes; room: of them, where the transport reads to, from RECEIVE_HEADROOM on.

    busy:   a connection is not done with what is in it. Another must not have it meanwhile.
    ending: what connections want done when the present turn of the loop is over.
    """

    __slots__ = ("busy", "data", "ending", "room")

    def __init__(self) -> None:
        self.data = bytearray(RECEIVE_HEADROOM + READ_SIZE)
        self.busy = False
        self.ending: list[Callable[[], None]] = []
        self.room = memoryview(self.data)[RECEIVE_HEADROOM:]


_buffers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Buffers]] = weakref.WeakKeyDictionary()


def buffers_of(loop: asyncio.AbstractEventLoop) -> Buffers:
    """Return the buffer of *loop*, made with its first connection."""
    found = _buffers.get(loop)
    if found is None:
        found = _buffers[loop] = Buffers()
    return found
