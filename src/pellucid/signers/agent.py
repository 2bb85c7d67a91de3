"""The process that holds the keys: it answers over a Unix socket, and signs nothing but CertificateVerify.

Whoever may ask can authenticate as the certificate's owner for as long as it may ask. It cannot take the key away, and
it cannot have anything else signed with it: no certificate request, no token, no handshake of TLS 1.2 (RFC 9846 §4.5.2
prefixes what is signed for this reason).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import logging
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from pellucid.config import Credential
from pellucid.crypto import credentials as own
from pellucid.crypto.provider import Signer
from pellucid.errors import DecodeError, UsageError
from pellucid.handshake.authenticate import signing_role
from pellucid.registry import CertificateType, scheme_name
from pellucid.signers.messages import (
    HEADER,
    MAX_BODY,
    Identities,
    Identity,
    Kind,
    Refusal,
    Signed,
    SignRequest,
    frame,
    header,
)
from pellucid.trace import Role

__all__ = ["KeyAgent", "key_digest", "signers_of", "signers_of_keys"]

MAX_CONNECTIONS: Final = 256
FRAME_SECONDS: Final = 5.0
"""for the rest of a frame whose first byte is there, and for taking an answer; a connection may be idle for ever"""
_LOG: Final = logging.getLogger("pellucid.signers")
_MAX_REQUEST: Final = 512  # the longest question has 290 bytes
_UCRED: Final = "3i"  # pid, uid, gid (Linux, socket(7))
_XUCRED: Final = "2I"  # cr_version, cr_uid (macOS, FreeBSD); what follows is not looked at
_XUCRED_SIZE: Final = 128


def key_digest(spki: bytes) -> bytes:
    """Return how a key is named to the agent: SHA-256 of its SubjectPublicKeyInfo (DER). 32 bytes."""
    return hashlib.sha256(spki).digest()


def signers_of(credentials: Iterable[Credential]) -> dict[bytes, Signer]:
    """Return the credentials' signers by `key_digest` of what their certificates say."""
    return {key_digest(own.spki_in(one.leaf)): one.signer for one in credentials}


def signers_of_keys(keys: Iterable[bytes], password: bytes | None = None) -> dict[bytes, Signer]:
    """Return signers of private keys, PEM or DER. An RSA key signs for certificates with rsaEncryption keys.

    Raises UsageError if one cannot be read, or cannot sign TLS 1.3 handshakes.
    """
    found: dict[bytes, Signer] = {}
    for data in keys:
        key = own.private_key_of(data, password)
        spki = own.spki_of(key)
        found[key_digest(spki)] = own.signer_for(own.parse_own((spki,), CertificateType.RAW_PUBLIC_KEY), key)
    return found


class KeyAgent:
    """Answers for *signers* on a Unix socket.

    signers: by `key_digest`. One may also be a way to a key elsewhere, such as a Pkcs11Signer.
    users:   numbers of those who may ask; None: who runs the agent. The kernel says who is at the other end.
    roles:   whose CertificateVerify is signed: servers', clients' or both.
    """

    def __init__(
        self,
        signers: Mapping[bytes, Signer],
        *,
        users: Iterable[int] | None = None,
        roles: Iterable[Role] = (Role.SERVER, Role.CLIENT),
    ) -> None:
        if not signers:
            raise UsageError("a key agent needs a key")
        self._signers = dict(signers)
        self._users = frozenset((os.geteuid(),) if users is None else users)
        self._roles = frozenset(roles)
        self._open = 0
        self.signed = 0
        """signatures given so far"""
        self.refused = 0
        """questions and callers that were refused so far"""

    def who_may_ask(self) -> str:
        """Return the users who may ask, for people."""
        return ", ".join(f"user {number}" for number in sorted(self._users))

    async def serve(self, listening: socket.socket) -> None:
        """Answer whoever connects to *listening*, a bound Unix stream socket, until it is cancelled."""
        # The tasks are ours: of one it has made itself, asyncio (3.11) logs that it was cancelled.
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_unix_server(accept, sock=listening, limit=_MAX_REQUEST)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                self._refuse_caller("too many connections")
            elif self._may_ask(writer.get_extra_info("socket")):
                await self._answer_all(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            _LOG.debug("a connection ended: %s", type(error).__name__)
        except DecodeError as error:
            self._refuse_caller(error.reason)
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _refuse_caller(self, why: str) -> None:
        self.refused += 1
        _LOG.warning("a caller was turned away: %s", why)

    def _may_ask(self, sock: socket.socket) -> bool:
        uid = peer_uid(sock)
        if uid in self._users:
            return True
        self._refuse_caller(f"user {uid} may not ask")
        return False

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while first := await reader.read(1):
            async with asyncio.timeout(FRAME_SECONDS):
                kind, length = header(first + await reader.readexactly(HEADER - 1))
                if length > _MAX_REQUEST:
                    raise DecodeError(f"a question of {length} bytes", rfc="9846 §3.4")
                body = await reader.readexactly(length)
            answer = await self._answer(kind, body)
            async with asyncio.timeout(FRAME_SECONDS):
                writer.write(answer)
                await writer.drain()

    async def _answer(self, kind: Kind, body: bytes) -> bytes:
        if kind is Kind.LIST and not body:
            identities = tuple(Identity(key, tuple(signer.schemes)) for key, signer in self._signers.items())
            return frame(Kind.IDENTITIES, Identities(identities).encode())
        if kind is not Kind.SIGN:
            raise DecodeError(f"a question of kind {kind.name}", rfc="9846 §3.4")
        try:
            signature = await self._sign(SignRequest.decode(body))
        except UsageError as error:
            self.refused += 1
            _LOG.warning("a signature was refused: %s", error.reason)
            return frame(Kind.REFUSED, Refusal(error.reason.encode()[:255]).encode())
        self.signed += 1
        return frame(Kind.SIGNED, Signed(signature).encode())

    async def _sign(self, request: SignRequest) -> bytes:
        """Return the signature. Raises UsageError if there is to be none."""
        signer = self._signers.get(request.key)
        if signer is None:
            raise UsageError("there is no such key")
        if request.scheme not in signer.schemes:
            raise UsageError(f"the key does not sign with {scheme_name(request.scheme)}")
        role = signing_role(request.data)
        if role is None:
            raise UsageError("that is not what a CertificateVerify of TLS 1.3 signs")
        if role not in self._roles:
            raise UsageError(f"no {role.value}'s CertificateVerify is signed here")
        try:
            signature = signer.sign(request.scheme, request.data)
            if inspect.isawaitable(signature):
                signature = await signature
        except Exception as error:  # a key service's: the caller is told that it failed, and others go on
            _LOG.error("a signer failed: %s", error)
            raise UsageError(f"the key could not be used: {type(error).__name__}") from error
        if not isinstance(signature, bytes) or len(signature) > MAX_BODY - 2:
            raise UsageError("the key's signer gave no signature")
        return signature


def peer_uid(sock: socket.socket) -> int:
    """Return the number of the user at the other end of a Unix socket. Raises UsageError where nobody can tell."""
    if hasattr(socket, "SO_PEERCRED"):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
        return int(struct.unpack(_UCRED, data)[1])
    local = getattr(socket, "LOCAL_PEERCRED", None)
    if local is None:
        raise UsageError("this system does not say who is at the other end of a Unix socket")
    data = sock.getsockopt(0, local, _XUCRED_SIZE)
    return int(struct.unpack(_XUCRED, data[: struct.calcsize(_XUCRED)])[1])
