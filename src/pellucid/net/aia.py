"""Verifiers that fetch the intermediates which a server forgot to send, from where its certificates name them (AIA).

Off unless it is asked for by name: the server chooses what is fetched, whoever listens learns of it (it is plain HTTP),
and a server that needs it is to be mended. What is fetched is a candidate for a path, and trusted by nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Generator
from typing import Final

from pellucid.errors import UsageError
from pellucid.net.issuer_fetch import FetchLimits, IssuerFetcher, NotFetched
from pellucid.registry import CertificateType
from pellucid.verify.names import shown
from pellucid.verify.report import Check, CheckGroup, Failure, Outcome, VerificationReport
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.webpki import WebPKIVerifier

__all__ = ["AiaVerifier", "AsyncAiaVerifier", "FetchLimits", "IssuerFetcher"]

_REPAIRED: Final = frozenset({Failure.MISSING_INTERMEDIATE, Failure.UNKNOWN_CA})
_Fetched = tuple[bytes, ...] | str
"""certificates, or why there are none"""
_Steps = Generator[str, _Fetched, VerificationReport]


class _Fetching:
    certificate_types: Final = (CertificateType.X509,)

    def __init__(
        self, verifier: WebPKIVerifier, fetcher: IssuerFetcher | None = None, *, for_clients: bool = False
    ) -> None:
        if not isinstance(verifier, WebPKIVerifier):
            raise UsageError(f"intermediates are fetched for a WebPKIVerifier, not for a {type(verifier).__name__}")
        self._verifier = verifier
        self._fetcher = IssuerFetcher() if fetcher is None else fetcher
        self._for_clients = for_clients

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """Those of the verifier."""
        return self._verifier.authorities

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the verifier, and that it may fetch."""
        how = f"aia {self._for_clients} {self._fetcher.limits}"
        return b"aia " + hashlib.sha256(how.encode()).digest() + self._verifier.session_identity

    def _steps(self, request: VerificationRequest) -> _Steps:
        """Verify, and again with each certificate that was fetched; yields what is to be fetched."""
        verifier, tried, notes = self._verifier, dict[str, None](), list[Check]()
        report = verifier.verify(request)
        if request.purpose is Purpose.CLIENT_AUTH and not self._for_clients:
            return report
        while not report.accepted and report.failure in _REPAIRED and len(tried) < self._fetcher.limits.fetches:
            url = next((one for one in verifier.missing_issuer_urls(request) if one not in tried), None)
            if url is None:
                break
            tried[url] = None
            fetched = yield url
            notes.append(_note(url, fetched))
            if not isinstance(fetched, str):
                verifier = verifier.with_intermediates(fetched, f"fetched from {shown(url)}")
                report = verifier.verify(request)
        for note in notes:
            report = report.with_check(note)
        return report

    def _fetch(self, url: str, deadline: float) -> _Fetched:
        try:
            return self._fetcher.fetch(url, deadline)
        except NotFetched as error:
            return str(error)

    def _deadline(self) -> float:
        return time.monotonic() + self._fetcher.limits.seconds


class AiaVerifier(_Fetching):
    """*verifier*, and where a server sent too few certificates, it fetches them; **its verify blocks** while it does.

    For `pellucid.connect` and other blocking clients; `AsyncAiaVerifier` for those that await.
    fetcher:     what is fetched, and where from; its limits are `FetchLimits`. Shared, its cache is shared.
    for_clients: a server with it fetches for the certificates of its clients, too: then any client can have it connect
                 to any host of the internet.
    """

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report; its checks say what was fetched, or why nothing was."""
        steps, deadline = self._steps(request), self._deadline()
        try:
            url = next(steps)
            while True:
                url = steps.send(self._fetch(url, deadline))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


class AsyncAiaVerifier(_Fetching):
    """As `AiaVerifier`, for clients that await: it fetches in a thread. The arguments are the same."""

    async def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report; its checks say what was fetched, or why nothing was."""
        steps, deadline = self._steps(request), self._deadline()
        try:
            url = next(steps)
            while True:
                url = steps.send(await self._in_thread(url, deadline))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _in_thread(self, url: str, deadline: float) -> _Fetched:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's, which only those run who have anyio
            import anyio.to_thread  # noqa: PLC0415  # an optional dependency, at the edge

            return await anyio.to_thread.run_sync(self._fetch, url, deadline, abandon_on_cancel=True)
        return await loop.run_in_executor(None, self._fetch, url, deadline)


def _note(url: str, fetched: _Fetched) -> Check:
    if isinstance(fetched, str):
        outcome, evidence = Outcome.NOT_CHECKED, f"{shown(url)} gave no certificate: {fetched}"
    else:
        count = f"{len(fetched)} certificate{'' if len(fetched) == 1 else 's'}"
        outcome, evidence = Outcome.PASSED, f"{count} fetched from {shown(url)}, as candidates for the path"
    return Check(group=CheckGroup.TRUST, name="fetched issuer", outcome=outcome, evidence=evidence)
