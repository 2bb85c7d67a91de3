"""A peer that takes the suite or group that it prefers, made to take another: each of its ends talks to one of ours.

A client of its with our server, a server of its with our client; ours offers what is to be measured and nothing else.
Only what the peer's own ends do is counted, so there is one number for both as with a pair of its own.
"""

from __future__ import annotations

import time

import pellucid
from bench.peers.bio import READ, BioStack
from bench.peers.interface import PLAIN, Certificates, How
from bench.peers.ours import PellucidStack


class CrossedStack:
    """Made of a stack shaped like ssl."""

    def __init__(self, theirs: type[BioStack], certificates: Certificates, how: How = PLAIN) -> None:
        self.theirs = theirs(certificates, how)
        self.name, self.how = self.theirs.name, how
        self.ours = PellucidStack(certificates, how)

    def pair(self) -> CrossedPair:
        return CrossedPair(self)


class CrossedPair:
    """Each turn of theirs adds its CPU time to `client_seconds` or `server_seconds`; ours take theirs in between."""

    def __init__(self, stack: CrossedStack) -> None:
        self.client_seconds = self.server_seconds = 0.0
        start = time.process_time()
        # Made as a pair of its own is; its client then talks to our server, and its server to our client.
        self._pair = stack.theirs.pair()
        self._piece = stack.theirs.piece
        self.client_seconds = time.process_time() - start
        self.our_server = pellucid.Connection.server(stack.ours.server)
        self.our_client = pellucid.Connection.client(stack.ours.client, stack.ours.how.name)
        self._to_client, self._to_server = self._pair.to_client, self._pair.to_server
        self._for_client = self._from_server = b""

    def client_turn(self) -> None:
        start = time.process_time()
        self._pair.client_turn()
        self.client_seconds += time.process_time() - start
        self.our_server.receive_data(bytes(self._to_server.read()))
        self._for_client = self.our_server.data_to_send()
        if self._from_server:
            self.our_client.receive_data(self._from_server)
        self._to_server.write(self.our_client.data_to_send())

    def server_turn(self) -> None:
        start = time.process_time()
        self._pair.server_turn()
        self.server_seconds += time.process_time() - start
        self._from_server = bytes(self._to_client.read())
        self._to_client.write(self._for_client)

    def server_bytes(self) -> bytes:
        """Return both servers' flights: ours for their client follows theirs for ours."""
        return self._from_server

    def completed(self) -> None:
        self._pair.completed()
        for end in (self.our_client, self.our_server):
            if not isinstance(end.next_event(), pellucid.HandshakeComplete):
                raise RuntimeError("the handshake did not complete")

    def send(self, data: bytes) -> None:
        client, server, piece = self._pair.client, self._pair.server, self._piece
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            start = time.process_time()
            client.write(part)
            self.client_seconds += time.process_time() - start
            self._to_server.read()
            self.our_client.send_data(part)
            self._to_server.write(self.our_client.data_to_send())
            missing = len(part)
            start = time.process_time()
            while missing:
                missing -= len(server.read(READ))
            self.server_seconds += time.process_time() - start
