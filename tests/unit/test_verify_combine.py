"""Verifiers made of verifiers: who decides, what the report says, and parts that take their time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.config import ClientConfig
from pellucid.crypto.provider import PENDING
from pellucid.errors import UsageError
from pellucid.registry import CertificateType
from pellucid.testing.ca import CA
from pellucid.verify import (
    AllowCertificate,
    Check,
    CheckGroup,
    Failure,
    Outcome,
    PendingPart,
    RawPublicKeyVerifier,
    SpkiPins,
    TrustStore,
    VerificationReport,
    VerificationRequest,
    VerifierAnswer,
    WebPKIVerifier,
    all_of,
    any_of,
    dangerous_accept_any,
    spki_pin,
)
from tests.support.verifying import NAME, check_named, request_for

AUTHORITY = CA("combine")
LEAF = AUTHORITY.issue(NAME)
REQUEST = request_for(LEAF)
WEB = WebPKIVerifier(AUTHORITY.trust)
NOBODY = WebPKIVerifier(TrustStore.empty())


class Says:
    """A verifier that answers as told, and counts how often it was asked."""

    authorities: Sequence[bytes] = ()

    def __init__(self, verdict: bool, how: str = "now", name: str = "says") -> None:
        self.verdict = verdict
        self.how = how
        self.asked = 0
        self.session_identity = f"{name} {verdict}".encode()

    def report(self) -> VerificationReport:
        failure = None if self.verdict else Failure.UNKNOWN_KEY
        outcome = Outcome.PASSED if self.verdict else Outcome.FAILED
        found = Check(group=CheckGroup.TRUST, name="says", outcome=outcome, evidence="so", failure=failure)
        report = VerificationReport(
            accepted=self.verdict,
            summary=f"says {self.verdict}",
            failure=failure,
            path=(LEAF.der,) if self.verdict else (),
        )
        return report.with_check(found) if self.verdict else report

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        self.asked += 1
        match self.how:
            case "now":
                return self.report()
            case "later":
                return self._later()
            case _:
                return PENDING

    async def _later(self) -> VerificationReport:
        await asyncio.sleep(0)
        return self.report()


def answered(answer: VerifierAnswer) -> VerificationReport:
    """What it comes down to, whatever pauses there are."""
    while True:
        match answer:
            case VerificationReport():
                return answer
            case PendingPart(verifier=Says() as part, then=then):
                answer = then(part.report())
            case Awaitable():
                answer = asyncio.run(_awaited(answer))
            case _:
                raise AssertionError(f"no answer of a combination: {answer}")


async def _awaited(answer: Awaitable[VerifierAnswer]) -> VerifierAnswer:
    return await answer


@pytest.mark.parametrize("ways", list(itertools.product(["now", "later", "pending"], repeat=3)))
@pytest.mark.parametrize("verdicts", list(itertools.product([True, False], repeat=3)))
def test_all_accept_iff_every_part_does_and_any_iff_one_does(verdicts: Any, ways: Any) -> None:
    def parts() -> list[Says]:
        return [
            Says(verdict, way, str(number)) for number, (verdict, way) in enumerate(zip(verdicts, ways, strict=True))
        ]

    assert answered(all_of(*parts()).verify(REQUEST)).accepted is all(verdicts)
    assert answered(any_of(*parts()).verify(REQUEST)).accepted is any(verdicts)
    first, second, third = parts()
    nested = any_of(all_of(first, second), third)
    assert answered(nested.verify(REQUEST)).accepted is ((verdicts[0] and verdicts[1]) or verdicts[2])
    first, second, third = parts()
    other = all_of(any_of(first, second), third)
    assert answered(other.verify(REQUEST)).accepted is ((verdicts[0] or verdicts[1]) and verdicts[2])


def test_the_first_refusal_ends_all_of_and_the_first_acceptance_any_of() -> None:
    yes, no, last = Says(True), Says(False), Says(True)
    report = answered(all_of(yes, no, last).verify(REQUEST))
    assert (yes.asked, no.asked, last.asked) == (1, 1, 0)
    assert check_named(report, "not asked").outcome is Outcome.NOT_CHECKED
    yes, no, last = Says(True), Says(False), Says(False)
    report = answered(any_of(no, yes, last).verify(REQUEST))
    assert (no.asked, yes.asked, last.asked) == (1, 1, 0)
    assert "says False" in check_named(report, "alternative").evidence


def test_an_accepted_report_of_any_of_has_no_failed_check() -> None:
    report = answered(any_of(NOBODY, WEB).verify(REQUEST))
    assert report.accepted and report.failure is None
    assert Outcome.FAILED not in {check.outcome for check in report.checks}
    assert report.path == (LEAF.der, AUTHORITY.root_der)


def test_a_refusal_by_all_parts_is_the_first_ones_with_the_words_of_the_others() -> None:
    other = CA().issue("other.test")
    report = answered(any_of(NOBODY, AllowCertificate(other.der)).verify(REQUEST))
    assert not report.accepted and report.failure is Failure.UNKNOWN_CA
    assert "; and " in report.summary and "not the one allowed" in report.summary
    assert check_named(report, "allowed certificate").outcome is Outcome.FAILED
    assert report.presented == LEAF.chain_der


def test_what_two_verifiers_saw_alike_is_told_once() -> None:
    report = answered(all_of(WEB, AllowCertificate(LEAF.der)).verify(REQUEST))
    assert report.accepted
    assert len(report.checks) == len(set(report.checks))
    assert report.path == (LEAF.der, AUTHORITY.root_der)
    assert check_named(report, "allowed certificate").outcome is Outcome.PASSED
    assert check_named(report, "trusted root").outcome is Outcome.PASSED


def test_a_requirement_refuses_and_never_lets_in() -> None:
    right, wrong = SpkiPins(spki_pin(LEAF.der)), SpkiPins(bytes(32))
    assert answered(all_of(WEB, right).verify(REQUEST)).accepted
    refused = answered(all_of(WEB, wrong).verify(REQUEST))
    assert refused.failure is Failure.WRONG_PIN and not refused.path and refused.presented == LEAF.chain_der
    assert not answered(all_of(NOBODY, right).verify(REQUEST)).accepted


@pytest.mark.parametrize(
    "make",
    [
        lambda: all_of(SpkiPins(bytes(32))),  # type: ignore[arg-type]
        lambda: any_of(WEB, SpkiPins(bytes(32))),  # type: ignore[arg-type]
        lambda: ClientConfig(verifier=SpkiPins(bytes(32))),  # type: ignore[arg-type]
    ],
)
def test_a_requirement_alone_is_no_verifier(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="all_of"):
        make()


@pytest.mark.parametrize(
    "wrong", [SpkiPins(bytes(32)), [SpkiPins(bytes(32))], ("sha256/AAAA",), (TrustStore.empty(),)], ids=range(4)
)
def test_requirements_are_a_tuple_of_what_demands_something(wrong: Any) -> None:
    for trust in (None, AUTHORITY.trust):  # with the system's roots still to come, too
        with pytest.raises(UsageError, match=r"tuple|no verify"):
            ClientConfig(trust=trust, requirements=wrong)


def test_what_has_no_verify_is_no_verifier() -> None:
    with pytest.raises(UsageError, match="no verify"):
        any_of(WEB, AUTHORITY.trust)  # type: ignore[arg-type]


def test_a_dangerous_verifier_in_all_of_is_not_dangerous_beside_one_that_demands_something() -> None:
    request = request_for(CA().issue(NAME))
    only = AllowCertificate(request.leaf.der)
    report = answered(all_of(dangerous_accept_any(), only).verify(request))
    assert report.accepted and not report.dangerous and report.failure is None
    assert "not the one" not in report.summary and "NOT VERIFIED" not in report.summary
    looked = answered(all_of(dangerous_accept_any(), WEB, SpkiPins(spki_pin(AUTHORITY.root_der))).verify(REQUEST))
    assert looked.accepted and looked.path == (LEAF.der, AUTHORITY.root_der)
    assert answered(all_of(dangerous_accept_any(), dangerous_accept_any()).verify(request)).dangerous
    assert answered(any_of(WEB, dangerous_accept_any()).verify(request)).dangerous


def test_sessions_are_bound_to_every_part_and_kept_only_where_each_can_be_told() -> None:
    def identity(verifier: object) -> object:
        return getattr(verifier, "session_identity", None)

    pins = SpkiPins(bytes(32))
    combined = [
        all_of(WEB),
        any_of(WEB),
        all_of(WEB, pins),
        all_of(NOBODY, pins),
        any_of(WEB, NOBODY),
        any_of(NOBODY, WEB),
    ]
    identities = {identity(one) for one in combined}
    assert len(identities) == len(combined) and None not in identities
    assert identity(all_of(WEB, pins)) == identity(all_of(WEB, SpkiPins(bytes(32))))
    unknown = dangerous_accept_any()
    assert identity(all_of(WEB, unknown)) is None and identity(any_of(WEB, unknown)) is None
    assert ClientConfig(verifier=all_of(WEB, unknown)).session_store is None
    assert ClientConfig(verifier=all_of(WEB, pins)).session_store is not None


def test_authorities_are_named_only_where_everybody_accepted_is_of_one_of_them() -> None:
    assert tuple(all_of(AllowCertificate(LEAF.der), WEB).authorities) == WEB.authorities
    assert tuple(any_of(WEB, WebPKIVerifier(CA("b").trust)).authorities) != WEB.authorities
    assert tuple(any_of(WEB, AllowCertificate(LEAF.der)).authorities) == ()


def test_certificate_types_are_those_that_all_or_any_accept() -> None:
    key = AUTHORITY.issue("x").certificate.public_key()
    raw = RawPublicKeyVerifier(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    both: Any = any_of(WEB, raw)
    assert both.certificate_types == (CertificateType.X509, CertificateType.RAW_PUBLIC_KEY)
    only: Any = all_of(both, WEB)
    assert only.certificate_types == (CertificateType.X509,)
    with pytest.raises(UsageError, match="no kind of certificate"):
        all_of(WEB, raw)
    with pytest.raises(UsageError, match="server_certificate_types"):
        ClientConfig(verifier=only, server_certificate_types=(CertificateType.RAW_PUBLIC_KEY,))


def test_an_answer_for_one_part_is_not_taken_for_the_next() -> None:
    pending = all_of(Says(True, "pending", "a"), Says(False, "pending", "b")).verify(REQUEST)
    assert isinstance(pending, PendingPart)
    second = pending.then(Says(True).report())
    assert isinstance(second, PendingPart)
    with pytest.raises(UsageError, match="answered already"):
        pending.then(Says(True).report())
    assert not answered(second).accepted


def test_an_awaited_part_that_nobody_awaits_is_let_go_of() -> None:
    answer: Any = all_of(WEB, any_of(Says(True, "later"))).verify(REQUEST)
    answer.cancel()  # a coroutine that was never awaited would warn, and warnings are errors here
    with pytest.raises(UsageError, match="awaited once"):
        asyncio.run(_awaited(answer))


def test_a_part_that_raises_raises_out_of_the_combination() -> None:
    class Broken(Says):
        async def _later(self) -> VerificationReport:
            raise OSError("the service is gone")

    with pytest.raises(OSError, match="service is gone"):
        answered(any_of(Broken(True, "later"), WEB).verify(REQUEST))


@pytest.mark.parametrize("nonsense", [None, True, "yes", PENDING])
def test_what_is_no_report_accepts_nobody(nonsense: Any) -> None:
    class Nonsense(Says):
        async def _later(self) -> VerificationReport:
            return nonsense  # type: ignore[no-any-return]

    if nonsense is not PENDING:
        with pytest.raises(UsageError, match="answers with a VerificationReport"):
            answered(all_of(Nonsense(True, "later"), WEB).verify(REQUEST))
    else:
        pending = asyncio.run(_awaited(all_of(Nonsense(True, "later"), WEB).verify(REQUEST)))  # type: ignore[arg-type]
        assert isinstance(pending, PendingPart)


def test_a_requirement_may_be_awaited_and_answers_with_checks_alone() -> None:
    class Slow:
        def __init__(self, outcome: Outcome) -> None:
            self.outcome = outcome

        async def examine(self, request: VerificationRequest, report: VerificationReport) -> tuple[Check, ...]:
            await asyncio.sleep(0)
            return (Check(group=CheckGroup.TRUST, name="slow", outcome=self.outcome, evidence="looked up"),)

    assert answered(all_of(WEB, Slow(Outcome.PASSED)).verify(REQUEST)).accepted
    refused = answered(all_of(WEB, Slow(Outcome.FAILED)).verify(REQUEST))
    assert not refused.accepted and refused.failure is Failure.POLICY

    class Wrong:
        def examine(self, request: VerificationRequest, report: VerificationReport) -> Any:
            return True

    with pytest.raises(UsageError, match="answers with Checks"):
        all_of(WEB, Wrong()).verify(REQUEST)
