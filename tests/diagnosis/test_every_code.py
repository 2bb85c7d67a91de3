"""Every code comes out of a real failure: of a peer with a fault (test_faults.py), of an alert, or of one made here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa

import pellucid
from pellucid import explain
from pellucid.config import ExternalPsk
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.explain.diagnosis.codes import near_misses
from pellucid.explain.diagnosis.codes_alerts import ALERTS
from pellucid.inspection.starttls import PROTOCOLS, Preamble
from pellucid.limits import MAX_SKIPPED_EARLY_DATA
from pellucid.messages.handshake import Certificate, CertificateEntry, handshake_message
from pellucid.registry import AlertDescription, CertificateType, HandshakeType, alert_name
from pellucid.testing.bent import BentConnection
from pellucid.testing.faults import FAULTS
from pellucid.trace import Role
from pellucid.verify import (
    AllowCertificate,
    KnownPeer,
    MemoryKnownPeers,
    SpkiPins,
    Strictness,
    TrustOnFirstUse,
    WebPKIVerifier,
)
from pellucid.verify.report import VerificationReport
from pellucid.verify.request import VerificationRequest
from tests.diagnosis.codes_page import PAGE, page
from tests.illegal.test_illegal_early_data import skipping
from tests.support.pair import NAME, Pair, client_config, events_of, issued, server_config

Failure = BaseException | explain.Recorder


@contextlib.contextmanager
def caught() -> Iterator[list[BaseException]]:
    found: list[BaseException] = []
    with pytest.raises(Exception) as info:  # which one it is, is what is asked
        yield found
    found.append(info.value)


def error_of(pair: Pair, role: Role = Role.CLIENT) -> BaseException:
    """What *role* fails with when the two shake hands."""
    pair.pump()
    _, error = events_of(pair.client if role is Role.CLIENT else pair.server)
    assert error is not None
    return error


# ---- failures that no fault of a peer makes --------------------------------------------------------------------------


def not_found(monkeypatch: pytest.MonkeyPatch) -> Failure:
    def nobody(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with caught() as found:
        pellucid.connect("no-such-host.invalid", 443, client_config())
    return found[0]


def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> Failure:
    over = threading.Event()

    def slowly(*_: object, **__: object) -> object:
        over.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with caught() as found:
        pellucid.connect("slow.invalid", 443, client_config(), timeout=0.05)
    over.set()
    return found[0]


def unreachable(monkeypatch: pytest.MonkeyPatch) -> Failure:
    with caught() as found:  # no interface here has the address of documentation
        pellucid.connect("127.0.0.1", 9, client_config(), local_address=("192.0.2.1", 0))
    return found[0]


def cancelled(monkeypatch: pytest.MonkeyPatch) -> Failure:
    async def give_up(port: int) -> None:
        async with asyncio.timeout(0.05):
            await asyncio.open_connection("127.0.0.1", port, ssl=pellucid.SSLContext(client_config()))

    with socket.create_server(("127.0.0.1", 0)) as silent, caught() as found:
        asyncio.run(give_up(silent.getsockname()[1]))
    return found[0]


def no_server_name(monkeypatch: pytest.MonkeyPatch) -> Failure:
    here, there = socket.socketpair()
    with here, there, caught() as found:
        pellucid.wrap(here)
    return found[0]


def good_record(monkeypatch: pytest.MonkeyPatch) -> Failure:
    recorder = explain.Recorder()
    Pair.of(client_trace=recorder).connect()
    return recorder


def no_connection(monkeypatch: pytest.MonkeyPatch) -> Failure:
    return KeyError("x")


def key_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> Failure:
    key = dsa.generate_private_key(2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    unsigned = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = unsigned.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    leaf = dated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def edit(kind: int, raw: bytes) -> bytes:
        if kind != HandshakeType.CERTIFICATE:
            return raw
        return handshake_message(Certificate(b"", (CertificateEntry(leaf, ()),)))

    return error_of(Pair(Pair.of().client, BentConnection.bent_server(server_config(), edit=edit)))


def another_key(monkeypatch: pytest.MonkeyPatch) -> Failure:
    known = pellucid.Credential.raw_public_key(issued("p256", "other.test").key_pem)
    raw = pellucid.RawPublicKeyVerifier([known.chain[0]])
    client = client_config(trust=None, verifier=raw, server_certificate_types=(CertificateType.RAW_PUBLIC_KEY,))
    server = server_config(credentials=(pellucid.Credential.raw_public_key(issued().key_pem),))
    return error_of(Pair.of(client, server))


def refused_by_the_application(monkeypatch: pytest.MonkeyPatch) -> Failure:
    class Pinned:
        def verify(self, request: VerificationRequest) -> VerificationReport:
            return VerificationReport(accepted=False, summary="this pin is not ours")

    return error_of(Pair.of(client_config(trust=None, verifier=Pinned())))


def another_certificate(monkeypatch: pytest.MonkeyPatch) -> Failure:
    only = AllowCertificate(issued("p256", "other.test").der)
    return error_of(Pair.of(client_config(trust=None, verifier=only)))


def changed_key(monkeypatch: pytest.MonkeyPatch) -> Failure:
    met = MemoryKnownPeers()
    met.remember(KnownPeer(NAME, 0, bytes(32), 0.0))
    return error_of(Pair.of(client_config(trust=None, verifier=TrustOnFirstUse(met))))


def pinned_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Failure:
    return error_of(Pair.of(client_config(requirements=(SpkiPins(bytes(32)),))))


def long_lived(monkeypatch: pytest.MonkeyPatch) -> Failure:
    strict = WebPKIVerifier(client_config().trust, strictness=Strictness(max_lifetime_days=1))
    return error_of(Pair.of(client_config(trust=None, verifier=strict)))


def other_psk(monkeypatch: pytest.MonkeyPatch) -> Failure:
    def psk(key: bytes, role: Role) -> tuple[ExternalPsk, ...]:
        return (ExternalPsk.plain(b"device", key, role=role),)

    client = client_config(external_psks=psk(bytes(32), Role.CLIENT))
    server = server_config(external_psks=psk(bytes(31) + b"\1", Role.SERVER))
    return error_of(Pair.of(client, server), Role.SERVER)


def too_much_early_data(monkeypatch: pytest.MonkeyPatch) -> Failure:
    server, evil = skipping("resumed", [2**14] * (MAX_SKIPPED_EARLY_DATA // 2**14 + 1))
    server.receive_data(evil.data_to_send())
    error = events_of(server)[1]
    assert error is not None
    return error


def no_starttls(monkeypatch: pytest.MonkeyPatch) -> Failure:
    asked = Preamble(PROTOCOLS["smtp"], "localhost", "192.0.2.1")
    asked.data_to_send()
    with caught() as found:
        asked.receive_data(b"220 mail.example ESMTP\r\n250 mail.example\r\n")
    return found[0]


def broken_signer(monkeypatch: pytest.MonkeyPatch) -> Failure:
    def fail(self: PrivateKeySigner, scheme: int, content: bytes) -> bytes:
        raise RuntimeError("the key service is gone")

    monkeypatch.setattr(PrivateKeySigner, "sign", fail)
    return error_of(Pair.of(), Role.SERVER)


MADE: dict[str, Callable[[pytest.MonkeyPatch], Failure]] = {
    "DNS-NOT-FOUND": not_found,
    "DNS-TIMEOUT": slow_resolver,
    "TCP-UNREACHABLE": unreachable,
    "TIMEOUT": cancelled,
    "PEER-STARTTLS": no_starttls,
    "USAGE": no_server_name,
    "OK": good_record,
    "UNKNOWN": no_connection,
    "X509-UNSUPPORTED": key_of_another_kind,
    "X509-UNKNOWN-KEY": another_key,
    "X509-NOT-ALLOWED": another_certificate,
    "X509-KEY-CHANGED": changed_key,
    "X509-PIN-MISMATCH": pinned_elsewhere,
    "X509-POLICY": long_lived,
    "X509-REFUSED": refused_by_the_application,
    "TLS-BAD-PSK": other_psk,
    "TLS-EARLY-DATA": too_much_early_data,
    "TLS-INTERNAL": broken_signer,
}
BY_FAULT = {fault.code for fault in FAULTS.values()}
BY_ALERT = {one.code for one in ALERTS}


@pytest.mark.parametrize("code", MADE)
def test_code_comes_of_a_real_failure(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnosis = explain.diagnose(MADE[code](monkeypatch))
    assert diagnosis.code == code
    assert diagnosis.cause and diagnosis.text()


ERROR_ALERTS = [
    value
    for name, value in vars(AlertDescription).items()
    if name.isupper() and value not in {AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED}
]
SAYS_MORE = {
    AlertDescription.PROTOCOL_VERSION: "TLS-VERSION",
    AlertDescription.UNRECOGNIZED_NAME: "TLS-UNKNOWN-NAME",
    AlertDescription.CERTIFICATE_REQUIRED: "TLS-CLIENT-CERT-REQUIRED",
    AlertDescription.NO_APPLICATION_PROTOCOL: "TLS-NO-ALPN",
}


def answered(*alerts: bytes, **changes: object) -> pellucid.TLSError:
    """What a client fails with whose ClientHello is answered with alerts."""
    client = pellucid.Connection.client(pellucid.ClientConfig(trust=client_config().trust, **changes), NAME)  # type: ignore[arg-type]
    client.data_to_send()
    for alert in alerts:
        client.receive_data(b"\x15\x03\x03\0\2" + alert)
    error = events_of(client)[1]
    assert error is not None
    return error


@pytest.mark.parametrize("alert", [*ERROR_ALERTS, 0xFE], ids=alert_name)
def test_alert_of_the_peer_has_a_code(alert: int) -> None:
    report = answered(bytes((2, alert))).report
    name = alert_name(alert).upper().replace("_", "-")
    assert report.code == SAYS_MORE.get(alert, f"TLS-ALERT-{name}" if alert != 0xFE else "TLS-ALERT-OTHER")
    assert isinstance(report, explain.Diagnosis)
    assert report.alert == ("server", alert_name(alert))


def test_user_canceled_and_close_notify_during_the_handshake() -> None:
    assert answered(b"\1\x5a", b"\1\0").report.code == "TLS-ALERT-USER-CANCELED"
    assert answered(b"\1\0").report.code == "PEER-CLOSED-EARLY"


def test_handshake_failure_is_blamed_on_what_was_narrowed_and_on_nothing_else() -> None:
    failure = b"\2\x28"
    group, suite, scheme = 0x001D, 0x1301, 0x0403
    assert answered(failure, groups=(group,)).report.code == "TLS-NO-COMMON-GROUP"
    assert answered(failure, suites=(suite,)).report.code == "TLS-NO-COMMON-SUITE"
    assert answered(failure, signature_schemes=(scheme,)).report.code == "TLS-NO-COMMON-SCHEME"
    assert answered(failure, groups=(group,), suites=(suite,)).report.code == "TLS-ALERT-HANDSHAKE-FAILURE"
    assert answered(failure).report.code == "TLS-ALERT-HANDSHAKE-FAILURE"


def test_server_is_told_that_the_client_does_not_trust_its_ca() -> None:
    stranger = dataclasses.replace(client_config(), trust=pellucid.TrustStore.from_pem(issued().certificate_pem))
    report = error_of(Pair.of(stranger), Role.SERVER).report  # type: ignore[attr-defined]
    assert report.code == "TLS-ALERT-UNKNOWN-CA"
    assert report.alert == ("client", "unknown_ca")
    assert report.phase == "client finished"
    assert any("root certificate" in one for one in report.remedy)


def test_every_code_is_produced_by_a_test() -> None:
    assert set(MADE) | BY_FAULT | BY_ALERT == set(explain.CODES)


def test_every_fault_expects_a_code_that_there_is() -> None:
    assert set(explain.CODES) >= BY_FAULT


def test_codes_are_well_formed() -> None:
    for name, one in explain.CODES.items():
        assert name == one.code == name.upper()
        assert one.title and one.title[0].islower() | one.title[0].isupper() and not one.title.endswith(".")
        assert one.explanation.endswith(".") and one.example and one.remedy
        for text in (one.title, *one.remedy, *one.explanation.split("\n\n")):
            assert "  " not in text and "\n" not in text and text.isprintable()


def test_documented_codes_are_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.diagnosis.codes_page writes it anew"


def test_near_misses_are_near() -> None:
    assert near_misses("X509-EXPIERD") == ("X509-EXPIRED",)
    assert "X509-PROXY" in near_misses("proxy")
    assert near_misses("") == ()
