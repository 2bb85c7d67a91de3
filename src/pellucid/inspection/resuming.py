"""Tickets, resumption and 0-RTT: what a server gives, whether it takes it back, and how often."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Final

from pellucid._version import __version__
from pellucid.crypto.provider import CryptoProvider, Group, KeyExchange
from pellucid.errors import AlertReceived
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.inspection.facts import EarlyDataFacts, ResumptionFacts
from pellucid.inspection.probing import Answer, Prober, Talk, refusal
from pellucid.inspection.reading import tickets_of
from pellucid.messages.handshake import NewSessionTicket
from pellucid.net.operations import DeadlineExceeded
from pellucid.net.sync import Stream
from pellucid.registry import AlertDescription as A
from pellucid.registry import PskKeyExchangeMode
from pellucid.sessions.client import ClientSession, SessionKey
from pellucid.trace import Direction, MessageTraced

__all__ = ["Kept", "early_data", "head_request", "read_on", "resumption", "wants_certificate"]

_TICKET_SECONDS: Final = 0.15  # that tickets are waited for, beyond two round trips
_MORE_SECONDS: Final = 0.03  # that another one is waited for once one has come
_ANSWER_SECONDS: Final = 1.0
_MAX_READ: Final = 2**18


class Kept:
    """A store for one connection: gives the session it was made with, as often as asked, and keeps what comes."""

    def __init__(self, session: ClientSession | None = None) -> None:
        self._session = session
        self.sessions: list[ClientSession] = []

    def put(self, key: SessionKey, session: ClientSession) -> None:
        self.sessions.append(session)

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        return self._session

    def discard(self, key: SessionKey) -> None:
        """Nothing: what was refused once may be looked at once more."""


def head_request(prober: Prober) -> bytes:
    """Return a request that changes nothing."""
    host = prober.target.server_name
    if ":" in host:
        host = f"[{host}]"
    return (
        f"HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pellucid/{__version__}\r\nConnection: close\r\n\r\n".encode()
    )


def read_on(prober: Prober, stream: Stream, answer: Answer) -> None:
    """Read until no more tickets come: the server may also say that it wants a certificate."""
    end = time.monotonic() + prober.patience(_TICKET_SECONDS)
    read = seen = 0
    while (left := end - time.monotonic()) > 0 and read < _MAX_READ:
        stream.settimeout(min(left, prober.patience(_MORE_SECONDS)))
        try:
            data = stream.recv()
        except DeadlineExceeded:
            data = b" "
        if not data:
            return
        read += len(data)
        count = _tickets(answer)
        if count and count == seen:
            return
        seen = count


def _tickets(answer: Answer) -> int:
    if answer.recorder is None:
        return 0
    return sum(
        isinstance(event.body, NewSessionTicket) and event.direction is Direction.RECEIVED
        for event in answer.recorder.of(MessageTraced)
    )


def wants_certificate(answer: Answer) -> bool | None:
    """Return whether the server ended the connection for want of a certificate; None if it is not known."""
    if isinstance(answer.error, AlertReceived):
        return answer.error.description in {A.CERTIFICATE_REQUIRED, A.HANDSHAKE_FAILURE, A.BAD_CERTIFICATE}
    return None if answer.error is not None else False


# ---- resumption ------------------------------------------------------------------------------------------------------


def resumption(prober: Prober, first: Answer, kept: Kept, executor: Executor) -> ResumptionFacts:
    """Return what the tickets of the first connection are good for."""
    tickets = tickets_of(first)
    if tickets and not kept.sessions:
        # Nothing is kept of a server that nobody verified: here it is, to see what it does.
        _resume(prober, "tickets?", kept, talk=lambda stream, answer: read_on(prober, stream, answer))
    if not kept.sessions:
        return ResumptionFacts(tickets=tickets)
    *others, newest = kept.sessions
    alone = executor.submit(_without_exchange, prober, others[0]) if others else None
    more = Kept(newest)
    again = _resume(prober, "does it resume?", more, talk=lambda stream, answer: read_on(prober, stream, answer))
    resumed = _resumed(again)
    once_more = _resumed(_resume(prober, "is a ticket taken twice?", Kept(newest))) if resumed else None
    if alone is not None:
        psk_ke = alone.result()
    else:
        psk_ke = _without_exchange(prober, more.sessions[0] if more.sessions else newest)
    return ResumptionFacts(
        tickets=tickets,
        resumed=resumed,
        key_exchange=again.negotiated.group is not None if resumed and again.negotiated is not None else None,
        psk_ke=psk_ke,
        ticket_again=once_more,
        tickets_on_resumption=len(tickets_of(again)) if resumed else None,
    )


def _resume(prober: Prober, question: str, store: Kept, *, talk: Talk | None = None) -> Answer:
    return prober.retried(question, watched=True, keeps_sessions=True, sessions=store, talk=talk)


def _resumed(answer: Answer) -> bool | None:
    return None if answer.negotiated is None else answer.negotiated.resumed


def _without_exchange(prober: Prober, session: ClientSession) -> bool | None:
    """Return whether the server resumes with the PSK alone, which has no forward secrecy (RFC 9846 §4.3.9)."""
    answer = prober.retried(
        "a PSK without key exchange?",
        keeps_sessions=True,
        sessions=Kept(session),
        psk_modes=(PskKeyExchangeMode.PSK_KE,),
    )
    if answer.negotiated is None:
        return None if refusal(answer.error) is None else False
    return answer.negotiated.resumed and answer.negotiated.group is None


# ---- 0-RTT -----------------------------------------------------------------------------------------------------------


def early_data(prober: Prober, first: Answer) -> EarlyDataFacts:
    """Return what tickets allow, and if early data may be sent, what became of it, and of the same bytes again."""
    offered = max((ticket.max_early_data for ticket in tickets_of(first)), default=0)
    if not offered:
        return EarlyDataFacts(offered=0, reason="the server's tickets allow none")
    if not prober.settings.early_data:
        return EarlyDataFacts(offered=offered)
    if not first.witness.verified:
        return EarlyDataFacts(offered=offered, reason="none was sent: the server was not verified")
    if not prober.target.is_http:
        return EarlyDataFacts(offered=offered, reason="none was sent: there is nothing harmless to ask")
    # What is sent early is HTTP/1.1: the session must be of a connection that spoke it.
    kept = Kept()
    protocols = tuple(name for name in prober.target.alpn if name == "http/1.1")
    prober.retried(
        "a ticket for early data?",
        watched=True,
        sessions=kept,
        alpn=protocols,
        talk=lambda stream, answer: read_on(prober, stream, answer),
    )
    usable = [session for session in kept.sessions if session.max_early_data_size]
    if not usable:
        return EarlyDataFacts(offered=offered, reason="none was sent: no ticket came for HTTP/1.1")
    bytes_twice = _SameAgain(prober.provider)
    outcome = _early(prober, usable[-1], protocols, "does it take early data?", bytes_twice.provider)
    bytes_twice.again()
    again = _early(prober, usable[-1], protocols, "does it take the same early data twice?", bytes_twice.provider)
    return EarlyDataFacts(
        offered=offered,
        accepted=None if isinstance(outcome, str) else outcome is EarlyDataOutcome.ACCEPTED,
        again=None if isinstance(again, str) else again is EarlyDataOutcome.ACCEPTED,
        reason=outcome if isinstance(outcome, str) else outcome.value,
    )


def _early(
    prober: Prober, session: ClientSession, protocols: tuple[str, ...], question: str, provider: CryptoProvider
) -> EarlyDataOutcome | str:
    """Send early data; return what became of it, or in words why that is not known."""

    def talk(stream: Stream, answer: Answer) -> None:
        if stream.early_data is EarlyDataOutcome.ACCEPTED:
            stream.settimeout(prober.patience(_ANSWER_SECONDS))
            stream.recv()  # the beginning of the answer

    answer = prober.ask(
        question,
        sessions=Kept(session),
        alpn=protocols,
        provider=provider,
        permute_extensions=False,
        early_data=head_request(prober),
        talk=talk,
    )
    if answer.negotiated is None:
        return f"it is not known: {answer.error}"
    return answer.negotiated.early_data


class _SameAgain:
    """A provider whose entropy, key shares and time come a second time: the same ClientHello, byte for byte.

    It is what somebody does who has recorded it, but that we can read the answer (RFC 9846 §8).
    """

    def __init__(self, provider: CryptoProvider) -> None:
        self._real = provider
        self._random: list[bytes] = []
        self._shares: dict[int, KeyExchange] = {}
        self._now = provider.now()
        self._at = 0
        self.provider = replace(
            provider,
            random=self._entropy,
            now=lambda: self._now,
            groups=tuple(replace(group, generate=partial(self._share, group)) for group in provider.groups),
        )

    def again(self) -> None:
        """Begin anew."""
        self._at = 0

    def _entropy(self, size: int) -> bytes:
        if self._at == len(self._random):
            self._random.append(self._real.random(size))
        self._at += 1
        return self._random[self._at - 1]

    def _share(self, group: Group) -> KeyExchange:
        return self._shares.setdefault(group.code, group.generate())
