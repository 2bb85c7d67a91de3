"""CRLs given in memory (RFC 5280 §5, §6.3): who is revoked, which CRLs count, what follows where none does (F13)."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import random
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid import limits
from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.errors import UsageError
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA, DAY, Extra, Issued, KeyKind, new_key
from pellucid.testing.revocation import Revoked
from pellucid.verify import Failure, Outcome, Purpose, RevocationPolicy, TrustStore, WebPKIVerifier
from pellucid.verify import dangerous_accept_any as dangerous
from tests.support.revocation import (
    HOST,
    NOW,
    SERVERS_AND_CLIENTS,
    ask,
    authority,
    good,
    leaf,
    refused,
    revocation,
    unchecked,
    verify,
)

KINDS: tuple[KeyKind, ...] = ("p256", "p384", "p521", "rsa2048", "ed25519", "ed448", "mldsa65")
CAN_BE_USED = pytest.mark.rfc("5280 §6.3.3", "a CRL answers only if it is current, in scope, and signed by the issuer")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def policy(*crls: bytes, **changes: Any) -> RevocationPolicy:
    """A policy about the leaf alone, unless *changes* say otherwise."""
    return RevocationPolicy(crls=crls, **({"crl_depth": "leaf"} | changes))


def scope(**changes: Any) -> Extra:
    """An issuing distribution point, critical as it must be."""
    parts: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return Extra(value=x509.IssuingDistributionPoint(**(parts | changes)), critical=True)


def pem(crl: bytes) -> bytes:
    text = base64.encodebytes(crl)
    return b"-----BEGIN X509 CRL-----\n" + text + b"-----END X509 CRL-----\n"


# ---- listed and not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.rfc("9846 §6.2", "certificate_revoked")
def test_a_listed_leaf_is_refused_with_reason_and_day(purpose: Purpose) -> None:
    day = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    entry = Revoked(serial=leaf().certificate.serial_number, when=day, reason=x509.ReasonFlags.superseded)
    report = verify(leaf(), None, policy(authority().crl(entry)), purpose=purpose)
    refused(
        report, Failure.REVOKED, f"the leaf '{HOST}' was revoked on 2026-02-03 04:05:06 UTC (superseded)", "the CRL of"
    )
    assert report.alert == AlertDescription.CERTIFICATE_REVOKED
    plain = verify(leaf(), None, policy(authority().crl(leaf())), purpose=purpose)
    refused(plain, Failure.REVOKED, "says the CRL of 'Revocation test CA'")


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
def test_a_leaf_that_is_not_listed_passes(purpose: Purpose) -> None:
    other = authority().issue("other.example")
    for crl in (authority().crl(), authority().crl(other)):
        good(verify(leaf(), None, policy(crl), purpose=purpose), "is not on the CRL of 'Revocation test CA'")


@pytest.mark.parametrize("kind", KINDS)
def test_crls_signed_with_every_kind_of_key(kind: KeyKind) -> None:
    ca = authority().root.intermediate(f"CA of {kind}", key=kind)
    issued = ca.issue(HOST)
    good(verify(issued, None, policy(ca.crl()), ca=ca))
    refused(verify(issued, None, policy(ca.crl(issued)), ca=ca), Failure.REVOKED)


def test_a_crl_signed_with_rsassa_pss_is_read() -> None:
    ca = CA(key="rsa2048", pss=True)
    issued = ca.issue(HOST)
    refused(verify(issued, None, policy(ca.crl(issued)), ca=ca), Failure.REVOKED)


def test_crls_that_upstream_makes_are_read() -> None:
    ca = authority()
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.name).last_update(NOW).next_update(NOW + DAY)
    builder = builder.add_extension(x509.CRLNumber(7), critical=False)
    entry = x509.RevokedCertificateBuilder().serial_number(leaf().certificate.serial_number).revocation_date(NOW)
    for made, revoked in ((builder, False), (builder.add_revoked_certificate(entry.build()), True)):
        crl = made.sign(ca.private_key, hashes.SHA384()).public_bytes(Encoding.DER)
        report = verify(leaf(), None, policy(crl))
        assert report.failure is (Failure.REVOKED if revoked else None)


@pytest.mark.rfc("5280 §6.3", "revocation is asked about each certificate of the path but the trust anchor")
def test_the_chain_is_asked_about_and_the_root_is_not() -> None:
    root = CA("top")
    middle = root.intermediate("middle")
    low = middle.intermediate("low")
    issued = low.issue(HOST)
    every = {"low": low.crl(), "middle": middle.crl(), "top": root.crl()}
    report = verify(issued, None, RevocationPolicy(crls=tuple(every.values())), ca=root)
    assert report.accepted
    checks = revocation(report)
    assert [check.certificate for check in checks] == [0, 1, 2]
    assert {check.outcome for check in checks} == {Outcome.PASSED}

    def certificate(ca: CA) -> Issued:
        return Issued(certificate=ca.certificate, intermediates=(), key_pem=b"")

    for name, revoked, words in (
        ("middle", middle.crl(certificate(low)), "certificate 1 'low' was revoked"),
        ("top", root.crl(certificate(middle)), "certificate 2 'middle' was revoked"),
    ):
        crls = tuple((every | {name: revoked}).values())
        refused(verify(issued, None, RevocationPolicy(crls=crls), ca=root), Failure.REVOKED, words)
        good(verify(issued, None, policy(*crls), ca=root))
    itself = RevocationPolicy(crls=(*tuple(every.values())[:2], root.crl(certificate(root))))
    good(verify(issued, None, itself, ca=root))


def test_crls_are_given_as_der_as_pem_or_several_in_one_pem() -> None:
    ca = authority()
    text = b"# comment\n" + pem(ca.root.crl()) + b"\r\nmore\n" + pem(ca.crl(leaf())).replace(b"\n", b"\r\n")
    for crls in ((ca.crl(leaf()), ca.root.crl()), (text,), (bytearray(text),)):
        assert verify(leaf(), None, RevocationPolicy(crls=crls)).failure is Failure.REVOKED  # type: ignore[arg-type]
    assert len(RevocationPolicy(crls=(text, text)).lists.lists) == 4


# ---- which count -----------------------------------------------------------------------------------------------------


@CAN_BE_USED
def test_a_crl_that_may_not_count_says_neither_good_nor_revoked() -> None:
    ca, root = authority(), authority().root
    sibling = root.intermediate("Revocation test CA")
    aki = Extra(value=x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private_key.public_key()), critical=True)
    number = x509.CRLNumber(1)
    cases: dict[str, bytes] = {
        "none of the 1 CRLs given is of its issuer": root.crl(leaf()),
        "was not signed with its issuer's key": sibling.crl(leaf()),
        "has no CRL number": ca.crl(leaf(), number=None),
        "CRL number that is marked critical": ca.crl(leaf(), number=Extra(value=number, critical=True)),
        "is a delta CRL": ca.crl(leaf(), extra=[Extra(value=x509.DeltaCRLIndicator(1), critical=True)]),
        "unknown critical extension 1.3.6.1.4.1.99999.1": ca.crl(leaf(), extra=[Extra(value=UNKNOWN, critical=True)]),
        "is an indirect CRL": ca.crl(leaf(), extra=[scope(indirect_crl=True)]),
        "for some reasons": ca.crl(leaf(), extra=[scope(only_some_reasons=frozenset([x509.ReasonFlags.superseded]))]),
        "attribute certificates": ca.crl(leaf(), extra=[scope(only_contains_attribute_certs=True)]),
        "is for CA certificates alone": ca.crl(leaf(), extra=[scope(only_contains_ca_certs=True)]),
        "relative name": ca.crl(leaf(), extra=[scope(relative_name=_relative_name())]),
        "distribution point that": ca.crl(leaf(), extra=[scope(full_name=[_url("http://elsewhere.test/")])]),
        "critical extension 1.3.6.1.4.1.99999.7": ca.crl(Revoked(serial=7, when=NOW, critical=True)),
    }
    for words, crl in cases.items():
        refused(verify(leaf(), None, policy(crl)), Failure.REVOCATION_UNKNOWN, "no CRL answers", words)
        unchecked(verify(leaf(), None, policy(crl, missing_crl="accept")), "no CRL answers", words)
    useless = tuple(cases.values())
    good(verify(leaf(), None, policy(*useless, ca.crl())))
    refused(verify(leaf(), None, policy(*useless, ca.crl(leaf()))), Failure.REVOKED)
    good(verify(leaf(), None, policy(ca.crl(extra=[aki, Extra(value=UNKNOWN)]))))


def test_a_crl_of_which_a_number_looks_like_a_critical_extension_counts() -> None:
    entry = Revoked(serial=0x0101FF0101FF, when=NOW, reason=x509.ReasonFlags.superseded)
    good(verify(leaf(), None, policy(authority().crl(entry))))
    mine = Revoked(serial=leaf().certificate.serial_number, when=NOW, reason=x509.ReasonFlags.superseded)
    refused(verify(leaf(), None, policy(authority().crl(entry, mine))), Failure.REVOKED, "(superseded)")


def test_a_crl_signed_with_an_unknown_algorithm_does_not_count() -> None:
    crl = authority().crl(leaf())
    ecdsa_with_sha256, unknown = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f")
    assert crl.count(ecdsa_with_sha256) == 2
    report = verify(leaf(), None, policy(crl.replace(ecdsa_with_sha256, unknown)))
    refused(report, Failure.REVOCATION_UNKNOWN, "unknown algorithm 1.2.840.10045.4.3.127")


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_a_crl_signed_with_sha1_does_not_count(kind: KeyKind) -> None:
    ca = CA(key=kind)
    issued = ca.issue(HOST)
    report = verify(issued, None, policy(ca.crl(sha="sha1")), ca=ca)
    refused(report, Failure.REVOCATION_UNKNOWN, "signed with SHA1, which can be forged")


def test_a_crl_signed_with_another_key_does_not_count() -> None:
    crl = authority().crl(leaf(), key=new_key("p256"))
    refused(verify(leaf(), None, policy(crl)), Failure.REVOCATION_UNKNOWN, "was not signed with its issuer's key")


@pytest.mark.rfc("5280 §6.3.3", "an issuer with a key usage may sign CRLs only if it has cRLSign")
def test_an_issuer_without_crl_sign_signs_none() -> None:
    for usage, words in ((("digital_signature", "key_cert_sign"), "no cRLSign"), (None, "")):
        ca = authority().root.intermediate("no CRLs", usage=usage)  # type: ignore[arg-type]
        issued = ca.issue(HOST)
        report = verify(issued, None, policy(ca.crl(issued)), ca=ca)
        if words:
            refused(report, Failure.REVOCATION_UNKNOWN, words)
        else:
            refused(report, Failure.REVOKED)


@pytest.mark.rfc("5280 §6.3.3", "the scope of the CRL includes the certificate")
def test_a_scope_decides_for_whom_a_crl_counts() -> None:
    root = CA("scoped root")
    ca = root.intermediate("scoped CA")
    issued = ca.issue(HOST)
    itself = Issued(certificate=ca.certificate, intermediates=(), key_pem=b"")
    users, authorities = scope(only_contains_user_certs=True), scope(only_contains_ca_certs=True)

    def report(*crls: bytes, **changes: Any) -> Any:
        return verify(issued, None, RevocationPolicy(crls=crls, **changes), ca=root)

    assert report(ca.crl(extra=[users]), root.crl(extra=[authorities])).accepted
    refused(report(ca.crl(issued, extra=[users]), root.crl()), Failure.REVOKED, "the leaf")
    refused(report(ca.crl(), root.crl(itself, extra=[authorities])), Failure.REVOKED, "certificate 1")
    refused(
        report(ca.crl(), root.crl(itself, extra=[users])), Failure.REVOCATION_UNKNOWN, "end-entity certificates alone"
    )


def test_a_crl_of_a_distribution_point_counts_for_certificates_that_name_it() -> None:
    ca = authority()
    here = x509.DistributionPoint([_url("http://ca.test/1.crl")], None, None, None)
    issued = ca.issue(HOST, extra=[Extra(value=x509.CRLDistributionPoints([here]))])
    for url, failure in (
        ("http://ca.test/1.crl", Failure.REVOKED),
        ("http://ca.test/2.crl", Failure.REVOCATION_UNKNOWN),
    ):
        crl = ca.crl(issued, extra=[scope(full_name=[_url(url)], only_contains_user_certs=True)])
        refused(verify(issued, None, policy(crl)), failure)
    by_issuer = ca.crl(leaf(), extra=[scope(full_name=[x509.DirectoryName(ca.name)])])
    refused(verify(leaf(), None, policy(by_issuer)), Failure.REVOKED)


def _url(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _relative_name() -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])


# ---- dates -----------------------------------------------------------------------------------------------------------


def test_an_expired_crl_is_refused_or_taken_as_the_policy_says() -> None:
    ca = authority()
    expired = ca.crl(this_update=NOW - 9 * DAY, next_update=NOW - 2 * DAY)
    refused(verify(leaf(), None, policy(expired)), Failure.REVOCATION_UNKNOWN, "expired on")
    refused(verify(leaf(), None, policy(expired, missing_crl="accept")), Failure.REVOCATION_UNKNOWN, "expired on")
    good(verify(leaf(), None, policy(expired, expired_crl="accept")), "expired on", "taken all the same")
    good(verify(leaf(), None, policy(expired, ca.crl())))
    listed = ca.crl(leaf(), this_update=NOW - 9 * DAY, next_update=NOW - 2 * DAY)
    for handling in ("reject", "accept"):
        refused(verify(leaf(), None, policy(listed, ca.crl(), expired_crl=handling)), Failure.REVOKED)


def test_a_crl_of_tomorrow_is_no_answer_yet() -> None:
    crl = authority().crl(this_update=NOW + DAY, next_update=NOW + 2 * DAY)
    for handling in ("reject", "accept"):
        refused(verify(leaf(), None, policy(crl, expired_crl=handling)), Failure.REVOCATION_UNKNOWN, "is of")


def test_crl_dates_at_the_skew_and_one_second_past_it() -> None:
    skew, second = datetime.timedelta(seconds=limits.REVOCATION_CLOCK_SKEW_SECONDS), datetime.timedelta(seconds=1)
    rule = policy(authority().crl(this_update=NOW, next_update=NOW + DAY))
    for now in (NOW - skew, NOW + DAY + skew):
        good(verify(leaf(), None, rule, now=now))
    for now in (NOW - skew - second, NOW + DAY + skew + second):
        refused(verify(leaf(), None, rule, now=now), Failure.REVOCATION_UNKNOWN)


def test_a_crl_without_next_update_is_believed_for_the_maximum_age() -> None:
    rule = policy(authority().crl(this_update=NOW, next_update=None), max_age_seconds=60, clock_skew_seconds=0)
    good(verify(leaf(), None, rule, now=NOW + datetime.timedelta(seconds=60)))
    late = verify(leaf(), None, rule, now=NOW + datetime.timedelta(seconds=61))
    refused(late, Failure.REVOCATION_UNKNOWN, "does not say when the next is due")


# ---- with a staple ---------------------------------------------------------------------------------------------------


def test_a_good_staple_stands_in_for_a_crl_and_overrules_none() -> None:
    ca = authority()
    staple = ca.ocsp_response(leaf())
    expired = ca.crl(this_update=NOW - 9 * DAY, next_update=NOW - 2 * DAY)
    for crl in (expired, ca.root.crl(), ca.crl(number=None)):
        report = verify(leaf(), staple, policy(crl))
        good(report, "OCSP response")
        assert [check.outcome for check in revocation(report)] == [Outcome.PASSED, Outcome.NOT_CHECKED]
    refused(verify(leaf(), staple, policy(ca.crl(leaf()))), Failure.REVOKED, "the CRL of")
    refused(verify(leaf(), ca.ocsp_response(leaf(), status="revoked"), policy(ca.crl())), Failure.REVOKED, "OCSP")
    refused(verify(leaf(), ca.ocsp_response(leaf(), serial=1), policy(ca.crl(leaf()))), Failure.REVOKED, "the CRL of")
    refused(verify(leaf(), ca.ocsp_response(leaf(), serial=1), policy(ca.crl())), Failure.BAD_STAPLE)
    missing = verify(leaf(), staple, RevocationPolicy(crls=(ca.crl(),)))
    refused(missing, Failure.REVOCATION_UNKNOWN, "no CRL answers for certificate 1")


def test_a_crl_does_not_stand_in_for_a_staple_that_was_promised() -> None:
    issued = leaf(must_staple=True)
    refused(verify(issued, None, policy(authority().crl())), Failure.STAPLE_MISSING)
    refused(verify(issued, None, policy(authority().crl(issued))), Failure.REVOKED)


def test_a_leaf_that_is_trusted_itself_is_not_asked_about() -> None:
    trust = TrustStore.from_der([leaf().der])
    rule = RevocationPolicy(crls=(authority().crl(leaf()),))
    unchecked(WebPKIVerifier(trust, revocation=rule).verify(ask(leaf())), "is trusted itself")


# ---- the policy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crls": (b"",)}, "CRL 1 cannot be parsed"),
        ({"crls": (b"garbage",)}, "neither DER nor PEM"),
        ({"crls": (b"\x30\x03garbage",)}, "cannot be parsed"),
        ({"crls": (pem(b"\x30\x00"),)}, "cannot be parsed"),
        ({"crls": (b"-----BEGIN X509 CRL-----\n!!!!\n-----END X509 CRL-----",)}, "cannot be parsed"),
        ({"crls": b"one CRL"}, "a tuple of bytes"),
        ({"crls": "one CRL"}, "a tuple of bytes"),
        ({"crls": (17,)}, "of the type int"),
        ({"crl_depth": "root"}, "crl_depth"),
        ({"missing_crl": "ignore"}, "missing_crl"),
        ({"expired_crl": None}, "expired_crl"),
        ({"clock_skew_seconds": -1}, "not negative"),
        ({"max_age_seconds": float("nan")}, "not negative"),
        ({"max_staple_bytes": -1}, "not negative"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RevocationPolicy(**changes)


def test_a_certificate_is_no_crl() -> None:
    with pytest.raises(UsageError, match="CRL 2 cannot be parsed"):
        RevocationPolicy(crls=(authority().crl(), leaf().der))


def test_a_policy_is_a_value() -> None:
    crl = authority().crl()
    assert RevocationPolicy(crls=(crl,)) == RevocationPolicy(crls=[crl]) != RevocationPolicy()  # type: ignore[arg-type]
    assert hash(RevocationPolicy(crls=(crl,))) == hash(RevocationPolicy(crls=(crl,)))
    assert "crls" not in repr(RevocationPolicy(crls=(crl,)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        RevocationPolicy().require_staple = True  # type: ignore[misc]
    changed = dataclasses.replace(RevocationPolicy(crls=(crl,)), crls=())
    assert changed == RevocationPolicy() and changed.lists.lists == ()


def test_configurations_hand_the_policy_to_the_verifier_they_make() -> None:
    ca = authority()
    rule = policy(ca.crl(leaf()))
    client = ClientConfig(trust=ca.trust, revocation=rule)
    assert client.peer_verifier is not None
    refused(client.peer_verifier.verify(ask(leaf())), Failure.REVOKED)  # type: ignore[arg-type]
    server = ServerConfig(
        credentials=(Credential.from_pem(leaf().chain_pem, leaf().key_pem),),
        client_trust=ca.trust,
        client_authentication=ClientAuthentication.OPTIONAL,
        revocation=rule,
    )
    assert server.peer_verifier is not None
    refused(server.peer_verifier.verify(ask(leaf(), purpose=Purpose.CLIENT_AUTH)), Failure.REVOKED)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a verifier was given"):
        ClientConfig(verifier=dangerous(), revocation=rule)
    with pytest.raises(UsageError, match="RevocationPolicy"):
        WebPKIVerifier(ca.trust, revocation=None)  # type: ignore[arg-type]


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.no_cover
def test_F13_a_crl_of_a_hundred_thousand_entries_is_asked_in_no_time() -> None:
    ca, source = authority(), random.Random(13)
    entries = [Revoked(serial=source.getrandbits(120), when=NOW) for _ in range(100_000)]
    crl = ca.crl(*entries, Revoked(serial=leaf(must_staple=True).certificate.serial_number, when=NOW))
    start = time.thread_time()
    rule = policy(crl, honour_must_staple=False)
    assert time.thread_time() - start < 5  # once, when the policy is made
    verifier = WebPKIVerifier(ca.trust, revocation=rule)
    good(verifier.verify(ask(leaf())))  # type: ignore[arg-type]
    start = time.thread_time()
    for _ in range(20):
        assert verifier.verify(ask(leaf())).accepted
    assert (time.thread_time() - start) / 20 < 0.02
    start = time.thread_time()
    refused(verifier.verify(ask(leaf(must_staple=True))), Failure.REVOKED)
    assert time.thread_time() - start < 0.5


def test_what_is_known_of_a_crl_and_its_issuer_is_bounded() -> None:
    ca = authority()
    rule = policy(ca.crl())
    (one,) = rule.lists.lists
    for _ in range(80):
        other = CA("Revocation test root").intermediate("Revocation test CA", key=ca.private_key)
        good(verify(other.issue(HOST, public_key=leaf().certificate.public_key()), None, rule, ca=other))  # type: ignore[arg-type]
    assert len(one._verified) <= 64
