"""How a server behaves: KeyUpdate, names it does not know, raw public keys."""

from __future__ import annotations

import hashlib
import time
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


# ---- KeyUpdate -------------------------------------------------------------------------------------------------------


def key_update(prober: Prober, first: Answer) -> tuple[KeyUpdateFacts, Answer | None]:
    """Return what the server does when it is asked for a KeyUpdate, and the connection it was asked on.

    It owes one before its next data only, so that it is asked something harmless, if that may be and it was verified;
    what it answers is read to its end.
    """
    if client_certificate_of(first).requested and wants_certificate(first):
        return KeyUpdateFacts(outcome=None, detail="the server wants a certificate first"), None
    nudge = _nudge(prober, first)
    said: list[bool] = []

    def talk(stream: Stream, answer: Answer) -> None:
        stream.settimeout(prober.patience(_UPDATE_SECONDS))
        stream.key_update(request_peer=True)
        if nudge:
            stream.sendall(nudge)
        end = time.monotonic() + prober.patience(_UPDATE_SECONDS if nudge else _SILENT_SECONDS)
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
            said.append(True)

    # Without sessions no tickets come, and HTTP/1.1 is what the request is written in.
    http = tuple(name for name in prober.target.alpn if name == "http/1.1") if prober.target.is_http else None
    changes = {} if http is None else {"alpn": http}
    answer = prober.retried("does it answer a KeyUpdate?", watched=True, talk=talk, **changes)
    asked = "after a request" if nudge else "nothing was asked of it"
    if answer.negotiated is None:
        return KeyUpdateFacts(outcome=None, detail=str(answer.error)), None
    if _updated(answer):
        outcome = "answered"
    elif said and nudge:
        outcome = "ignored"
    elif isinstance(answer.error, (AlertReceived, TruncatedStream)):
        return KeyUpdateFacts(outcome="refused", detail=refusal(answer.error) or ""), answer
    elif answer.error is not None:
        return KeyUpdateFacts(outcome=None, detail=str(answer.error)), answer
    else:
        outcome = "accepted"
    return KeyUpdateFacts(outcome=outcome, detail=asked), answer


def _nudge(prober: Prober, first: Answer) -> bytes:
    """Return what may be said to the server so that it says something; b"" for nothing."""
    if not prober.settings.requests or not first.witness.verified:
        return b""
    if prober.target.protocol is not None:
        return prober.target.protocol.nudge
    return head_request(prober) if prober.target.is_http else b""


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
