"""The server's choice of a PSK, and whether early data is taken (RFC 9846 §4.3.9-§4.3.11, §8).

A ticket is good for a connection that is like the one it was issued on: name, application protocol, hash, and all of
client authentication (attack E7). Anything else is a full handshake, without a word to the client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

from pellucid.config import ServerConfig
from pellucid.crypto.provider import Suite
from pellucid.errors import InternalError
from pellucid.handshake.actions import EarlyDataOutcome, NeedFirstUse, NeedTicket, Result, answered
from pellucid.handshake.certificate_types import types_accepted
from pellucid.handshake.core import Context
from pellucid.handshake.negotiate import ClientOffer
from pellucid.handshake.psk import check_binder, check_binder_count
from pellucid.limits import MAX_PSK_IDENTITIES
from pellucid.messages import extensions as x
from pellucid.registry import PskKeyExchangeMode
from pellucid.schedule import EarlySecret
from pellucid.sessions.psk import RESUMPTION_BINDER, Psk
from pellucid.sessions.server import ServerSession
from pellucid.value import internal_value

NO_PSK: Final = "the client offers no PSK"


@internal_value
class SelectedPsk:
    """The PSK to use. index: among the client's identities; session: what it resumes, None for an external PSK."""

    index: int
    psk: Psk
    early: EarlySecret
    session: ServerSession | None
    mode: int
    reason: str = field(default="")


Choice = SelectedPsk | str
"""what was chosen, or why nothing"""


def choose_psk(
    context: Context[ServerConfig],
    offer: ClientOffer,
    suite: Suite,
    alpn: bytes | None,
    before: Choice,
    then: Callable[[Choice], Result],
) -> Result:
    """Go on with the first of the client's PSKs that can be used here, or with why there is none.

    before: what was chosen of the ClientHello before a retry. Its ticket is not looked up again: a store that gives
            each session once would have nothing left.
    At most MAX_PSK_IDENTITIES are looked at (attack E23), and no binder is computed yet. Pauses for a store of
    sessions that takes its time. Raises IllegalParameter if identities and binders are not of the same number.
    """
    offered = offer.extensions.get(x.OFFERED_PSKS)
    if offered is None:
        return then(NO_PSK)
    check_binder_count(offered)
    mode = _common_mode(context.config, offer)
    if mode is None:
        return then("no PSK key exchange mode in common")
    identities = tuple(one.identity for one in offered.identities[:MAX_PSK_IDENTITIES])
    search = _Search(
        context=context,
        offer=offer,
        suite=suite,
        alpn=alpn,
        before=before,
        mode=mode,
        identities=identities,
        then=then,
    )
    return search.look(0, NO_PSK)


@internal_value
class _Search:
    """The look through the client's identities, which may pause for the store. A value: nothing in it changes."""

    context: Context[ServerConfig]
    offer: ClientOffer
    suite: Suite
    alpn: bytes | None
    before: Choice
    mode: int
    identities: tuple[bytes, ...]
    then: Callable[[Choice], Result]

    def look(self, index: int, reason: str) -> Result:
        """Go on with the first identity from *index* on that will do. reason: why those before did not."""
        if index == len(self.identities):
            return self.then(reason)
        identity, config, before = self.identities[index], self.context.config, self.before
        external = config.external_table.get(identity)
        if external is not None:
            if external.hash_name != self.suite.hash_name:
                return self.look(index + 1, "the external PSK is for another hash")
            return self._found(index, external, None)
        if isinstance(before, SelectedPsk) and before.session and before.psk.identity == identity:
            return self.judge(index, before.session)
        store = config.session_store
        if store is None:
            return self.look(index + 1, "the PSK is not known here, and no sessions are kept")
        return answered(
            lambda: store.redeem(identity, self.context.provider.now()),
            lambda answer: NeedTicket(identity, answer),
            lambda session: self.judge(index, session),
        )

    def judge(self, index: int, session: ServerSession | None) -> Result:
        """Take what the store says of the identity at *index*."""
        if session is None:
            return self.look(index + 1, "the ticket is not one of ours, or has expired")
        if not isinstance(session, ServerSession):
            raise InternalError("the answer to NeedTicket is a ServerSession or None")
        mismatch = _mismatch(self.context, self.offer, self.suite, self.alpn, session)
        if mismatch is not None:
            return self.look(index + 1, mismatch)
        identity, hash_name = self.identities[index], self.suite.hash_name
        psk = Psk(identity=identity, key=session.psk, hash_name=hash_name, binder_label=RESUMPTION_BINDER)
        return self._found(index, psk, session)

    def _found(self, index: int, psk: Psk, session: ServerSession | None) -> Result:
        early = EarlySecret.extract(self.suite, psk.key)
        return self.then(SelectedPsk(index=index, psk=psk, early=early, session=session, mode=self.mode))


def external_hashes(config: ServerConfig, offer: ClientOffer) -> frozenset[str]:
    """Return the hashes of the external PSKs that the client offers and we have."""
    offered = offer.extensions.get(x.OFFERED_PSKS) if config.external_table else None
    if offered is None:
        return frozenset()
    known = (config.external_table.get(one.identity) for one in offered.identities[:MAX_PSK_IDENTITIES])
    return frozenset(psk.hash_name for psk in known if psk is not None)


def _common_mode(config: ServerConfig, offer: ClientOffer) -> int | None:
    """Return the mode to use: ours by preference, psk_dhe_ke only where the client offers groups (§4.3.9)."""
    modes = offer.extensions.get(x.PSK_KEY_EXCHANGE_MODES) or ()
    for mode in config.psk_modes:
        if mode in modes and (mode == PskKeyExchangeMode.PSK_KE or offer.groups):
            return mode
    return None


def _mismatch(
    context: Context[ServerConfig], offer: ClientOffer, suite: Suite, alpn: bytes | None, session: ServerSession
) -> str | None:
    """Return why *session* cannot be resumed on this connection, or None."""
    config = context.config
    if not session.usable_at(context.provider.now()):
        return "the session has expired"
    issued_with = config.suite_table.get(session.cipher_suite)
    if issued_with is None or issued_with.hash_name != suite.hash_name:
        return "the session was made with another hash"
    if session.server_name != offer.server_name:
        return "the session was made under another server name"
    if session.alpn != (None if alpn is None else alpn.decode("utf-8", "backslashreplace")):
        return "the session was made with another application protocol"
    shown = session.server_certificate_type
    if shown is not None and shown not in types_accepted(offer.extensions):
        return "the session was made with a certificate type that the client no longer accepts"
    if session.binding not in {config.client_authentication_digest, config.post_handshake_digest}:
        return "client authentication is configured otherwise than when the session was made"
    return None


def verify_binder(context: Context[ServerConfig], offer: ClientOffer, selected: SelectedPsk, raw: bytes) -> None:
    """Check the one binder that counts, before anything depends on the PSK (§4.3.11). Raises DecryptError.

    The transcript must end before this ClientHello.
    """
    offered = offer.extensions.get(x.OFFERED_PSKS)
    if offered is None:
        raise InternalError("a PSK was selected that was not offered")
    check_binder(context.transcript, selected.psk, selected.early, raw, offered, selected.index)


def decide_early_data(
    context: Context[ServerConfig],
    offer: ClientOffer,
    suite: Suite,
    selected: SelectedPsk | None,
    then: Callable[[EarlyDataOutcome], Result],
) -> Result:
    """Go on with whether early data is taken, and why not (§4.3.10, §8). Pauses for a guard that takes its time.

    It is offered, and the binder has been checked: that is what a ClientHello is recognised by, and nobody else can
    make one.
    """
    guard = context.config.early_data_guard
    offered = offer.extensions.get(x.OFFERED_PSKS)
    if guard is None:
        return then(EarlyDataOutcome.DISABLED)
    if selected is None or offered is None or selected.index != 0:
        return then(EarlyDataOutcome.NOT_RESUMED)
    session = selected.session
    if session is None or not session.max_early_data_size:
        return then(EarlyDataOutcome.NOT_ALLOWED)
    if session.cipher_suite != suite.code:
        return then(EarlyDataOutcome.OTHER_SUITE)
    now = context.provider.now()
    claimed = (offered.identities[0].obfuscated_ticket_age - session.age_add) % 2**32 / 1000
    if abs(claimed - (now - session.issued_at)) > guard.window_seconds:
        return then(EarlyDataOutcome.TICKET_AGE)

    def judge(first: object) -> Result:
        return then(EarlyDataOutcome.ACCEPTED if first is True else EarlyDataOutcome.REPLAYED)

    key = offered.binders[0]
    return answered(
        lambda: guard.first_use(key, now=now, issued_at=session.issued_at),
        lambda answer: NeedFirstUse(key, session.issued_at, answer),
        judge,
    )
