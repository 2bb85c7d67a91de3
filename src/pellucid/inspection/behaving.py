"""How a server behaves: KeyUpdate, names it does not know, raw public keys."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import Final

from pellucid.errors import AlertReceived, TruncatedStream
from pellucid.inspection.facts import KeyUpdateFacts, NameFacts, RawPublicKeyFacts
from pellucid.inspection.probing import Answer, Prober, refusal
from pellucid.inspection.reading import client_certificate_of
from pellucid.inspection.resuming import head_request, wants_certificate
from pellucid.inspection.witness import DangerousKeyWitness
from pellucid.net.operations import DeadlineExceeded
from pellucid.net.sync import Stream
from pellucid.registry import CertificateType, HandshakeType
from pellucid.trace import Direction, MessageTraced
from pellucid.verify.names import is_ip

__all__ = ["key_update", "names", "raw_public_key"]

UNKNOWN_NAME: Final = "unknown-name.invalid"  # RFC 6761 §6.4: nobody has it
_UPDATE_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 0.1
_MAX_READ: Final = 2**18
_HTTP_ANSWER: Final = rb"HTTP/1\.[01] \d\d\d"
_MAX_ANSWER: Final = 4096  # to see how it begins


# ---- KeyUpdate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Nudge:
    """What may be said to the server so that it says something, b"" for nothing; and how its answer begins."""

    request: bytes = b""
    answer: bytes = b""


def key_update(prober: Prober, first: Answer) -> tuple[KeyUpdateFacts, Answer | None]:
    """Return what the server does when it is asked for a KeyUpdate, and the connection it was asked on.

    It owes one before its next data only, so that it is asked something harmless, if that may be and it was verified;
    what it answers is read to its end. Other data proves nothing: it may have been sent before the server had read what
    it was asked. So it is listened to first, until it is quiet, and only what begins like an answer is one.
    """
    if client_certificate_of(first).requested and wants_certificate(first):
        return KeyUpdateFacts(outcome=None, detail="the server wants a certificate first"), None
    nudge = _nudge(prober, first)
    talk = _Talk(prober, nudge)
    # Without sessions no tickets come, and HTTP/1.1 is what the request is written in.
    http = tuple(name for name in prober.target.alpn if name == "http/1.1") if prober.target.is_http else None
    changes = {} if http is None else {"alpn": http}
    answer = prober.retried("does it answer a KeyUpdate?", watched=True, talk=talk, **changes)
    if answer.negotiated is None:
        return KeyUpdateFacts(outcome=None, detail=str(answer.error)), None
    outcome, detail = None, "after a request" if nudge.request else "nothing was asked of it"
    if _updated(answer):
        outcome = "answered"
    elif talk.answered:
        outcome = "ignored"
    elif talk.asked and isinstance(answer.error, (AlertReceived, TruncatedStream)):
        outcome, detail = "refused", refusal(answer.error) or ""
    elif answer.error is not None:
        detail = str(answer.error)
    elif talk.said or not talk.quiet:
        detail = "it sends without being asked: whether it had read the request by then is not known"
    else:
        outcome = "accepted"
    return KeyUpdateFacts(outcome=outcome, detail=detail), answer


class _Talk:
    """The conversation in which a KeyUpdate is asked for. asked: it was; said: how what came after that begins."""

    def __init__(self, prober: Prober, nudge: _Nudge) -> None:
        self._prober = prober
        self._nudge = nudge
        self.quiet = True
        """whether the server was, before it was asked"""
        self.asked = False
        self.said = b""

    @property
    def answered(self) -> bool:
        """Whether it said something that it can have said only once it had read what it was asked."""
        return self.quiet and bool(self._nudge.request) and re.match(self._nudge.answer, self.said) is not None

    def __call__(self, stream: Stream, answer: Answer) -> None:
        prober, request = self._prober, self._nudge.request
        if request:
            self.quiet = self._listen(stream)
        stream.settimeout(prober.patience(_UPDATE_SECONDS))
        self.asked = True
        stream.key_update(request_peer=True)
        if request:
            stream.sendall(request)
        end = time.monotonic() + prober.patience(_UPDATE_SECONDS if request else _SILENT_SECONDS)
        read = 0
        while (left := end - time.monotonic()) > 0 and read < _MAX_READ:
            # Once it has answered, there is only its end to wait for.
            stream.settimeout(min(left, prober.patience(_SILENT_SECONDS)) if _updated(answer) else left)
            try:
                data = stream.recv()
            except DeadlineExceeded:
                return
            if not data:
                return
            read += len(data)
            self.said += data[: _MAX_ANSWER - len(self.said)]

    def _listen(self, stream: Stream) -> bool:
        """Read what the server says unasked, for a while; return whether it came to an end."""
        silence = self._prober.patience(_SILENT_SECONDS)
        end = time.monotonic() + self._prober.patience(_UPDATE_SECONDS)
        read = 0
        while (left := end - time.monotonic()) > 0 and read < _MAX_READ:
            stream.settimeout(min(left, silence))
            try:
                data = stream.recv()
            except DeadlineExceeded:
                return left >= silence
            if not data:
                return True
            read += len(data)
        return False


def _nudge(prober: Prober, first: Answer) -> _Nudge:
    if not prober.settings.requests or not first.witness.verified:
        return _Nudge()
    protocol = prober.target.protocol
    if protocol is not None:
        return _Nudge(protocol.nudge, protocol.answer)
    return _Nudge(head_request(prober), _HTTP_ANSWER) if prober.target.is_http else _Nudge()


def _updated(answer: Answer) -> bool:
    return answer.recorder is not None and any(
        event.message_type == HandshakeType.KEY_UPDATE and event.direction is Direction.RECEIVED
        for event in answer.recorder.of(MessageTraced)
    )


# ---- names -----------------------------------------------------------------------------------------------------------


def names(prober: Prober, first: Answer) -> NameFacts:
    """Return what a client gets that names somebody unknown, and one that names nobody."""
    unknown = prober.retried("a name it does not know?", server_name=UNKNOWN_NAME)
    silent = None
    if not is_ip(prober.target.server_name):
        silent = _shown(prober.retried("no name at all?", send_server_name=False), first)
    return NameFacts(unknown_name=_shown(unknown, first), no_name=silent)


def _shown(answer: Answer, first: Answer) -> str | None:
    if answer.negotiated is None:
        return refusal(answer.error)
    mine, theirs = answer.witness.request, first.witness.request
    same = mine is not None and theirs is not None and mine.leaf.der == theirs.leaf.der
    return "same certificate" if same else "another certificate"


# ---- raw public keys -------------------------------------------------------------------------------------------------


def raw_public_key(prober: Prober) -> RawPublicKeyFacts:
    """Return whether the server shows a raw public key to a client that takes nothing else (RFC 7250)."""
    witness = DangerousKeyWitness()
    answer = prober.retried(
        "a raw public key?",
        verifier=witness,
        server_certificate_types=(CertificateType.RAW_PUBLIC_KEY,),
    )
    if answer.negotiated is not None and witness.leaf is not None:
        digest = hashlib.sha256(witness.leaf.der).hexdigest()
        return RawPublicKeyFacts(supported=True, sha256=digest, detail="it shows one")
    how = refusal(answer.error)
    if how is None:
        return RawPublicKeyFacts(supported=None, sha256=None, detail=str(answer.error))
    # A server without RFC 7250 ignores the extension and shows X.509, which is none of what was offered.
    detail = "it shows certificates only" if how == "misbehaved" else how
    return RawPublicKeyFacts(supported=False, sha256=None, detail=detail)
