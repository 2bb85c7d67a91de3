"""After the handshake: KeyUpdate in both directions, tickets (RFC 9846 §4.7). Both sides alike."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from pellucid.errors import IllegalParameter, UsageError
from pellucid.handshake.actions import InstallKeys, PeerKeyUpdated, SendMessage, Step, TicketIssued
from pellucid.handshake.core import Context
from pellucid.handshake.states import State
from pellucid.handshake.tickets import ClientResumption, client_session
from pellucid.limits import MAX_EPOCH
from pellucid.messages.extensions import MAX_EARLY_DATA_SIZE, M, decode_extensions
from pellucid.messages.handshake import KeyUpdate, NewSessionTicket, handshake_message
from pellucid.registry import CertificateType
from pellucid.schedule import TrafficSecret
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import positional_value

UPDATE_NOT_REQUESTED = 0
UPDATE_REQUESTED = 1


@positional_value
class Connected:
    """The phase after both Finished. sending, receiving: the current traffic secrets.

    resumption:    what a client makes sessions of tickets with; None if none are kept.
    awaits_update: we asked the peer for a KeyUpdate and have not seen one since (§4.7.3: we do not ask twice).
    asked:         client: the contexts of CertificateRequests that are not answered yet (§4.7.2).
    client_certificate_type: client: what it shows, if it is asked now (RFC 7250).
    """

    state: State
    sending: TrafficSecret
    receiving: TrafficSecret
    awaits_update: bool = False
    resumption: ClientResumption | None = None
    asked: frozenset[bytes] = frozenset()
    client_certificate_type: int = CertificateType.X509


@functools.lru_cache(maxsize=64)
def secret_name(sender: Role, generation: int) -> str:
    return f"{sender.value}_application_traffic_secret_{generation}"


def on_key_update(context: Context[Any], phase: Connected, message: KeyUpdate, raw: bytes) -> Step:
    """The peer's next record is under its next key. IllegalParameter for a request_update that is neither 0 nor 1."""
    if message.request_update not in {UPDATE_NOT_REQUESTED, UPDATE_REQUESTED}:
        raise IllegalParameter(f"KeyUpdate.request_update is {message.request_update}", rfc="9846 §4.7.3")
    receiving = phase.receiving.next()
    name = secret_name(context.role.peer, receiving.generation)
    tell_update(context, context.role.peer, receiving)
    return Step(
        replace(phase, receiving=receiving, awaits_update=False),
        phase.state,
        [
            InstallKeys(Direction.RECEIVED, receiving, name),
            PeerKeyUpdated(receiving.generation, message.request_update == UPDATE_REQUESTED),
        ],
    )


def send_key_update(context: Context[Any], phase: Connected, *, request_peer: bool) -> Step:
    """Go to our next key; ask the peer to do so too unless we are still waiting for its last answer (§4.7.3)."""
    sending = phase.sending.next()
    if sending.generation > MAX_EPOCH:
        raise UsageError("no more KeyUpdates may be sent on this connection")
    ask = request_peer and not phase.awaits_update
    message = handshake_message(KeyUpdate(UPDATE_REQUESTED if ask else UPDATE_NOT_REQUESTED))
    tell_update(context, context.role, sending)
    return Step(
        replace(phase, sending=sending, awaits_update=phase.awaits_update or ask),
        phase.state,
        [
            SendMessage(Epoch.APPLICATION, message),
            InstallKeys(Direction.SENT, sending, secret_name(context.role, sending.generation)),
        ],
    )


def tell_update(context: Context[Any], sender: Role, secret: TrafficSecret) -> None:
    if context.trace is not None:
        context.derived(
            secret_name(sender, secret.generation),
            secret.value,
            parent=secret_name(sender, secret.generation - 1),
            label="traffic upd",
            method="HKDF-Expand-Label",
        )


def on_new_session_ticket(context: Context[Any], phase: Connected, message: NewSessionTicket, raw: bytes) -> Step:
    """Hand the ticket up, and what to keep of it. Its extensions are decoded, so that a malformed one is refused."""
    decoded = decode_extensions(M.NST, message.extensions)
    session = None
    if phase.resumption is not None:
        limit = decoded.get(MAX_EARLY_DATA_SIZE) or 0
        session = client_session(context, phase.resumption, message, limit)
        if session is None and context.trace is not None:
            context.chose("ticket", "not kept", "it has no lifetime, is too long, or the server's certificates end")
    return Step(phase, phase.state, [TicketIssued(message, session)])
