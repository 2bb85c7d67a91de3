"""Two SSL objects, ours or the standard library's, and the four buffers between them."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any


class Wire:
    """Two ends of one connection. Any: of either library."""

    def __init__(
        self, client: Any, server: Any, name: str | bytes | None = "localhost", *, session: Any = None
    ) -> None:
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.to_server, self.from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.from_client, False, name, session)
        self.server = server.wrap_bio(self.to_server, self.from_server, True)

    def move(self) -> bool:
        """Carry what was sent to the other side; return whether there was anything."""
        forth, back = self.from_client.read(), self.from_server.read()
        self.to_server.write(forth)
        self.to_client.write(back)
        return bool(forth or back)

    def shake(self) -> Wire:
        """Shake hands; the tickets are read too. Raises what either end raises, once the other has heard of it."""
        failure: ssl.SSLError | None = None
        moved = True
        while moved:
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    failure = failure or error
            moved = self.move()
        if failure is not None:
            raise failure
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.read()
        return self
