"""inspect against servers that misbehave: it never breaks, names what our client names, and thinks little of them."""

from __future__ import annotations

import time

import pytest

from pellucid import TrustStore
from pellucid.inspection import Settings, Target, Verdict, examine
from pellucid.testing.faults import FAULTS, FaultyServer
from pellucid.trace import Role

# What a client sees only if it is set up for it, or is told by other facts.
OTHERWISE = {
    "silent-after-handshake": {Verdict.GOOD},
    "no-staple": {Verdict.GOOD},
    "revoked-list": {Verdict.GOOD},
    "unlisted": {Verdict.GOOD},
    "no-common-group": {Verdict.FAIR},
    "no-common-suite": {Verdict.GOOD},
    "no-common-scheme": {Verdict.GOOD},
    "certificate-required": {Verdict.GOOD},
    "certificate-refused": {Verdict.GOOD},
    "unknown-key": {Verdict.BROKEN},
    "wrong-psk": {Verdict.GOOD},
    "unoffered-psk": {Verdict.BROKEN},
}
SAMPLE = {
    "plain-http",
    "reset-handshake",
    "tls12-only",
    "expired",
    "weak-key",
    "malformed",
    "stale-staple",
    "second-retry",
    "compression-bomb",
    "wrong-finished",
    "flipped-tag",
    "key-update-flood",
    "ticket-flood",
    "no-close-notify",
    "malformed-certificate-request",
    "endless-early-data",
}
SERVERS = [
    pytest.param(name, id=name, marks=() if name in SAMPLE else pytest.mark.slow)
    for name, fault in FAULTS.items()
    if fault.side is Role.SERVER
]


@pytest.mark.parametrize("name", SERVERS)
def test_inspect_names_the_fault_of_a_server(name: str) -> None:
    started = time.monotonic()
    with FaultyServer(name) as server:
        settings = Settings(trust=TrustStore.from_pem(server.ca_pem), connect_timeout=1.0, max_seconds=10.0)
        target = Target.of(server.host, server.port, resolve={server.host: server.address})
        examination = examine(target, settings)
    assert time.monotonic() - started < 20
    found = examination.facts
    assert found.unknown == ()
    if name in OTHERWISE:
        assert examination.judgement.verdict in OTHERWISE[name]
        return
    codes = [problem.code for problem in (found.failed, found.refused, found.afterwards) if problem is not None]
    assert FAULTS[name].code in codes
    broken = found.failed is not None or found.refused is not None
    assert examination.judgement.verdict in ({Verdict.BROKEN} if broken else {Verdict.POOR, Verdict.FAIR})
