"""Verdicts remembered: chains that a verifier has accepted lately are not verified anew for the next connection.

Only the answer is kept that everything in the request and in the verifier leads to. Possession of the key is no part of
it: CertificateVerify is checked on every connection (authenticate.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cryptography import x509

from pellucid.crypto.certificates import X509Certificate
from pellucid.errors import UsageError
from pellucid.limits import MAX_VERDICT_BYTES, MAX_VERDICT_CACHE_SECONDS, MAX_VERDICTS
from pellucid.verify.checks import moment, moment_of
from pellucid.verify.report import Check, CheckGroup, LazyChecks, Outcome, VerificationReport
from pellucid.verify.request import VerificationRequest

__all__ = ["Verdicts"]

_BETWEEN_THREADS: Final = 1.0
"""Seconds: threads read the clock and come here in any order, which is no clock that went back."""

_Key = tuple[bytes, tuple[bytes, ...], str, str | None, bytes | None, tuple[bytes, ...], bool]
"""All of a request that an answer depends on, byte for byte; but for the time."""


class _Remembered:
    """An accepted verdict, and from when until when it stands, seconds since 1970.

    used: whether it was asked for since it was last passed over.
    """

    __slots__ = ("_again", "_report", "leaf", "since", "until", "used")

    def __init__(self, leaf: x509.Certificate, report: VerificationReport, since: float, until: float) -> None:
        self.leaf = leaf
        self.since = since
        self.until = until
        self.used = False
        self._report = report
        self._again: VerificationReport | None = None

    @property
    def report(self) -> VerificationReport:
        """The report as it was, explained by the same case, and with the check that says since when it is known."""
        if self._again is None:
            self._again = replace(self._report, explanation=LazyChecks(self._checks))
        return self._again

    def _checks(self) -> tuple[Check, ...]:
        evidence = (
            f"remembered: the same was asked of the same certificates, and accepted, at {moment(moment_of(self.since))}"
        )
        check = Check(
            group=CheckGroup.TRUST, name="remembered verdict", outcome=Outcome.PASSED, evidence=evidence, certificate=0
        )
        return (*self._report.checks, check)


class Verdicts:
    """What one verifier remembers: 64 chains at most, those in use, each for *seconds* at most.

    It belongs to the verifier: who is trusted, how strictly, and which CRLs there are, is the same for all in it.
    Threads need no lock: each step is one operation of a dictionary, which is atomic, and whatever comes between two of
    them costs a verification at the most.
    """

    __slots__ = ("_kept", "_latest", "seconds")

    def __init__(self, seconds: float) -> None:
        given: object = seconds
        if not isinstance(given, int | float) or not 0 <= seconds <= MAX_VERDICT_CACHE_SECONDS:
            raise UsageError(
                f"verdict_cache_seconds is {seconds!r}; 0, for none, to {MAX_VERDICT_CACHE_SECONDS:.0f} are possible"
            )
        self.seconds = seconds
        self._kept: dict[_Key, _Remembered] = {}
        self._latest = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, request: VerificationRequest) -> VerificationReport | None:
        """Return the report on what was accepted before; None: it is to be verified. 3 µs, where that takes 270."""
        if not self._kept:
            return None
        now, leaf = request.now, request.leaf
        if now < self._latest - _BETWEEN_THREADS:
            # The clock went back: how old anything here is, nobody knows.
            self._kept.clear()
            self._latest = now
            return None
        self._latest = max(self._latest, now)
        key = _key(request)
        found = self._kept.get(key)
        if found is None:
            return None
        same = isinstance(leaf, X509Certificate) and leaf.x509 == found.leaf
        if not same or not found.since <= now <= found.until:
            self._kept.pop(key, None)
            return None
        found.used = True
        return found.report

    def keep(
        self,
        request: VerificationRequest,
        report: VerificationReport,
        path: tuple[x509.Certificate, ...],
        until: float,
    ) -> None:
        """Remember that *request* was accepted over *path*; not past *until*, which is when anything else changes."""
        leaf, now = request.leaf, request.now
        if not report.accepted or not self.seconds or not isinstance(leaf, X509Certificate):
            return
        until = min(until, now + self.seconds, *(one.not_valid_after_utc.timestamp() for one in path))
        sent = (leaf.der, *request.intermediates, request.ocsp_response or b"", *request.scts)
        if until < now or sum(map(len, sent)) > MAX_VERDICT_BYTES:
            return
        self._latest = max(self._latest, now) if self._kept else now
        self._kept[_key(request)] = _Remembered(leaf.x509, report, now, until)
        while len(self._kept) > MAX_VERDICTS:
            self._put_one_out()

    def _put_one_out(self) -> None:
        """Drop the oldest, or have it start again as the youngest if it was asked for meanwhile (second chance)."""
        try:
            oldest = next(iter(self._kept))
        except (RuntimeError, StopIteration):
            return  # another thread is at it
        found = self._kept.pop(oldest, None)
        if found is not None and found.used:
            found.used = False
            self._kept[oldest] = found


def _key(request: VerificationRequest) -> _Key:
    """port is not in it: no rule of the WebPKI looks at it. tuple: callers of their own may have lists."""
    return (
        request.leaf.der,
        tuple(request.intermediates),
        request.purpose.value,
        request.server_name,
        request.ocsp_response,
        tuple(request.scts),
        request.status_requested,
    )
