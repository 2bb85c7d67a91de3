"""Fetching missing intermediates: what is fetched, what never is, and what the report says of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

import pellucid
from pellucid.errors import UsageError
from pellucid.limits import ISSUER_FETCHES, MAX_ISSUER_REPLY
from pellucid.net.aia import AiaVerifier, AsyncAiaVerifier, FetchLimits, IssuerFetcher
from pellucid.net.eyeballs import Address
from pellucid.net.issuer_fetch import NotFetched, is_public
from pellucid.testing.ca import CA, Extra, Issued
from pellucid.verify import (
    Check,
    Failure,
    Outcome,
    Purpose,
    SpkiPins,
    VerificationReport,
    WebPKIVerifier,
    all_of,
    spki_pin,
)
from pellucid.verify.supplied import certificates_in_reply
from tests.docs.test_resumption_guide import answer, served
from tests.support.verifying import NAME, request_for

HERE = FetchLimits(ports=None, allow_private_addresses=True, seconds=30.0)
"""for servers of the tests: on loopback, on any port"""

Reply = Callable[[http.server.BaseHTTPRequestHandler], None]


class Web(contextlib.AbstractContextManager["Web"]):
    """An HTTP server on loopback: path → the body, or what answers by itself; counts what is asked for."""

    def __init__(self, **paths: bytes | Reply) -> None:
        self.paths = {f"/{path}": reply for path, reply in paths.items()}
        self.asked: list[str] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                reply = web.paths.get(self.path)
                if callable(reply):
                    reply(self)
                elif reply is None:
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(reply)))
                    self.end_headers()
                    self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"


def der(authority: CA) -> bytes:
    return authority.certificate.public_bytes(Encoding.DER)


def notes(report: VerificationReport) -> list[Check]:
    return [check for check in report.checks if check.name == "fetched issuer"]


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as running:
        yield running


def chain(web: Web, root: CA, depth: int = 1) -> Issued:
    """A leaf under *depth* intermediates, each of which is served; none is sent."""
    authority = root
    for number in range(depth):
        authority = authority.intermediate(f"Middle {number}", aia=web.url(f"{number}.der"))
        web.paths[f"/{number}.der"] = der(authority)
    # The CA's certificate names where its own issuer's is: what `aia` says is of leaves alone.
    return authority.issue(NAME)


ROOT = CA("aia")


def verified(leaf: Issued, limits: FetchLimits = HERE, **how: Any) -> VerificationReport:
    verifier = AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(limits), **how)
    return verifier.verify(request_for(leaf, bare=True))


def test_a_missing_intermediate_is_fetched_and_the_report_says_from_where(web: Web) -> None:
    leaf = chain(web, ROOT)
    assert WebPKIVerifier(ROOT.trust).verify(request_for(leaf, bare=True)).failure is Failure.MISSING_INTERMEDIATE
    assert web.asked == []
    report = verified(leaf)
    assert report.accepted and len(report.path) == 3
    assert [note.outcome for note in notes(report)] == [Outcome.PASSED]
    text = "\n".join(report.lines())
    assert f"fetched from {web.url('0.der')}" in text and "was not sent by the peer" in text


def test_nothing_is_fetched_where_nothing_is_missing(web: Web) -> None:
    leaf = chain(web, ROOT)
    verifier = AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE))
    assert verifier.verify(request_for(leaf)).accepted
    wrong = verifier.verify(request_for(leaf, "other.test"))
    assert wrong.failure is Failure.WRONG_NAME
    assert not verifier.verify(request_for(CA().issue(NAME))).accepted
    assert web.asked == []


@pytest.mark.parametrize("form", ["der", "pem", "p7c"])
def test_all_forms_in_which_cas_serve_certificates(web: Web, form: str) -> None:
    leaf = chain(web, ROOT)
    held = certificates_in_reply(web.paths["/0.der"])  # type: ignore[arg-type]
    certificate = ROOT.intermediate().certificate
    assert certificates_in_reply(certificate.public_bytes(Encoding.DER))
    parsed = [x509.load_der_x509_certificate(held[0]), certificate]
    web.paths["/0.der"] = {
        "der": held[0],
        "pem": b"".join(one.public_bytes(Encoding.PEM) for one in parsed),
        "p7c": pkcs7.serialize_certificates(parsed, Encoding.DER),
    }[form]
    assert verified(leaf).accepted


def test_what_is_fetched_is_trusted_by_nobody(web: Web) -> None:
    evil = CA("evil")
    web.paths["/root.der"] = der(evil)
    leaf = evil.intermediate(aia=web.url("root.der")).issue(NAME)
    for bare in (evil.issue(NAME), leaf):
        report = verified(bare)
        assert not report.accepted


def test_pins_see_the_path_over_what_was_fetched(web: Web) -> None:
    leaf = chain(web, ROOT)
    aia = AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE))
    assert all_of(aia, SpkiPins(spki_pin(web.paths["/0.der"]))).verify(request_for(leaf, bare=True)).accepted  # type: ignore[arg-type,union-attr]
    assert not all_of(aia, SpkiPins(bytes(32))).verify(request_for(leaf, bare=True)).accepted  # type: ignore[union-attr]


def test_names_and_dates_and_purposes_are_judged_as_ever(web: Web) -> None:
    leaf = chain(web, ROOT)
    verifier = AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE))
    assert verifier.verify(request_for(leaf, "other.test", bare=True)).failure is Failure.WRONG_NAME


def test_clients_make_a_server_fetch_nothing_unless_it_is_asked_for(web: Web) -> None:
    leaf = chain(web, ROOT)
    request = request_for(leaf, None, purpose=Purpose.CLIENT_AUTH, bare=True)
    quiet = AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE))
    assert not quiet.verify(request).accepted and web.asked == []
    assert AiaVerifier(WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE), for_clients=True).verify(request).accepted


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_by_default_nothing_private_is_asked(web: Web) -> None:
    leaf = chain(web, ROOT)
    report = verified(leaf, FetchLimits())
    assert not report.accepted and "port" in notes(report)[0].evidence
    report = verified(leaf, FetchLimits(ports=None))
    assert not report.accepted and "not an address of the internet" in notes(report)[0].evidence
    assert web.asked == [] and notes(report)[0].outcome is Outcome.NOT_CHECKED


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "2001::1", "2001:db8::1", "x",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "10.1.2.3"])
def test_a_name_that_resolves_inwards_is_not_connected_to(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    public = Address(socket.AF_INET, ("1.1.1.1", 80))

    def resolve(name: bytes, port: int) -> list[Address] | OSError:
        return [public, Address(family, (address, port) if family == socket.AF_INET else (address, port, 0, 0))]

    fetcher = IssuerFetcher(resolve=resolve)
    with pytest.raises(NotFetched, match="not an address of the internet"):
        fetcher.fetch("http://inward.test/ca.der", time.monotonic() + 30)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://ca.test/x", "only http"),
        ("file:///etc/passwd", "only http"),
        ("ldap://ca.test/cn=x", "only http"),
        ("//ca.test/x", "only http"),
        ("http:///x", "no host"),
        ("http://user@ca.test/x", "names a user"),
        ("http://ca.test:22/x", "port 22"),
        ("http://ca.test:99999/x", "no address"),
        ("http://ca.test/a b", "characters"),
        ("http://ca.test/\r\nHost: x", "characters"),
        ("http://ca.test/ü", "characters"),
        ("http://ca.test/" + "x" * 2000, "too long"),
        ("http://[::1/x", "no address"),
        ("", "characters"),
    ],
)
def test_addresses_that_are_never_asked(url: str, why: str) -> None:
    def resolve(name: bytes, port: int) -> list[Address] | OSError:
        raise AssertionError("it was asked for")

    with pytest.raises(NotFetched, match=why):
        IssuerFetcher(resolve=resolve).fetch(url, time.monotonic() + 30)


def test_redirects_are_checked_as_the_first_address_is(web: Web) -> None:
    def to(where: str) -> Reply:
        def reply(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", where)
            handler.end_headers()

        return reply

    def why(path: str, limits: FetchLimits = HERE) -> str:
        with pytest.raises(NotFetched) as info:
            IssuerFetcher(limits).fetch(web.url(path), time.monotonic() + 30)
        return str(info.value)

    web.paths["/good"] = der(ROOT)
    web.paths["/once"] = to("/good")
    web.paths["/twice"] = to(web.url("once"))
    web.paths["/thrice"] = to("twice")
    web.paths["/loop"] = to("/loop")
    web.paths["/away"] = to("https://elsewhere.test/")
    web.paths["/file"] = to("file:///etc/passwd")
    assert IssuerFetcher(HERE).fetch(web.url("twice"), time.monotonic() + 30) == (der(ROOT),)
    assert "redirects" in why("thrice") and "redirects" in why("loop")
    assert "only http" in why("away") and "only http" in why("file")
    port = int(web.url("").rsplit(":", 1)[1].strip("/"))
    web.paths["/other"] = to("http://127.0.0.1:1/")
    assert "port 1 is not" in why("other", FetchLimits(ports=frozenset({port}), allow_private_addresses=True))
    assert web.asked.count("/loop") == HERE.redirects + 1


def test_a_chain_of_missing_certificates_ends_at_the_limit() -> None:
    """Each certificate names the next: as many as are allowed are fetched, and no more."""
    with Web() as web:
        authority = ROOT
        for number in range(ISSUER_FETCHES + 1):
            extra = [_issuer_at(web.url(f"{number}.der"))]
            lower = authority.intermediate(f"Lower {number}", extra=extra, aia=web.url("leaf.der"))
            web.paths[f"/{number}.der"] = der(authority)
            authority = lower
        # The leaf's own issuer is fetched first, then each one's issuer; the root need not be.
        web.paths["/leaf.der"] = der(authority)
        leaf = authority.issue(NAME)
        few = verified(leaf, HERE)
        assert not few.accepted and len(web.asked) == len(notes(few)) == ISSUER_FETCHES
        many = verified(leaf, dataclasses.replace(HERE, fetches=ISSUER_FETCHES + 1))
        assert many.accepted and len(notes(many)) == ISSUER_FETCHES + 1


def _issuer_at(url: str) -> Any:
    place = x509.UniformResourceIdentifier(url)
    return Extra(
        value=x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)])
    )


def raw(data: bytes, *, hold: float = 0.0) -> Reply:
    def reply(handler: http.server.BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(data)
            handler.wfile.flush()
            time.sleep(hold)

    return reply


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "ends in its head"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "no HTTP"),
        (OK + b"X: " + b"y" * 20_000, "head has more"),
        (OK + b"\r\n" + b"x" * (MAX_ISSUER_REPLY + 1), "more than 65536 bytes"),
        (OK + b"Content-Length: 65537\r\n\r\n", "more than 65536 bytes"),
        (OK + b"Content-Length: 10\r\n\r\nabc", "too early"),
        (OK + b"Content-Length: -1\r\n\r\nabc", "no number"),
        (OK + b"Content-Length: 1e9\r\n\r\nabc", "no number"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer encoding"),
        (OK + b"\r\n", "neither a certificate"),
        (OK + b"\r\n<html>not found</html>", "neither a certificate"),
        (OK + b"\r\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "parsing"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "status 302"),
    ],
    ids=range(15),
)
def test_replies_that_are_no_certificate(reply: bytes, why: str) -> None:
    with Web(x=raw(reply)) as web, pytest.raises(NotFetched, match=why):
        IssuerFetcher(HERE).fetch(web.url("x"), time.monotonic() + 30)


def test_a_body_of_exactly_the_limit_is_read(web: Web) -> None:
    pem = ROOT.certificate.public_bytes(Encoding.PEM)
    web.paths["/x"] = raw(OK + b"\r\n" + pem + b"\n" * (MAX_ISSUER_REPLY - len(pem)))
    assert IssuerFetcher(HERE).fetch(web.url("x"), time.monotonic() + 30) == (der(ROOT),)


@pytest.mark.parametrize("slow", [b"", OK, OK + b"\r\n" + b"x", OK + b"Content-Length: 9\r\n\r\nx"], ids=range(4))
def test_a_server_that_keeps_one_waiting_is_left(slow: bytes) -> None:
    with Web(x=raw(slow, hold=6)) as web:
        leaf = ROOT.intermediate(aia=web.url("x")).issue(NAME)
        begun = time.monotonic()
        report = verified(leaf, FetchLimits(ports=None, allow_private_addresses=True, seconds=0.2))
        assert not report.accepted and time.monotonic() - begun < 5
        assert "time" in notes(report)[0].evidence


def test_a_resolver_that_keeps_one_waiting_is_left() -> None:
    gate = threading.Event()

    def resolve(name: bytes, port: int) -> list[Address] | OSError:
        gate.wait(5)
        return []

    try:
        with pytest.raises(NotFetched, match="time is over"):
            IssuerFetcher(HERE, resolve=resolve).fetch("http://slow.test/", time.monotonic() + 0.1)
    finally:
        gate.set()


def test_what_was_fetched_is_kept_for_a_while_and_failures_too(web: Web) -> None:
    leaf = chain(web, ROOT)
    fetcher = IssuerFetcher(HERE)
    verifier = AiaVerifier(WebPKIVerifier(ROOT.trust), fetcher)
    for _ in range(3):
        assert verifier.verify(request_for(leaf, bare=True)).accepted
    assert web.asked == ["/0.der"]
    for _ in range(3):
        with pytest.raises(NotFetched, match="404"):
            fetcher.fetch(web.url("nothing"), time.monotonic() + 30)
    assert web.asked.count("/nothing") == 1
    small = IssuerFetcher(FetchLimits(ports=None, allow_private_addresses=True, cache_size=1, cache_seconds=0.0))
    for _ in range(2):
        small.fetch(web.url("0.der"), time.monotonic() + 30)
        time.sleep(0.01)
    assert web.asked.count("/0.der") == 3


def test_no_limit_is_negative() -> None:
    with pytest.raises(UsageError, match="negative"):
        FetchLimits(fetches=-1)
    with pytest.raises(UsageError, match="WebPKIVerifier"):
        AiaVerifier(all_of(WebPKIVerifier(ROOT.trust)))  # type: ignore[arg-type]


def test_sessions_are_not_those_of_the_verifier_that_fetches_nothing() -> None:
    plain = WebPKIVerifier(ROOT.trust)
    identities = {
        plain.session_identity,
        AiaVerifier(plain).session_identity,
        AiaVerifier(plain, for_clients=True).session_identity,
        AiaVerifier(plain, IssuerFetcher(HERE)).session_identity,
    }
    assert len(identities) == 4
    assert AiaVerifier(plain).session_identity == AiaVerifier(WebPKIVerifier(ROOT.trust)).session_identity


# ---- in connections --------------------------------------------------------------------------------------------------


def bare_server(leaf: Issued) -> pellucid.ServerConfig:
    credential = pellucid.Credential.from_pem(leaf.certificate_pem, leaf.key_pem)
    return pellucid.ServerConfig(credentials=(credential,))


def test_blocking_and_awaiting_clients_connect_to_a_server_that_forgot_its_intermediate(
    web: Web, tmp_path: Path
) -> None:
    authority = ROOT.intermediate(aia=web.url("m.der"))
    web.paths["/m.der"] = der(authority)
    leaf = authority.issue("localhost")
    inner, fetcher = WebPKIVerifier(ROOT.trust), IssuerFetcher(HERE)
    with served(answer, bare_server(leaf)) as port:
        with pytest.raises(pellucid.CertificateRejected):
            pellucid.connect("localhost", port, pellucid.ClientConfig(verifier=inner))
        config = pellucid.ClientConfig(verifier=AiaVerifier(inner, fetcher))
        with pellucid.connect("localhost", port, config) as stream:
            stream.sendall(b"hello")
            assert stream.recv() == b"answer"
            assert stream.peer is not None and len(stream.peer.chain) == 3

        later = pellucid.ClientConfig(verifier=AsyncAiaVerifier(inner, IssuerFetcher(HERE)), sessions=None)

        async def speak() -> bytes:
            async with await pellucid.aio.connect("localhost", port, later) as stream:
                await stream.send(b"hello")
                return await stream.receive()

        assert asyncio.run(speak()) == b"answer"
        trio = pytest.importorskip("trio")
        assert trio.run(speak) == b"answer"
        with pytest.raises(pellucid.UsageError):
            pellucid.connect("localhost", port, later)
    assert web.asked.count("/m.der") == 2
