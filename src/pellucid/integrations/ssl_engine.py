"""One connection in the shape `ssl` gives it: bytes in, bytes out, and what is asked of it. No I/O, no BIOs.

`ssl_object` feeds it from memory, `ssl_socket` from a socket. Every error that leaves is an `ssl.SSLError` too.
"""

from __future__ import annotations

import ssl
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pellucid.connection import Connection
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.provider import Buffer
from pellucid.errors import InternalError, PeerError, TLSError, UsageError
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    CredentialNeeded,
    EarlyData,
    EarlyDataAccepted,
    FirstUseNeeded,
    HandshakeComplete,
    PeerAuthenticated,
    SignatureNeeded,
    TicketNeeded,
    VerificationNeeded,
)
from pellucid.handshake.actions import Negotiated
from pellucid.handshake.post_handshake import NOT_OFFERED
from pellucid.integrations.handshake_watch import HandshakeWatch
from pellucid.integrations.ssl_certificate import certificate_dict
from pellucid.integrations.ssl_errors import ConfigurationError, WantRead, ZeroReturn, ssl_error
from pellucid.integrations.ssl_hello import CallbackFailed, FirstFlight
from pellucid.integrations.ssl_session import ConnectionSessions, SSLSession
from pellucid.limits import FULL_RECORD
from pellucid.registry import AlertDescription, group_name, scheme_name, suite_name
from pellucid.trace import Observer, Role
from pellucid.verify.report import VerificationReport, VerifiedPeer

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["VERSION", "Cipher", "Engine", "Facts", "Pause", "cipher_of"]

VERSION: Final = "TLSv1.3"
Cipher = tuple[str, str, int]
"""name, protocol, secret bits: what `ssl` calls a cipher"""

Pause = CredentialNeeded | SignatureNeeded | VerificationNeeded | TicketNeeded | FirstUseNeeded

_MAX_WRITE: Final = 2**18  # sealed by one write; of a longer one it is told how much was taken
_RECORD_OVERHEAD: Final = 5 + 1 + 16  # header, content type, tag
_MAX_TAKEN: Final = 7 * FULL_RECORD  # off a socket at a time: a block for which no fresh pages are mapped


def cipher_of(code: int) -> Cipher:
    """Return the suite as `ssl` names it."""
    name = suite_name(code)
    return name, VERSION, 128 if "_128_" in name else 256


class Engine:
    """A `Connection`, driven by calls that either succeed or raise WantRead. Not for two threads at once."""

    def __init__(
        self,
        connection: Connection,
        context: SSLContext,
        observer: Observer | None,
        *,
        own: Observer | None = None,
        watch: HandshakeWatch | None = None,
        sessions: ConnectionSessions | None = None,
        hello: FirstFlight | None = None,
    ) -> None:
        self.connection = connection
        self.context = context
        self.observer = observer
        """what all is told to"""
        self.own = own
        """of those who are told, the one that the configuration's `trace` made"""
        self.watch = watch
        """what tells of the handshake's end; None: nobody wants to know"""
        self.sessions = sessions
        """client: what is resumed, and what came to be resumed"""
        self.hello = hello
        """server: the ClientHello that callbacks wait for; then *connection* is not yet the one that goes on"""
        self.owner: weakref.ref[Facts] | None = None
        """the SSLObject or SSLSocket; weak, so that neither waits for the other to be collected"""
        self._counted = False
        self.completed_at = 0.0
        """when the handshake was complete, seconds since 1970"""
        self.discarding = False
        """whether what the peer still sends is thrown away: this end has closed"""
        self.peer_closed = False
        self.end_told = False
        """whether a read has told of the end of the peer's data, or of the error"""
        self.error: TLSError | None = None
        self.early_bytes = 0
        """how many bytes came as early data, accepted: the first that are read, and perhaps somebody's replay"""
        self.later_certificates: tuple[bytes, ...] = ()
        """server: what the client showed after the handshake, as it came, leaf first"""
        self._accepted: Negotiated | None = None
        self._plain: deque[bytes] = deque()  # decrypted, not read yet, in the pieces it came in: most are never copied
        self._at = 0  # how much of the first piece was read
        self.pending = 0
        """how many bytes `read` has at hand"""
        self._output = b""

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer, b"" for the end of its stream. What is wrong with them is raised by the next call."""
        if self.peer_closed or self.error is not None:
            return
        if self.hello is not None:
            self._hear(self.hello, data)
            return
        if self.expects_record():
            plaintext = self.connection.open_record(data)
            if plaintext is not None:
                self.keep(plaintext)
                return
        self._guarded(lambda: self.connection.receive_data(data))
        self._work()

    def wanted(self, size: int) -> int:
        """Return how many bytes to take off a socket for a read of *size* bytes of data; 0: to the end of one record.

        Programs that wait for a socket with `select` rely on what OpenSSL does: what they did not ask for yet, but for
        the rest of one record, is still in the kernel. So no more is taken than can hold *size* bytes of data, or ends
        the record that is cut; in the handshake nothing beyond its record.
        """
        if self.hello is not None:
            return self.hello.lacking
        here, lacks = self.connection.cut_record
        return max(1, lacks, min(size + _RECORD_OVERHEAD, _MAX_TAKEN) - here if size and self.negotiated else 0)

    def expects_record(self) -> bool:
        """Whether the next thing to do about reading is to take a record, from its beginning."""
        connection = self.connection
        return not (self.pending or self.discarding or self.error or self.hello) and (
            connection.idle and connection.between_records
        )

    def seal_record(self, data: bytes) -> bytes | None:
        """Return *data* as the one record that is to be sent; None: nothing was done, it is for `write`."""
        return None if self._output or self.hello else self.connection.seal_record(data)

    def keep(self, data: bytes) -> None:
        """Put what was opened where `read` finds it."""
        self._plain.append(data)
        self.pending += len(data)

    def take(self) -> bytes:
        """Return all that is to be sent, the alert after an error included."""
        output, self._output = self._output, b""
        return output + self.connection.data_to_send()

    def has_output(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._output) or self.connection.has_output

    # ---- calls -----------------------------------------------------------------------------------------------------

    @property
    def negotiated(self) -> Negotiated | None:
        """What was agreed on; while a server reads early data: what will have been when the handshake is complete."""
        return self.connection.negotiated or self._accepted

    def handshake(self) -> None:
        """Return once data may flow: the handshake is complete, or early data is accepted. WantRead before that."""
        if self.negotiated is not None:
            return
        if not self._counted:
            self._counted = True
            self.context.statistics.count("accept" if self.connection.role is Role.SERVER else "connect")
        self.connection.start()
        self._work()
        self.check()
        if self.negotiated is None:
            raise WantRead

    @property
    def ended(self) -> bool:
        """Whether nothing more comes: the peer has closed, or something was wrong."""
        return self.peer_closed or self.error is not None

    def read(self, size: int) -> bytes | None:
        """Return 1 to *size* bytes, b"" after the peer's close_notify, None if more of the peer is needed."""
        if not self.pending:
            self.end_told = self.ended
            self.handshake()
            self.check()
            return b"" if self.peer_closed else None
        plain, at = self._plain, self._at
        first = plain[0]
        if not at and size >= self.pending and len(plain) == 1:
            # Bulk data, and a message alone: no copy is made.
            plain.clear()
            self.pending = 0
            return first
        if at + size < len(first):
            self._at = at + size
            self.pending -= size
            return first[at : at + size]
        pieces = [first[at:] if at else plain.popleft()]
        if at:
            plain.popleft()
            self._at = 0
        left = size - len(pieces[0])
        while plain and left >= len(plain[0]):
            pieces.append(plain.popleft())
            left -= len(pieces[-1])
        self.pending -= size - left
        return b"".join(pieces)

    def read_into(self, target: memoryview) -> int | None:
        """Fill *target*, of bytes, with what is at hand; return how much that was, 0 and None as `read` does."""
        if not self.pending:
            data = self.read(1)
            return None if data is None else 0
        done, size = 0, len(target)
        while done < size and self.pending:
            data = self.read(size - done) or b""
            target[done : done + len(data)] = data
            done += len(data)
        return done

    def write(self, data: Buffer) -> int:
        """Seal *data*, at most 256 KiB of it; return how much that was."""
        self.handshake()
        self.check()
        if self.connection.closed:
            raise ZeroReturn
        with memoryview(data) as given, given.cast("B") as view:
            piece = view[:_MAX_WRITE]
            if len(piece):
                self._guarded(lambda: self.connection.send_data(piece))
                self.check()
            size = len(piece)
            piece.release()
        return size

    def discard(self) -> None:
        """Throw away what was not read, and what the peer still sends."""
        self.discarding = True
        self.drop()

    def drop(self) -> None:
        """Throw away what was not read."""
        self._plain.clear()
        self._at = self.pending = 0

    def close(self) -> None:
        """Say close_notify. What the peer still sends is thrown away from now on. A second call does nothing."""
        self.discard()
        self.say_goodbye()

    def say_goodbye(self) -> None:
        """Say close_notify, and go on reading. A second call does nothing."""
        self._guarded(self.connection.close)

    def request_certificate(self, *, required: bool) -> None:
        """Server: ask for the client's certificate after the handshake."""
        if self.connection.role is not Role.SERVER:
            raise ConfigurationError("not server: a client cannot ask for the server's certificate again")
        if self.context.verify_mode is ssl.CERT_NONE:
            raise ConfigurationError("the client's certificate is not asked for where verify_mode is CERT_NONE")
        try:
            self.connection.request_client_certificate(required=required)
        except UsageError as error:
            if NOT_OFFERED in error.reason:
                raise ConfigurationError(f"extension not received: {error.reason}") from None
            raise ssl_error(error) from None
        except TLSError as error:
            raise ssl_error(error) from None

    # ---- the connection's events -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error

    def _guarded(self, work: Any) -> None:  # Any: the result does not matter
        try:
            work()
        except TLSError as error:
            if self.error is None:
                self.error = ssl_error(error)

    def _work(self) -> None:
        """Take the events that are there. An error is kept: the data before it is read first."""
        self._guarded(self._take_events)

    def _take_events(self) -> None:
        while (event := self.connection.next_event()) is not NEED_DATA:
            if isinstance(event, ApplicationData):
                self._keep(event.data)
            elif isinstance(event, EarlyData):
                self.early_bytes += len(event.data)
                self._keep(event.data)
            elif isinstance(event, EarlyDataAccepted):
                self._accepted = event.negotiated
            elif isinstance(event, CloseNotify):
                self.peer_closed = True
            elif isinstance(event, HandshakeComplete):
                self.completed_at = time.time()
                good = "accept_good" if self.connection.role is Role.SERVER else "connect_good"
                self.context.statistics.count(good, *(("hits",) if event.negotiated.resumed else ()))
            elif isinstance(event, PeerAuthenticated):
                self.later_certificates = event.certificates or self.later_certificates
            elif isinstance(event, Pause):
                self._answer(event)

    def _keep(self, data: bytes) -> None:
        if not self.discarding:
            self.keep(data)

    def _hear(self, hello: FirstFlight, data: bytes) -> None:
        """Wait for the whole ClientHello; then make the connection that the callbacks choose, and go on with it."""
        offer = hello.take(data)
        if self.connection.closed or (offer is None and not hello.over):
            return  # there is no connection to be made for who has closed
        self.hello = None
        if offer is not None:
            try:
                self.connection = self.context.server_connection(self, offer)
            except TLSError as error:
                alert = error.alert if isinstance(error, CallbackFailed) else AlertDescription.INTERNAL_ERROR
                self.connection.fail(alert)
                self.error = ssl_error(error)
                return
        self._guarded(lambda: self.connection.receive_data(bytes(hello.data)))
        if not data:
            self._guarded(lambda: self.connection.receive_data(data))
        self._work()
        if offer is None and self.error is None:  # nobody was asked about it: it cannot go on
            self.connection.fail(AlertDescription.UNEXPECTED_MESSAGE)
            self.error = ssl_error(UsageError("the callbacks could not read the ClientHello"))

    def _answer(self, pause: Pause) -> None:
        answer = self.context.answer
        if answer is None:
            awaits = pause.answer is not None
            self.connection.fail(AlertDescription.INTERNAL_ERROR)
            raise ConfigurationError(
                f"nobody answers {type(pause).__name__}: give SSLContext an `answer`, or a signer and verifier "
                "that answer at once" + ("; what must be awaited, pellucid.asyncio and pellucid.aio await" * awaits)
            )
        try:
            value = answer(pause)
        except Exception as error:
            self.connection.fail(AlertDescription.INTERNAL_ERROR)
            raise InternalError(f"{type(error).__name__} while answering {type(pause).__name__}") from error
        self.connection.resume(value, pause.need)


class Facts:
    """What `ssl.SSLObject` and `ssl.SSLSocket` tell of their connection, and what ours tell beyond it."""

    _engine: Engine | None
    server_side: bool
    server_hostname: str | None

    @property
    def connection(self) -> Connection:
        """The connection without I/O. Raises ConfigurationError where there is none yet: a listening socket."""
        return self._tls.connection

    @property
    def negotiated(self) -> Negotiated | None:
        """What was agreed on; None before the handshake. While a server reads early data: what will have been."""
        return None if self._engine is None else self._engine.negotiated

    @property
    def handshake_complete(self) -> bool:
        """Whether the peer's Finished is in. False while a server reads early data."""
        return self._engine is not None and self._engine.connection.handshake_complete

    @property
    def early_bytes(self) -> int:
        """How many bytes came as early data, the first that are read. They may be a replay: RFC 9846 §8."""
        return 0 if self._engine is None else self._engine.early_bytes

    @property
    def peer(self) -> VerifiedPeer | None:
        """The peer's verified certificates, of the handshake or of after it; None for a client that showed none."""
        return None if self._engine is None else self._engine.connection.peer

    @property
    def report(self) -> VerificationReport | None:
        """What was found of the peer's certificates, of refused ones too."""
        if self.peer is not None:
            return self.peer.report
        error = None if self._engine is None else self._engine.error
        found = error.verification if isinstance(error, PeerError) else None
        return found if isinstance(found, VerificationReport) else None

    @property
    def _agreed(self) -> Negotiated | None:
        """What the methods that `ssl` has tell of: nothing once the connection is closed, as there."""
        return self.negotiated

    @property
    def trace(self) -> Observer | None:
        """The observer that the configuration's `trace` made for this connection, such as a Recorder."""
        return None if self._engine is None else self._engine.own

    @property
    def session(self) -> SSLSession | None:
        """What can be given to a later connection, with the newest ticket; None before the handshake is complete.

        Client: before the handshake it may be set to a session of the same context. Raises TypeError and ValueError.
        """
        engine = self._engine
        if engine is None or not self.handshake_complete:
            return None if engine is None or engine.sessions is None else engine.sessions.given
        return engine.context.session_of(engine)

    @session.setter
    def session(self, session: SSLSession | None) -> None:
        engine = self._tls
        if self.negotiated is not None:
            raise ValueError("Cannot set session after handshake.")
        if session is not None:
            engine.context.check_session(session, server_side=self.server_side)
        if engine.sessions is not None:
            engine.sessions.given = session

    @property
    def session_reused(self) -> bool | None:
        return None if self._agreed is None else self._agreed.resumed

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Return the peer's certificate: DER if *binary_form*, else a dictionary, {} if nothing vouches for it.

        None if the peer showed none, or a raw public key, which is no certificate: `peer.leaf` has it. Raises
        ValueError before the handshake is complete.
        """
        if self.negotiated is None:
            raise ValueError("handshake not done yet")
        leaf = None if self.peer is None else self.peer.leaf
        if self.peer is None or not isinstance(leaf, X509Certificate):
            return None
        if binary_form:
            return leaf.der
        return {} if self.peer.report.dangerous else certificate_dict(leaf)

    def get_verified_chain(self) -> list[bytes]:
        """Return the verified path as DER, leaf first; nothing of a raw public key."""
        shown = self.peer is not None and isinstance(self.peer.leaf, X509Certificate)
        return list(self.peer.chain) if self.peer is not None and shown else []

    def get_unverified_chain(self) -> list[bytes]:
        """Return the certificates that the peer sent, as DER, leaf first; nothing of a raw public key."""
        if self._engine is None or self.negotiated is None or not self.get_verified_chain():
            return []
        sent = self._engine.later_certificates or self.negotiated.peer_certificates
        return list(sent) or self.get_verified_chain()[:1]

    def version(self) -> str | None:
        """Return "TLSv1.3"; None before the handshake is complete.

        While a server reads early data too: trio holds back what a server of TLS 1.3 sends after its handshake, which
        is tickets elsewhere, and would be the ServerHello here.
        """
        return None if self._agreed is None or not self.handshake_complete else VERSION

    def cipher(self) -> Cipher | None:
        """Return (IANA's name of the suite, "TLSv1.3", key bits); None before the handshake is complete."""
        if self._agreed is None:
            return None
        return cipher_of(self._agreed.cipher_suite)

    def shared_ciphers(self) -> list[Cipher] | None:
        """Return, for a server, the one suite that is known to be shared: what else the client had is not kept."""
        cipher = self.cipher()
        return [cipher] if self.server_side and cipher is not None else None

    def selected_alpn_protocol(self) -> str | None:
        return None if self._agreed is None else self._agreed.alpn

    def selected_npn_protocol(self) -> None:
        return None

    def compression(self) -> None:
        return None

    def group(self) -> str | None:
        """Return the name of the key-exchange group."""
        group = None if self.negotiated is None else self.negotiated.group
        return None if group is None else group_name(group)

    def server_sigalg(self) -> str | None:
        """Return the name of the scheme of the server's CertificateVerify."""
        scheme = None if self.negotiated is None else self.negotiated.signature_scheme
        return None if scheme is None else scheme_name(scheme)

    def client_sigalg(self) -> str | None:
        scheme = None if self.negotiated is None else self.negotiated.client_signature_scheme
        return None if scheme is None else scheme_name(scheme)

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Return the binding: "tls-exporter" (RFC 9266). "tls-unique" is None: TLS 1.3 does not have it."""
        if cb_type == "tls-exporter":
            return None if self.negotiated is None else self.connection.channel_binding()
        if cb_type == "tls-unique":
            return None
        raise ValueError(f"{cb_type} channel binding type not implemented")

    def verify_client_post_handshake(self) -> None:
        """Server: ask for the client's certificate; the next reads find the answer, and `getpeercert` has it then.

        It goes out with the next write. Raises ssl.SSLError unless `post_handshake_auth` is set at both ends.
        """
        engine = self._tls
        engine.check()
        engine.request_certificate(required=engine.context.verify_mode is ssl.CERT_REQUIRED)

    @property
    def _tls(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError("there is no TLS connection: the socket listens, or is not connected")
        return self._engine
