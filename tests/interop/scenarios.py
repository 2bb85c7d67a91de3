"""The columns of the matrix: what is asked of both ends, and what must have been negotiated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tests.interop.exchange import Purpose
from tests.interop.names import CREDENTIALS, GROUPS, SUITES
from tests.interop.spec import EarlyData, Facts, Peer, PskSpec, Refusal, Role, Ticket

_FLIPPED: Final = {
    Purpose.INITIATE_KEY_UPDATE: Purpose.ANSWER_KEY_UPDATE,
    Purpose.ANSWER_KEY_UPDATE: Purpose.INITIATE_KEY_UPDATE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One column.

    suite, group:          the only ones allowed; None: as the programs do by default.
    retry:                 the client shares a group that the server does not take.
    cookie:                the server demands a cookie first.
    client_authentication: what the server asks for; client_credential: what the client has, if it does.
    client_alpn, server_alpn, alpn: what is offered, taken and, so, agreed on.
    purpose:               what the conversation shows, as seen from the peer.
    refusal:               one end must refuse the other, and this is why.
    ticket, early_data:    what becomes of them on the second of two connections.
    psk:                   the external PSK that both have.
    """

    name: str
    title: str
    suite: str | None = None
    group: str | None = "x25519"
    credential: str = "ecdsa-p256"
    retry: bool = False
    cookie: bool = False
    client_authentication: str = "none"
    client_credential: str | None = None
    client_alpn: tuple[str, ...] = ()
    server_alpn: tuple[str, ...] = ()
    alpn: str = ""
    purpose: Purpose = Purpose.HELLO
    refusal: Refusal | None = None
    ticket: Ticket | None = None
    early_data: EarlyData | None = None
    psk: PskSpec | None = None

    @property
    def connections(self) -> int:
        return 1 if self.ticket is None else 2

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the name says all that the title does."""
        kinds = ("group ", "suite TLS_", "server certificate ")
        return self.title in [kind + self.name for kind in kinds]

    @property
    def our_purpose(self) -> Purpose:
        return _FLIPPED.get(self.purpose, self.purpose)

    @property
    def key_updates(self) -> int:
        """How many KeyUpdates each end must have received, at the least."""
        if self.purpose is Purpose.CROSS_KEY_UPDATES:
            return 2  # "each side increments by two generations" (RFC 9846 §4.7.3)
        return 1 if self.purpose in _FLIPPED else 0

    def needs(self, purpose: Purpose) -> Iterator[str]:
        """Yield the features an end must have, whose part in the conversation is *purpose*."""
        if self.suite is not None:
            yield f"suite:{self.suite}"
        if self.group is not None and not self.retry:
            yield f"group:{self.group}"
        yield f"credential:{self.credential}"
        if self.retry:
            yield "retry"
        if self.cookie:
            yield "cookie" if self.retry else "cookie-only"
        if self.client_authentication != "none":
            yield "client-authentication" if self.ticket is None else "resume:client-authentication"
        if self.client_credential is not None:
            yield f"client-credential:{self.client_credential}"
            yield f"credential:{self.client_credential}"
        if self.alpn:
            yield f"alpn:{self.alpn}"
        if purpose is Purpose.LARGE:
            yield "large"
        elif purpose is Purpose.INITIATE_KEY_UPDATE:
            yield "key-update:initiate"
        elif purpose is Purpose.ANSWER_KEY_UPDATE:
            yield "key-update:answer"
        elif purpose is Purpose.CROSS_KEY_UPDATES:
            yield "key-update:initiate"
            yield "key-update:answer"
            yield "key-update:cross"
        if self.ticket is not None:
            yield "resume"
        if self.early_data is not None:
            yield "early-data"
            yield "early-data:retry" if self.retry else f"early-data:{self.early_data.name.lower()}"
        if self.psk is not None:
            yield "psk:psk_dhe_ke" if self.psk.key_exchange else "psk:psk_ke"

    def needs_of_ours(self) -> Iterator[str]:
        """Yield the features that our end must have, beside what the peer must."""
        yield from self.needs(self.our_purpose)
        if self.ticket is Ticket.BAD:
            yield "ours:bad-ticket"
        if self.early_data is not None:
            yield "ours:early-data"

    def why_not(self, peer: Peer, role: Role, purpose: Purpose) -> str | None:
        """Return why *peer* cannot take part in *role*; None if it can."""
        lacks = peer.limits(role)
        if "role" in lacks:
            return lacks["role"]
        return next((lacks[feature] for feature in self.needs(purpose) if feature in lacks), None)

    def expected(self, groups: tuple[str, ...]) -> Facts:
        """Return what either end must report, if it does. groups: what both ends can agree on."""
        return Facts(
            suite=self.suite,
            group=groups[0] if len(groups) == 1 and (self.psk is None or self.psk.key_exchange) else None,
            alpn=self.alpn,
            retried=True if self.retry or self.cookie else None,
            client_certificate=self.client_credential is not None,
            resumed=self.ticket is Ticket.GOOD,
            early_data=None if self.early_data is None else self.early_data_counts,
            psk=None if self.psk is None else True,
        )

    @property
    def must_be_told(self) -> frozenset[str]:
        """The facts that say whether what the scenario is about came about: neither end may be silent about them."""
        facts = {"resumed": self.ticket, "early_data": self.early_data, "psk": self.psk}
        return frozenset(name for name, about in facts.items() if about is not None)

    @property
    def early_data_counts(self) -> bool:
        """Whether 0-RTT data is accepted on the second connection."""
        return self.early_data in (EarlyData.ACCEPTED, EarlyData.REPLAYED)


def _scenarios() -> Iterator[Scenario]:
    yield Scenario(name="defaults", title="both as they are by default", group=None)
    yield Scenario(name="full", title="full handshake, x25519")
    yield Scenario(name="retry", title="HelloRetryRequest: another group", retry=True)
    yield Scenario(name="cookie", title="HelloRetryRequest: a cookie", cookie=True, purpose=Purpose.COOKIE)
    yield Scenario(
        name="retry-cookie",
        title="HelloRetryRequest: another group and a cookie",
        retry=True,
        cookie=True,
        purpose=Purpose.COOKIE,
    )
    for name, credential in (
        ("client-required", "ecdsa-p256"),
        ("client-rsa", "rsa-2048"),
        ("client-ed25519", "ed25519"),
        ("client-chain", "intermediate"),
    ):
        yield Scenario(
            name=name,
            title=f"client authentication required, certificate {credential}",
            client_authentication="required",
            client_credential=credential,
        )
    yield Scenario(
        name="client-optional", title="client authentication optional, none shown", client_authentication="optional"
    )
    yield Scenario(
        name="client-refused",
        title="client authentication required, none shown: refused",
        client_authentication="required",
        refusal=Refusal.NO_CERTIFICATE,
    )
    yield Scenario(
        name="key-update-peer",
        title="KeyUpdate by the peer, which asks for ours",
        suite="TLS_AES_128_GCM_SHA256",
        purpose=Purpose.INITIATE_KEY_UPDATE,
    )
    yield Scenario(
        name="key-update-ours",
        title="KeyUpdate by us, who ask for the peer's",
        suite="TLS_AES_128_GCM_SHA256",
        purpose=Purpose.ANSWER_KEY_UPDATE,
    )
    yield Scenario(
        name="key-update-both",
        title="KeyUpdates by both that cross, each asking for the other's",
        suite="TLS_AES_128_GCM_SHA256",
        purpose=Purpose.CROSS_KEY_UPDATES,
    )
    for group in sorted(GROUPS, key=lambda name: (name.lower().find("mlkem") < 0, GROUPS[name])):
        if group != "x25519":
            yield Scenario(name=group, title=f"group {group}", group=group)
    for suite in SUITES:
        yield Scenario(name=suite.removeprefix("TLS_"), title=f"suite {suite}", suite=suite)
    for credential in CREDENTIALS:
        yield Scenario(name=credential, title=f"server certificate {credential}", credential=credential)
    yield Scenario(name="chain", title="server certificate under an intermediate CA", credential="intermediate")
    yield Scenario(
        name="server-refused",
        title="server certificate for another name: refused",
        credential="other-name",
        refusal=Refusal.OTHER_NAME,
    )
    yield Scenario(
        name="alpn-http/1.1",
        title="ALPN h2 or http/1.1 offered, http/1.1 taken",
        client_alpn=("h2", "http/1.1"),
        server_alpn=("http/1.1",),
        alpn="http/1.1",
    )
    yield Scenario(
        name="alpn-h2",
        title="ALPN h2",
        client_alpn=("h2", "http/1.1"),
        server_alpn=("h2", "http/1.1"),
        alpn="h2",
        purpose=Purpose.HTTP2,
    )
    yield Scenario(name="large", title="1 MiB both ways", purpose=Purpose.LARGE)
    yield from _sessions()


def _sessions() -> Iterator[Scenario]:
    """Two connections, the second with the first one's ticket; 0-RTT; external PSKs."""
    resume = Scenario(name="resume", title="resumption", purpose=Purpose.RESUME, ticket=Ticket.GOOD)
    yield resume
    yield replace(resume, name="resume-sha384", title="resumption, SHA-384", suite="TLS_AES_256_GCM_SHA384")
    yield replace(resume, name="resume-retry", title="resumption after HelloRetryRequest", retry=True)
    yield replace(
        resume,
        name="resume-client",
        title="resumption of a session with a client certificate",
        client_authentication="required",
        client_credential="ecdsa-p256",
    )
    protocol = ("http/1.1",)
    yield replace(
        resume,
        name="resume-alpn",
        title="resumption, ALPN http/1.1",
        client_alpn=protocol,
        server_alpn=protocol,
        alpn="http/1.1",
    )
    yield replace(
        resume,
        name="ticket-bad",
        title="a ticket that is damaged, or of other keys: full handshake",
        ticket=Ticket.BAD,
    )
    early = replace(
        resume,
        name="early",
        title="0-RTT: the request in the first flight",
        purpose=Purpose.EARLY_DATA,
        early_data=EarlyData.ACCEPTED,
    )
    yield early
    yield replace(early, name="early-sha384", title="0-RTT, SHA-384", suite="TLS_AES_256_GCM_SHA384")
    yield replace(
        early,
        name="early-retry",
        title="0-RTT rejected: HelloRetryRequest",
        retry=True,
        early_data=EarlyData.REJECTED,
    )
    yield replace(
        early,
        name="early-rejected",
        title="0-RTT rejected: we take none any more, or we lie about the ticket's age",
        early_data=EarlyData.REJECTED,
    )
    yield replace(
        early,
        name="early-replay",
        title="0-RTT accepted once: its bytes come again, and are not",
        early_data=EarlyData.REPLAYED,
    )
    psk = Scenario(
        name="psk",
        title="external PSK, psk_dhe_ke",
        suite="TLS_AES_128_GCM_SHA256",
        purpose=Purpose.PSK,
        psk=PskSpec(key_exchange=True),
    )
    yield psk
    yield replace(psk, name="psk-retry", title="external PSK after HelloRetryRequest", retry=True)
    yield replace(psk, name="psk-ke", title="external PSK, psk_ke", psk=PskSpec(key_exchange=False))


SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _scenarios()}
