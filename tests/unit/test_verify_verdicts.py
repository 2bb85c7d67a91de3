"""Verdicts that are remembered: what is taken again, what is verified anew, and how long (attacks E8, F5, F11, F13)."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509

from pellucid import ClientConfig, RevocationPolicy, ServerConfig
from pellucid.config import ClientAuthentication
from pellucid.crypto.certificates import X509Certificate, parse_certificate
from pellucid.errors import UsageError
from pellucid.limits import MAX_VERDICT_BYTES, MAX_VERDICTS, VERDICT_CACHE_SECONDS
from pellucid.net.aia import AiaVerifier
from pellucid.testing.ca import CA, DAY, Extra, Issued
from pellucid.verify import (
    Check,
    CheckGroup,
    Failure,
    Outcome,
    Purpose,
    SpkiPins,
    Strictness,
    TrustStore,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
    all_of,
    dangerous_accept_any,
    spki_pin,
)
from tests.support.pair import credential
from tests.support.revocation import HOST, HOUR, NOW, authority, leaf

Now = datetime.datetime
"""a moment, UTC"""


def verifier(**changes: Any) -> WebPKIVerifier:
    return WebPKIVerifier(changes.pop("trust", authority().trust), **changes)


def ask(issued: Issued | None = None, now: Now = NOW, **changes: Any) -> VerificationRequest:
    """A request as a new connection makes it: the bytes are equal to those of another, not the same object."""
    issued = issued or leaf()
    asked = VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=tuple(bytes(bytearray(one)) for one in issued.chain_der[1:]),
        purpose=Purpose.SERVER_AUTH,
        server_name=HOST,
        now=now.timestamp(),
    )
    return dataclasses.replace(asked, **changes)


def notes(report: VerificationReport) -> list[Check]:
    return [check for check in report.checks if check.name == "remembered verdict"]


def remembered(report: VerificationReport) -> bool:
    assert report.accepted, report.lines()
    return bool(notes(report))


# ---- what is taken again ---------------------------------------------------------------------------------------------


def test_the_second_time_the_verdict_is_remembered_and_its_report_says_so() -> None:
    one = verifier()
    first, second = one.verify(ask()), one.verify(ask(now=NOW + 2 * datetime.timedelta(minutes=1)))
    assert not remembered(first) and remembered(second)
    (note,) = notes(second)
    assert note.outcome is Outcome.PASSED and note.group is CheckGroup.TRUST
    assert f"{NOW:%Y-%m-%d %H:%M:%S} UTC" in note.evidence
    # Beside that it is as good as the first: the same path and summary, the same checks with the same evidence.
    assert second.checks == (*first.checks, note)
    assert (second.path, second.summary, second.failure, second.alert) == (first.path, first.summary, None, None)
    assert {group: second.outcome(group) for group in CheckGroup} == {
        group: first.outcome(group) for group in CheckGroup
    }


def test_upstream_is_not_asked_for_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    one = verifier()
    one.verify(ask())
    monkeypatch.setattr(WebPKIVerifier, "_judge", _nobody_judges)
    assert remembered(one.verify(ask()))
    with pytest.raises(AssertionError, match="judged"):
        one.verify(ask(server_name=HOST.upper()))


def _nobody_judges(*_: object) -> VerificationReport:
    raise AssertionError("judged")


def test_clients_certificates_are_remembered_too() -> None:
    one = verifier()
    asked: dict[str, Any] = {"purpose": Purpose.CLIENT_AUTH, "server_name": None}
    assert not remembered(one.verify(ask(**asked)))
    assert remembered(one.verify(ask(**asked)))


# ---- everything that an answer depends on ----------------------------------------------------------------------------


def staple(**changes: Any) -> bytes:
    return authority().ocsp_response(leaf(), **changes)


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "the purpose, with a client's lack of a name": lambda: {"purpose": Purpose.CLIENT_AUTH, "server_name": None},
    "the name": lambda: {"server_name": "other.example.com"},
    "an intermediate more": lambda: {"intermediates": (*ask().intermediates, authority().root_der)},
    "an intermediate less": lambda: {"intermediates": ()},
    "a staple": lambda: {"ocsp_response": staple()},
    "an empty staple": lambda: {"ocsp_response": b""},
    "SCTs": lambda: {"scts": (b"\x00" * 47,)},
    "no status asked for": lambda: {"status_requested": False},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_every_part_of_the_request_counts(other: Callable[[], dict[str, Any]]) -> None:
    one = verifier()
    one.verify(ask())
    report, fresh = one.verify(ask(**other())), verifier().verify(ask(**other()))
    assert not notes(report)
    assert (report.accepted, report.failure, report.summary) == (fresh.accepted, fresh.failure, fresh.summary)
    assert remembered(one.verify(ask())), "the first is still there"


def test_lists_are_as_good_as_tuples() -> None:
    one = verifier()
    assert not remembered(one.verify(ask(intermediates=list(ask().intermediates), scts=[])))
    assert remembered(one.verify(ask()))


def test_another_leaf_of_the_same_key_and_name_is_verified() -> None:
    one, key = verifier(), leaf().private_key
    one.verify(ask())
    assert not remembered(one.verify(ask(authority().issue(HOST, key=key))))


def test_a_staple_byte_for_byte_another_is_verified() -> None:
    one = verifier()
    good, wrong = staple(), staple(wrong_signature=True)
    assert not remembered(one.verify(ask(ocsp_response=good)))
    assert remembered(one.verify(ask(ocsp_response=good)))
    assert one.verify(ask(ocsp_response=wrong)).failure is Failure.BAD_STAPLE
    assert one.verify(ask(ocsp_response=staple(status="revoked"))).failure is Failure.REVOKED


def test_must_staple_is_demanded_of_those_who_were_asked() -> None:
    one, promising = verifier(), leaf(must_staple=True)
    assert one.verify(ask(promising, status_requested=False)).accepted
    assert one.verify(ask(promising, status_requested=True)).failure is Failure.STAPLE_MISSING


def test_another_certificate_under_the_same_encoding_is_verified() -> None:
    """A provider of the user's own may say what it will of an encoding: the verdict is about what was judged."""
    one = verifier()
    one.verify(ask())
    true, other = ask().leaf, CA().issue(HOST)
    assert isinstance(true, X509Certificate)
    posing = X509Certificate(true.der, other.certificate, true.public_key, true.key_algorithm)
    assert not one.verify(ask(leaf=posing)).accepted
    assert one.verify(ask(leaf=X509Certificate(true.der, true.x509, true.public_key, ""))).accepted


def test_verifiers_share_nothing() -> None:
    one = verifier()
    one.verify(ask())
    stricter = verifier(strictness=Strictness(min_rsa_bits=3072))
    for other in (verifier(), stricter, one.with_intermediates(authority().root_der, "given here")):
        assert not remembered(other.verify(ask()))
    assert not verifier(trust=CA().trust).verify(ask()).accepted


# ---- how long --------------------------------------------------------------------------------------------------------


def lasts(one: WebPKIVerifier, seconds: float, *, start: Now = NOW, **changes: Any) -> bool:
    """Whether what is accepted at *start* is remembered *seconds* later."""
    assert not remembered(one.verify(ask(now=start, **changes)))
    return remembered(one.verify(ask(now=start + datetime.timedelta(seconds=seconds), **changes)))


def test_a_verdict_is_remembered_for_ten_minutes() -> None:
    assert VERDICT_CACHE_SECONDS == 600
    assert lasts(verifier(), 600) and not lasts(verifier(), 601)
    assert lasts(verifier(verdict_cache_seconds=5), 5) and not lasts(verifier(verdict_cache_seconds=5), 6)


def test_use_does_not_prolong_it() -> None:
    one = verifier()
    hits = [bool(notes(one.verify(ask(now=NOW + datetime.timedelta(seconds=at))))) for at in range(0, 1300, 100)]
    assert hits == [at not in {0, 700} for at in range(0, 1300, 100)]


@pytest.mark.rfc("5280 §4.1.2.5", "a certificate is valid until notAfter, included")
@pytest.mark.parametrize("which", ["leaf", "intermediate", "root"])
def test_a_verdict_ends_with_the_first_certificate_on_the_path(which: str) -> None:
    end = NOW + datetime.timedelta(seconds=100)
    dates: dict[str, dict[str, Any]] = {
        name: {"not_after": end if name == which else NOW + DAY} for name in ("leaf", "intermediate", "root")
    }
    ca = CA("Short root", **dates["root"]).intermediate("Short CA", **dates["intermediate"])
    issued = ca.issue(HOST, **dates["leaf"])
    one = verifier(trust=ca.trust)
    assert lasts(one, 100, issued=issued)
    late = ask(issued, now=end + datetime.timedelta(seconds=1))
    assert one.verify(late).failure is Failure.EXPIRED


def test_a_certificate_is_not_believed_before_its_time() -> None:
    issued = authority().issue(HOST, not_before=NOW)
    one = verifier()
    assert one.verify(ask(issued)).accepted
    early = one.verify(ask(issued, now=NOW - datetime.timedelta(seconds=1)))
    assert early.failure is Failure.NOT_YET_VALID


@pytest.mark.parametrize("next_update", [NOW + datetime.timedelta(seconds=100), None])
def test_a_verdict_ends_with_its_staple(next_update: Now | None) -> None:
    policy = RevocationPolicy(max_age_seconds=HOUR.total_seconds() + 100)
    response = staple(this_update=NOW - HOUR, next_update=next_update)
    for seconds, there in ((100, True), (101, False)):
        assert lasts(verifier(revocation=policy), seconds, ocsp_response=response) is there
    # Where clocks may differ the staple is good for longer; the verdict on it is not kept then.
    assert not lasts(
        verifier(revocation=policy), 1, start=NOW + datetime.timedelta(seconds=200), ocsp_response=response
    )


def test_a_verdict_ends_with_the_responder_who_signed_the_staple() -> None:
    responder = authority().responder(not_after=NOW + datetime.timedelta(seconds=100))
    response = staple(signer=responder)
    assert lasts(verifier(), 100, ocsp_response=response)
    one = verifier()
    one.verify(ask(ocsp_response=response))
    late = one.verify(ask(now=NOW + datetime.timedelta(seconds=101), ocsp_response=response))
    assert late.failure is Failure.BAD_STAPLE


@pytest.mark.parametrize("whose", ["leaf", "chain"])
@pytest.mark.parametrize("next_update", [NOW + datetime.timedelta(seconds=100), None])
def test_a_verdict_ends_with_the_first_crl(whose: str, next_update: Now | None) -> None:
    short: dict[str, Any] = {"this_update": NOW - HOUR, "next_update": next_update}
    of_ca = authority().crl(**short if whose == "leaf" else {})
    of_root = authority().root.crl(**short if whose == "chain" else {})
    policy = RevocationPolicy(crls=(of_ca, of_root), max_age_seconds=HOUR.total_seconds() + 100)
    assert lasts(verifier(revocation=policy), 100)
    assert not lasts(verifier(revocation=policy), 101)


def test_the_crl_of_somebody_else_ends_nothing() -> None:
    stale = CA("Somebody else").crl(this_update=NOW - 2 * DAY, next_update=NOW - DAY)
    policy = RevocationPolicy(crls=(authority().crl(), stale), crl_depth="leaf")
    assert lasts(verifier(revocation=policy), 600)


def test_what_a_crl_lists_is_refused_every_time() -> None:
    policy = RevocationPolicy(crls=(authority().crl(leaf()),), crl_depth="leaf")
    one = verifier(revocation=policy)
    assert [one.verify(ask()).failure for _ in range(3)] == [Failure.REVOKED] * 3


def test_a_clock_that_goes_back_ends_all_of_them() -> None:
    one, other = verifier(), authority().issue(HOST)
    later = NOW + datetime.timedelta(seconds=100)
    assert not remembered(one.verify(ask()))
    assert not remembered(one.verify(ask(other, now=later)))
    # The first is of a time before this one and would not be old; but the clock cannot be believed any more.
    assert not remembered(one.verify(ask(now=NOW + datetime.timedelta(seconds=50))))
    assert remembered(one.verify(ask(now=NOW + datetime.timedelta(seconds=51))))
    assert not remembered(one.verify(ask(other, now=NOW + datetime.timedelta(seconds=52))))


def test_threads_that_read_the_clock_in_another_order_are_no_clock_that_goes_back() -> None:
    one, after = verifier(), NOW + datetime.timedelta(seconds=10)
    one.verify(ask())
    assert remembered(one.verify(ask(now=after)))
    assert remembered(one.verify(ask(now=after - datetime.timedelta(milliseconds=900))))


def test_a_time_that_is_none_is_refused_and_harms_nothing() -> None:
    one = verifier()
    for now in (math.nan, math.inf, -math.inf, 1e30):
        one.verify(ask())
        with pytest.raises(UsageError, match="is not one"):
            one.verify(dataclasses.replace(ask(), now=now))
    one.verify(ask())
    assert remembered(one.verify(ask()))


# ---- how many --------------------------------------------------------------------------------------------------------


def test_the_chains_used_last_are_kept() -> None:
    one = verifier()
    names = [f"a{number}.example.com" for number in range(MAX_VERDICTS + 1)]
    issued = authority().issue("*.example.com")
    for name in names[:-1]:
        assert not remembered(one.verify(ask(issued, server_name=name)))
    assert remembered(one.verify(ask(issued, server_name=names[0])))  # the oldest, used again
    one.verify(ask(issued, server_name=names[-1]))
    assert remembered(one.verify(ask(issued, server_name=names[0])))
    assert not remembered(one.verify(ask(issued, server_name=names[1])))
    assert len(one._verdicts) == MAX_VERDICTS


def test_a_chain_that_is_very_long_is_not_kept() -> None:
    padding = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x04\x82\x40\x00" + bytes(2**14)
    )
    big = CA("Big root").intermediate("Big CA", extra=(Extra(value=padding),))
    one, issued = verifier(trust=big.trust), big.issue(HOST, extra=(Extra(value=padding),))
    assert sum(map(len, issued.chain_der)) > MAX_VERDICT_BYTES
    assert [remembered(one.verify(ask(issued))) for _ in range(2)] == [False, False]


def test_what_is_refused_is_not_kept_and_puts_nothing_out() -> None:
    one = verifier()
    one.verify(ask())
    for number in range(MAX_VERDICTS + 10):
        assert not one.verify(ask(server_name=f"b{number}.example.com")).accepted
    assert len(one._verdicts) == 1 and remembered(one.verify(ask()))


# ---- off -------------------------------------------------------------------------------------------------------------


def test_with_no_seconds_everything_is_verified_every_time() -> None:
    one = verifier(verdict_cache_seconds=0)
    assert [remembered(one.verify(ask())) for _ in range(3)] == [False] * 3
    again = one.with_intermediates(authority().root_der, "here")
    assert [remembered(again.verify(ask())) for _ in range(2)] == [False] * 2


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 86_401, "a", None])
def test_seconds_that_cannot_be_are_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="verdict_cache_seconds"):
        verifier(verdict_cache_seconds=seconds)
    with pytest.raises(UsageError, match="verdict_cache_seconds"):
        ClientConfig(trust=authority().trust, verdict_cache_seconds=seconds)


def test_where_dates_are_given_up_nothing_is_remembered() -> None:
    one = verifier(strictness=Strictness(dangerous_skip_dates=True))
    assert [remembered(one.verify(ask())) for _ in range(2)] == [False] * 2


def test_where_the_name_is_given_up_it_still_belongs_to_the_verdict() -> None:
    one = verifier(strictness=Strictness(dangerous_skip_name_check=True))
    assert not remembered(one.verify(ask(server_name=None)))
    assert not remembered(one.verify(ask(server_name="other.example.com")))
    assert remembered(one.verify(ask(server_name=None)))


def test_a_server_that_is_accepted_without_a_name_is_no_client() -> None:
    one = verifier(strictness=Strictness(dangerous_skip_name_check=True))
    issued = authority().issue(HOST, purposes=("server",))
    assert one.verify(ask(issued, server_name=None)).accepted
    client = one.verify(ask(issued, server_name=None, purpose=Purpose.CLIENT_AUTH))
    assert client.failure is Failure.WRONG_PURPOSE


def test_dangerous_accept_any_remembers_nothing() -> None:
    one = dangerous_accept_any(authority().trust)
    reports = [one.verify(ask()) for _ in range(2)]
    assert all(isinstance(report, VerificationReport) and not notes(report) for report in reports)
    nobody = dangerous_accept_any().verify(ask())
    assert isinstance(nobody, VerificationReport) and nobody.dangerous and nobody.failure is Failure.UNKNOWN_CA


# ---- configurations, and verifiers around it -------------------------------------------------------------------------


def judge(config: ClientConfig | ServerConfig, request: VerificationRequest) -> VerificationReport:
    assert config.peer_verifier is not None
    report = config.peer_verifier.verify(request)
    assert isinstance(report, VerificationReport)
    return report


def test_configurations_remember_unless_they_are_told_not_to() -> None:
    client = ClientConfig(trust=authority().trust)
    server = ServerConfig(
        credentials=(credential(),),
        client_authentication=ClientAuthentication.REQUIRED,
        client_trust=authority().trust,
    )
    of_client = ask(purpose=Purpose.CLIENT_AUTH, server_name=None)
    for config, request in ((client, ask()), (server, of_client)):
        assert [remembered(judge(config, request)) for _ in range(2)] == [False, True]
    for config, request in (
        (dataclasses.replace(client, verdict_cache_seconds=0), ask()),
        (dataclasses.replace(server, verdict_cache_seconds=0), of_client),
    ):
        assert [remembered(judge(config, request)) for _ in range(2)] == [False, False]


def test_a_changed_configuration_begins_with_nothing() -> None:
    before = ClientConfig(trust=authority().trust)
    judge(before, ask())
    assert not remembered(judge(dataclasses.replace(before), ask()))
    assert not judge(dataclasses.replace(before, trust=CA().trust), ask()).accepted
    assert not judge(dataclasses.replace(before, trust=TrustStore.empty()), ask()).accepted
    revoking = RevocationPolicy(crls=(authority().crl(leaf()),), crl_depth="leaf")
    assert judge(dataclasses.replace(before, revocation=revoking), ask()).failure is Failure.REVOKED


def test_a_verifier_of_ones_own_is_told_itself() -> None:
    with pytest.raises(UsageError, match="verdict_cache_seconds"):
        ClientConfig(verifier=verifier(), verdict_cache_seconds=0)


class Counting:
    """A requirement that counts how often it is asked, and refuses from a number on."""

    def __init__(self, refuses_from: int) -> None:
        self.asked = 0
        self._refuses_from = refuses_from

    def examine(self, request: VerificationRequest, report: VerificationReport) -> tuple[Check, ...]:
        self.asked += 1
        bad = self.asked >= self._refuses_from
        outcome, failure = (Outcome.FAILED, Failure.POLICY) if bad else (Outcome.PASSED, None)
        return (Check(group=CheckGroup.TRUST, name="count", outcome=outcome, evidence="asked", failure=failure),)


def test_requirements_are_asked_every_time() -> None:
    counting = Counting(refuses_from=3)
    config = ClientConfig(trust=authority().trust, requirements=(counting,))
    assert [judge(config, ask()).failure for _ in range(4)] == [None, None, Failure.POLICY, Failure.POLICY]
    assert counting.asked == 4
    assert notes(judge(config, ask()))


def test_pins_look_at_the_path_that_is_remembered() -> None:
    for pin, failure in ((spki_pin(authority().root_der), None), (spki_pin(CA().root_der), Failure.WRONG_PIN)):
        one = all_of(verifier(), SpkiPins(pin))
        for _ in range(2):
            report = one.verify(ask())
            assert isinstance(report, VerificationReport) and report.failure is failure


def test_aia_remembers_what_its_verifier_accepted() -> None:
    one = AiaVerifier(verifier())
    assert [remembered(one.verify(ask())) for _ in range(2)] == [False, True]


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _threads_change_places_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    """Have *work* done by four threads, each told its number; raise what one of them raised."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()


@pytest.mark.usefixtures("_threads_change_places_all_the_time")
def test_threads_never_take_one_verdict_for_another() -> None:
    one = verifier()
    names = [f"t{number}.example.com" for number in range(4)]
    issued = [authority().issue(name) for name in names]

    def work(number: int) -> None:
        for step in range(300):
            which, name = (step + number) % 4, (step // 4 + number) % 4
            report = one.verify(ask(issued[which], server_name=names[name]))
            assert report.accepted is (which == name)
            assert not report.accepted or report.path[0] == issued[which].der

    in_threads(work)


@pytest.mark.usefixtures("_threads_change_places_all_the_time")
def test_threads_put_out_what_is_too_much_and_forget_it_all_at_once() -> None:
    one, issued = verifier(), authority().issue("*.example.com")

    def work(number: int) -> None:
        for step in range(2 * MAX_VERDICTS):
            now = NOW + datetime.timedelta(seconds=step - 100 * (step == MAX_VERDICTS))
            name = f"t{(7 * step + number) % (MAX_VERDICTS + 16)}.example.com"
            assert one.verify(ask(issued, now=now, server_name=name)).accepted

    in_threads(work)
    assert 0 < len(one._verdicts) <= MAX_VERDICTS + 3
    one.verify(ask(now=NOW + 2 * HOUR))
    assert len(one._verdicts) <= MAX_VERDICTS
