"""What is said before TLS: each protocol against a server that speaks it, however bytes arrive, and its bounds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pellucid
from pellucid.inspection import Settings, Target, examine
from pellucid.inspection.starttls import PROTOCOLS, Preamble, StartTLSFailed
from pellucid.inspection.starttls.binary import LDAP_REQUEST, POSTGRES_REQUEST
from pellucid.inspection.starttls.preamble import MAX_LINE, MAX_LINES, MAX_PREAMBLE
from pellucid.testing.ca import CA
from tests.support.starttls import ANSWERS, SPOKEN, StartTLSServer, Wire, silent

AUTHORITY = CA("STARTTLS root")
LEAF = AUTHORITY.issue("localhost", "127.0.0.1")
CONFIG = pellucid.ServerConfig(credentials=(pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem),))


def preamble(protocol: str) -> Preamble:
    return Preamble(PROTOCOLS[protocol], "localhost", "192.0.2.1")


MYSQL = b"\x0a5.5.5-10.11\0" + bytes(4) + b"12345678\0" + b"\xff\xff\x08\x02\0\xff\xc1\x15" + bytes(18)
# What servers say, turn by turn, and whether that agrees to TLS.
AGREED = {
    "smtp": (b"220 mx\r\n", b"250-mx\r\n250-size 1\r\n250 starttls\r\n", b"220 go\r\n"),
    "imap": (b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1 STARTTLS\r\np1 OK\r\n", b"p2 OK go\r\n"),
    "pop3": (b"+OK hi\r\n", b"+OK go\r\n"),
    "ldap": (b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",),
    "postgres": (b"S",),
    "mysql": (len(MYSQL).to_bytes(3, "little") + b"\0" + MYSQL,),
    "xmpp": (
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
        b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ),
}

REFUSED = [
    ("smtp", b"554 no\r\n", "answered: 554 no"),
    ("smtp", b"SSH-2.0-x\r\n", "does not speak smtp"),
    ("smtp", b"220 mx\r\n250 mx\r\n", "does not offer"),
    ("smtp", b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 later\r\n", "454 later"),
    ("smtp", b"220-a\r\n221 b\r\n", "does not speak"),
    ("imap", b"* BYE busy\r\n", "BYE busy"),
    ("imap", b"* PREAUTH you\r\n", "PREAUTH"),
    ("imap", b"* OK\r\n", "answered"),
    ("imap", b"* OK hi\r\n* CAPABILITY IMAP4rev1\r\np1 OK\r\n", "does not offer"),
    ("imap", b"* OK hi\r\np1 BAD what\r\n", "BAD what"),
    ("imap", b"* OK hi\r\nnonsense\r\n", "does not speak"),
    ("pop3", b"-ERR busy\r\n", "ERR busy"),
    ("pop3", b"HTTP/1.1 400\r\n", "does not speak"),
    ("pop3", b"+OK\r\n-ERR no\r\n", "ERR no"),
    ("ldap", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00", "unavailable"),
    ("ldap", b"\x30\x0e\x02\x01\x01\x78\x09\x0a\x01\x02\x04\x00\x04\x02no", "protocolError: no"),
    ("ldap", b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "does not speak"),
    ("ldap", b"\x30\x84\xff\xff\xff\xff", "announced"),
    ("ldap", b"\x30\x80", "does not speak"),
    ("ldap", b"\x30\x05\x02\x01\x01\x78\x70", "does not speak"),
    ("ldap", b"HTTP/1.1", "does not speak"),
    ("postgres", b"N", "does not offer"),
    ("postgres", b"EFATAL: no\0", "FATAL"),
    ("postgres", b"H", "does not speak"),
    ("mysql", b"\x0a\0\0\0\xff\x69\x04blocked", "blocked"),
    ("mysql", b"\x02\0\0\0\x0ax", "does not speak"),
    ("mysql", b"\xff\xff\xff\0", "does not speak"),
    ("mysql", b"\x20\0\0\0\x0a5\0" + bytes(29), "does not offer"),
    ("xmpp", b"<html/>", "does not speak XMPP"),
    ("xmpp", b"HTTP/1.1 400", "no XML"),
    ("xmpp", b"<?xml version='1.0' encoding='nobodys'?><a/>", "no XML"),
    ("xmpp", b"<?xml version='1.0' encoding='shift_jis'?><a/>", "no XML"),
    ("xmpp", b"<?xml version='1.0' encoding='idna'?><a/>", "no XML"),
    ("xmpp", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "document type"),
    ("xmpp", AGREED["xmpp"][0].replace(b"starttls", b"bind"), "does not offer"),
    ("xmpp", AGREED["xmpp"][0] + b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "failure|answered"),
    (
        "xmpp",
        AGREED["xmpp"][0].partition(b"<stream:features")[0]
        + b"<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "host-unknown",
    ),
    ("xmpp", AGREED["xmpp"][0].partition(b"<stream:features")[0] + b"</stream:stream>", "end of the stream"),
    ("xmpp", AGREED["xmpp"][0].partition(b"<stream:features")[0] + b"<a>" * 20, "nested"),
]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("protocol", AGREED)
def test_preamble_goes_over_to_tls_however_bytes_arrive(protocol: str, step: int) -> None:
    talk = preamble(protocol)
    sent = talk.data_to_send()
    for turn in AGREED[protocol]:
        assert not talk.done
        for start in range(0, len(turn), step):
            talk.receive_data(turn[start : start + step])
        sent += talk.data_to_send()
    assert talk.done
    exact = {"ldap": LDAP_REQUEST, "postgres": POSTGRES_REQUEST, "pop3": b"STLS\r\n"}
    assert sent == exact.get(protocol, sent)
    if protocol == "smtp":
        assert sent == b"EHLO [192.0.2.1]\r\nSTARTTLS\r\n"


@pytest.mark.parametrize(("protocol", "said", "told"), REFUSED)
def test_preamble_tells_what_a_server_refused_with(protocol: str, said: bytes, told: str) -> None:
    with pytest.raises(StartTLSFailed, match=f"(?i){told}"):
        preamble(protocol).receive_data(said)


@pytest.mark.parametrize("protocol", AGREED)
def test_preamble_bytes_after_the_agreement_are_refused(protocol: str) -> None:
    *before, last = AGREED[protocol]
    talk = preamble(protocol)
    for turn in before:
        talk.receive_data(turn)
    with pytest.raises(StartTLSFailed, match="in the open after"):
        talk.receive_data(last + b"220 injected\r\n")


def test_preamble_xmpp_proceed_with_an_end_tag_agrees_too() -> None:
    talk = preamble("xmpp")
    talk.receive_data(AGREED["xmpp"][0])
    talk.receive_data(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>")
    assert talk.done


@pytest.mark.parametrize("protocol", AGREED)
def test_preamble_end_of_stream_is_told(protocol: str) -> None:
    talk = preamble(protocol)
    with pytest.raises(StartTLSFailed, match="closed the connection"):
        talk.receive_data(b"")


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
def test_preamble_line_without_end_is_bounded(protocol: str) -> None:
    talk = preamble(protocol)
    with pytest.raises(StartTLSFailed, match="line"):
        for _ in range(MAX_LINE // 64 + 2):
            talk.receive_data(b"2" * 64)


@pytest.mark.parametrize(
    ("protocol", "again"), [("smtp", b"220-x\r\n"), ("imap", b"* OK x\r\n"), ("xmpp", b"<!-- x -->"), ("mysql", b"")]
)
def test_preamble_without_end_is_bounded(protocol: str, again: bytes) -> None:
    talk = preamble(protocol)
    said = 0
    first = AGREED["xmpp"][0].partition(b"<stream:features")[0] if protocol == "xmpp" else b""
    with pytest.raises(StartTLSFailed):
        talk.receive_data(first or again or b"\xff\xff\xff\0")
        while said <= MAX_PREAMBLE:
            talk.receive_data(again)
            said += len(again)
    assert said <= MAX_PREAMBLE and said <= max(MAX_LINES * 16, MAX_PREAMBLE)


@given(protocol=st.sampled_from(sorted(AGREED)), said=st.lists(st.binary(min_size=1, max_size=64), max_size=8))
def test_preamble_any_bytes_end_in_nothing_else(protocol: str, said: list[bytes]) -> None:
    talk = preamble(protocol)
    try:
        for data in said:
            if not talk.done:
                talk.receive_data(data)
    except StartTLSFailed as error:
        assert str(error).isprintable()


# ---- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", SPOKEN)
def test_inspect_goes_through_starttls(protocol: str) -> None:
    target_alpn = PROTOCOLS[protocol].alpn
    with StartTLSServer(SPOKEN[protocol], CONFIG, ANSWERS.get(protocol, b"")) as server:
        target = Target.of("localhost", server.port, starttls=protocol, resolve={"localhost": "127.0.0.1"})
        found = examine(target, Settings(trust=AUTHORITY.trust, max_seconds=20)).facts
    assert server.wrong == []
    assert found.failed is None and found.unknown == ()
    assert found.chain is not None and found.chain.report.accepted
    assert found.timing is not None and found.timing.preamble is not None
    assert found.alpn is not None and found.alpn.offered == target_alpn
    assert found.key_update is not None and found.key_update.outcome == "answered"
    assert found.key_update.detail == ("after a request" if protocol in ANSWERS else "nothing was asked of it")


@pytest.mark.program("openssl")
@pytest.mark.parametrize("protocol", SPOKEN)
def test_openssl_goes_through_starttls_with_the_same_server(protocol: str) -> None:
    """The scripted servers speak the protocols: OpenSSL's own client agrees."""
    with StartTLSServer(SPOKEN[protocol], CONFIG) as server:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-starttls", protocol, "-brief"]
        done = subprocess.run([*command, "-name", "localhost"], input=b"", capture_output=True, timeout=20, check=False)
    assert server.wrong == []
    assert b"Protocol version: TLSv1.3" in done.stdout + done.stderr
    if protocol in {"ldap", "postgres"}:  # no client has a choice of what to say there
        assert server.said == [{"ldap": LDAP_REQUEST, "postgres": POSTGRES_REQUEST}[protocol]]


def examined(port: int, protocol: str, seconds: float = 0.4) -> tuple[str, float]:
    started = time.monotonic()
    settings = Settings(trust=AUTHORITY.trust, connect_timeout=seconds, max_seconds=5)
    target = Target.of("localhost", port, starttls=protocol, resolve={"localhost": "127.0.0.1"})
    failed = examine(target, settings).facts.failed
    assert failed is not None
    assert failed.code in {"PEER-STARTTLS", "PEER-STALLED", "TLS-DECODE", "PEER-NOT-TLS"}, failed
    return failed.message, time.monotonic() - started


@pytest.mark.parametrize("drip", [None, 0.02])
def test_inspect_starttls_that_takes_for_ever_is_ended(drip: float | None) -> None:
    with silent(b"220-", drip=drip) as port:
        message, seconds = examined(port, "smtp")
    assert "took longer" in message
    assert seconds < 3


def test_inspect_starttls_that_says_nothing_may_be_a_port_without_it() -> None:
    with silent(b"") as port:
        message, seconds = examined(port, "smtp")
    assert "nothing came for 0.4 s; the port may speak TLS at once" in message
    assert seconds < 3


def test_inspect_starttls_injected_plaintext_is_told() -> None:
    def speak(wire: Wire) -> None:
        SPOKEN["pop3"](wire)
        wire.send(b"-ERR injected\r\n")

    with StartTLSServer(speak, CONFIG) as server:
        message, _ = examined(server.port, "pop3", 5.0)
    # Together with the agreement, or right after it; where it comes later still, it is no TLS.
    assert "in the open after" in message or "TLS" in message


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 60
