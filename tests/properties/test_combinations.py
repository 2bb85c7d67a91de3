"""A combination of verifiers, any tree of them, accepts exactly when its parts say so, however they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.crypto.provider import PENDING
from pellucid.testing.ca import CA, self_signed
from pellucid.verify import (
    AllowCertificate,
    AllowKeys,
    MemoryKnownPeers,
    Outcome,
    PeerVerifier,
    PendingPart,
    SpkiPins,
    Strictness,
    TrustOnFirstUse,
    TrustStore,
    VerificationReport,
    VerificationRequest,
    VerifierAnswer,
    WebPKIVerifier,
    all_of,
    any_of,
    spki_pin,
)
from tests.support.soak import examples
from tests.support.verifying import NAME, request_for

ROOT, OTHER = CA("combined"), CA("another")
LEAVES = {
    "good": ROOT.issue(NAME),
    "intermediate": ROOT.intermediate().issue(NAME),
    "other CA": OTHER.issue(NAME),
    "other name": ROOT.issue("other.test"),
    "self-signed": self_signed(NAME),
    "for clients": ROOT.issue(NAME, purposes=("client",)),
}
REQUESTS = {name: request_for(leaf) for name, leaf in LEAVES.items()}
ATOMS: dict[str, PeerVerifier] = {
    "web": WebPKIVerifier(ROOT.trust),
    "web, strict": WebPKIVerifier(ROOT.trust, strictness=Strictness(max_lifetime_days=1)),
    "both": WebPKIVerifier(ROOT.trust | OTHER.trust),
    "limited": WebPKIVerifier(ROOT.trust.only_for("elsewhere.test")),
    "nobody": WebPKIVerifier(TrustStore.empty()),
    "certificate": AllowCertificate(LEAVES["self-signed"].der),
    "keys": AllowKeys([spki_pin(LEAVES["good"].der), spki_pin(LEAVES["other name"].der)]),
    "first use": TrustOnFirstUse(MemoryKnownPeers()),
}
PINS = {
    "good": SpkiPins(spki_pin(LEAVES["good"].der)),
    "root": SpkiPins(spki_pin(ROOT.root_der)),
    "none": SpkiPins(bytes(32)),
}


@dataclass(frozen=True)
class Slowly:
    """A verifier that answers as *inner*, in another way."""

    inner: PeerVerifier
    how: str

    @property
    def authorities(self) -> Any:
        return self.inner.authorities

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        if self.how == "pending":
            return PENDING
        return self._later(request)

    async def _later(self, request: VerificationRequest) -> VerifierAnswer:
        await asyncio.sleep(0)
        return self.inner.verify(request)


def settled(answer: VerifierAnswer) -> VerificationReport:
    while not isinstance(answer, VerificationReport):
        if isinstance(answer, PendingPart):
            part = answer.verifier
            assert isinstance(part, Slowly)
            answer = answer.then(settled(part.inner.verify(answer.request)))
        else:
            assert isinstance(answer, Awaitable)
            answer = asyncio.run(_awaited(answer))
    return answer


async def _awaited(answer: Awaitable[VerifierAnswer]) -> VerifierAnswer:
    return await answer


def built(tree: Any) -> PeerVerifier:
    match tree:
        case ("atom", name, how):
            return ATOMS[name] if how == "now" else Slowly(ATOMS[name], how)
        case ("all", first, rest, pins):
            return all_of(built(first), *map(built, rest), *(PINS[pin] for pin in pins))
        case ("any", first, rest):
            return any_of(built(first), *map(built, rest))
    raise AssertionError(tree)


def expected(tree: Any, leaf: str) -> tuple[bool, tuple[bytes, ...]]:
    """Whether it accepts, and along which path: worked out from what each atom says alone."""
    match tree:
        case ("atom", name, _):
            report = settled(ATOMS[name].verify(REQUESTS[leaf]))
            return report.accepted, report.path
        case ("all", first, rest, pins):
            accepted, path = expected(first, leaf)
            accepted = accepted and all(expected(one, leaf)[0] for one in rest)
            there = {spki_pin(der) for der in path}
            wanted = {"good": spki_pin(LEAVES["good"].der), "root": spki_pin(ROOT.root_der), "none": ""}
            accepted = accepted and all(wanted[pin] in there for pin in pins)
            return accepted, path if accepted else ()
        case ("any", first, rest):
            return next((one for one in (expected(part, leaf) for part in (first, *rest)) if one[0]), (False, ()))
    raise AssertionError(tree)


ATOM = st.tuples(st.just("atom"), st.sampled_from(sorted(ATOMS)), st.sampled_from(["now", "later", "pending"]))
TREES = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.tuples(
            st.just("all"), inner, st.lists(inner, max_size=2), st.lists(st.sampled_from(sorted(PINS)), max_size=1)
        ),
        st.tuples(st.just("any"), inner, st.lists(inner, max_size=2)),
    ),
    max_leaves=6,
)


@settings(max_examples=examples(50, soak=1_000), deadline=None)
@given(tree=TREES, leaf=st.sampled_from(sorted(LEAVES)))
def test_a_combination_accepts_iff_its_parts_say_so(tree: Any, leaf: str) -> None:
    verifier = built(tree)
    if tree[0] == "atom" and tree[2] != "now":
        return  # no combination: the core asks it itself
    report = settled(verifier.verify(REQUESTS[leaf]))
    accepted, path = expected(tree, leaf)
    assert report.accepted is accepted
    assert report.path == path
    assert bool(report.path) is report.accepted and (report.failure is None) is report.accepted
    if report.accepted:
        assert report.path[0] == LEAVES[leaf].der
        assert Outcome.FAILED not in {check.outcome for check in report.checks}
    else:
        assert report.alert is not None and report.presented and report.summary
        assert report.on_proof == ()
        assert any(check.failure is report.failure for check in report.checks)


@settings(max_examples=examples(40, soak=800), deadline=None)
@given(
    rest=st.lists(TREES, max_size=3),
    pins=st.lists(st.sampled_from(sorted(PINS)), max_size=2),
    leaf=st.sampled_from(sorted(LEAVES)),
)
def test_nothing_beside_it_makes_all_of_accept_what_the_web_pki_refuses(rest: Any, pins: Any, leaf: str) -> None:
    web = WebPKIVerifier(ROOT.trust)
    report = settled(all_of(web, *map(built, rest), *(PINS[pin] for pin in pins)).verify(REQUESTS[leaf]))
    assert not report.accepted or web.verify(REQUESTS[leaf]).accepted
