"""The running hash over the handshake messages (RFC 9846 §4.1)."""

from __future__ import annotations

from pellucid.crypto.provider import Hash, Suite
from pellucid.errors import InternalError
from pellucid.registry import HandshakeType


class Transcript:
    """Transcript-Hash over what has been added. Until the suite is known, messages wait in a list.

    Whoever handles a message decides whether the hash is taken before or after it: CertificateVerify and Finished
    cover what came before them.
    """

    __slots__ = ("_hash", "_waiting")

    def __init__(self) -> None:
        self._hash: Hash | None = None
        self._waiting: list[bytes] = []

    def add(self, raw: bytes) -> None:
        """Append one message, header included."""
        if self._hash is None:
            self._waiting.append(raw)
        else:
            self._hash.update(raw)

    def choose(self, suite: Suite) -> None:
        """Start hashing with the suite's hash. A second call is for the same suite and does nothing."""
        if self._hash is None:
            self._hash = suite.new_hash()
            for raw in self._waiting:
                self._hash.update(raw)
            self._waiting.clear()

    def digest(self) -> bytes:
        """Return Transcript-Hash of all that was added. Hash.length bytes."""
        if self._hash is None:
            raise InternalError("the transcript has no hash before a suite is chosen")
        return self._hash.digest()

    def replace_by_message_hash(self, suite: Suite) -> bytes:
        """Put message_hash in the place of ClientHello1, as a HelloRetryRequest demands (§4.1); return the hash."""
        self.choose(suite)
        client_hello_hash = self.digest()
        self.restore(suite, client_hello_hash)
        return client_hello_hash

    def restore(self, suite: Suite, client_hello_hash: bytes) -> None:
        """Begin with message_hash over a ClientHello1 that only its hash is known of (§4.3.2: stateless servers)."""
        self._waiting.clear()
        self._hash = suite.new_hash()
        self._hash.update(bytes((HandshakeType.MESSAGE_HASH, 0, 0, len(client_hello_hash))) + client_hello_hash)

    def let_go(self) -> None:
        """Forget it: nothing is added or asked for any more. A hash takes 360 bytes of an idle connection."""
        self._hash = None
        self._waiting.clear()

    def fork(self) -> Transcript:
        """Return a copy that goes on by itself: what PSK binders are computed over."""
        copy = Transcript()
        copy._hash = None if self._hash is None else self._hash.copy()
        copy._waiting = list(self._waiting)
        return copy
