"""A key that a key agent holds, as a Signer: it is asked over a Unix socket for every handshake."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Final, TypeVar

from pellucid.config import Credential
from pellucid.crypto import credentials as own
from pellucid.errors import DecodeError, InternalError, UsageError
from pellucid.registry import CertificateType
from pellucid.signers.agent import key_digest
from pellucid.signers.messages import (
    HEADER,
    Identities,
    Kind,
    Refusal,
    Signed,
    SignRequest,
    frame,
    header,
)
from pellucid.wire import WireStruct

__all__ = ["AgentSigner", "agent_credential"]

_TIMEOUT: Final = 5.0
_IDLE: Final = 8  # connections that are kept for the next signatures
T = TypeVar("T", bound=WireStruct)


class AgentSigner:
    """Signs with a key that the agent at *path* holds. For any number of threads.

    certificate: the leaf, DER, or a raw public key's SubjectPublicKeyInfo: it says which key.
    timeout:     seconds that the agent may take for an answer.

    `sign` waits for the agent, about as long as the signature takes; where an event loop must not, see `InThread`.
    An agent that was started anew is found again. Raises UsageError if it cannot be reached now, or lacks the key.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        certificate: bytes,
        *,
        certificate_type: int = CertificateType.X509,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        self._path = os.fspath(path)
        self._timeout = timeout
        self._process = os.getpid()
        self._key = key_digest(own.spki_in(own.parse_own((certificate,), certificate_type)))
        try:
            found = self._ask(Kind.LIST, b"", Kind.IDENTITIES, Identities)
        except InternalError as error:
            raise UsageError(error.reason) from error
        schemes = {one.key: one.schemes for one in found.identities}
        if self._key not in schemes:
            raise UsageError(f"the key agent at {self._path} does not have the certificate's key")
        self.schemes: tuple[int, ...] = schemes[self._key]

    def sign(self, scheme: int, data: bytes) -> bytes:
        """Return the signature over *data*. Raises InternalError if the agent refuses, is gone or takes too long."""
        request = SignRequest(self._key, scheme, data).encode()
        return self._ask(Kind.SIGN, request, Kind.SIGNED, Signed).signature

    def close(self) -> None:
        """Let go of the connections. The next signature opens one again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sock in idle:
            sock.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AgentSigner {self._path} {self._key[:6].hex()}…>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("the way to a private key is not pickled")

    def _ask(self, kind: Kind, body: bytes, expected: Kind, answer: type[T]) -> T:
        """Return the agent's answer. A kept connection may be dead: then a new one is tried, once."""
        deadline = time.monotonic() + self._timeout
        while True:
            sock = self._kept()
            fresh = sock is None
            try:
                if sock is None:
                    sock = self._connect()
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock.sendall(frame(kind, body))
                got = self._received(sock, deadline)
            except (OSError, DecodeError) as error:
                if sock is not None:
                    sock.close()
                if fresh or isinstance(error, TimeoutError | DecodeError):
                    raise InternalError(f"the key agent at {self._path} does not answer: {_why(error)}") from error
                continue
            return self._read(sock, got, expected, answer)

    def _read(self, sock: socket.socket, got: tuple[Kind, bytes], expected: Kind, answer: type[T]) -> T:
        kind, body = got
        try:
            if kind is Kind.REFUSED:
                reason = Refusal.decode(body).reason.decode("utf-8", "replace")
                raise InternalError(f"the key agent at {self._path} refuses: {reason}")
            if kind is not expected:
                raise InternalError(f"the key agent at {self._path} answers with {kind.name}")
            found: T = answer.decode(body)
        except DecodeError as error:
            sock.close()
            raise InternalError(f"the key agent at {self._path} cannot be understood: {error.reason}") from error
        except InternalError:
            self._keep(sock)
            raise
        self._keep(sock)
        return found

    def _received(self, sock: socket.socket, deadline: float) -> tuple[Kind, bytes]:
        kind, length = header(_exactly(sock, HEADER, deadline))
        return kind, _exactly(sock, length, deadline)

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._timeout)
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        return sock

    def _kept(self) -> socket.socket | None:
        with self._lock:
            if self._process != os.getpid():
                # After a fork the other process has the same connections: two would read each other's answers.
                for sock in self._idle:
                    sock.close()
                self._idle, self._process = [], os.getpid()
            return self._idle.pop() if self._idle else None

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < _IDLE and self._process == os.getpid():
                self._idle.append(sock)
                return
        sock.close()


def agent_credential(
    path: str | os.PathLike[str], chain: bytes | Iterable[bytes], *, timeout: float = _TIMEOUT
) -> Credential:
    """Return the credential of a certificate whose key the agent at *path* holds.

    chain: PEM text, or DER, end-entity first. Raises UsageError as `AgentSigner` does.
    """
    certificates = own.certificates_from_pem(chain) if isinstance(chain, bytes) else tuple(chain)
    if not certificates:
        raise UsageError("a credential needs at least one certificate")
    return Credential(chain=certificates, signer=AgentSigner(path, certificates[0], timeout=timeout))


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("it closed the connection")
        data += piece
    return bytes(data)


def _why(error: OSError | DecodeError) -> str:
    if isinstance(error, DecodeError):
        return error.reason
    return error.strerror or str(error) or type(error).__name__
