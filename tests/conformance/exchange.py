"""One connection with the runner over a blocking socket: the handshake, the echo, the end."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from pellucid import events
from pellucid.connection import Connection
from pellucid.errors import TLSError, TruncatedStream
from pellucid.handshake.actions import Negotiated
from tests.conformance.configure import NumberedSigner, Setup
from tests.conformance.expectations import Mismatch, Witness, check_end, check_handshake
from tests.conformance.flags import Flags

TIMEOUT_SECONDS: Final = 20
_READ: Final = 2**16


class Channel:
    """A socket and a Connection. In asynchronous tests the connection gets its bytes one at a time."""

    def __init__(self, sock: socket.socket, connection: Connection, setup: Setup, *, one_byte: bool) -> None:
        self.connection = connection
        self._socket = sock
        self._setup = setup
        self._one_byte = one_byte
        self._received = b""
        self._plaintext = bytearray()
        self._held = b""
        self.tickets: list[events.TicketReceived] = []

    def flush(self) -> None:
        """Send what waits. A runner that is gone already is found out when reading."""
        if self._held:
            return
        if data := self.connection.data_to_send():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)

    def handshake(self) -> Negotiated:
        while True:
            event = self._event()
            if isinstance(event, events.HandshakeComplete):
                self.flush()
                return event.negotiated
            self._note(event)

    def read(self, size: int) -> bytes:
        """Return at most *size* bytes of application data; b"" after close_notify, TruncatedStream without."""
        while not self._plaintext:
            event = self._event()
            if isinstance(event, events.ApplicationData):
                self._plaintext += event.data
            elif isinstance(event, events.CloseNotify):
                return b""
            else:
                self._note(event)
        taken = bytes(self._plaintext[:size])
        del self._plaintext[:size]
        return taken

    def write_in_part(self, data: bytes) -> None:
        """Send one byte of the record that *data* makes, and nothing more before `write_the_rest`."""
        self.connection.send_data(data)
        record = self.connection.data_to_send()
        self._socket.sendall(record[:1])
        self._held = record[1:]

    def write_the_rest(self) -> None:
        """Go on with the record that was begun."""
        if self._held:
            self._socket.sendall(self._held)
            self._held = b""

    def write(self, data: bytes) -> None:
        self.connection.send_data(data)
        self.flush()

    def _event(self) -> events.Event:
        while True:
            event = self.connection.next_event()
            if not isinstance(event, events.NeedData):
                return event
            if not self.connection.handshake_complete:
                self.flush()  # afterwards nothing waits but an answer to KeyUpdate, which goes with the next data
            if not self._received:
                try:
                    self._received = self._socket.recv(_READ)
                except ConnectionResetError:
                    self._received = b""
                if not self._received:
                    self.connection.receive_data(b"")
                    continue
            size = 1 if self._one_byte else len(self._received)
            data, self._received = self._received[:size], self._received[size:]
            self.connection.receive_data(data)

    def _note(self, event: events.Event) -> None:
        match event:
            case events.TicketReceived():
                self.tickets.append(event)
            case events.CredentialNeeded():
                self.connection.resume(None)
            case events.SignatureNeeded(need):
                if not isinstance(need.signer, NumberedSigner):
                    raise Mismatch("another signer was asked than ours")
                self.connection.resume(need.signer.answer(need.scheme, need.data))
            case events.VerificationNeeded(need):
                self.connection.resume(self._setup.judge.answer(need.request))


def connect(flags: Flags) -> socket.socket:
    """Return a socket connected to the runner, which has been told who we are."""
    family, address = (socket.AF_INET6, "::1") if flags.ipv6 else (socket.AF_INET, "127.0.0.1")
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((address, flags.port))
    sock.sendall(flags.shim_id.to_bytes(8, "little"))
    return sock


def run_connection(flags: Flags, setup: Setup, *, resumed: bool) -> None:
    """Hold one connection as *flags* say. Raises TLSError, Mismatch, OSError."""
    witness = Witness()
    if flags.server:
        connection = Connection.server(setup.config, trace=witness)
    else:
        connection = Connection.client(setup.config, setup.server_name, trace=witness)
    with connect(flags) as sock:
        channel = Channel(sock, connection, setup, one_byte=flags.asynchronous)
        try:
            _exchange(channel, flags, setup, witness, resumed=resumed)
        finally:
            channel.flush()
            _drain(sock)


def _exchange(channel: Channel, flags: Flags, setup: Setup, witness: Witness, *, resumed: bool) -> None:
    connection = channel.connection
    negotiated = channel.handshake()
    if not flags.implicit_handshake:
        check_handshake(flags, setup, witness, negotiated, resumed=resumed)
    _first_words(channel, flags, witness)
    if flags.send_alert:
        connection.fail(30)  # decompression_failure: the runner's choice
        return
    truncated: TLSError | None = None
    if not flags.shim_shuts_down:
        try:
            _echo(channel, flags)
        except TruncatedStream as error:
            truncated = error
    check_end(flags, channel.tickets)
    if truncated is not None:
        if flags.check_close_notify:
            raise Mismatch("Unexpected SSL_shutdown result: -1 != 1")
        return
    connection.close()
    channel.flush()
    if flags.shim_shuts_down and flags.check_close_notify:
        try:
            while channel.read(_READ):
                pass
        except TruncatedStream:
            raise Mismatch("Unexpected SSL_shutdown result: -1 != 1") from None


def _first_words(channel: Channel, flags: Flags, witness: Witness) -> None:
    connection = channel.connection
    if flags.export_keying_material:
        label, context = flags.export_label.encode(), flags.export_context.encode()
        channel.write(connection.export_keying_material(label, context, flags.export_keying_material))
    if flags.export_traffic_secrets:
        read, write = witness.traffic_secrets(server=flags.server)
        channel.write(len(read).to_bytes(2, "little") + read + write)
    if flags.read_with_unfinished_write:
        channel.write_in_part(flags.shim_initial_write.encode())
    elif flags.shim_writes_first:
        for _ in range(flags.repeat_shim_initial_write):
            channel.write(flags.shim_initial_write.encode())


def _echo(channel: Channel, flags: Flags) -> None:
    while True:
        if flags.key_update_before_read:
            channel.connection.send_key_update()
            channel.flush()
        data = channel.read(flags.read_size)
        if not data:
            return
        channel.write_the_rest()
        if flags.key_update:
            channel.connection.send_key_update()
        channel.write(bytes(byte ^ 0xFF for byte in data))


def _drain(sock: socket.socket) -> None:
    """Half-close, and read until the runner has closed: a reset would overtake our last alert."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_READ):
            pass
