"""Verifiers that look on: they note what a server showed, what is to be thought of it, and let the examination go on.

Nothing of the application is sent to a server that was not verified: `Witness.verified` is asked first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pellucid.crypto.certificates import EndEntity
from pellucid.errors import UsageError
from pellucid.registry import CertificateType
from pellucid.verify.report import VerificationReport
from pellucid.verify.request import VerificationRequest
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier

__all__ = ["DangerousKeyWitness", "DangerousWitness"]


class DangerousWitness:
    """Judges a server's certificates as every client does, notes it, and accepts them whatever the judgement is.

    keeps_sessions: let sessions be kept even with a server that was refused, to see whether it resumes them. They are
                    good for this examination alone: for its length the server is the one that was seen first.
    """

    authorities: Final = ()
    certificate_types: Final = (CertificateType.X509,)

    def __init__(self, trust: TrustStore, *, keeps_sessions: bool = False) -> None:
        self._verifier = WebPKIVerifier(trust, verdict_cache_seconds=0)
        self._keeps_sessions = keeps_sessions
        self.session_identity = b"witness"
        self.request: VerificationRequest | None = None
        self.report: VerificationReport | None = None
        """what `WebPKIVerifier` says"""

    @property
    def verified(self) -> bool:
        return self.report is not None and self.report.accepted

    def verify(self, request: VerificationRequest) -> VerificationReport:
        report = self._verifier.verify(request)
        if not isinstance(report, VerificationReport):
            raise UsageError("certificates are judged here and now")
        self.request, self.report = request, report
        if report.accepted:
            return report
        return replace(
            report,
            accepted=True,
            alert=None,
            path=report.path or (request.leaf.der,),
            dangerous=not self._keeps_sessions,
            summary=f"NOT VERIFIED: {report.summary}",
        )


class DangerousKeyWitness:
    """Accepts any raw public key (RFC 7250), and notes it."""

    authorities: Final = ()
    certificate_types: Final = (CertificateType.RAW_PUBLIC_KEY,)

    def __init__(self) -> None:
        self.leaf: EndEntity | None = None

    def verify(self, request: VerificationRequest) -> VerificationReport:
        self.leaf = request.leaf
        return VerificationReport(
            accepted=True,
            dangerous=True,
            summary="NOT VERIFIED: an examination looks at any key",
            path=(request.leaf.der,),
            certificate_type=request.certificate_type,
        )
