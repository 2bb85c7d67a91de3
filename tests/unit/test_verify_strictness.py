"""What a WebPKIVerifier gives up when told to, and what it never gives up with it."""

from __future__ import annotations

import pytest

from pellucid.errors import UsageError
from pellucid.testing.ca import CA, Issued
from pellucid.verify import Failure, Outcome, Purpose, Strictness, WebPKIVerifier
from tests.support.verifying import NAME, check_named, request_for

AUTHORITY = CA("strictness")
NAMELESS = WebPKIVerifier(AUTHORITY.trust, strictness=Strictness(dangerous_skip_name_check=True))


@pytest.mark.parametrize("server_name", [NAME, "other.test", "192.0.2.1", None])
@pytest.mark.parametrize(
    "leaf",
    [
        AUTHORITY.issue(NAME),
        AUTHORITY.issue(common_name="no names"),
        AUTHORITY.issue("*.server.test", "192.0.2.7"),
        AUTHORITY.intermediate(purposes=("server",)).issue(NAME),
        AUTHORITY.intermediate(key="ed25519").issue(NAME),
    ],
)
def test_without_the_name_check_any_name_will_do_and_the_report_says_so(leaf: Issued, server_name: str | None) -> None:
    report = NAMELESS.verify(request_for(leaf, server_name))
    assert report.accepted and not report.dangerous
    assert "NAME NOT CHECKED" in report.summary
    check = check_named(report, "subject alternative name")
    assert check.outcome is Outcome.NOT_CHECKED and "dangerous_skip_name_check" in check.evidence


@pytest.mark.parametrize(
    ("leaf", "failure"),
    [
        (CA("another").issue(NAME), Failure.UNKNOWN_CA),
        (AUTHORITY.issue(NAME, purposes=("client",)), Failure.WRONG_PURPOSE),
        (AUTHORITY.intermediate(purposes=("client",)).issue(NAME), Failure.WRONG_PURPOSE),
        (AUTHORITY.intermediate(permitted=("corp.test",)).issue(NAME), Failure.CONSTRAINT),
        (AUTHORITY.issue(NAME, ca=True), Failure.WRONG_PURPOSE),
    ],
)
def test_without_the_name_check_everything_else_is_still_checked(leaf: Issued, failure: Failure) -> None:
    report = NAMELESS.verify(request_for(leaf, None))
    assert not report.accepted and report.failure is failure


def test_without_the_name_check_clients_are_judged_as_before() -> None:
    leaf = AUTHORITY.issue("client", purposes=("client",))
    assert NAMELESS.verify(request_for(leaf, None, purpose=Purpose.CLIENT_AUTH)).accepted
    for_servers = AUTHORITY.issue("client", purposes=("server",))
    report = NAMELESS.verify(request_for(for_servers, None, purpose=Purpose.CLIENT_AUTH))
    assert report.failure is Failure.WRONG_PURPOSE


def test_with_the_name_check_a_name_is_demanded() -> None:
    with pytest.raises(UsageError, match="without the server's name"):
        WebPKIVerifier(AUTHORITY.trust).verify(request_for(AUTHORITY.issue(NAME), None))


def test_sessions_are_not_shared_by_verifiers_of_different_strictness() -> None:
    assert NAMELESS.session_identity != WebPKIVerifier(AUTHORITY.trust).session_identity


def test_strictness_is_a_value_and_nothing_that_looks_like_one() -> None:
    with pytest.raises(UsageError, match="Strictness"):
        WebPKIVerifier(AUTHORITY.trust, strictness={"dangerous_skip_name_check": True})  # type: ignore[arg-type]
