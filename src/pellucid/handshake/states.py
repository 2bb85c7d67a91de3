"""RFC 9846 Appendix A as two tables: one row is one arrow. The driver obeys them; the docs draw them.

A state is where an endpoint waits; `via` names the boxes that the RFC draws and nobody waits in. Those whose names have
PHA in them the RFC does not draw: CONNECTED, with post-handshake authentication (§4.7.2).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pellucid.registry import HandshakeType as H


class ClientState(enum.StrEnum):
    """Appendix A.1."""

    START = "START"
    WAIT_SH = "WAIT_SH"
    WAIT_EE = "WAIT_EE"
    WAIT_CERT_CR = "WAIT_CERT_CR"
    WAIT_CERT = "WAIT_CERT"
    WAIT_CV = "WAIT_CV"
    WAIT_FINISHED = "WAIT_FINISHED"
    CONNECTED = "CONNECTED"
    CONNECTED_PHA = "CONNECTED_PHA"
    """CONNECTED, and a certificate may be asked for: post_handshake_auth was offered"""

    __hash__ = str.__hash__  # Enum's own is a call of Python, on every look-up of an arrow


class ServerState(enum.StrEnum):
    """Appendix A.2."""

    START = "START"
    RECVD_CH = "RECVD_CH"
    NEGOTIATED = "NEGOTIATED"
    WAIT_EOED = "WAIT_EOED"
    WAIT_FLIGHT2 = "WAIT_FLIGHT2"
    WAIT_CERT = "WAIT_CERT"
    WAIT_CV = "WAIT_CV"
    WAIT_FINISHED = "WAIT_FINISHED"
    CONNECTED = "CONNECTED"
    WAIT_PHA = "WAIT_PHA"
    """CONNECTED, and CertificateRequests are open: an answer may begin"""
    WAIT_PHA_CV = "WAIT_PHA_CV"
    WAIT_PHA_FINISHED = "WAIT_PHA_FINISHED"

    __hash__ = str.__hash__


State = ClientState | ServerState


@dataclass(frozen=True, slots=True)
class Arrow:
    """In *state*, *receives* (a HandshakeType) leads to one of *leads_to*."""

    state: State
    receives: int
    leads_to: tuple[State, ...]
    via: tuple[State, ...] = ()


def arrow(state: State, receives: int, *leads_to: State, via: tuple[State, ...] = ()) -> Arrow:
    return Arrow(state, receives, leads_to, via)


C = ClientState
S = ServerState

CLIENT: Final = (
    #     state            receives                  may lead to
    arrow(C.WAIT_SH, H.HELLO_RETRY_REQUEST, C.WAIT_SH, via=(C.START,)),
    arrow(C.WAIT_SH, H.SERVER_HELLO, C.WAIT_EE),
    arrow(C.WAIT_EE, H.ENCRYPTED_EXTENSIONS, C.WAIT_CERT_CR, C.WAIT_FINISHED),
    arrow(C.WAIT_CERT_CR, H.CERTIFICATE_REQUEST, C.WAIT_CERT),
    arrow(C.WAIT_CERT_CR, H.CERTIFICATE, C.WAIT_CV),
    arrow(C.WAIT_CERT_CR, H.COMPRESSED_CERTIFICATE, C.WAIT_CV),  # RFC 8879 §4: in the place of Certificate
    arrow(C.WAIT_CERT, H.CERTIFICATE, C.WAIT_CV),
    arrow(C.WAIT_CERT, H.COMPRESSED_CERTIFICATE, C.WAIT_CV),
    arrow(C.WAIT_CV, H.CERTIFICATE_VERIFY, C.WAIT_FINISHED),
    arrow(C.WAIT_FINISHED, H.FINISHED, C.CONNECTED, C.CONNECTED_PHA),
    arrow(C.CONNECTED, H.NEW_SESSION_TICKET, C.CONNECTED),
    arrow(C.CONNECTED, H.KEY_UPDATE, C.CONNECTED),
    arrow(C.CONNECTED_PHA, H.NEW_SESSION_TICKET, C.CONNECTED_PHA),
    arrow(C.CONNECTED_PHA, H.KEY_UPDATE, C.CONNECTED_PHA),
    arrow(C.CONNECTED_PHA, H.CERTIFICATE_REQUEST, C.CONNECTED_PHA),
)

_ANSWERED: Final = (S.RECVD_CH, S.NEGOTIATED, S.WAIT_FLIGHT2)
SERVER: Final = (
    arrow(S.START, H.CLIENT_HELLO, S.START, S.WAIT_EOED, S.WAIT_CERT, S.WAIT_FINISHED, via=_ANSWERED),
    arrow(S.WAIT_EOED, H.END_OF_EARLY_DATA, S.WAIT_FINISHED, via=(S.WAIT_FLIGHT2,)),
    arrow(S.WAIT_CERT, H.CERTIFICATE, S.WAIT_CV, S.WAIT_FINISHED),
    arrow(S.WAIT_CERT, H.COMPRESSED_CERTIFICATE, S.WAIT_CV, S.WAIT_FINISHED),
    arrow(S.WAIT_CV, H.CERTIFICATE_VERIFY, S.WAIT_FINISHED),
    arrow(S.WAIT_FINISHED, H.FINISHED, S.CONNECTED),
    arrow(S.CONNECTED, H.KEY_UPDATE, S.CONNECTED),
    # §4.7.2: CertificateRequest leads to WAIT_PHA. The messages of an answer are consecutive: nothing comes in between.
    arrow(S.WAIT_PHA, H.KEY_UPDATE, S.WAIT_PHA),
    arrow(S.WAIT_PHA, H.CERTIFICATE, S.WAIT_PHA_CV, S.WAIT_PHA_FINISHED),
    arrow(S.WAIT_PHA, H.COMPRESSED_CERTIFICATE, S.WAIT_PHA_CV, S.WAIT_PHA_FINISHED),
    arrow(S.WAIT_PHA_CV, H.CERTIFICATE_VERIFY, S.WAIT_PHA_FINISHED),
    arrow(S.WAIT_PHA_FINISHED, H.FINISHED, S.WAIT_PHA, S.CONNECTED),
)


def by_message(table: tuple[Arrow, ...]) -> dict[tuple[State, int], Arrow]:
    """Return the table keyed by (state, message)."""
    return {(row.state, row.receives): row for row in table}


CLIENT_ARROWS: Final = by_message(CLIENT)
SERVER_ARROWS: Final = by_message(SERVER)
