"""Pre-shared keys in a ClientHello: the identities, and the binders that prove the keys (RFC 9846 §4.3.11)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import field

from pellucid.errors import DecryptError, IllegalParameter
from pellucid.messages import extensions as x
from pellucid.messages.extensions import OfferedPsks, PskIdentity
from pellucid.messages.handshake import ClientHello, Extension, handshake_message
from pellucid.schedule import EarlySecret
from pellucid.sessions.client import ClientSession
from pellucid.sessions.psk import Psk
from pellucid.transcript import Transcript
from pellucid.value import internal_value


@internal_value
class OfferedPsk:
    """A PSK in our ClientHello. session: what it resumes, None for an external PSK."""

    psk: Psk
    early: EarlySecret
    session: ClientSession | None
    obfuscated_ticket_age: int = field(default=0)


def binders_length(binders: Sequence[bytes]) -> int:
    """Return the size of the encoded binders list, which Truncate() removes (§4.3.11.2)."""
    return 2 + sum(1 + len(binder) for binder in binders)


def truncated_hash(transcript: Transcript, early: EarlySecret, raw: bytes, binders: Sequence[bytes]) -> bytes:
    """Return what a binder is computed over (§4.3.11.2).

    transcript: what came before this ClientHello: nothing, or a ClientHello1 and a HelloRetryRequest.
    raw:        the ClientHello, header included, with binders of the right lengths.
    """
    partial = transcript.fork()
    partial.choose(early.suite)
    partial.add(raw[: -binders_length(binders)])
    return partial.digest()


def bound_hello(hello: ClientHello, psks: Sequence[OfferedPsk], transcript: Transcript) -> tuple[ClientHello, bytes]:
    """Return *hello* with pre_shared_key, its last extension, and its encoding, header included.

    Each binder is computed with its PSK's hash, which after a HelloRetryRequest is the negotiated one.
    """
    identities = tuple(PskIdentity(one.psk.identity, one.obfuscated_ticket_age) for one in psks)
    blank = tuple(bytes(one.early.suite.hash_length) for one in psks)
    unbound = x.OFFERED_PSKS.codec.encode(OfferedPsks(identities, blank))
    raw = handshake_message(_with_psks(hello, unbound))
    binders = [
        one.early.binder(one.psk.binder_label, truncated_hash(transcript, one.early, raw, blank)) for one in psks
    ]
    # They are as long as the blanks: their list takes the place of that one, and nothing is encoded again.
    size = binders_length(binders)
    listed = (size - 2).to_bytes(2, "big") + b"".join(bytes((len(binder),)) + binder for binder in binders)
    return _with_psks(hello, unbound[:-size] + listed), raw[:-size] + listed


def _with_psks(hello: ClientHello, offered: bytes) -> ClientHello:
    extension = Extension(x.OFFERED_PSKS.extension_type, offered)
    return ClientHello(
        legacy_version=hello.legacy_version,
        random=hello.random,
        legacy_session_id=hello.legacy_session_id,
        cipher_suites=hello.cipher_suites,
        legacy_compression_methods=hello.legacy_compression_methods,
        extensions=(*hello.extensions, extension),
    )


def check_binder_count(offered: OfferedPsks) -> None:
    """Raise IllegalParameter unless there is one binder for each identity (§4.3.11)."""
    if len(offered.identities) != len(offered.binders):
        raise IllegalParameter(
            f"{len(offered.identities)} PSK identities with {len(offered.binders)} binders", rfc="9846 §4.3.11"
        )


def check_binder(
    transcript: Transcript, psk: Psk, early: EarlySecret, raw: bytes, offered: OfferedPsks, index: int
) -> None:
    """Raise DecryptError unless the binder at *index* proves that the client has *psk* (§4.3.11.2)."""
    expected = early.binder(psk.binder_label, truncated_hash(transcript, early, raw, offered.binders))
    if not hmac.compare_digest(expected, offered.binders[index]):
        raise DecryptError(f"the binder of PSK identity {index} is wrong", rfc="9846 §4.3.11.2", code="TLS-BAD-PSK")
