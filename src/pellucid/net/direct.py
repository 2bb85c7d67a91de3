"""The script's reading and writing where the socket is at hand: data on the shortest way, everything else as `script`.

A message of one record is one seal and one send, one receive and one open; bulk data goes through memory that is lent
for the call. No generator runs and no operation is made for either, which takes a blocking round trip of 100 bytes from
26 to 17 µs (both ends), and bulk data from 17 to 13 µs for 16 KiB. What is not as simple goes on in the script, from
where this got to.
"""

from __future__ import annotations

import socket
from typing import Final

from pellucid.connection import Connection
from pellucid.limits import FULL_RECORD, HANDSHAKE_TIMEOUT_SECONDS, MAX_PLAINTEXT, RECEIVE_HEADROOM
from pellucid.net.driver import DONT_WAIT, NO_SIGNAL, ThreadLock
from pellucid.net.operations import RECEIVE_SIZE, Steps
from pellucid.net.script import Script
from pellucid.record.bulk import RECORDS, lent_sealer, return_sealer

__all__ = ["DirectScript"]

_STEP: Final = RECORDS * MAX_PLAINTEXT  # sealed and sent at a time
_ROOM: Final = RECORDS * FULL_RECORD  # received at a time
_BULK: Final = 2**15  # a read that brought so much is taken to have more behind it
_MAX_KEPT: Final = 4

_rooms: Final[list[bytearray]] = []
"""Memory to receive bulk data into, not lent at the moment. list.pop and append are atomic."""


class DirectScript(Script):
    """One connection's I/O over *sock*, which blocks; see Script."""

    def __init__(
        self,
        connection: Connection,
        sock: socket.socket,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        early_data: bytes = b"",
    ) -> None:
        super().__init__(connection, ThreadLock, handshake_timeout=handshake_timeout, early_data=early_data)
        self._socket = sock
        self._much = False  # the last read brought so much that there may be more

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write_now(self, data: bytes | bytearray | memoryview, *, wait: bool) -> Steps[None] | None:
        """Seal and send *data* if nothing is in its way: equals `write`. wait: whether the socket may be waited for.

        Returns what is still to be done, None if nothing is. Until then it has the send lock: nobody's data comes
        in between.
        """
        if not self._ready:
            return self.write(data)
        if type(data) is not bytes:
            # Before the lock is taken: what is no buffer is the caller's mistake, and no write that was cut short.
            view = memoryview(data)
            data = view if view.format == "B" and view.contiguous and view.ndim == 1 else view.tobytes()
        if not data or not self.sending.try_acquire():
            return self.write(data)
        try:
            rest = self._write_directly(data, wait=wait)
        except BaseException as error:  # noqa: BLE001 - raised by what is returned
            self.sending.release()
            return self._failing(error)
        if len(rest) or self._unsent:
            return self._write_on(rest)
        self.sending.release()
        return self._flush_now() if self._flush_wanted else None

    def _failing(self, error: BaseException) -> Steps[None]:
        raise (yield from self._write_failed(error))

    def _write_directly(self, data: bytes | memoryview, *, wait: bool) -> bytes | memoryview:
        """Send *data* as far as that goes without the script; return what was not sealed. The send lock is held."""
        if self._unsent or self.closed or self._write_error is not None:
            return data
        if 0 < len(data) <= MAX_PLAINTEXT:
            with self._core:
                sealed = self.connection.seal(data)
            self._send_now(sealed, wait=wait)
            return b""
        data = memoryview(data)
        while data:
            sealer = lent_sealer()
            with self._core:
                size = self.connection.seal_into(data[:_STEP], sealer)
            if not size:
                return_sealer(sealer)
                break
            data = data[_STEP:]
            if not self._send_now(sealer.view[:size], wait=wait):
                break  # what waits as `_unsent` keeps that memory
            return_sealer(sealer)
        return data

    def _send_now(self, sealed: bytes | memoryview, *, wait: bool) -> bool:
        """Send what fits of *sealed*; the rest waits as `_unsent`. Returns whether there is none."""
        try:
            sent = self._socket.send(sealed, NO_SIGNAL if wait else NO_SIGNAL | DONT_WAIT)
        except BlockingIOError:
            sent = 0
        except BaseException as error:
            self._lose_output(error)
            raise
        if sent == len(sealed):
            return True
        self._unsent = memoryview(sealed)[sent:]
        return False

    # ---- reading ---------------------------------------------------------------------------------------------------

    def read_now(self, limit: int, *, wait: bool) -> bytes | Steps[bytes]:
        """Return what the next read of the socket brings, if that is data: equals `read`.

        wait: whether the socket may be waited for. Else returns what is to be done.
        """
        if not self._ready or self._early or self._flush_wanted or self._stuck or not self.receiving.try_acquire():
            return self.read(limit)
        try:
            if not self._plain:
                if self.closed or self._ended or self._read_error is not None or self._pause is not None:
                    return self.read(limit)
                if not self.connection.idle:
                    return self.read(limit)
                plaintext = self._receive_now(limit, wait=wait)
                if plaintext is None:
                    return self.read(limit)
                if len(plaintext) <= limit:
                    return plaintext
                self._plain = memoryview(plaintext)
            data = bytes(self._plain[:limit])
            self._plain = self._plain[limit:]
            return data
        except BlockingIOError:
            return self.read(limit)
        except OSError as error:
            return self._failing_read(error)
        finally:
            self.receiving.release()

    def _failing_read(self, error: OSError) -> Steps[bytes]:
        yield from self._reading_failed(error)
        raise error

    def _receive_now(self, limit: int, *, wait: bool) -> bytes | None:
        """Take bytes off the socket; return their data if that is what they are, else None: `read` finds what it was.

        After a read that brought much, what is there is read into lent memory, 256 KiB at a time.
        """
        if self._much and DONT_WAIT and self._receive_much(max(limit, RECEIVE_SIZE)):
            with self._core:
                return self.connection.next_data()
        data = self._socket.recv(RECEIVE_SIZE, 0 if wait else DONT_WAIT)
        self._much = len(data) >= _BULK
        if not data:
            self._transport_ends()
        with self._core:
            plaintext = self.connection.open_record(data)
            if plaintext is None:
                self.connection.receive_data(data)
                plaintext = self.connection.next_data()
        return plaintext

    def _receive_much(self, limit: int) -> bool:
        """Take what is there, with *limit* bytes of data at most; return whether there was anything, or the end."""
        try:
            room = _rooms.pop()
        except IndexError:
            room = bytearray(RECEIVE_HEADROOM + _ROOM)
        try:
            with memoryview(room) as view, view[RECEIVE_HEADROOM : RECEIVE_HEADROOM + min(limit, _ROOM)] as free:
                size = self._socket.recv_into(free, 0, DONT_WAIT)
            self._much = size >= _BULK
            if not size:
                self._transport_ends()
            with self._core:
                self.connection.receive_from(room, RECEIVE_HEADROOM, RECEIVE_HEADROOM + size)
        except BlockingIOError:
            self._much = False
            return False
        finally:
            if len(_rooms) < _MAX_KEPT:
                _rooms.append(room)
        return True
