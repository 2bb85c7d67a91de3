"""Requests to verifiers, as the handshake makes them."""

from __future__ import annotations

import time

from pellucid.crypto.certificates import parse_certificate
from pellucid.testing.ca import Issued
from pellucid.verify.report import Check, VerificationReport
from pellucid.verify.request import Purpose, VerificationRequest

NAME = "server.test"


def request_for(
    issued: Issued,
    server_name: str | None = NAME,
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    now: float | None = None,
    bare: bool = False,
) -> VerificationRequest:
    """bare: without the intermediates."""
    return VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=() if bare else tuple(issued.chain_der[1:]),
        purpose=purpose,
        server_name=server_name,
        now=time.time() if now is None else now,
    )


def check_named(report: VerificationReport, name: str) -> Check:
    """The one check of that name."""
    (found,) = [check for check in report.checks if check.name == name]
    return found
