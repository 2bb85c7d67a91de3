"""Upstream's own rules judge the usual chains, ours all others: nobody is let in by the one that the other refuses."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import itertools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pellucid.config import ClientConfig
from pellucid.crypto.certificates import parse_certificate
from pellucid.verify.leaf import leaf_facts
from pellucid.verify.report import Failure
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.revocation import RevocationPolicy
from pellucid.verify.strictness import Strictness
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
ROOT_KEY, MIDDLE_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
USAGES = ("digital_signature", "key_cert_sign", "key_encipherment", "crl_sign")


def usage(*names: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


Extensions = list[tuple[x509.ExtensionType, bool]]


def issued(subject: str, key: Any, issuer: str, issuer_key: Any, extensions: Extensions) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + 30 * DAY)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def as_public_cas_do(key: Any) -> Extensions:
    return [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage("key_cert_sign", "crl_sign"), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def by(issuer_key: Any) -> tuple[x509.ExtensionType, bool]:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False


ROOT = issued("root", ROOT_KEY, "root", ROOT_KEY, as_public_cas_do(ROOT_KEY))
MIDDLE = issued("middle", MIDDLE_KEY, "root", ROOT_KEY, [*as_public_cas_do(MIDDLE_KEY), by(ROOT_KEY)])
NAMES = (x509.SubjectAlternativeName([x509.DNSName("usual.test")]), False)


def leaf(*extensions: tuple[x509.ExtensionType, bool] | None, subject: str = "leaf") -> x509.Certificate:
    kept = [one for one in (NAMES, by(MIDDLE_KEY), *extensions) if one is not None]
    return issued(subject, LEAF_KEY, "middle", MIDDLE_KEY, kept)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def verifier(*, usual: bool, root: x509.Certificate = ROOT, **options: Any) -> WebPKIVerifier:
    made = WebPKIVerifier(TrustStore.from_der([der(root)]), verdict_cache_seconds=0, **options)
    if not usual:
        made._usual = False
    return made


def request(certificate: x509.Certificate, *intermediates: x509.Certificate, **changes: Any) -> VerificationRequest:
    return VerificationRequest(
        leaf=parse_certificate(der(certificate)),
        intermediates=tuple(map(der, intermediates or (MIDDLE,))),
        **{"purpose": Purpose.SERVER_AUTH, "server_name": "usual.test", "now": NOW.timestamp()} | changes,
    )


def answered(certificate: x509.Certificate, **changes: Any) -> tuple[bool, object, object]:
    """What both ways say, which must be the same."""
    found = []
    for usual in (True, False):
        report = verifier(usual=usual).verify(request(certificate, **changes))
        found.append((report.accepted, report.failure, report.path))
    assert found[0] == found[1]
    return found[0]


KINDS = [
    None,
    *(usage(*names) for count in (1, 2) for names in itertools.combinations(USAGES, count)),
]
PURPOSES = [
    None,
    *(
        x509.ExtendedKeyUsage(list(some))
        for some in (
            [ExtendedKeyUsageOID.SERVER_AUTH],
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
            [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.CODE_SIGNING],
        )
    ),
]
FLAGS = [None, x509.BasicConstraints(ca=False, path_length=None), x509.BasicConstraints(ca=True, path_length=None)]


@pytest.mark.rfc("9846 §4.5.1.2", "the leaf's key usage allows signatures")
def test_every_usage_purpose_and_flag_is_judged_as_ours_do() -> None:
    accepted = refused = 0
    for kind, purposes, flag in itertools.product(KINDS, PURPOSES, FLAGS):
        for critical in (False, True):
            given = [(one, critical) if one is not None else None for one in (kind, purposes, flag)]
            good, *_ = answered(leaf(*given))
            accepted, refused = accepted + good, refused + (not good)
    assert accepted > 20
    assert refused > 200


def test_usual_chain_is_judged_by_upstreams_rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    public = leaf((usage("digital_signature"), True), (PURPOSES[1], False))  # type: ignore[arg-type]  # there is one
    one = verifier(usual=True)
    monkeypatch.setattr(WebPKIVerifier, "_verdict", None)
    report = one.verify(request(public))
    assert report.accepted
    assert report.path == tuple(map(der, (public, MIDDLE, ROOT)))


def test_chain_of_ones_own_ca_ends_it_and_is_taken() -> None:
    """A root as `openssl req -x509` makes them without a configuration: nothing in it but that it is a CA."""
    bare = issued("root", ROOT_KEY, "root", ROOT_KEY, [(x509.BasicConstraints(ca=True, path_length=None), False)])
    one = verifier(usual=True, root=bare)
    assert one._usual
    assert one.verify(request(leaf())).accepted
    assert not one._usual
    assert one.verify(request(leaf())).accepted


def test_refusal_does_not_end_it() -> None:
    one = verifier(usual=True)
    assert not one.verify(request(leaf(), server_name="other.test")).accepted
    assert one._usual


@pytest.mark.parametrize(
    "changes",
    [{"allow_ca_leaf": True}, {"dangerous_skip_name_check": True}, {"min_scts": 1}, {"allow_any_purpose_leaf": True}],
)
def test_other_strictness_is_never_judged_by_upstreams_rules(changes: dict[str, Any]) -> None:
    assert not verifier(usual=True, strictness=Strictness(**changes))._usual


def test_where_a_crl_may_be_of_one_path_alone_ours_say_which() -> None:
    crl = x509.CertificateRevocationListBuilder().issuer_name(named("middle")).last_update(NOW - DAY)
    crl = crl.next_update(NOW + DAY)
    text = crl.sign(MIDDLE_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
    assert not verifier(usual=True, revocation=RevocationPolicy(crls=(text,)))._usual


def test_clients_and_long_chains_are_judged_by_ours() -> None:
    one = verifier(usual=True)
    asked = []
    plain = WebPKIVerifier._verdict
    one._verdict = lambda case: asked.append(case) or plain(one, case)  # type: ignore[method-assign,func-returns-value]
    client = leaf((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False))
    assert one.verify(request(client, purpose=Purpose.CLIENT_AUTH, server_name=None)).accepted
    assert one.verify(request(leaf(), MIDDLE, *[ROOT] * 3)).accepted
    assert len(asked) == 2


@pytest.mark.parametrize("used", [False, True])
def test_copy_of_a_configuration_verifies_as_it_does(used: bool) -> None:
    """Programs copy their settings whole; upstream's objects in them cannot be."""
    config = ClientConfig(trust=TrustStore.from_der([der(ROOT)]))
    asked = request(leaf())
    one = config.peer_verifier
    assert isinstance(one, WebPKIVerifier)
    assert not used or one.verify(asked).accepted
    copied = copy.deepcopy(config)
    assert copied.trust is config.trust
    other = copied.peer_verifier
    assert isinstance(other, WebPKIVerifier)
    assert other.verify(asked).accepted


# ---- what is read of a leaf ------------------------------------------------------------------------------------------

DISGUISE = b"\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80"


def test_usage_that_stands_in_a_name_is_not_taken_for_the_extension() -> None:
    """A CA may be made to sign names; what looks like a key usage in one is none."""
    for text in (DISGUISE.decode("latin-1"), DISGUISE[:5].decode("latin-1")):
        certificate = leaf((usage("key_encipherment"), True), subject=text)
        raw = der(certificate)
        assert raw.count(DISGUISE[:5]) == 2
        assert not leaf_facts(parse_certificate(raw)).usual
        assert not answered(certificate)[0]


@pytest.mark.parametrize("oid", ["0603551d0f", "0603551d25"])
@pytest.mark.parametrize("after", ["", "04", "0101ff", "0101ff04", "0400", "0480", "0405", "040503"])
def test_certificate_that_ends_like_the_beginning_of_an_extension_is_refused(oid: str, after: str) -> None:
    """Its last bytes are those of a signature that nobody has looked at yet: whoever answers may choose them."""
    tail = bytes.fromhex(oid + after)
    raw = der(leaf())[: -len(tail)] + tail
    asked = dataclasses.replace(request(leaf()), leaf=parse_certificate(raw))
    reports = [verifier(usual=usual).verify(asked) for usual in (True, False)]
    assert [report.failure for report in reports] == [Failure.BAD_SIGNATURE] * 2


@pytest.mark.parametrize(
    ("extensions", "usual"),
    [
        ((), True),
        (((usage("digital_signature"), True),), True),
        (((usage("digital_signature"), False),), True),
        (((usage("key_encipherment"), True),), False),
        (((usage("digital_signature", "decipher_only", "key_agreement"), True),), True),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True),), True),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),), False),
        (((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False),), False),
    ],
)
def test_usual_leaf_is_known_by_its_bytes(extensions: tuple[tuple[x509.ExtensionType, bool], ...], usual: bool) -> None:
    assert leaf_facts(parse_certificate(der(leaf(*extensions)))).usual is usual
