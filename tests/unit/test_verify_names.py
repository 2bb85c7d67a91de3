"""Names: what may be meant, and which certificate is for it (RFC 9525). Attacks F6, F7, F8."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509

from pellucid.crypto.certificates import parse_certificate
from pellucid.errors import UsageError
from pellucid.testing.ca import CA, Extra
from pellucid.verify import Failure, Purpose, VerificationRequest, WebPKIVerifier, is_ip, normalize_server_name
from pellucid.verify.names import dns_name_matches, listing, presented_names, shown

REFERENCES = [
    ("example.com", "example.com"),
    ("EXAMPLE.Com", "example.com"),
    ("example.com.", "example.com"),
    ("localhost", "localhost"),
    ("münchen.de", "xn--mnchen-3ya.de"),
    ("MÜNCHEN.DE.", "xn--mnchen-3ya.de"),
    ("faß.de", "xn--fa-hia.de"),
    ("例え。jp", "xn--r8jz45g.jp"),
    ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
    ("ｅｘａｍｐｌｅ.com", "example.com"),
    ("my_bucket.s3.example.com", "my_bucket.s3.example.com"),
    ("_sip.example.com", "_sip.example.com"),
    ("1und1.de", "1und1.de"),
    ("a" * 63 + ".com", "a" * 63 + ".com"),
    ("127.0.0.1", "127.0.0.1"),
    ("::1", "::1"),
    ("[::1]", "::1"),
    ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
]
NOT_REFERENCES = [
    "",
    ".",
    "..",
    ".example.com",
    "example..com",
    "example.com..",
    "example.com\0.evil.com",
    "exam ple.com",
    "example.com\n",
    "-example.com",
    "example-.com",
    "*.example.com",
    "http://example.com",
    "example.com:443",
    "user@example.com",
    "[127.0.0.1]",
    "[example.com]",
    "[::1",
    "fe80::1%eth0",
    "[fe80::1%eth0]",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "127.0.0.1.",
    "127.0.0.01",
    "1.2.3.4.5",
    "256.1.1.1",
    "example.123",
    "a" * 64 + ".com",
    ("a" * 60 + ".") * 5 + "com",
    "☃.example.com",
    "ü" * 2000,
    "xn--\u0661.com",
    "exa\u202emple.com",
]
# names in the certificate, the name that is meant, whether it is for it
MATCHES = [
    (["example.com"], "example.com", True),
    (["EXAMPLE.com"], "example.COM", True),
    (["example.com"], "example.com.", True),
    (["example.com"], "www.example.com", False),
    (["www.example.com"], "example.com", False),
    (["example.com"], "example.org", False),
    (["example.com"], "notexample.com", False),
    (["a.example", "b.example"], "b.example", True),
    (["localhost"], "localhost", True),
    (["*.example.com"], "www.example.com", True),
    (["*.EXAMPLE.com"], "WWW.example.com", True),
    (["*.example.com"], "example.com", False),
    (["*.example.com"], "a.b.example.com", False),
    (["*.example.com"], "xn--mnchen-3ya.example.com", True),
    (["*.example.com"], "my_bucket.example.com", True),
    (["*.example.com"], "a.my_bucket.example.com", False),
    (["w*.example.com"], "www.example.com", False),
    (["*w.example.com"], "www.example.com", False),
    (["www.*.com"], "www.example.com", False),
    (["*.*.com"], "www.example.com", False),
    (["*"], "example", False),
    (["*"], "localhost", False),
    (["*."], "localhost", False),
    (["*.com"], "example.com", False),
    (["*.COM"], "example.com", False),
    (["*.localhost"], "www.localhost", False),
    (["xn--mnchen-3ya.de"], "münchen.de", True),
    (["XN--MNCHEN-3YA.de"], "MÜNCHEN.de", True),
    (["xn--mnchen-3ya.de"], "munchen.de", False),
    (["xn--*-1b3c148a.example.com"], "xn--bliss-1b3c148a.example.com", False),
    (["example.com."], "example.com", False),
    ([".example.com"], "www.example.com", False),
    (["my_bucket.example.com"], "my_bucket.example.com", False),
    (["127.0.0.1"], "127.0.0.1", True),
    (["127.0.0.1"], "127.0.0.2", False),
    ([x509.DNSName("127.0.0.1")], "127.0.0.1", False),
    ([x509.DNSName("*.0.0.1")], "127.0.0.1", False),
    (["::1"], "[::1]", True),
    (["2001:db8::1"], "2001:0DB8:0::1", True),
    (["::ffff:1.2.3.4"], "1.2.3.4", False),
    (["1.2.3.4"], "::ffff:1.2.3.4", False),
    (["::ffff:1.2.3.4"], "::ffff:102:304", True),
    ([x509.RFC822Name("admin@example.com")], "example.com", False),
    ([x509.UniformResourceIdentifier("https://example.com/")], "example.com", False),
    ([x509.DNSName("example.com "), "other.example"], "example.com", False),
    ([], "common.example", False),
]


@pytest.fixture(scope="module")
def ca() -> CA:
    return CA()


@pytest.mark.parametrize(("text", "normal"), REFERENCES)
def test_F8_reference_is_normalised(text: str, normal: str) -> None:
    assert normalize_server_name(text) == normal
    assert normalize_server_name(normal) == normal


@pytest.mark.parametrize("text", NOT_REFERENCES)
def test_F7_F8_what_cannot_be_a_server_name_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        normalize_server_name(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_is_ip_knows_addresses_and_nothing_else() -> None:
    assert all(map(is_ip, ["127.0.0.1", "::1", "[::1]", "::ffff:1.2.3.4"]))
    assert not any(map(is_ip, ["localhost", "127.1", "fe80::1%eth0", "[127.0.0.1]", "", "0x7f.0.0.1", "1.2.3.4."]))


@pytest.mark.parametrize(("names", "meant", "matches"), MATCHES, ids=[f"{n}-{m}" for n, m, _ in MATCHES])
def test_F6_F7_F8_name_matches_or_is_refused_as_wrong_name(
    ca: CA, names: list[str | x509.GeneralName], meant: str, matches: bool
) -> None:
    issued = ca.issue(*names, common_name="common.example")
    request = VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=(),
        purpose=Purpose.SERVER_AUTH,
        server_name=meant,
        now=datetime.datetime.now(datetime.UTC).timestamp(),
    )
    report = WebPKIVerifier(ca.trust).verify(request)
    assert report.accepted is matches, report.lines()
    if not matches:
        assert report.failure is Failure.WRONG_NAME
        assert normalize_server_name(meant) in report.summary
    assert report.accepted is matches and not (matches and any(check.failure for check in report.checks))


@pytest.mark.parametrize("name", ["ex\0ample.com", "exämple.com", "example.com\0.evil.com", "\u0000"])
def test_F8_nul_and_non_ascii_in_a_certificate_match_nothing(name: str) -> None:
    assert not dns_name_matches(name, "example.com")
    assert not dns_name_matches(name, name)
    assert not dns_name_matches("*." + name, "www." + name)


def test_F8_certificate_with_nul_in_its_name_is_refused(ca: CA) -> None:
    value = b"\x30\x17\x82\x15example.com\x00.evil.org"
    extension = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value)
    issued = ca.issue(extra=[Extra(value=extension)])
    for name in ("example.com", "evil.org"):
        request = VerificationRequest(
            leaf=parse_certificate(issued.der),
            intermediates=(),
            purpose=Purpose.SERVER_AUTH,
            server_name=name,
            now=datetime.datetime.now(datetime.UTC).timestamp(),
        )
        report = WebPKIVerifier(ca.trust).verify(request)
        assert not report.accepted
        assert report.summary.isprintable()


def test_names_of_a_peer_are_shown_escaped_and_short() -> None:
    assert shown("a\x1b[31m\r\n\u202e") == "a\\x1b[31m\\r\\n\\u202e"
    assert len(shown("x" * 1000)) == 64
    assert presented_names([x509.DNSName("8.8.8.8"), x509.RFC822Name("a@b")]) == ("DNS:8.8.8.8", "email:a@b")
    assert presented_names([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]) == ("RegisteredID",)
    assert listing(tuple("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more"
