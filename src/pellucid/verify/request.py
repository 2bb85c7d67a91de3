"""What a verifier is asked, and the shape of a verifier (RFC 9846 §4.5.1.3)."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pellucid.crypto.certificates import EndEntity
from pellucid.crypto.provider import Pending
from pellucid.value import quickly_made
from pellucid.verify.report import Check, VerificationReport


class Purpose(enum.Enum):
    """What the peer's certificate must be good for (extended key usage)."""

    SERVER_AUTH = "server authentication"
    CLIENT_AUTH = "client authentication"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRequest:
    """The peer's certificates, or its raw public key, and what is known of the peer.

    leaf:          the end-entity certificate, parsed; a RawPublicKey where that is what was negotiated (RFC 7250).
    intermediates: the rest of certificate_list, DER, in the order sent; at most 9, 64 KiB in all. None after a raw key.
    server_name:   the host name (A-label or U-label) or IP address the client meant; None when the peer is a client.
    now:           seconds since 1970, UTC; fractions of a second are not looked at.
    ocsp_response: DER of the OCSPResponse stapled to the leaf (RFC 6960 §4.2.1, RFC 9846 §4.5.1.1); None: none came.
    scts:          SerializedSCTs that came with the leaf (RFC 6962 §3.3).
    status_requested: whether the peer was asked for a staple (status_request): a must-staple certificate promises one
                   to those who ask (RFC 7633 §4.2.2).
    """

    leaf: EndEntity
    intermediates: tuple[bytes, ...]
    purpose: Purpose
    server_name: str | None
    now: float
    ocsp_response: bytes | None = None
    scts: tuple[bytes, ...] = ()
    status_requested: bool = True
    port: int = 0

    @property
    def certificate_type(self) -> int:
        """What the peer showed: a CertificateType (RFC 7250)."""
        return self.leaf.certificate_type


class PendingPart(NamedTuple):
    """What a combination of verifiers answers while one of its parts says PENDING: the connection pauses for that part.

    verifier, request: what is to be answered.   then: goes on with the report; may give any answer of a verifier.
    """

    verifier: PeerVerifier
    request: VerificationRequest
    then: Callable[[VerificationReport], VerifierAnswer]


VerifierAnswer = VerificationReport | Pending | PendingPart | Awaitable["VerifierAnswer"]
"""What `verify` returns. An awaitable gives the report, or another answer that is not PENDING."""


class PeerVerifier(Protocol):
    """Decides whether a peer's certificates are to be trusted. Must not block and must not raise for a bad chain.

    A request that nobody could answer (no server name for a server, an impossible one) raises UsageError.
    A verifier may have `session_identity`, bytes that are the same where it would answer the same: without, no sessions
    are kept; and `certificate_types`, a tuple of those that it ever accepts: a configuration that lets the peer show
    another is refused.
    """

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        """Return the report; or PENDING, or an awaitable (it may be an `async def`): the connection pauses for it."""
        ...

    @property
    def authorities(self) -> Sequence[bytes]:
        """DER names of the CAs it trusts, for certificate_authorities; may be empty."""
        ...


class Requirement(Protocol):
    """Demands something of a peer that a verifier has accepted already: it refuses, and never lets anybody in.

    It may have `session_identity`, as a verifier.
    """

    def examine(
        self, request: VerificationRequest, report: VerificationReport
    ) -> Sequence[Check] | Awaitable[Sequence[Check]]:
        """Return the checks of *report*, an accepted one, or an awaitable of them; a FAILED one refuses the peer."""
        ...
