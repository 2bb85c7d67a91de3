"""Trust on first use: a server's key is remembered when it is first met, and no other is believed from then on.

As with SSH, the first meeting proves nothing: whoever is in between at that time stays in between. What is remembered
is remembered only after the server has signed the handshake with that key (RFC 9846 §4.5.2).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pellucid.errors import UsageError
from pellucid.registry import CertificateType
from pellucid.verify.checks import moment
from pellucid.verify.direct import Demands, judge_directly, spki_digest
from pellucid.verify.names import normalize_server_name
from pellucid.verify.pins import pin_text
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome, VerificationReport
from pellucid.verify.request import Purpose, VerificationRequest

__all__ = ["KnownPeer", "KnownPeers", "MemoryKnownPeers", "TrustOnFirstUse"]


class KnownPeer(NamedTuple):
    """A server and its key.

    host, port: as `normalize_server_name` gives it; 0: the port is not known.
    pin:        SHA-256 of its SubjectPublicKeyInfo, 32 bytes.
    first_seen: seconds since 1970.
    """

    host: str
    port: int
    pin: bytes
    first_seen: float


class KnownPeers(Protocol):
    """Where keys are remembered. What is raised ends the handshake: who cannot remember believes nobody."""

    def lookup(self, host: str, port: int) -> KnownPeer | None:
        """Return what is known of the server; None: nothing."""
        ...

    def remember(self, peer: KnownPeer) -> KnownPeer:
        """Remember *peer* if nothing is known of it, and return what is known now: of two at once, one comes first."""
        ...

    def forget(self, host: str, port: int) -> bool:
        """Forget the server's key, so that it may have another. Return whether one was known."""
        ...


class MemoryKnownPeers:
    """Remembers for as long as the process lives. A file: `pellucid.net.known_peers.FileKnownPeers`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], KnownPeer] = {}

    def lookup(self, host: str, port: int) -> KnownPeer | None:
        return self._known.get((host, port))

    def remember(self, peer: KnownPeer) -> KnownPeer:
        return self._known.setdefault((peer.host, peer.port), peer)  # one step, for threads too

    def forget(self, host: str, port: int) -> bool:
        return self._known.pop((normalize_server_name(host), port), None) is not None


@dataclass(frozen=True, slots=True)
class TrustOnFirstUse:
    """Accepts a server whose key is the one first seen under its name and port, and any key of one not seen before.

    store:       where keys are kept.
    check_name, check_dates: whether its certificate must name it, and be valid now, too; no CA vouches for either.
    accept_new:  False: servers that are not known are refused, as ssh does with StrictHostKeyChecking=yes.
    Its sessions are not kept: a session would outlive what `forget` forgets. For clients it cannot be used: they have
    no name to be remembered by. `all_of(WebPKIVerifier(trust), TrustOnFirstUse(store))` has both; by itself no CA is
    asked.
    """

    store: KnownPeers
    check_name: bool = False
    check_dates: bool = False
    accept_new: bool = True

    @property
    def certificate_types(self) -> tuple[int, ...]:
        """Both: a raw public key is remembered like a certificate's."""
        return (CertificateType.X509, CertificateType.RAW_PUBLIC_KEY)

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """None: who issued the certificate does not matter."""
        return ()

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report on *request*. Raises UsageError for a client, or no name; and what the store raises."""
        if request.purpose is Purpose.CLIENT_AUTH:
            raise UsageError("a client has no name under which its key could be remembered: AllowKeys lists their keys")
        if request.server_name is None:
            raise UsageError("a server's key cannot be remembered without the server's name")
        host, port, pin = normalize_server_name(request.server_name), request.port, spki_digest(request.leaf)
        demands = Demands(check_name=self.check_name, check_dates=self.check_dates)
        known = self.store.lookup(host, port)
        if known is not None:
            evidence, failure = _compared(known, pin)
            return judge_directly(request, demands, "known key", evidence, failure)
        met = f"{_server(host, port)} has the key {pin_text(pin)}, and was not met before"
        if not self.accept_new:
            return judge_directly(request, demands, "known key", met, Failure.NOT_ALLOWED)
        report = judge_directly(request, demands, "first use", f"{met}: nothing says whose it is", None)
        if not report.accepted:
            return report
        return _remembering(report, self._remember(KnownPeer(host, port, pin, request.now)))

    def _remember(self, peer: KnownPeer) -> Callable[[], Check]:
        def remember() -> Check:
            evidence, failure = _compared(self.store.remember(peer), peer.pin)
            return Check(
                group=CheckGroup.TRUST,
                name="remembered key",
                outcome=Outcome.PASSED if failure is None else Outcome.FAILED,
                evidence=evidence,
                certificate=0,
                failure=failure,
            )

        return remember


def _remembering(report: VerificationReport, act: Callable[[], Check]) -> VerificationReport:
    return VerificationReport(
        accepted=True,
        summary=report.summary,
        path=report.path,
        certificate_type=report.certificate_type,
        serialized_scts=report.serialized_scts,
        explanation=report.explanation,
        on_proof=(act,),
    )


def _compared(known: KnownPeer, pin: bytes) -> tuple[str, Failure | None]:
    when = moment(datetime.datetime.fromtimestamp(int(known.first_seen), datetime.UTC))
    server = _server(known.host, known.port)
    if known.pin == pin:
        return f"{pin_text(pin)} is the key of {server} since {when}", None
    return (
        f"{server} shows the key {pin_text(pin)}; the one known since {when} is {pin_text(known.pin)}",
        Failure.KEY_CHANGED,
    )


def _server(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown
