"""What a diagnosis looks like, when it is made, what it never does."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import errno
import json
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import pytest

import pellucid
from pellucid import errors, explain
from pellucid.errors import Explained
from pellucid.explain.diagnosis.certificates import BUILT
from pellucid.explain.diagnosis.products import interceptor
from pellucid.explain.text import cells, plain
from pellucid.integrations.ssl_errors import ssl_error
from pellucid.net.trouble import explained
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA
from pellucid.testing.faults import FaultyClient, FaultyServer
from pellucid.trace import AlertTraced, ClosedTraced, Direction, Epoch, HandshakeCompleted, Role, TraceEvent
from tests.support.pair import NAME, Pair, client_config, events_of, issued, server_config


def refused(**names: object) -> pellucid.CertificateRejected:
    """A client's error about a server with another name."""
    leaf = issued("p256", "other.test")
    server = server_config(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    pair = Pair.of(None, server)
    pair.pump()
    error = events_of(pair.client)[1]
    assert isinstance(error, pellucid.CertificateRejected)
    return error


def report_of(error: Explained) -> explain.Diagnosis:
    report = error.report
    assert isinstance(report, explain.Diagnosis)
    return report


def test_report_reads_like_a_compiler_says_it() -> None:
    report = report_of(refused())
    lines = report.text().splitlines()
    assert lines[0] == "error[X509-WRONG-NAME]: the certificate is for another name"
    assert lines[1] == f"  --> {NAME} · certificate"
    assert any(line.startswith(" | ✘ name matches · subject alternative name: ") for line in lines)
    assert any(line.startswith(" | ✔ signed by a trusted CA · trusted root: ") for line in lines)
    assert " = alert: the client sent bad_certificate" in lines
    assert f" = cause: {NAME} was asked for, and the certificate is for other.test." in lines
    assert " = help: if it is the server you meant, use a name that it is for: other.test" in lines
    assert lines[-1] == " = note: `pellucid explain X509-WRONG-NAME` tells more"


@pytest.mark.parametrize("width", [40, 64, 80, 120])
def test_report_keeps_to_its_width(width: int) -> None:
    for one in report_of(refused()).lines(width):
        text = plain(one)
        assert cells(text) <= width or " " not in text.strip().split(" ", 3)[-1]


def test_check_of_several_certificates_says_of_which() -> None:
    with FaultyServer("expired-intermediate") as server, pytest.raises(pellucid.CertificateRejected) as caught:
        pellucid.connect(server.address, server.port, server.client_config, server_name=server.host)
    names = [check.name for check in report_of(caught.value).checks]
    assert len(names) == len(set(names))
    dates = [f"certificate valid · dates ({which})" for which in ("leaf", "certificate 1", "root")]
    assert [name for name in names if "dates" in name] == dates


def test_report_is_in_the_notes_and_the_traceback_and_the_error_stays_one_line() -> None:
    error = refused()
    assert "\n" not in str(error)
    error.add_note("a note of mine")
    assert error.__notes__ == [report_of(error).text(), "a note of mine"]
    assert "error[X509-WRONG-NAME]" in "".join(traceback.format_exception(error))
    error.add_note("another")
    assert error.__notes__[1:] == ["a note of mine", "another"]
    with pytest.raises(TypeError):
        error.add_note(1)  # type: ignore[arg-type]


def test_report_is_made_when_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[BaseException] = []
    real = errors._explainer
    assert real is not None

    def count(error: BaseException) -> errors.Explanation:
        made.append(error)
        return real(error)

    monkeypatch.setattr(errors, "_explainer", count)
    error = refused()
    assert not made
    assert error.report is error.report
    assert error.__notes__ and made == [error]


def test_importing_pellucid_loads_nothing_that_explains() -> None:
    code = "import sys, pellucid; sys.exit(any(name.startswith('pellucid.explain') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_report_that_cannot_be_made_is_said_and_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(error: BaseException) -> errors.Explanation:
        raise RuntimeError("out of words")

    monkeypatch.setattr(errors, "_explainer", broken)
    assert refused().__notes__ == ["(no diagnosis: RuntimeError('out of words'))"]


def test_report_that_cannot_be_made_yet_has_the_code_and_is_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_files(error: BaseException) -> errors.Explanation:
        raise OSError(errno.EMFILE, "Too many open files")

    error = pellucid.UsageError("x")
    with monkeypatch.context() as exhausted:
        exhausted.setattr(errors, "_explainer", out_of_files)
        assert error.report.code == "USAGE"
        assert "Too many open files" in error.report.text() and "Too many open files" in str(error.report)
        assert json.dumps(error.report.to_dict())  # type: ignore[attr-defined]
    assert report_of(error).cause


def test_report_as_json_has_a_schema_and_all_of_it() -> None:
    facts = report_of(refused()).to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["schema"] == 1
    assert set(facts) == {
        *("schema", "code", "title", "message", "phase", "where", "alert", "checks", "cause", "remedy", "evidence"),
        "verification",
    }
    assert facts["alert"] == {"sent_by": "client", "name": "bad_certificate"}


def test_verification_stays_beside_the_report() -> None:
    error = refused()
    assert error.verification.failure is not None
    assert report_of(error).verification is error.verification


def test_error_for_ssl_has_the_same_report() -> None:
    error = refused()
    twin = ssl_error(error)
    assert isinstance(twin, ssl.SSLCertVerificationError)
    assert report_of(twin).code == report_of(error).code == "X509-WRONG-NAME"
    assert report_of(twin).where == report_of(error).where


def test_error_for_ssl_tells_its_diagnosis_once_beside_the_notes_that_were_there() -> None:
    error = refused()
    error.add_note("a note of mine")
    twin = ssl_error(error)
    for one in (error, twin):
        assert one.__notes__ == [report_of(error).text(), "a note of mine"]


def test_notes_can_be_set_and_deleted_as_those_of_any_exception() -> None:
    error, copy = refused(), refused()
    copy.__notes__ = list(error.__notes__)
    assert copy.__notes__ == error.__notes__
    del copy.__notes__
    assert copy.__notes__ == []
    copy.add_note("a note of mine")
    assert copy.__notes__ == ["a note of mine"]


def test_errors_of_an_application_s_own_kind_are_explained() -> None:
    class Policy(pellucid.PeerError):
        code = "X509-REFUSED"

        def __init__(self) -> None:
            """Call nobody, as exceptions may."""

    assert report_of(Policy()).code == "X509-REFUSED"
    assert "error[X509-REFUSED]" in Policy().__notes__[0]


def test_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(pellucid.UsageError("x")))
    assert error.report.code == "USAGE"


def test_what_a_peer_says_cannot_move_the_cursor() -> None:
    leaf = CA("evil\x1b[2J\nCA").issue(NAME)
    server = server_config(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    pair = Pair.of(None, server)
    pair.pump()
    error = events_of(pair.client)[1]
    assert error is not None
    text = error.report.text()
    assert "evil" in text and all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("certificate", "WAIT_CERT", "Certificate"),
        ("verify", "WAIT_CV", "CertificateVerify"),
        ("finished", "WAIT_FINISHED", "Finished"),
    ],
)
def test_server_says_in_which_state_a_client_fell_silent(name: str, state: str, message: str) -> None:
    with FaultyClient(f"client-silent-before-{name}") as client, socket.create_server(("127.0.0.1", 0)) as listener:
        changes: dict[str, Any] = dict(client.fault.needs.config)  # each field's own type
        if changes:
            changes["client_trust"] = pellucid.TrustStore.from_pem(client.ca_pem)
        client.start("127.0.0.1", listener.getsockname()[1])
        sock, _ = listener.accept()
        with pytest.raises(TimeoutError) as caught:
            pellucid.wrap(sock, server_config(**changes), handshake_timeout=0.2)
    cause = report_of(caught.value).cause  # type: ignore[arg-type]
    assert f"while {message} was waited for, in state {state}" in cause


def test_what_a_client_asks_for_in_plaintext_is_not_in_it() -> None:
    server = pellucid.Connection.server(server_config())
    server.receive_data(b"GET /?token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises(pellucid.PeerError) as caught:
        server.next_event()
    report = report_of(caught.value)
    assert report.code == "PEER-PLAIN-HTTP"
    assert "hunter2" not in report.text() + json.dumps(report.to_dict()) + repr(caught.value.circumstances)
    assert 'the first bytes: "GET"' in report.evidence


def test_error_without_a_connection_tells_of_no_alert_and_no_place() -> None:
    report = report_of(errors.UnexpectedMessage("a message"))
    assert report.alert is None
    assert "-->" not in report.text()


def test_secrets_are_not_in_it() -> None:
    recorder = explain.Recorder()
    pair = Pair.of(client_trace=recorder).connect()
    pair.client.receive_data(b"")
    error = events_of(pair.client)[1]
    assert error is not None
    said = explain.diagnose(error, recorder=recorder).text() + json.dumps(explain.diagnose(error).to_dict())
    for secret in recorder.secrets.values():
        assert secret.reveal().hex() not in said and repr(secret.reveal()) not in said


def test_record_enriches_and_does_not_change_the_code() -> None:
    recorder = explain.Recorder()
    pair = Pair.of(client_trace=recorder).connect()
    pair.client.receive_data(b"")
    error = events_of(pair.client)[1]
    assert error is not None
    alone, recorded = explain.diagnose(error), explain.diagnose(error, recorder=recorder)
    assert alone.code == recorded.code == explain.diagnose(recorder).code == "PEER-TRUNCATED"
    found = {check.name: check.evidence for check in recorded.checks}
    assert "TLS_AES_" in found["server hello"] and " ms" in found["finished"]
    assert alone.phase == recorded.phase == "application data"


# ---- inside other errors ---------------------------------------------------------------------------------------------


class Wrapped(Exception):
    """A library's."""


def causes() -> list[BaseException]:
    def by_cause() -> BaseException:
        try:
            try:
                raise refused()
            except OSError as error:
                raise Wrapped("it failed") from error
        except Wrapped as error:
            return error

    def by_context() -> BaseException:
        try:
            try:
                raise refused()
            except OSError:
                raise Wrapped("it failed") from None
        except Wrapped as error:
            return error

    by_attribute = Wrapped("it failed")
    by_attribute.reason = refused()  # type: ignore[attr-defined]
    return [
        by_cause(),
        by_context(),
        by_attribute,
        Wrapped(Wrapped("x", refused())),
        Wrapped(("x", refused())),
        ExceptionGroup("several", [ValueError("x"), ExceptionGroup("more", [refused()])]),
    ]


@pytest.mark.parametrize("number", range(6))
def test_our_error_is_found_inside(number: int) -> None:
    assert explain.diagnose(causes()[number]).code == "X509-WRONG-NAME"


def test_errors_that_go_in_circles_end() -> None:
    first, second = Wrapped("first"), Wrapped("second")
    first.__cause__, second.__cause__ = second, first
    first.args = (first, second)
    assert explain.diagnose(first).code == "UNKNOWN"


class Broken(Exception):
    """Whatever is asked of it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    @property
    def reason(self) -> object:
        raise RuntimeError("no reason")


def test_errors_that_are_broken_themselves_are_told_of() -> None:
    report = explain.diagnose(Broken())
    assert report.code == "UNKNOWN" and "cannot be told" in report.text()
    inside = Broken()
    inside.__cause__ = refused()
    assert explain.diagnose(inside).code == "X509-WRONG-NAME"


def test_property_that_raises_is_not_taken_for_what_happened() -> None:
    class Lazy(Exception):
        @property
        def reason(self) -> object:
            raise ConnectionRefusedError(111, "Connection refused")

    assert explain.diagnose(Lazy("x")).code == "UNKNOWN"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "TCP-REFUSED"),
        (socket.gaierror(-2, "Name or service not known"), "DNS-NOT-FOUND"),
        (ConnectionResetError(104, "Connection reset by peer"), "TCP-RESET"),
        (BrokenPipeError(32, "Broken pipe"), "TCP-RESET"),
        (OSError(113, "No route to host"), "TCP-UNREACHABLE"),
        (TimeoutError("timed out"), "TCP-TIMEOUT"),
        (TimeoutError(), "TIMEOUT"),
        (ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds: aborting"), "PEER-STALLED"),
        (FileNotFoundError(2, "No such file"), "UNKNOWN"),
        (ValueError("x"), "UNKNOWN"),
    ],
)
def test_errors_of_the_standard_library_have_codes(error: BaseException, code: str) -> None:
    assert explain.diagnose(error).code == code
    assert explain.diagnose(Wrapped(error)).code == code


def test_reset_and_silence_have_reports_of_their_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError) as caught:
            pellucid.connect("127.0.0.1", silent.getsockname()[1], client_config(), handshake_timeout=0.1)
        report = report_of(caught.value)  # type: ignore[arg-type]
    assert report.code == "PEER-STALLED"
    assert "silent for 0.1 s while ServerHello was waited for, in state WAIT_SH" in report.cause
    assert report.where.startswith("127.0.0.1 port ")


def test_way_that_is_lost_in_the_middle_has_a_report() -> None:
    connection = pellucid.Connection.client(client_config(), NAME)
    told = explained(OSError(errno.EHOSTUNREACH, "No route to host"), connection, peer=("192.0.2.1", 443))
    assert isinstance(told, Explained) and isinstance(told, OSError) and told.errno == errno.EHOSTUNREACH
    report = report_of(told)
    assert (report.code, report.where) == ("TCP-UNREACHABLE", f"{NAME} port 443")


@pytest.mark.parametrize("broken", ["observer", "clock"])
def test_reset_stays_a_reset_where_an_observer_or_the_clock_is_broken(broken: str) -> None:
    class Clock:
        works = True

        def now(self) -> float:
            if not self.works:
                raise LookupError("no clock")
            return time.time()

    def observe(event: TraceEvent) -> None:
        if broken == "observer" and isinstance(event, ClosedTraced):
            raise LookupError("no room")

    clock = Clock()
    here, there = socket.socketpair()
    with here, there:
        provider = dataclasses.replace(client_config().provider, now=clock.now)
        connection = pellucid.Connection.client(client_config(provider=provider), NAME, trace=observe)
        clock.works = broken != "clock"
        told = explained(ConnectionResetError(104, "Connection reset by peer"), connection)
    assert isinstance(told, ConnectionResetError)
    assert explain.diagnose(told).code == "TCP-RESET"
    assert any("LookupError" in note for note in told.__notes__)


def _alert(direction: Direction) -> AlertTraced:
    return AlertTraced(direction=direction, epoch=Epoch.HANDSHAKE, description=AlertDescription.UNKNOWN_CA, code="X")


def _lost(how: str) -> ClosedTraced:
    return ClosedTraced(direction=Direction.RECEIVED, how=how)


_COMPLETE = HandshakeCompleted(
    role=Role.CLIENT, cipher_suite=0x1301, group=29, alpn=None, server_name=NAME, client_random=bytes(32)
)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ((_lost("silence"),), "PEER-STALLED"),
        ((_lost("silence"), _COMPLETE), "OK"),
        ((_lost("truncated"), _lost("reset")), "TCP-RESET"),
        ((_lost("reset"), _lost("truncated")), "TCP-RESET"),
        ((_alert(Direction.RECEIVED), _lost("reset")), "TLS-ALERT-UNKNOWN-CA"),
        ((_alert(Direction.SENT), _lost("reset")), "UNKNOWN"),
        ((_COMPLETE, _lost("truncated")), "PEER-TRUNCATED"),
    ],
)
def test_record_tells_what_ended_the_connection_not_what_followed_from_it(
    events: tuple[TraceEvent, ...], code: str
) -> None:
    recorder = explain.Recorder()
    for event in events:
        recorder(event)
    assert explain.diagnose(recorder).code == code


def test_record_that_is_full_does_not_claim_that_all_ended_well() -> None:
    recorder = explain.Recorder(limit=1)
    for event in (_COMPLETE, _alert(Direction.RECEIVED)):
        recorder(event)
    report = explain.diagnose(recorder)
    assert report.code == "OK"
    assert "1 event more than it keeps" in report.cause and "should" not in report.cause


def test_async_reset_leads_to_the_report() -> None:
    async def meet(port: int) -> BaseException:
        with pytest.raises(Exception) as caught:  # anyio's or ours
            await pellucid.aio.connect("127.0.0.1", port, client_config())
        return caught.value

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            sock, _ = listener.accept()
            sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()

        thread = threading.Thread(target=reset)
        thread.start()
        error = asyncio.run(meet(listener.getsockname()[1]))
        thread.join(5)
    report = explain.diagnose(error)
    assert (report.code, report.phase) == ("TCP-RESET", "server hello")


# ---- the judgements --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "product"),
    [
        ("CN=Zscaler Intermediate Root CA (zscaler.net),O=Zscaler Inc.", "Zscaler"),
        ("CN=mitmproxy,O=mitmproxy", "mitmproxy"),
        ("CN=FortiGate CA,O=Fortinet", "Fortinet FortiGate"),
        ("CN=avast! Web/Mail Shield Root", "Avast"),
        ("CN=PortSwigger CA", "Burp Suite"),
        ("CN=Let's Encrypt R3", None),
        ("CN=Squidward Tentacles Home CA", None),
        ("CN=Example iBossanova Root", None),
    ],
)
def test_interceptors_are_known_by_whole_words(issuer: str, product: str | None) -> None:
    assert interceptor(issuer) == product


def test_build_date_is_past() -> None:
    assert datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) < BUILT < datetime.datetime.now(datetime.UTC)


def test_server_and_client_are_told_apart() -> None:
    pair = Pair.of(client_config(groups=(0x001E,), key_shares=(0x001E,)), server_config(groups=(0x001D,)))
    pair.pump()
    server, client = events_of(pair.server)[1], events_of(pair.client)[1]
    assert server is not None and client is not None
    for error, sender, role in ((server, "server", Role.SERVER), (client, "server", Role.CLIENT)):
        report = report_of(error)
        assert report.code == "TLS-NO-COMMON-GROUP"
        assert report.alert == (sender, "handshake_failure")
        assert error.circumstances is not None and error.circumstances.role == role.value


DAY = datetime.timedelta(days=1)


def judged_at(offset: datetime.timedelta, *, root_days: int, leaf_days: int) -> str:
    """The code of a client whose clock is off by *offset*, of a CA and a leaf that live for so many days from now."""
    now = datetime.datetime.now(datetime.UTC)
    ca = CA("clock", not_after=now + root_days * DAY)
    leaf = ca.issue(NAME, not_after=now + leaf_days * DAY)
    later = now + offset
    provider = dataclasses.replace(pellucid.PYCA, now=later.timestamp)
    server = server_config(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    pair = Pair.of(client_config(trust=ca.trust, provider=provider), server)
    pair.pump()
    error = events_of(pair.client)[1]
    assert error is not None
    return error.report.code


@pytest.mark.parametrize(
    ("offset", "root_days", "leaf_days", "code"),
    [
        (-10 * DAY, 3650, 90, "X509-CLOCK"),  # nothing is valid yet, the root of ten years neither
        (-20 * 365 * DAY, 3650, 90, "X509-CLOCK"),  # before this was built
        (100 * DAY, 3650, 90, "X509-EXPIRED"),  # a renewal was forgotten
        (400 * DAY, 365, 365, "X509-EXPIRED"),  # a private CA and its leaf, made on one day
        (20 * 365 * DAY, 3650, 90, "X509-CLOCK"),  # all has ended, long ago
    ],
)
def test_clock_is_blamed_where_it_explains_more_than_the_certificates(
    offset: datetime.timedelta, root_days: int, leaf_days: int, code: str
) -> None:
    assert judged_at(offset, root_days=root_days, leaf_days=leaf_days) == code
