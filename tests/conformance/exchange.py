"""One connection with the runner over a blocking socket: the handshake, the echo, the end."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Final

from pellucid import events
from pellucid.connection import Connection
from pellucid.errors import TruncatedStream
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from tests.conformance.configure import Memory, NumberedSigner, Setup
from tests.conformance.expectations import Mismatch, Witness, check_end, check_handshake, expect
from tests.conformance.flags import Flags

TIMEOUT_SECONDS: Final = 20
_READ: Final = 2**16
_DECOMPRESSION_FAILURE: Final = 30  # the error alert that the runner has the shim send


class Channel:
    """A socket and a Connection. In asynchronous tests the connection gets its bytes one at a time."""

    def __init__(self, sock: socket.socket, connection: Connection, setup: Setup, *, one_byte: bool) -> None:
        self.connection = connection
        self.tickets: list[events.TicketReceived] = []
        self._socket = sock
        self._setup = setup
        self._one_byte = one_byte
        self._received = b""
        self._plaintext = bytearray()
        self._held = b""
        self.wrote_in_part = False

    # ---- out -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what waits. A runner that is gone already is found out when reading."""
        if self._held:
            return
        if data := self.connection.data_to_send():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)

    def write(self, data: bytes) -> None:
        self.connection.send_data(data)
        self.flush()

    def write_in_part(self, data: bytes, *, early: bool = False) -> None:
        """Send one byte of the record that *data* makes, and nothing more before `write_the_rest`."""
        self.flush()
        self.wrote_in_part = True
        if early:
            self.connection.send_early_data(data)
        else:
            self.connection.send_data(data)
        record = self.connection.data_to_send()
        self._socket.sendall(record[:1])
        self._held = record[1:]

    def write_the_rest(self) -> None:
        """Go on with the record that was begun."""
        if self._held:
            self._socket.sendall(self._held)
            self._held = b""

    # ---- in ------------------------------------------------------------------------------------------------------

    def handshake(self) -> events.HandshakeComplete | events.EarlyDataAccepted:
        """Shake hands, or at a server as far as early data is taken: then the rest happens while it is read."""
        while True:
            event = self._event()
            if isinstance(event, events.HandshakeComplete | events.EarlyDataAccepted):
                self.flush()
                return event
            self._note(event)

    def answer_what_is_asked(self) -> None:
        """Judge the server that early data is for, where that was put off."""
        while isinstance(event := self.connection.next_event(), events.VerificationNeeded):
            self._note(event)

    def read(self, size: int) -> bytes:
        """Return at most *size* bytes of application data; b"" after close_notify, TruncatedStream without."""
        while not self._plaintext:
            event = self._event()
            if isinstance(event, events.ApplicationData | events.EarlyData):
                self._plaintext += event.data
            elif isinstance(event, events.CloseNotify):
                return b""
            else:
                self._note(event)
        taken = bytes(self._plaintext[:size])
        del self._plaintext[:size]
        return taken

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
            if not self.connection.handshake_complete:
                self.write_the_rest()  # our next flight cannot go before the early data that was begun
            size = 1 if self._one_byte else len(self._received)
            data, self._received = self._received[:size], self._received[size:]
            self.connection.receive_data(data)

    def _note(self, event: events.Event) -> None:
        match event:
            case events.TicketReceived():
                self.tickets.append(event)
            case events.HandshakeComplete():
                self.flush()  # the tickets of a server that took early data
            case events.CredentialNeeded():
                self.connection.resume(None)
            case events.SignatureNeeded(need):
                if not isinstance(need.signer, NumberedSigner):
                    raise Mismatch("another signer was asked than ours")
                self.connection.resume(need.signer.answer(need.scheme, need.data))
            case events.VerificationNeeded(need):
                self.connection.resume(self._setup.judge.answer(need.request))


@dataclass
class Exchange:
    """One connection as *flags* say. After early data was rejected, *flags* are those of the retry."""

    channel: Channel
    flags: Flags
    retry: Flags
    setup: Setup
    memory: Memory
    witness: Witness
    resumed: bool

    def run(self) -> None:
        """Raises TLSError, Mismatch, OSError."""
        sent_early = self._early_words()
        event = self.channel.handshake()
        negotiated = event.negotiated
        if self.resumed and self.flags.expect_reject_early_data and not self.flags.server:
            expect("early data rejected", negotiated.early_data is not EarlyDataOutcome.ACCEPTED, True)
            self.flags, sent_early = self.retry, 0
        if not self.flags.implicit_handshake:
            self._check(negotiated, in_early_data=isinstance(event, events.EarlyDataAccepted))
        self._first_words(sent_early)
        if self.flags.send_alert:
            self.channel.connection.fail(_DECOMPRESSION_FAILURE)
            return
        truncated = False
        if not self.flags.shim_shuts_down:
            try:
                self._echo()
            except TruncatedStream:
                truncated = True
        check_end(self.flags, self.channel.tickets)
        self._close(truncated=truncated)

    def _check(self, negotiated: Negotiated, *, in_early_data: bool) -> None:
        check_handshake(
            self.flags,
            self.setup,
            self.memory,
            self.witness,
            negotiated,
            resumed=self.resumed,
            in_early_data=in_early_data,
        )

    def _early_words(self) -> int:
        """Say what the client says first as early data, as far as that may be sent. Returns how many bytes were."""
        flags, connection = self.flags, self.channel.connection
        connection.start()
        self.channel.answer_what_is_asked()
        left = connection.early_data_left
        if flags.expect_no_offer_early_data:
            expect("early data offered", left, 0)
        if not left or flags.server:
            return 0
        if flags.export_keying_material:
            self._export()
        if flags.read_with_unfinished_write:
            self.channel.write_in_part(flags.shim_initial_write.encode(), early=True)
            return 0
        sent = 0
        for word in self._words():
            part = word[: connection.early_data_left]
            connection.send_early_data(part)
            self.channel.flush()
            sent += len(part)
        return sent

    def _words(self) -> list[bytes]:
        flags = self.flags
        words = flags.repeat_shim_initial_write if flags.shim_writes_first else 0
        return [flags.shim_initial_write.encode()] * words

    def _export(self) -> None:
        label, context = self.flags.export_label.encode(), self.flags.export_context.encode()
        size = self.flags.export_keying_material
        self.channel.write(self.channel.connection.export_keying_material(label, context, size))

    def _first_words(self, sent_early: int) -> None:
        flags, channel = self.flags, self.channel
        if flags.export_keying_material:
            self._export()
        if flags.export_traffic_secrets:
            read, write = self.witness.traffic_secrets(server=flags.server)
            channel.write(len(read).to_bytes(2, "little") + read + write)
        if flags.read_with_unfinished_write:
            if not channel.wrote_in_part:
                channel.write_in_part(flags.shim_initial_write.encode())
            return
        for word in self._words():
            if rest := word[sent_early:]:
                channel.write(rest)
            sent_early -= len(word) - len(rest)

    def _echo(self) -> None:
        flags, channel = self.flags, self.channel
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

    def _close(self, *, truncated: bool) -> None:
        check = self.flags.check_close_notify
        if truncated:
            if check:
                raise Mismatch("Unexpected SSL_shutdown result: -1 != 1")
            return
        self.channel.connection.close()
        self.channel.flush()
        if self.flags.shim_shuts_down and check:
            try:
                while self.channel.read(_READ):
                    pass
            except TruncatedStream:
                raise Mismatch("Unexpected SSL_shutdown result: -1 != 1") from None


def run_connection(flags: Flags, retry: Flags, setup: Setup, memory: Memory, *, resumed: bool) -> None:
    """Hold one connection. Raises TLSError, Mismatch, OSError."""
    if resumed and flags.expect_reject_early_data:
        # After the rejection it is as if only now the handshake began.
        if flags.reverify_on_resume and not flags.server:
            setup.judge.retry = retry
        else:
            setup.judge.flags = retry
    witness = Witness()
    if flags.server:
        connection = Connection.server(setup.config, trace=witness)
    else:
        connection = Connection.client(setup.config, setup.server_name, trace=witness)
    with _connect(flags) as sock:
        channel = Channel(sock, connection, setup, one_byte=flags.asynchronous)
        try:
            Exchange(channel, flags, retry, setup, memory, witness, resumed).run()
        finally:
            channel.flush()
            _drain(sock)


def _connect(flags: Flags) -> socket.socket:
    """Return a socket connected to the runner, which has been told who we are."""
    family, address = (socket.AF_INET6, "::1") if flags.ipv6 else (socket.AF_INET, "127.0.0.1")
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((address, flags.port))
    sock.sendall(flags.shim_id.to_bytes(8, "little"))
    return sock


def _drain(sock: socket.socket) -> None:
    """Half-close, and read until the runner has closed: a reset would overtake our last alert."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_READ):
            pass
