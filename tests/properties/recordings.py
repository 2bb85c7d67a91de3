"""Handshakes that can be had again: the same scripted keys and randomness give the same ends and the same bytes.

A recording is one peer's whole stream; any number of fresh victims can be fed it, whole, cut or changed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

from pellucid import ApplicationData, ClientConfig, Connection, ServerConfig, TLSError, UsageError
from pellucid.config import ClientAuthentication
from pellucid.handshake.actions import Action, EarlyDataOutcome, SendMessage
from pellucid.registry import CipherSuite, NamedGroup, SignatureScheme
from pellucid.sessions import ClientSession, ServerSession, SessionKey
from pellucid.trace import Role
from tests.support.pair import (
    NAME,
    Chunking,
    all_at_once,
    asking_server_config,
    client_config,
    credential,
    events_of,
    server_config,
)
from tests.support.scripted import fixed_provider

X25519: Final = NamedGroup.X25519
TICKET: Final = b"the ticket that all these ends know"
PSK: Final = bytes(range(200, 232))
EARLY: Final = (b"early data, ", b"in two records")

Act = Callable[[Connection], object]


def fresh(role: Role, *, mutual: bool = False, retry: bool = False, resumed: str = "", **changes: Any) -> Connection:
    """A new end that behaves as every other of its role: scripted randomness, key and (Ed25519) signatures.

    mutual: the server demands a certificate.   retry: the server demands its cookie, in a HelloRetryRequest.
    resumed: both have met: "session"; "early": and early data is taken; "rejected": it is offered in vain.
    """
    number = 1 if role is Role.CLIENT else 2
    random = (bytes(range(128)),) if role is Role.CLIENT else (bytes(range(128, 160)),)
    if retry and role is Role.SERVER:
        random = (b"cookie nonce", *random)
        changes |= {"cookie_key": bytes(range(32)), "always_retry": True}
    now = _certificates_are_good_at()
    if resumed:
        changes |= _remembering(role, resumed)
    provider = fixed_provider(*random, now=now, private_keys={X25519: [bytes([number]) * 32]})
    if role is Role.CLIENT:
        trace = changes.pop("observer", None)
        own = (credential("ed25519"),) if mutual else ()
        client: ClientConfig = client_config(groups=(X25519,), provider=provider, credentials=own, **changes)
        return Connection.client(client, NAME, trace=trace)
    observer = changes.pop("observer", None)
    make = asking_server_config if mutual else server_config
    server: ServerConfig = make(groups=(X25519,), credentials=(credential("ed25519"),), provider=provider, **changes)
    assert (server.client_authentication is ClientAuthentication.REQUIRED) is mutual
    if isinstance(server.session_store, OneTicket):
        server.session_store.binding = server.client_authentication_digest
    return Connection.server(server, trace=observer)


class OneSession:
    """A client's store that never runs dry."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    def put(self, key: SessionKey, session: ClientSession) -> None: ...

    def take(self, key: SessionKey, now: float) -> ClientSession:
        return self.session

    def discard(self, key: SessionKey) -> None: ...


class OneTicket:
    """A server's store that knows the ticket of OneSession, and issues none."""

    single_use = False
    binding = bytes(32)

    def __init__(self, max_early_data: int) -> None:
        self.max_early_data = max_early_data

    def issue(self, session: ServerSession, now: float) -> bytes:
        raise UsageError("no tickets here")

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        if ticket != TICKET:
            return None
        return ServerSession(
            cipher_suite=CipherSuite.TLS_AES_128_GCM_SHA256,
            psk=PSK,
            issued_at=_certificates_are_good_at() - 60,
            lifetime_seconds=3600,
            age_add=7,
            authenticated_at=_certificates_are_good_at() - 60,
            server_name=NAME,
            alpn=None,
            binding=self.binding,
            max_early_data_size=self.max_early_data,
        )


class Forgetful:
    """A guard that takes every flight for a new one, so that one recording does for many victims."""

    window_seconds = 10.0

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        return True


def _remembering(role: Role, resumed: str) -> dict[str, Any]:
    """What makes an end resume."""
    early = resumed != "session"
    if role is Role.SERVER:
        taken = 16_384 if resumed == "early" else 0
        return {"tickets": 1, "sessions": OneTicket(taken), "max_early_data": taken, "replay_guard": Forgetful()}
    now, server = _certificates_are_good_at(), credential("ed25519")
    session = ClientSession(
        ticket=TICKET,
        psk=PSK,
        cipher_suite=CipherSuite.TLS_AES_128_GCM_SHA256,
        received_at=now - 60,
        lifetime_seconds=3600,
        age_add=7,
        max_early_data_size=16_384 if early else 0,
        alpn=None,
        signature_scheme=SignatureScheme.ED25519,
        authenticated_at=now - 60,
        leaf=server.chain[0],
        intermediates=server.chain[1:],
        path=server.chain,
    )
    return {"sessions": OneSession(session), "early_data": early}


@functools.cache
def _certificates_are_good_at() -> float:
    return credential("ed25519").leaf.x509.not_valid_before_utc.timestamp() + 86_400


def flush_each_message(connection: Connection) -> Connection:
    """Let every handshake message have records of its own, so that there is a state between any two."""
    do = connection._do

    def one_by_one(actions: list[Action]) -> None:
        for action in actions:
            do([action])
        if not actions:
            do([])

    connection._do = one_by_one  # type: ignore[method-assign]
    return connection


def editing(connection: Connection, edit: Callable[[bytes], bytes]) -> Connection:
    """Change handshake messages after they went into the transcript, before they are protected."""
    do = connection._do
    connection._do = lambda actions: do(  # type: ignore[method-assign]
        [SendMessage(a.epoch, edit(a.raw)) if isinstance(a, SendMessage) else a for a in actions]
    )
    return connection


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """What one peer sent to a victim of *role*; handshake: how many bytes of it came before completion."""

    role: Role
    mutual: bool
    retry: bool
    resumed: str
    stream: bytes
    handshake: int

    def records(self) -> list[bytes]:
        return split_records(self.stream)

    def victim(self, **changes: Any) -> Connection:
        connection = fresh(self.role, mutual=self.mutual, retry=self.retry, resumed=self.resumed, **changes)
        connection.data_to_send()
        return connection

    def play(self, chunking: Chunking = all_at_once, *, stream: bytes | None = None, **changes: Any) -> Outcome:
        """Feed the stream, or the one given in its stead, to a fresh victim."""
        victim = self.victim(**changes)
        for piece in chunking(self.stream if stream is None else stream):
            if victim._error is not None:
                break
            victim.receive_data(piece)
        return outcome(victim)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a victim told: events with adjacent data joined, the error after them, and what it sends in answer."""

    events: tuple[Any, ...]
    error: tuple[type[TLSError], str] | None
    answer: bytes


def outcome(victim: Connection) -> Outcome:
    events, error = events_of(victim)
    return Outcome(tuple(joined(events)), None if error is None else (type(error), str(error)), victim.data_to_send())


def joined(events: Iterable[Any]) -> list[Any]:
    """Join adjacent ApplicationData: where one event ends and the next begins is no promise.

    HandshakeComplete becomes its plain facts: the proofs in it are equal to themselves only.
    """
    found: list[Any] = []
    for event in events:
        if isinstance(event, ApplicationData) and found and isinstance(found[-1], ApplicationData):
            found[-1] = ApplicationData(found[-1].data + event.data)
        elif hasattr(event, "negotiated"):
            facts = event.negotiated
            peer = None if facts.peer is None else facts.peer.chain
            found.append(
                (
                    facts.cipher_suite,
                    facts.group,
                    facts.signature_scheme,
                    facts.client_random,
                    facts.server_random,
                    peer,
                )
            )
        else:
            found.append(event)
    return found


def split_records(stream: bytes) -> list[bytes]:
    """Cut a stream of good record headers into records."""
    found, at = [], 0
    while at < len(stream):
        stop = at + 5 + int.from_bytes(stream[at + 3 : at + 5], "big")
        found.append(stream[at:stop])
        at = stop
    return found


def record(
    role: Role,
    script: Iterable[Act] = (),
    *,
    mutual: bool = False,
    retry: bool = False,
    resumed: str = "",
    each_message: bool = False,
    **changes: Any,
) -> Recording:
    """Shake hands once and let the peer of *role* go through *script*; return what it sent.

    A client that may sends EARLY, in two records.
    """
    victim = fresh(role, mutual=mutual, retry=retry, resumed=resumed)
    peer = fresh(role.peer, mutual=mutual, retry=retry, resumed=resumed, **changes)
    if each_message:
        flush_each_message(peer)
    if resumed in {"early", "rejected"} and peer.role is Role.CLIENT:
        for piece in EARLY:
            peer.send_early_data(piece)
    stream = b""
    for _ in range(6):
        if data := peer.data_to_send():
            stream += data
            victim.receive_data(data)
        if data := victim.data_to_send():
            peer.receive_data(data)
    if not (victim.handshake_complete and peer.handshake_complete):
        raise AssertionError((events_of(victim), events_of(peer)))
    handshake = len(stream)
    for act in script:
        act(peer)
        stream += peer.data_to_send()
    assert peer.negotiated is not None
    assert peer.negotiated.resumed is bool(resumed)
    assert (peer.negotiated.early_data is EarlyDataOutcome.ACCEPTED) is (resumed == "early")
    return Recording(role, mutual, retry, resumed, stream, handshake)
