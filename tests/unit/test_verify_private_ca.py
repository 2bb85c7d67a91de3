"""Private CAs: roots that are trusted for some names alone, and intermediates that peers forgot to send."""

from __future__ import annotations

import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid.errors import UsageError
from pellucid.testing.ca import CA, Issued
from pellucid.verify import Failure, Outcome, Purpose, Strictness, TrustStore, WebPKIVerifier
from tests.support.verifying import check_named, request_for

CORP = CA("Corp root")
PUBLIC = CA("Public root")
LIMITED = CORP.trust.only_for("corp.example", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("names", "server", "accepted"),
    [
        (["a.corp.example"], "a.corp.example", True),
        (["corp.example"], "corp.example", True),
        (["*.corp.example"], "a.corp.example", True),
        (["*.a.corp.example", "corp.example"], "b.a.corp.example", True),
        (["10.1.2.3"], "10.1.2.3", True),
        (["fd00::1", "a.corp.example"], "fd00::1", True),
        (["www.example"], "www.example", False),
        (["a.corp.example", "www.example"], "a.corp.example", False),
        (["notcorp.example"], "notcorp.example", False),
        (["corp.example.evil.test"], "corp.example.evil.test", False),
        (["192.0.2.1"], "192.0.2.1", False),
        (["a.corp.example", "192.0.2.1"], "a.corp.example", False),
        (["::ffff:10.1.2.3"], "::ffff:10.1.2.3", False),
    ],
)
def test_a_limited_root_vouches_for_its_names_alone(names: list[str], server: str, accepted: bool) -> None:
    for issuer in (CORP, CORP.intermediate(), CORP.intermediate(key="ed25519")):
        report = WebPKIVerifier(LIMITED).verify(request_for(issuer.issue(*names), server))
        assert report.accepted is accepted
        if not accepted:
            assert report.failure is Failure.POLICY
            assert "corp.example" in check_named(report, "limits of the root").evidence


def test_another_root_may_vouch_for_what_a_limited_one_may_not() -> None:
    """The path over the limited root is not the only one: the same key is cross-signed by another."""
    cross = Issued(
        certificate=PUBLIC._sign(
            subject=CORP.certificate.subject,
            public_key=CORP.certificate.public_key(),  # type: ignore[arg-type]
            not_before=CORP.certificate.not_valid_before_utc,
            not_after=CORP.certificate.not_valid_after_utc,
            ca=True,
            path_length=None,
            usage=("key_cert_sign", "crl_sign"),
            purposes=None,
            extra=(),
        ),
        intermediates=(),
        key_pem=b"",
    )
    leaf = CORP.issue("www.example")
    sent = Issued(certificate=leaf.certificate, intermediates=(cross.certificate,), key_pem=leaf.key_pem)
    report = WebPKIVerifier(LIMITED | PUBLIC.trust).verify(request_for(sent, "www.example"))
    assert report.accepted and report.path[-1] == PUBLIC.root_der
    assert not WebPKIVerifier(LIMITED).verify(request_for(sent, "www.example")).accepted


def test_a_limited_leaf_or_a_client_is_limited_too() -> None:
    verifier = WebPKIVerifier(LIMITED)
    for names, accepted in ((["a.corp.example"], True), (["other.example"], False), ([], False)):
        leaf = CORP.issue(*names, common_name="client")
        assert verifier.verify(request_for(leaf, None, purpose=Purpose.CLIENT_AUTH)).accepted is accepted
    pinned = TrustStore.from_der([CA().issue("www.example").der]).only_for("corp.example")
    leaf = Issued(certificate=pinned.certificates[0], intermediates=(), key_pem=b"")
    assert WebPKIVerifier(pinned).verify(request_for(leaf, "www.example")).failure is Failure.POLICY


def test_limits_hold_without_the_name_check() -> None:
    verifier = WebPKIVerifier(LIMITED, strictness=Strictness(dangerous_skip_name_check=True))
    assert verifier.verify(request_for(CORP.issue("a.corp.example"), None)).accepted
    assert not verifier.verify(request_for(CORP.issue("www.example"), None)).accepted


def test_what_is_wrong_beside_the_limits_is_told_first() -> None:
    report = WebPKIVerifier(LIMITED).verify(request_for(CORP.issue("www.example"), "other.example"))
    assert report.failure is Failure.WRONG_NAME
    assert check_named(report, "limits of the root").outcome is Outcome.FAILED


def test_limits_of_several_stores() -> None:
    both = CORP.trust.only_for("a.example") | CORP.trust.only_for("b.example")

    def accepts(trust: TrustStore, *names: str) -> bool:
        return WebPKIVerifier(trust).verify(request_for(CORP.issue(*names), names[0])).accepted

    assert accepts(both, "x.a.example") and accepts(both, "x.b.example")
    assert not accepts(both, "x.a.example", "x.b.example"), "one certificate has names of one of the two"
    assert not accepts(both, "x.c.example")
    assert accepts(LIMITED | CORP.trust, "www.example"), "one of the two trusts it for every name"
    assert accepts(LIMITED | PUBLIC.trust, "a.corp.example") and not accepts(LIMITED | PUBLIC.trust, "www.example")
    narrowed = LIMITED.only_for("it.corp.example", "10.5.0.0/16")
    assert accepts(narrowed, "x.it.corp.example") and not accepts(narrowed, "x.corp.example")
    assert accepts(narrowed, "10.5.0.1") and not accepts(narrowed, "10.6.0.1")
    assert not accepts(LIMITED.only_for("elsewhere.example"), "elsewhere.example")


def test_stores_that_trust_for_other_names_are_other_stores() -> None:
    stores = [CORP.trust, LIMITED, CORP.trust.only_for("corp.example"), CORP.trust.only_for("b.example")]
    assert len({store.digest for store in stores}) == len(stores)
    for one, other in itertools.combinations(stores, 2):
        assert one != other
        assert WebPKIVerifier(one).session_identity != WebPKIVerifier(other).session_identity
    assert CORP.trust.only_for("a.b", "c.d").digest == CORP.trust.only_for("c.d", "A.b").digest
    assert "some names" in repr(LIMITED)


@pytest.mark.parametrize("name", ["", "*.corp.example", ".corp.example", "10.0.0.1/8", "a b", "10.0.0.0/33"])
def test_what_is_no_domain_and_no_network_limits_nothing(name: str) -> None:
    with pytest.raises(UsageError):
        CORP.trust.only_for(name)


def test_a_root_is_not_limited_to_nothing() -> None:
    with pytest.raises(UsageError, match="at least one"):
        CORP.trust.only_for()


# ---- intermediates that are given here -------------------------------------------------------------------------------

MIDDLE = CORP.intermediate("Middle")
LOWER = MIDDLE.intermediate("Lower")
LEAF = LOWER.issue("a.corp.example")
GIVEN = [one.certificate.public_bytes(Encoding.PEM) for one in (MIDDLE, LOWER)]


@pytest.mark.parametrize(
    "form",
    [GIVEN, b"".join(GIVEN), [MIDDLE.certificate.public_bytes(Encoding.DER), GIVEN[1]]],
    ids=["PEM", "one text", "DER and PEM"],
)
def test_intermediates_given_here_stand_in_for_those_not_sent(form: bytes | list[bytes]) -> None:
    request = request_for(LEAF, "a.corp.example", bare=True)
    assert WebPKIVerifier(CORP.trust).verify(request).failure is Failure.MISSING_INTERMEDIATE
    report = WebPKIVerifier(CORP.trust, intermediates=form).verify(request)
    assert report.accepted and len(report.path) == 4
    told = [check for check in report.checks if check.name == "intermediate"]
    assert len(told) == 2 and all("given here" in check.evidence for check in told)
    assert all(check.place == "given here" for check in told)
    assert "dates (given here)" in "\n".join(report.lines())


def test_intermediates_given_here_are_trusted_by_nobody() -> None:
    evil = CA("Evil")
    verifier = WebPKIVerifier(PUBLIC.trust, intermediates=[*GIVEN, evil.certificate.public_bytes(Encoding.PEM)])
    for leaf in (LEAF, evil.issue("a.corp.example"), evil.intermediate().issue("a.corp.example")):
        assert verifier.verify(request_for(leaf, "a.corp.example")).failure is Failure.UNKNOWN_CA


def test_a_thousand_intermediates_given_here_cost_those_that_fit() -> None:
    many = [CA(f"n{n}").intermediate().certificate.public_bytes(Encoding.DER) for n in range(200)]
    verifier = WebPKIVerifier(CORP.trust, intermediates=[*many, *GIVEN])
    assert verifier.verify(request_for(LEAF, "a.corp.example", bare=True)).accepted


def test_what_is_no_certificate_is_no_intermediate() -> None:
    for wrong in (b"", [b"x"], b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"):
        with pytest.raises(UsageError):
            WebPKIVerifier(CORP.trust, intermediates=wrong or [b""])


def test_sessions_are_bound_to_the_intermediates_given_here() -> None:
    assert (
        WebPKIVerifier(CORP.trust, intermediates=GIVEN).session_identity != WebPKIVerifier(CORP.trust).session_identity
    )


def test_names_of_other_kinds_do_not_count_for_limits() -> None:
    leaf = CORP.issue("a.corp.example", x509.RFC822Name("somebody@elsewhere.example"))
    assert WebPKIVerifier(LIMITED).verify(request_for(leaf, "a.corp.example")).accepted
    mail = CORP.issue(x509.RFC822Name("somebody@corp.example"))
    assert not WebPKIVerifier(LIMITED).verify(request_for(mail, None, purpose=Purpose.CLIENT_AUTH)).accepted
