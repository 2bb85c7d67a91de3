"""Every way in which a peer's certificate is refused, each told apart from the others."""

from __future__ import annotations

import datetime
import random
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa, x25519

from pellucid.crypto.certificates import parse_certificate
from pellucid.errors import UnsupportedCertificate, UsageError
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA, CA_USAGE, DAY, Extra, Issued, KeyKind, new_key, self_signed
from pellucid.verify import (
    CheckGroup,
    Failure,
    Outcome,
    Purpose,
    TrustStore,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
)
from pellucid.verify.report import ALERTS

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
HOST = "server.example.com"
KINDS = get_args(KeyKind)
UNKNOWN_CRITICAL = Extra(
    value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), critical=True
)


def verify(
    trust: TrustStore | CA,
    issued: Issued,
    name: str | None = HOST,
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    intermediates: tuple[bytes, ...] | None = None,
    now: datetime.datetime = NOW,
) -> VerificationReport:
    request = VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=issued.chain_der[1:] if intermediates is None else intermediates,
        purpose=purpose,
        server_name=name if purpose is Purpose.SERVER_AUTH else None,
        now=now.timestamp(),
    )
    return WebPKIVerifier(trust.trust if isinstance(trust, CA) else trust).verify(request)


def refused(report: VerificationReport, failure: Failure, alert: int, *words: str) -> None:
    assert not report.accepted, report.summary
    assert report.failure is failure, report.lines()
    assert report.alert == alert
    assert report.path == ()
    assert "\n" not in report.summary
    for word in words:
        assert word in report.summary, report.summary
    assert any(check.failure is failure and check.outcome is Outcome.FAILED for check in report.checks)


def accepted(report: VerificationReport, links: int) -> None:
    assert report.accepted, report.lines()
    assert report.failure is None and report.alert is None
    assert len(report.path) == links
    assert [check for check in report.checks if check.outcome is Outcome.FAILED] == []
    assert report.accepted


@pytest.fixture(scope="module")
def ca() -> CA:
    return CA()


@pytest.fixture(scope="module")
def intermediate(ca: CA) -> CA:
    return ca.intermediate()


# The certificate is valid


def test_good_leaf_is_accepted_with_and_without_intermediate(ca: CA, intermediate: CA) -> None:
    accepted(verify(ca, ca.issue(HOST)), 2)
    issued = intermediate.issue(HOST)
    report = verify(ca, issued)
    accepted(report, 3)
    assert report.path == (*issued.chain_der, ca.root_der)


@pytest.mark.rfc("9846 §6.2", "certificate_expired: a certificate has expired or is not currently valid")
def test_F11_leaf_one_second_before_not_before_and_after_not_after_is_refused() -> None:
    start, end = NOW - 10 * DAY, NOW + 10 * DAY
    second = datetime.timedelta(seconds=1)
    old = CA(not_before=start - DAY, not_after=end + DAY)
    issued = old.issue(HOST, not_before=start, not_after=end)
    accepted(verify(old, issued, now=start), 2)
    accepted(verify(old, issued, now=end), 2)
    alert = AlertDescription.CERTIFICATE_EXPIRED
    refused(verify(old, issued, now=start - second), Failure.NOT_YET_VALID, alert, "the leaf", "not valid before")
    refused(verify(old, issued, now=end + second), Failure.EXPIRED, alert, "the leaf", "expired on")


def test_expired_intermediate_and_root_are_named(ca: CA) -> None:
    alert = AlertDescription.CERTIFICATE_EXPIRED
    middle = ca.intermediate("expired middle", not_before=NOW - 20 * DAY, not_after=NOW - DAY)
    report = verify(ca, middle.issue(HOST))
    refused(report, Failure.EXPIRED, alert, "certificate 1 'expired middle'")
    root = CA("expired root", not_before=NOW - 20 * DAY, not_after=NOW - DAY)
    refused(verify(root, root.issue(HOST)), Failure.EXPIRED, alert, "the root 'expired root'")


@pytest.mark.parametrize("bits", [1024, 2047, 8193, 16384])
def test_leaf_rsa_key_out_of_bounds_is_weak_key(ca: CA, bits: int) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    report = verify(ca, ca.issue(HOST, public_key=key))
    refused(report, Failure.WEAK_KEY, AlertDescription.BAD_CERTIFICATE, f"{bits} bits", "2048 to 8192")


@pytest.mark.parametrize("bits", [2048, 8192])
def test_leaf_rsa_key_at_the_bounds_is_accepted(ca: CA, bits: int) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    accepted(verify(ca, ca.issue(HOST, public_key=key)), 2)


def test_F16_leaf_on_another_curve_is_unsupported(ca: CA) -> None:
    for curve in (ec.SECP256K1(), ec.SECP192R1(), ec.BrainpoolP256R1()):
        key = ec.generate_private_key(curve).public_key()
        report = verify(ca, ca.issue(HOST, public_key=key))
        refused(report, Failure.UNSUPPORTED, AlertDescription.UNSUPPORTED_CERTIFICATE, curve.name)


def test_F16_x25519_and_dsa_keys_are_refused_while_parsing(ca: CA) -> None:
    for key in (x25519.X25519PrivateKey.generate().public_key(), dsa.generate_private_key(2048).public_key()):
        with pytest.raises(UnsupportedCertificate):
            parse_certificate(ca.issue(HOST, public_key=key).der)


@pytest.mark.parametrize(
    "kind", ["p256", "p384", "p521", "rsa2048", "ed25519", "ed448", "mldsa44", "mldsa65", "mldsa87"]
)
def test_leaf_of_every_key_kind_is_accepted(ca: CA, kind) -> None:
    accepted(verify(ca, ca.issue(HOST, key=kind)), 2)


@pytest.mark.rfc("9846 §4.5.1.2", "the digitalSignature bit MUST be set if the Key Usage extension is present")
def test_F10_leaf_key_usage_without_digital_signature_is_refused(ca: CA) -> None:
    report = verify(ca, ca.issue(HOST, usage=("key_encipherment",)))
    refused(report, Failure.WRONG_PURPOSE, AlertDescription.UNSUPPORTED_CERTIFICATE, "without digital signature")
    accepted(verify(ca, ca.issue(HOST, usage=None)), 2)


def test_F10_swapped_extended_key_usage_is_refused_both_ways(ca: CA) -> None:
    alert = AlertDescription.UNSUPPORTED_CERTIFICATE
    server, client = ca.issue(HOST, purposes=("server",)), ca.issue("someone", purposes=("client",))
    refused(verify(ca, client, "someone"), Failure.WRONG_PURPOSE, alert, "clientAuth", "server authentication")
    refused(verify(ca, server, purpose=Purpose.CLIENT_AUTH), Failure.WRONG_PURPOSE, alert, "serverAuth")
    accepted(verify(ca, client, purpose=Purpose.CLIENT_AUTH), 2)
    accepted(verify(ca, server), 2)
    accepted(verify(ca, ca.issue(HOST, purposes=None), purpose=Purpose.CLIENT_AUTH), 2)


def test_any_extended_key_usage_is_not_enough_in_a_leaf(ca: CA) -> None:
    report = verify(ca, ca.issue(HOST, purposes=("any",)))
    refused(report, Failure.WRONG_PURPOSE, AlertDescription.UNSUPPORTED_CERTIFICATE)


def test_intermediate_for_another_purpose_is_refused(ca: CA) -> None:
    middle = ca.intermediate(purposes=("client",))
    report = verify(ca, middle.issue(HOST))
    refused(report, Failure.WRONG_PURPOSE, AlertDescription.UNSUPPORTED_CERTIFICATE, "certificate 1")
    accepted(verify(ca, ca.intermediate(purposes=("any",)).issue(HOST)), 3)


@pytest.mark.rfc("9846 §4.5.1.2", "The certificate type MUST be X.509v3")
def test_version_1_leaf_is_malformed(ca: CA) -> None:
    certificate = ca.issue(HOST).certificate
    tbs = certificate.tbs_certificate_bytes
    extensions = next(  # the field [3], which reaches to the end
        at
        for at in range(len(tbs))
        if tbs[at] == 0xA3 and tbs[at:] in (_tlv(0xA3, tbs[at + size :]) for size in (2, 3, 4))
    )
    version = bytes.fromhex("a003020102")
    forged = resign(ca, _sequence(tbs[tbs.index(version) + len(version) : extensions]))
    report = verify(ca, forged)
    refused(report, Failure.MALFORMED, AlertDescription.BAD_CERTIFICATE, "version 1")


@pytest.mark.rfc("9846 §4.5.1.3", "using an MD5 hash MUST abort the handshake with a bad_certificate alert")
@pytest.mark.parametrize("algorithm", ["MD5", "SHA1"])
def test_F14_weak_hash_is_refused_in_leaf_and_intermediate_but_not_in_anchors(algorithm: str) -> None:
    ca = CA(key="rsa2048")
    alert = AlertDescription.BAD_CERTIFICATE
    leaf = with_hash(ca, ca.issue(HOST), algorithm)
    refused(verify(ca, leaf), Failure.WEAK_SIGNATURE, alert, "the leaf", algorithm)
    middle = ca.intermediate("middle")
    weak = with_hash(ca, Issued(certificate=middle.certificate, intermediates=(), key_pem=b""), algorithm)
    issued = middle.issue(HOST)
    refused(verify(ca, issued, intermediates=(weak.der,)), Failure.WEAK_SIGNATURE, alert, "certificate 1", algorithm)
    root = with_hash(ca, Issued(certificate=ca.certificate, intermediates=(), key_pem=b""), algorithm)
    accepted(verify(TrustStore.from_der([root.der]), ca.issue(HOST)), 2)


# The name matches (more in test_verify_names.py)


def test_wrong_name_lists_the_names_that_there_are_escaped_and_truncated(ca: CA) -> None:
    names = [f"host{n}.example.com" for n in range(30)]
    report = verify(ca, ca.issue("10.0.0.1", *names), "other.example.com")
    refused(report, Failure.WRONG_NAME, AlertDescription.BAD_CERTIFICATE, "10.0.0.1", "host0.example.com", "23 more")
    assert "host20" not in report.summary
    evil = (
        x509.DNSName("a\x1b[31m\n\u202eb".encode("unicode_escape").decode()),
        x509.UniformResourceIdentifier("http://e/\x1b[2J\n"),
    )
    report = verify(ca, ca.issue(*evil, common_name="x"))
    refused(report, Failure.WRONG_NAME, AlertDescription.BAD_CERTIFICATE)
    assert report.summary.isprintable()


def test_expired_certificate_for_another_name_is_wrong_name_and_shows_both() -> None:
    ancient = CA(not_before=NOW - 9 * DAY)
    old = ancient.issue("other.example.com", not_before=NOW - 5 * DAY, not_after=NOW - DAY)
    report = verify(ancient, old)
    refused(report, Failure.WRONG_NAME, AlertDescription.BAD_CERTIFICATE)
    assert {check.failure for check in report.checks} >= {Failure.WRONG_NAME, Failure.EXPIRED}


# Signed by a trusted CA


@pytest.mark.rfc("9846 §6.2", "unknown_ca: the CA certificate could not be located or matched with a trust anchor")
def test_F12_unknown_ca(ca: CA) -> None:
    alert = AlertDescription.UNKNOWN_CA
    other = CA("somebody else")
    refused(verify(ca, other.issue(HOST)), Failure.UNKNOWN_CA, alert, "'somebody else'", "not among")
    issued = other.issue(HOST)
    sent = (*issued.chain_der[1:], other.root_der)
    report = verify(ca, issued, intermediates=sent)
    refused(report, Failure.UNKNOWN_CA, alert, "certificate 1 'somebody else'", "is a root")
    refused(verify(ca, other.intermediate().issue(HOST)), Failure.UNKNOWN_CA, alert, "certificate 1")


def test_F12_another_ca_of_the_same_name_is_unknown_ca_not_bad_signature(ca: CA) -> None:
    refused(verify(ca, CA().issue(HOST)), Failure.UNKNOWN_CA, AlertDescription.UNKNOWN_CA)


def test_missing_intermediate_is_told_apart_and_says_where_it_is(ca: CA, intermediate: CA) -> None:
    report = verify(ca, intermediate.issue(HOST), intermediates=())
    refused(
        report, Failure.MISSING_INTERMEDIATE, AlertDescription.UNKNOWN_CA, "'Pellucid test intermediate'", "not sent"
    )
    assert report.missing_intermediate_urls == ("http://ca.test/intermediate.der",)


def test_missing_intermediate_is_seen_by_the_issuer_of_the_issuer(ca: CA) -> None:
    middle = ca.intermediate(aia=None)
    identifier = x509.AuthorityKeyIdentifier(b"x" * 20, [x509.DirectoryName(ca.name)], 7)
    report = verify(ca, middle.issue(HOST, extra=[Extra(value=identifier)]), intermediates=())
    refused(report, Failure.MISSING_INTERMEDIATE, AlertDescription.UNKNOWN_CA)


def test_F12_self_signed_leaf_is_self_signed_even_when_expired(ca: CA) -> None:
    alert = AlertDescription.UNKNOWN_CA
    refused(verify(ca, self_signed(HOST)), Failure.SELF_SIGNED, alert, f"'{HOST}'")
    old = self_signed(HOST, not_before=NOW - 5 * DAY, not_after=NOW - DAY)
    refused(verify(ca, old), Failure.SELF_SIGNED, alert)
    refused(verify(TrustStore.empty(), self_signed(HOST)), Failure.SELF_SIGNED, alert)


def test_self_signed_leaf_in_the_trust_store_is_accepted_for_its_name_and_time(ca: CA) -> None:
    for issued in (self_signed(HOST), self_signed(HOST, ca=True), self_signed(HOST, ca=True, usage=CA_USAGE)):
        trust = TrustStore.from_der([issued.der])
        accepted(verify(trust, issued), 1)
        refused(verify(trust, issued, "other.example"), Failure.WRONG_NAME, AlertDescription.BAD_CERTIFICATE)
        late = NOW + 9999 * DAY
        refused(verify(trust, issued, now=late), Failure.EXPIRED, AlertDescription.CERTIFICATE_EXPIRED)
    issued = ca.issue(HOST)
    accepted(verify(TrustStore.from_der([issued.der]), issued), 1)


def test_ca_certificate_as_leaf_is_refused_unless_trusted_itself(ca: CA) -> None:
    report = verify(ca, ca.issue(HOST, ca=True))
    refused(report, Failure.WRONG_PURPOSE, AlertDescription.UNSUPPORTED_CERTIFICATE, "is a CA certificate")
    report = verify(ca, ca.issue(HOST, usage=CA_USAGE))
    refused(report, Failure.WRONG_PURPOSE, AlertDescription.UNSUPPORTED_CERTIFICATE, "a CA's key usage")


@pytest.mark.parametrize("flag", [False, None])
def test_issuer_that_is_no_ca_is_refused(ca: CA, flag: bool | None) -> None:
    middle = ca.intermediate("no CA", ca=flag, usage=None)
    refused(verify(ca, middle.issue(HOST)), Failure.NOT_A_CA, AlertDescription.BAD_CERTIFICATE, "certificate 1 'no CA'")


def test_leaf_of_a_leaf_is_refused(ca: CA) -> None:
    key = new_key("p256")
    stolen = CA("server.example", key=key, parent=ca, ca=False, usage=("digital_signature",))
    refused(verify(ca, stolen.issue(HOST)), Failure.NOT_A_CA, AlertDescription.BAD_CERTIFICATE)


def test_ca_key_usage_without_cert_sign_is_refused_and_without_key_usage_is_not(ca: CA) -> None:
    middle = ca.intermediate(usage=("digital_signature", "crl_sign"))
    refused(verify(ca, middle.issue(HOST)), Failure.NOT_A_CA, AlertDescription.BAD_CERTIFICATE)
    plain = CA(usage=None)
    accepted(verify(plain, plain.issue(HOST)), 2)
    accepted(verify(plain, plain.intermediate(usage=None).issue(HOST)), 3)


def test_bad_signature_is_told_apart(ca: CA, intermediate: CA) -> None:
    alert = AlertDescription.BAD_CERTIFICATE
    refused(verify(ca, tampered(ca.issue(HOST))), Failure.BAD_SIGNATURE, alert, "the leaf", "the root")
    issued = intermediate.issue(HOST)
    broken = tampered(Issued(certificate=intermediate.certificate, intermediates=(), key_pem=b""))
    refused(verify(ca, issued, intermediates=(broken.der,)), Failure.BAD_SIGNATURE, alert, "certificate 1", "the root")


def test_path_length_is_a_constraint(ca: CA) -> None:
    alert = AlertDescription.CERTIFICATE_UNKNOWN
    short = ca.intermediate("short", path_length=0)
    accepted(verify(ca, short.issue(HOST)), 3)
    refused(verify(ca, short.intermediate("deep").issue(HOST)), Failure.CONSTRAINT, alert, "'short'", "allows 0")


def test_more_than_eight_intermediates_are_a_constraint() -> None:
    ca = CA()
    for depth in range(8):
        ca = ca.intermediate(f"level {depth}")
    accepted(verify(ca, ca.issue(HOST)), 10)
    too_deep = ca.intermediate("level 8").issue(HOST)
    report = verify(ca, too_deep)
    refused(report, Failure.CONSTRAINT, AlertDescription.CERTIFICATE_UNKNOWN, "depth")


def test_F9_name_constraints_are_a_constraint(ca: CA) -> None:
    alert = AlertDescription.CERTIFICATE_UNKNOWN
    middle = ca.intermediate(permitted=("example.org", "10.0.0.0/8"))
    refused(verify(ca, middle.issue(HOST)), Failure.CONSTRAINT, alert, "name constraint")
    accepted(verify(ca, middle.issue("www.example.org"), "www.example.org"), 3)
    accepted(verify(ca, middle.issue("10.1.2.3"), "10.1.2.3"), 3)
    refused(verify(ca, middle.issue("11.1.2.3"), "11.1.2.3"), Failure.CONSTRAINT, alert)
    excluding = ca.intermediate(excluded=("evil.example.com",))
    wild = excluding.issue("*.example.com")
    refused(verify(ca, wild, "evil.example.com"), Failure.CONSTRAINT, alert)
    report = verify(ca, excluding.issue("good.example.com"), "good.example.com")
    accepted(report, 3)
    assert any(check.name == "name constraints" for check in report.checks)


def test_unknown_critical_extension_is_a_constraint(ca: CA) -> None:
    alert = AlertDescription.CERTIFICATE_UNKNOWN
    refused(verify(ca, ca.issue(HOST, extra=[UNKNOWN_CRITICAL])), Failure.CONSTRAINT, alert, "critical extension")
    refused(verify(ca, ca.intermediate(extra=[UNKNOWN_CRITICAL]).issue(HOST)), Failure.CONSTRAINT, alert)


def test_malformed_extensions_and_intermediates_are_malformed(ca: CA) -> None:
    broken = Extra(value=x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\xff\xff"))
    alert = AlertDescription.BAD_CERTIFICATE
    refused(verify(ca, ca.issue(extra=[broken])), Failure.MALFORMED, alert, "extensions")
    refused(verify(ca, ca.issue(HOST), intermediates=(b"garbage",)), Failure.MALFORMED, alert, "certificate 1")
    report = verify(ca, ca.issue(HOST), intermediates=(ca.root_der, ca.root_der[:-1]))
    refused(report, Failure.MALFORMED, alert, "certificate 2")


def test_parts_that_upstream_parses_late_are_malformed_not_exceptions(ca: CA) -> None:
    certificate = ca.issue(HOST, common_name="subject").certificate
    tbs = certificate.tbs_certificate_bytes
    broken = resign(ca, tbs.replace(b"\x0c\x07subject", b"\x0c\x07\xffubject"))  # not UTF-8
    refused(verify(ca, broken), Failure.MALFORMED, AlertDescription.BAD_CERTIFICATE, "subject")
    no_version = ca.root_der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020116"), 1)
    report = verify(ca, ca.issue(HOST), intermediates=(no_version,))
    refused(report, Failure.MALFORMED, AlertDescription.BAD_CERTIFICATE, "certificate 1", "version")


def test_mutated_certificates_raise_nothing_and_explain_every_refusal(ca: CA, intermediate: CA) -> None:
    chance = random.Random(9846)
    issued = intermediate.issue(HOST)
    verdicts = set()
    for _ in range(1500):
        chain = [bytearray(der) for der in issued.chain_der]
        target = chance.choice(chain)
        for _ in range(chance.choice((1, 1, 2, 4))):
            target[chance.randrange(len(target))] = chance.randrange(256)
        try:
            leaf = parse_certificate(bytes(chain[0]))
        except Exception:
            continue  # parse_certificate has its own tests.
        request = VerificationRequest(
            leaf=leaf,
            intermediates=(bytes(chain[1]),),
            purpose=Purpose.SERVER_AUTH,
            server_name=HOST,
            now=NOW.timestamp(),
        )
        report = WebPKIVerifier(ca.trust).verify(request)
        verdicts.add(report.failure)
        assert report.accepted is not any(check.outcome is Outcome.FAILED for check in report.checks)
        assert report.accepted is (report.failure is None)
        assert report.summary.isprintable()
        if report.accepted:
            assert tuple(map(bytes, chain)) == issued.chain_der
    assert verdicts >= {Failure.BAD_SIGNATURE, Failure.MALFORMED}


@pytest.mark.rfc("9846 §4.5.1", "be prepared to handle potentially extraneous certificates and arbitrary orderings")
def test_F19_shuffled_duplicate_and_unrelated_certificates_are_tolerated(ca: CA) -> None:
    upper = ca.intermediate("upper")
    issued = upper.intermediate("lower").issue(HOST)
    lower_der, upper_der = issued.chain_der[1:]
    unrelated = CA("unrelated").root_der
    sent = (unrelated, upper_der, issued.der, upper_der, lower_der, ca.root_der)
    accepted(verify(ca, issued, intermediates=sent), 4)


# Kinds of issuers


@pytest.mark.parametrize(
    "kind", ["p256", "p384", "p521", "rsa2048", "mldsa44", "mldsa65", "mldsa87", "ed25519", "ed448"]
)
def test_issuer_of_every_key_kind_is_accepted(kind) -> None:
    root = CA(key=kind)
    accepted(verify(root, root.issue(HOST)), 2)
    accepted(verify(root, root.intermediate(key=kind).issue(HOST)), 3)
    accepted(verify(root, root.issue(HOST, purposes=("client",)), purpose=Purpose.CLIENT_AUTH), 2)


def test_rsa_pss_signatures_of_rsa_issuers_are_accepted() -> None:
    root = CA(key="rsa2048", pss=True)
    accepted(verify(root, root.issue(HOST)), 2)


@pytest.mark.parametrize("kind", ["ed25519", "ed448"])
def test_edwards_issuers_are_held_to_the_same_rules(kind) -> None:
    root = CA(key=kind)
    bad, unknown = AlertDescription.BAD_CERTIFICATE, AlertDescription.CERTIFICATE_UNKNOWN
    expired = AlertDescription.CERTIFICATE_EXPIRED
    usage = AlertDescription.UNSUPPORTED_CERTIFICATE
    refused(verify(root, root.issue(HOST), "other.example"), Failure.WRONG_NAME, bad)
    refused(verify(root, tampered(root.issue(HOST))), Failure.BAD_SIGNATURE, bad)
    late = NOW + 9999 * DAY
    refused(verify(root, root.issue(HOST), now=late), Failure.EXPIRED, expired)
    refused(verify(root, root.issue(HOST, purposes=("client",))), Failure.WRONG_PURPOSE, usage)
    refused(verify(root, root.intermediate(ca=False, usage=None).issue(HOST)), Failure.NOT_A_CA, bad)
    refused(verify(root, root.intermediate(usage=("crl_sign",)).issue(HOST)), Failure.NOT_A_CA, bad)
    short = root.intermediate(path_length=0, key=kind)
    refused(verify(root, short.intermediate("deep", key=kind).issue(HOST)), Failure.CONSTRAINT, unknown)
    # RFC 5280 does not count self-issued certificates, but here they are not admitted at all.
    assert not verify(root, short.intermediate(key=kind).issue(HOST)).accepted
    refused(verify(root, root.intermediate(purposes=("client",)).issue(HOST)), Failure.WRONG_PURPOSE, usage)
    refused(verify(CA(key=kind), root.issue(HOST)), Failure.UNKNOWN_CA, AlertDescription.UNKNOWN_CA)
    old = CA(key=kind, not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    refused(verify(old, old.issue(HOST)), Failure.EXPIRED, expired, "root")
    assert not verify(root, root.issue(HOST, extra=[UNKNOWN_CRITICAL])).accepted
    assert not verify(root, root.intermediate(key=kind, extra=[UNKNOWN_CRITICAL]).issue(HOST)).accepted


@pytest.mark.parametrize("kind", ["ed25519", "ed448"])
def test_edwards_issuer_with_name_constraints_is_unsupported_not_ignored(kind) -> None:
    for names in ({"permitted": ("example.com",)}, {"permitted": ("example.org",)}, {"excluded": ("example.com",)}):
        root = CA(key=kind, **names)
        report = verify(root, root.issue(HOST))
        refused(report, Failure.UNSUPPORTED, AlertDescription.UNSUPPORTED_CERTIFICATE, "signs with a key of the kind")


def test_weak_key_of_an_issuer_is_weak_key() -> None:
    key = rsa.generate_private_key(65537, 1024)
    root = CA(key=key)
    refused(verify(root, root.issue(HOST)), Failure.WEAK_KEY, AlertDescription.BAD_CERTIFICATE, "1024 bits")


# The relaxations that webpki.py lists


def test_critical_names_with_a_subject_and_a_client_without_names_are_accepted(ca: CA) -> None:
    accepted(verify(ca, ca.issue(HOST, critical_names=True)), 2)
    accepted(verify(ca, ca.issue(HOST, common_name="")), 2)
    accepted(verify(ca, ca.issue(common_name="a client"), purpose=Purpose.CLIENT_AUTH), 2)


def test_ca_flag_that_is_not_critical_and_leaf_without_authority_key_identifier_are_accepted() -> None:
    root = CA(extra=[Extra(value=x509.BasicConstraints(True, None))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)]))
        .issuer_name(root.name)
        .public_key(new_key("p256").public_key())
        .serial_number(5)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    )
    certificate = builder.sign(root.private_key, hashes.SHA256())
    accepted(verify(root, Issued(certificate=certificate, intermediates=(), key_pem=b"")), 2)


# Requests that nobody can answer


def test_F5_server_without_a_name_is_a_usage_error(ca: CA) -> None:
    with pytest.raises(UsageError, match="without the server's name"):
        verify(ca, ca.issue(HOST), None)


def test_client_with_a_name_and_impossible_times_are_usage_errors(ca: CA) -> None:
    leaf = parse_certificate(ca.issue(HOST).der)
    client = VerificationRequest(
        leaf=leaf, intermediates=(), purpose=Purpose.CLIENT_AUTH, server_name=HOST, now=NOW.timestamp()
    )
    with pytest.raises(UsageError):
        WebPKIVerifier(ca.trust).verify(client)
    for now in (float("nan"), float("inf"), 1e300):
        request = VerificationRequest(
            leaf=leaf, intermediates=(), purpose=Purpose.SERVER_AUTH, server_name=HOST, now=now
        )
        with pytest.raises(UsageError):
            WebPKIVerifier(ca.trust).verify(request)


def test_verifier_of_anything_but_a_trust_store_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        WebPKIVerifier(None)
    with pytest.raises(UsageError):
        WebPKIVerifier(TrustStore.empty(), max_path_depth=256)


def test_every_failure_has_an_alert_and_a_stable_name() -> None:
    assert set(ALERTS) == set(Failure)
    assert {failure.value for failure in Failure} >= {"expired", "wrong-name", "unknown-ca", "missing-intermediate"}
    assert len(CheckGroup) == 4


# Forgeries


def tampered(issued: Issued) -> Issued:
    der = bytearray(issued.der)
    for offset in range(20, 60):  # a bit somewhere in the signature that leaves it decodable
        der = bytearray(issued.der)
        der[-offset] ^= 1
        try:
            certificate = x509.load_der_x509_certificate(bytes(der))
        except ValueError:
            continue
        return Issued(certificate=certificate, intermediates=issued.intermediates, key_pem=b"")
    raise AssertionError("no such bit")


def with_hash(ca: CA, issued: Issued, algorithm: str) -> Issued:
    """Sign *issued* again, by *ca*'s RSA key, with MD5 or SHA-1."""
    sha256 = bytes.fromhex("2a864886f70d01010b")
    oid = bytes.fromhex({"MD5": "2a864886f70d010104", "SHA1": "2a864886f70d010105"}[algorithm])
    tbs = issued.certificate.tbs_certificate_bytes.replace(sha256, oid)
    assert isinstance(ca.private_key, rsa.RSAPrivateKey)
    signature = ca.private_key.sign(tbs, padding.PKCS1v15(), getattr(hashes, algorithm)())
    der = _sequence(tbs + _sequence(b"\x06\x09" + oid + b"\x05\x00") + _tlv(3, b"\x00" + signature))
    return Issued(certificate=x509.load_der_x509_certificate(der), intermediates=(), key_pem=b"")


def resign(ca: CA, tbs: bytes) -> Issued:
    """Sign *tbs*, a whole TBSCertificate, with *ca*'s P-256 key."""
    assert isinstance(ca.private_key, ec.EllipticCurvePrivateKey)
    signature = ca.private_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = _sequence(b"\x06\x08" + bytes.fromhex("2a8648ce3d040302"))
    der = _sequence(tbs + algorithm + _tlv(3, b"\x00" + signature))
    return Issued(certificate=x509.load_der_x509_certificate(der), intermediates=(), key_pem=b"")


def _sequence(body: bytes) -> bytes:
    return _tlv(0x30, body)


def _tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    encoded = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(encoded))) + encoded + body
