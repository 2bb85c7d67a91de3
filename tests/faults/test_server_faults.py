"""Each fault of a server is what it says: our client, set up as the fault asks, refuses it for that very reason."""

from __future__ import annotations

import time

import pytest

import pellucid
from pellucid.explain.diagnosis.codes import CODES
from pellucid.registry import alert_name
from pellucid.testing.faults import FAULTS, Fault, FaultyServer
from pellucid.trace import Role

SERVERS = {name: fault for name, fault in FAULTS.items() if fault.side is Role.SERVER}
CLIENTS = {name: fault for name, fault in FAULTS.items() if fault.side is Role.CLIENT}
SECONDS = 0.3
PATIENCE = 10.0
REQUEST = b"GET / HTTP/1.1\r\nHost: fault\r\n\r\n"

SAYS = {
    "refused": "Connection refused",
    "unanswered": "nobody answered within",
    "plain-http": "'H': the peer does not speak TLS",
    "ssh-banner": "'S': the peer does not speak TLS",
    "smtp-banner": "'2': the peer does not speak TLS",
    "garbage": "a record of type 0x80",
    "closed-at-once": "during the handshake, in state WAIT_SH",
    "closed-after-hello": "during the handshake, in state WAIT_EE",
    "truncated-handshake": "during the handshake, in state WAIT_CERT_CR",
    "truncated-data": "ended without close_notify",
    "no-close-notify": "ended without close_notify",
    "reset-hello": "reset",
    "reset-handshake": "reset",
    "reset-data": "reset",
    "silent": "the handshake took longer",
    "silent-after-hello": "the handshake took longer",
    "silent-before-certificate": "the handshake took longer",
    "silent-before-verify": "the handshake took longer",
    "silent-before-finished": "the handshake took longer",
    "silent-after-handshake": "the call took longer",
    "slow": "the handshake took longer",
    "expired": "the leaf 'localhost' expired on",
    "not-yet-valid": "the leaf 'localhost' is not valid before",
    "expired-intermediate": "certificate 1 'Expired intermediate' expired",
    "clock": "is not valid before",
    "wrong-name": "is for www.another.test, another.test, not for localhost",
    "wildcard-too-deep": "is for *.fault.localhost, not for too.deep.fault.localhost",
    "common-name-only": "no subject alternative name",
    "unknown-ca": "at the top of what was sent, is a root that is not among",
    "missing-intermediate": "the intermediate 'Intermediate that is not sent'",
    "self-signed": "the leaf 'localhost' is self-signed",
    "proxy": "'mitmproxy', which issued the leaf",
    "bad-signature": "the signature of the leaf 'localhost' was not made with the key",
    "wrong-purpose": "the leaf 'localhost' is for clientAuth",
    "wrong-purpose-intermediate": "certificate 1 'Intermediate for clients only' is for clientAuth",
    "key-usage": "key usage without digital signature",
    "not-a-ca": "is not a CA",
    "path-too-long": "allows 0 intermediates below it and has 1",
    "name-constraint": "name constraints",
    "weak-key": "an RSA key of 1024 bits",
    "odd-curve": "certificate 1 'Intermediate on secp256k1' has a key on the curve secp256k1",
    "unknown-key": "is not the one that is trusted",
    "sha1": "signed with SHA1",
    "unknown-critical": "critical extension",
    "malformed": "cannot be parsed",
    "chain-too-large": "12 certificates",
    "revoked-staple": "says the OCSP response stapled to it",
    "stale-staple": "is not current: it expired on",
    "foreign-staple": "is about another certificate",
    "forged-staple": "a signature by the issuer that is wrong",
    "must-staple": "its certificate promises one",
    "no-staple": "the policy demands one",
    "revoked-list": "says the CRL of",
    "unlisted": "no CRL answers for the leaf",
    "protocol-version": "the alert protocol_version",
    "tls12-only": "the server chose TLS 1.2",
    "downgrade": "somebody downgraded it",
    "missing-supported-versions": "the server chose TLS 1.2",
    "missing-key-share": "ServerHello has no key_share",
    "session-id-not-echoed": "legacy_session_id_echo",
    "compressing": "legacy_compression_method",
    "unoffered-suite": "chose TLS_AES_128_CCM_8_SHA256, which was not offered",
    "share-of-another-group": "a share for secp256r1, for which none was sent",
    "unoffered-group": "a share for MLKEM768, for which none was sent",
    "short-share": "31 bytes long, not 32",
    "zero-share": "a point of small order",
    "off-curve-share": "not a point on the curve",
    "garbled-share": "record 0 under the present key does not open",
    "second-retry": "a second HelloRetryRequest",
    "pointless-retry": "asks for x25519, whose share was sent",
    "retry-without-change": "would change nothing",
    "retry-unoffered-group": "asks for MLKEM768, which was not offered",
    "retry-another-suite": "HelloRetryRequest had TLS_AES_128_GCM_SHA256",
    "duplicate-extension": "two server_name extensions",
    "unsolicited-extension": "that was not asked for",
    "misplaced-extension": "supported_versions has no place in EncryptedExtensions",
    "trailing-data": "1 bytes follow its end",
    "unoffered-alpn": "application protocol that was not offered",
    "no-alpn": "the alert no_application_protocol",
    "no-common-group": "the alert handshake_failure",
    "no-common-suite": "the alert handshake_failure",
    "no-common-scheme": "the alert handshake_failure",
    "wrong-psk": "the alert decrypt_error",
    "unoffered-psk": "selected_identity is 7, offered were 1",
    "unrecognized-name": "the alert unrecognized_name",
    "handshake-failure": "the alert handshake_failure",
    "internal-error": "the alert internal_error",
    "access-denied": "the alert access_denied",
    "empty-certificate": "certificate_list is empty",
    "certificate-context": "certificate_request_context",
    "missing-certificate": "Finished came in state WAIT_CERT_CR",
    "missing-certificate-verify": "Finished came in state WAIT_CV",
    "certificate-verify-other-transcript": "over the handshake is wrong",
    "certificate-verify-other-role": "over the handshake is wrong",
    "certificate-verify-other-key": "over the handshake is wrong",
    "certificate-verify-unoffered-scheme": "uses rsa_pkcs1_sha256, which was not offered",
    "certificate-verify-sha1": "uses ecdsa_sha1, which was not offered",
    "certificate-verify-other-scheme": "uses ed25519 with a key of EC secp256r1",
    "wrong-finished": "the server's Finished is wrong",
    "short-finished": "Finished has 16 bytes",
    "bad-compression": "it is no zlib data",
    "compression-bomb": "it is longer than the",
    "unoffered-compression": "compressed with 0x7777, which was not offered",
    "message-too-large": "Certificate of 16777215 bytes",
    "certificate-required": "the alert certificate_required",
    "malformed-certificate-request": "signature_algorithms in CertificateRequest",
    "certificate-refused": "the alert unknown_ca",
    "oversized-record": "a record of 16641 bytes",
    "oversized-plaintext": "16386 bytes inside",
    "flipped-tag": "does not open",
    "flipped-tag-handshake": "record 0 under the present key does not open",
    "unprotected-flight": "an unprotected handshake record",
    "unprotected-alert": "an unprotected alert record",
    "key-change": "runs across a key change",
    "key-change-hello": "runs across a key change",
    "key-update-flood": "more than 32 KeyUpdates",
    "key-update-value": "KeyUpdate.request_update is 7",
    "empty-record-flood": "more than 32 empty records",
    "empty-handshake-record": "an empty handshake record",
    "all-padding": "a record without a content type",
    "ticket-flood": "more than 32 tickets",
    "endless-early-data": "early_data in NewSessionTicket: 1996 bytes follow its end",
    "change-cipher-spec-flood": "more than 2 change_cipher_spec",
    "unexpected-message": "EncryptedExtensions came in state WAIT_CERT_CR",
    "renegotiation": "0x00 came in state CONNECTED",
    "early-application-data": "application data before the handshake is complete",
    "closed-in-handshake": "the alert close_notify",
    "canceled": "the alert user_canceled",
    "short-alert": "an alert record of 1 bytes",
}
"""name → what our client says of it"""

# The server has no key by which it could read what the client says of these.
UNREADABLE = {"garbled-share"}


def patience(fault: Fault) -> float:
    """How long to wait: not long for what never comes."""
    return SECONDS if fault.code in {"PEER-STALLED", "TCP-TIMEOUT"} else PATIENCE


def meet(server: FaultyServer) -> Exception:
    """Ask as an ordinary client does; return what was raised."""
    seconds = patience(server.fault)
    with pytest.raises(OSError) as caught:
        stream = pellucid.connect(
            server.address,
            server.port,
            server.client_config,
            server_name=server.host,
            timeout=seconds,
            handshake_timeout=seconds,
        )
        try:
            stream.settimeout(seconds)
            stream.sendall(REQUEST)
            stream.read_to_end(limit=2**20)
        finally:
            stream.abort()
    return caught.value


def kind_of(fault: Fault) -> type[BaseException]:
    """The class of what a client raises that sends no alert."""
    if fault.name == "closed-in-handshake":
        return pellucid.AlertReceived
    if fault.code.startswith("PEER-"):
        return TimeoutError if fault.code == "PEER-STALLED" else pellucid.TruncatedStream
    return {"TCP-REFUSED": ConnectionRefusedError, "TCP-TIMEOUT": TimeoutError, "TCP-RESET": ConnectionResetError}.get(
        fault.code, pellucid.AlertReceived
    )


def told(server: FaultyServer) -> tuple[int, ...]:
    """The alerts that the server heard, waited for briefly: it reads them in a thread of its own."""
    end = time.monotonic() + 2
    while not server.alerts and time.monotonic() < end:
        time.sleep(0.005)
    return server.alerts


@pytest.mark.parametrize("name", SERVERS)
def test_server_fault_is_refused_for_what_it_is(name: str) -> None:
    began = time.monotonic()
    with FaultyServer(name, pace=SECONDS) as server:
        error = meet(server)
        assert SAYS[name] in str(error)
        if server.fault.alert is None:
            assert isinstance(error, kind_of(server.fault))
        else:
            assert isinstance(error, pellucid.PeerError)
            assert alert_name(error.alert) == alert_name(server.fault.alert)
            if server.fault.recipe.link is None and name not in UNREADABLE:
                assert told(server) == (server.fault.alert,)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_says_what_it_is(fault: Fault) -> None:
    assert fault.code in CODES
    assert fault.name == fault.name.lower().replace("_", "-")
    assert fault.name.startswith("client-") == (fault.side is Role.CLIENT)
    assert fault.summary and not fault.summary.endswith(".") and len(fault.summary) < 100
    assert fault.needs.text or not (fault.needs.config or fault.needs.options)


def test_there_are_enough_faults() -> None:
    assert len(SERVERS) >= 100
    assert len(CLIENTS) >= 40
    assert len({fault.summary for fault in SERVERS.values()}) == len(SERVERS)
    assert set(SAYS) == set(SERVERS)


@pytest.mark.parametrize("number", [1, 3, 12])
def test_flipped_tag_is_of_the_record_that_is_named(number: int) -> None:
    with FaultyServer(f"flipped-tag-{number}") as server:
        stream = pellucid.connect(server.host, server.port, server.client_config)
        stream.settimeout(5)
        stream.sendall(REQUEST)
        received = []
        with pytest.raises(pellucid.PeerError, match=f"record {number - 1} under the present key"):
            while True:
                received.append(stream.recv())
        stream.abort()
        assert (b"".join(received) != b"") == (number > 1)
