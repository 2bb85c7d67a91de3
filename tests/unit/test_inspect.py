"""`pellucid.inspection` against servers of ours that differ in one thing each: facts, verdicts, errors, bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pellucid
from bench.delay import delayed
from pellucid.crypto.groups import MLKEM1024
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.explain.recorder import Recorder
from pellucid.inspection import Examination, Settings, Target, Verdict, document, examine, examine_all, inspect
from pellucid.inspection.facts import Facts
from pellucid.inspection.verdict import judge
from pellucid.registry import CertificateType, PskKeyExchangeMode
from pellucid.testing.ca import CA, DAY
from tests.support.ports import free_port
from tests.support.starttls import StartTLSServer, Wire

AUTHORITY = CA("inspection root")
LEAF = AUTHORITY.issue("localhost", "127.0.0.1")
CREDENTIAL = pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def answer(stream: pellucid.Stream) -> None:
    stream.settimeout(10)
    if stream.recv():
        stream.sendall(ANSWER)


@contextlib.contextmanager
def serving(
    handler: Callable[[pellucid.Stream], None] = answer, credential: pellucid.Credential = CREDENTIAL, **changes: Any
) -> Iterator[int]:
    """Serve on 127.0.0.1 with these changes of the configuration."""
    config = pellucid.ServerConfig(**({"credentials": (credential,)} | changes))
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        thread = threading.Thread(target=listener.serve, args=(handler,), daemon=True)
        thread.start()
        yield listener.address[1]
        listener.close()
    thread.join(10)
    assert not thread.is_alive()


def examined(port: int, **settings: Any) -> Examination:
    target = Target.of("localhost", port, resolve={"localhost": "127.0.0.1"})
    return examine(target, Settings(**({"trust": AUTHORITY.trust, "max_seconds": 20} | settings)))


def facts_of(port: int, **settings: Any) -> Facts:
    found = examined(port, **settings).facts
    assert found.failed is None and found.unknown == (), found
    return found


def codes(examination: Examination) -> set[str]:
    return {reason.code for reason in examination.judgement.reasons if reason.verdict is not Verdict.GOOD}


# ---- facts -----------------------------------------------------------------------------------------------------------


def test_inspect_default_server_is_good_and_quick() -> None:
    with serving(alpn=("h2", "http/1.1")) as port:
        examination = examined(port)
    assert examination.judgement.verdict is Verdict.GOOD and examination.fine
    found = examination.facts
    assert found.groups and found.groups.accepted[0] == "X25519MLKEM768" and found.groups.preference == "server"
    assert [group.bits for group in found.group_details if group.name == "secp384r1"] == [192]
    assert {group.name for group in found.group_details if group.post_quantum} == {
        "X25519MLKEM768",
        "SecP256r1MLKEM768",
        "SecP384r1MLKEM1024",
    }
    assert found.retry and found.retry.asks_for == found.groups.accepted and not found.retry.cookie
    assert found.timing and [flight.sender for flight in found.timing.flights] == ["client", "server", "client"]
    assert found.timing.flights[1].messages[0] == "ServerHello" and found.timing.flights[1].messages[-1] == "Finished"
    assert found.negotiated and found.negotiated.record_size_limit == 2**14 + 1
    assert found.resumption and len(found.resumption.tickets) == 2 and found.resumption.resumed
    assert found.resumption.key_exchange and found.resumption.psk_ke is False
    assert found.compression and [one.algorithm for one in found.compression.accepted] == ["zlib"]
    assert found.key_update and found.key_update.outcome == "answered"
    assert found.seconds < 5


def test_inspect_flight_sizes_are_those_of_the_wire() -> None:
    sizes: dict[str, int] = {}

    def count(first: bytes, second: bytes) -> None:
        sizes.setdefault("client", len(first))
        sizes.setdefault("server", len(second))

    with (
        serving(tickets=0, tickets_on_resumption=0) as port,
        _accepting(lambda sock, _: _carry(sock, port, count)) as relayed,
    ):
        found = facts_of(relayed)
    assert found.timing
    client, server, *_ = found.timing.flights
    assert (client.size, server.size) == (sizes["client"], sizes["server"])
    assert found.timing.flights[2].size == 6 + 5 + 36 + 1 + 16  # change_cipher_spec, Finished in its record


@contextlib.contextmanager
def _accepting(handle: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """Give the port of a server that has *handle* called with each connection and its number, in a thread."""
    threads: list[threading.Thread] = []

    def run(sock: socket.socket, number: int) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            handle(sock, number)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=run, args=(sock, len(threads)), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(10)
        assert not thread.is_alive()


def _carry(sock: socket.socket, port: int, told: Callable[[bytes, bytes], None] = lambda first, second: None) -> None:
    """Carry bytes between *sock* and *port*; tell of the client's first and of what answered them at once."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as there:
        first = sock.recv(2**16)
        there.sendall(first)
        second = there.recv(2**16)
        told(first, second)
        sock.sendall(second)
        back = threading.Thread(target=_pump, args=(sock, there), daemon=True)
        back.start()
        _pump(there, sock)
        back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_inspect_raw_public_key_and_strict_names() -> None:
    raw = pellucid.Credential.raw_public_key(LEAF.key_pem)
    with serving(credentials=(CREDENTIAL, raw), strict_server_name=True) as port:
        found = facts_of(port)
    assert found.raw_public_key and found.raw_public_key.supported and len(found.raw_public_key.sha256 or "") == 64
    assert found.names and found.names.unknown_name == "unrecognized_name"
    assert found.negotiated and found.negotiated.certificate_type == "X.509"
    assert CertificateType.RAW_PUBLIC_KEY == 2


def test_inspect_server_with_a_raw_key_alone_is_told_from_one_without_tls() -> None:
    with serving(credential=pellucid.Credential.raw_public_key(LEAF.key_pem)) as port:
        examination = examined(port)
    assert examination.judgement.verdict is Verdict.BROKEN
    assert [reason.code for reason in examination.judgement.reasons] == ["no-handshake", "raw-key-only"]
    assert examination.facts.raw_public_key and examination.facts.raw_public_key.sha256


def test_inspect_two_credentials_sign_with_both() -> None:
    rsa = AUTHORITY.issue("localhost", key="rsa2048")
    other = pellucid.Credential.from_pem(rsa.chain_pem, rsa.key_pem)
    with serving(credentials=(CREDENTIAL, other)) as port:
        found = facts_of(port)
    assert found.schemes and set(found.schemes.accepted) == {
        "ecdsa_secp256r1_sha256",
        "rsa_pss_rsae_sha256",
        "rsa_pss_rsae_sha384",
        "rsa_pss_rsae_sha512",
    }


def test_inspect_ml_kem_alone_and_psk_ke_and_cookies() -> None:
    provider = dataclasses.replace(PYCA, groups=(*PYCA.groups, MLKEM1024))
    with serving(
        provider=provider,
        groups=(MLKEM1024.code, 0x1D),
        psk_modes=(PskKeyExchangeMode.PSK_DHE_KE, PskKeyExchangeMode.PSK_KE),
        cookie_key=bytes(32),
    ) as port:
        examination = examined(port)
    found = examination.facts
    assert found.groups and set(found.groups.accepted) == {"MLKEM1024", "x25519"}
    assert found.retry and set(found.retry.asks_for) == {"MLKEM1024", "x25519"} and found.retry.cookie
    assert not found.retry.always
    assert found.resumption and found.resumption.psk_ke
    assert codes(examination) == {"psk-ke", "mandatory-group"}


def test_inspect_client_certificate_is_seen_and_shown() -> None:
    client = AUTHORITY.issue("client", purposes=("client",))
    required = {
        "client_authentication": pellucid.ClientAuthentication.REQUIRED,
        "client_trust": AUTHORITY.trust,
        "tickets": 1,
    }
    with serving(**required) as port:
        bare = facts_of(port)
        credential = pellucid.Credential.from_pem(client.chain_pem, client.key_pem)
        shown = facts_of(port, credentials=(credential,))
    assert bare.client_certificate and (bare.client_certificate.requested, bare.client_certificate.required) == (
        True,
        True,
    )
    assert bare.client_certificate.authorities == 1 and bare.client_certificate.schemes
    assert bare.resumption and bare.resumption.tickets == ()
    assert shown.client_certificate and shown.client_certificate.required is False
    assert shown.resumption and shown.resumption.resumed
    assert shown.key_update and shown.key_update.outcome == "answered"


# ---- 0-RTT -----------------------------------------------------------------------------------------------------------


class Careless:
    """A replay guard that has never seen anything."""

    window_seconds = 10.0

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        return True


@pytest.mark.parametrize("careless", [False, True])
def test_inspect_replays_early_data_if_it_may(careless: bool) -> None:
    guard = {"replay_guard": Careless()} if careless else {}
    requests: list[bytes] = []

    def note(stream: pellucid.Stream) -> None:
        stream.settimeout(10)
        if data := stream.recv():
            requests.append(data)
            stream.sendall(ANSWER)

    with serving(note, max_early_data=16_384, **guard) as port:
        asked = facts_of(port)
        silent = len(requests)
        examination = examined(port, early_data=True)
    assert asked.early_data and (asked.early_data.offered, asked.early_data.accepted) == (16_384, None)
    early = examination.facts.early_data
    assert early and (early.accepted, early.again) == (True, careless)
    assert ("early-data-replayed" in codes(examination)) is careless
    assert all(request.startswith(b"HEAD / HTTP/1.1\r\n") for request in requests)
    assert silent == 1  # for the KeyUpdate


def test_inspect_asks_nothing_of_a_server_if_told_so_or_if_it_is_not_verified() -> None:
    requests: list[bytes] = []

    def note(stream: pellucid.Stream) -> None:
        stream.settimeout(10)
        with contextlib.suppress(OSError):
            requests.append(stream.recv())

    with serving(note, max_early_data=16_384) as port:
        quiet = examined(port, requests=False)
        refused = examined(port, trust=CA("somebody else").trust, early_data=True)
    assert not any(requests)
    assert quiet.judgement.verdict is Verdict.GOOD
    assert refused.judgement.verdict is Verdict.BROKEN and codes(refused) == {"certificate-refused"}
    # The rest is found out all the same.
    assert refused.facts.resumption and refused.facts.resumption.resumed
    assert refused.facts.groups and refused.facts.groups.accepted and refused.facts.unknown == ()
    assert refused.facts.early_data and "not verified" in refused.facts.early_data.reason


# ---- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "verdict"), [(1, Verdict.POOR), (10, Verdict.FAIR), (40, Verdict.GOOD), (-1, Verdict.BROKEN)]
)
def test_inspect_certificate_that_ends_soon(days: float, verdict: Verdict) -> None:
    now = datetime.datetime.now(datetime.UTC)
    leaf = AUTHORITY.issue("localhost", not_before=now - 5 * DAY, not_after=now + days * DAY)
    with serving(credential=pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)) as port:
        examination = examined(port)
    assert examination.judgement.verdict is verdict
    chain = examination.facts.chain
    assert chain and (chain.seconds_left is None) is (days < 0)


def test_inspect_staple_and_needless_certificates() -> None:
    credential = pellucid.Credential.from_pem(LEAF.chain_pem + AUTHORITY.root_pem, LEAF.key_pem)
    stapling = dataclasses.replace(credential, ocsp_response=AUTHORITY.ocsp_response(LEAF))
    with serving(credential=stapling) as port:
        examination = examined(port)
    assert examination.facts.staple and examination.facts.staple.outcome == "passed"
    assert codes(examination) == {"chain-needless"}
    wrong = dataclasses.replace(CREDENTIAL, ocsp_response=AUTHORITY.ocsp_response(AUTHORITY.issue("elsewhere")))
    with serving(credential=wrong) as port:
        examination = examined(port)
    assert examination.facts.staple and examination.facts.staple.outcome == "failed"
    assert examination.judgement.verdict is Verdict.BROKEN


def test_inspect_wrong_name_tells_the_names() -> None:
    leaf = AUTHORITY.issue("elsewhere.example")
    with serving(credential=pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)) as port:
        found = examined(port).facts
    assert found.refused and found.refused.code == "X509-WRONG-NAME"
    assert found.chain and not found.chain.names_matched and found.chain.certificates[0].names == ("elsewhere.example",)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_inspect_nobody_there() -> None:
    port = free_port()
    examination = examined(port)
    assert examination.judgement.verdict is Verdict.BROKEN
    assert examination.facts.failed and examination.facts.failed.code == "TCP-REFUSED"


def speaks(first: bytes) -> StartTLSServer:
    def speak(wire: Wire) -> None:
        wire.sock.recv(2**16)
        wire.send(first)

    return StartTLSServer(speak, None)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "UnexpectedMessage|DecodeError|PeerError|ProtocolVersion|RecordOverflow"),
        (bytes.fromhex("15030300020246"), "AlertReceived"),  # protocol_version
        (b"", "TruncatedStream|ConnectionResetError"),
        (bytes.fromhex("160303002a020000260303") + bytes(32) + bytes.fromhex("00c02f00"), "ProtocolVersion"),
    ],
)
def test_inspect_server_without_tls_1_3_is_broken(said: bytes, kind: str) -> None:
    with speaks(said) as server:
        examination = examined(server.port)
    assert examination.judgement.verdict is Verdict.BROKEN
    assert examination.facts.failed and examination.facts.failed.kind in kind.split("|"), examination.facts.failed
    assert json.dumps(document([examination]))


def test_inspect_silent_server_is_ended_by_its_time() -> None:
    with StartTLSServer(lambda wire: [None for _ in iter(lambda: wire.sock.recv(2**16), b"")] and None, None) as server:
        started = time.monotonic()
        examination = examined(server.port, connect_timeout=0.5, max_seconds=0.8)
        assert time.monotonic() - started < 3
    assert examination.facts.failed and "longer than" in examination.facts.failed.message


def test_inspect_server_that_breaks_in_the_middle_loses_nothing_else() -> None:
    with serving() as port:

        def some(sock: socket.socket, number: int) -> None:
            if number < 6:
                _carry(sock, port)

        with _accepting(some) as breaking:
            examination = examined(breaking)
    found = examination.facts
    assert found.failed is None
    assert found.chain and found.chain.report.accepted
    told = [offered for offered in (found.groups, found.suites, found.schemes) if offered is not None]
    assert any(offered.unknown or offered.refused for offered in told)


def test_inspect_a_line_of_questions_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.inspection import offers

    def broken(*_: object) -> object:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(offers, "suites", broken)
    with serving() as port:
        found = examined(port).facts
    assert found.unknown == (("suites", "RuntimeError: a mistake of ours"),)
    assert found.suites is None and found.groups is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "http://host/",
        "https://",
        "https://a@host/",
        ":443",
        "[::1]:",
    ],
)
def test_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Target.split(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("example.org", ("example.org", None)),
        ("example.org:8443", ("example.org", 8443)),
        ("::1", ("::1", None)),
        ("[::1]", ("::1", None)),
        ("[::1]:8443", ("::1", 8443)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("https://example.org/a?b#c", ("example.org", None)),
        ("https://example.org:8443?b", ("example.org", 8443)),
        ("https://[::1]:8443/", ("::1", 8443)),
    ],
)
def test_target_is_split(text: str, parts: tuple[str, int | None]) -> None:
    assert Target.split(text) == parts


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"connections": 0}, {"connect_timeout": 0.0}, {"max_seconds": -1.0}):
        with pytest.raises(UsageError):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Target.of("localhost", starttls="telnet")
    with pytest.raises(UsageError):
        Target.of("local host")


def test_verdict_of_no_facts_is_good() -> None:
    assert judge(Facts()).verdict is Verdict.GOOD


# ---- many, watched, far away -----------------------------------------------------------------------------------------


def test_examine_all_keeps_the_order_and_can_be_given_up() -> None:
    with serving() as port:
        targets = [Target.of("localhost", port, resolve={"localhost": "127.0.0.1"}) for _ in range(3)]
        targets.insert(1, Target.of("localhost", 1, resolve={"localhost": "127.0.0.1"}))
        settings = Settings(trust=AUTHORITY.trust, max_seconds=20)
        found = list(examine_all(targets, settings, at_once=2))
        assert [one.target.port for one in found] == [port, 1, port, port]
        assert [one.fine for one in found] == [True, False, True, True]
        begun = examine_all(targets, settings, at_once=1)
        next(begun)
        begun.close()


def test_inspect_is_watched_and_bounded_in_connections() -> None:
    recorders: dict[str, Recorder] = {}
    open_now = most = 0
    lock = threading.Lock()

    def watch(question: str) -> Recorder:
        return recorders.setdefault(question, Recorder())

    def count(stream: pellucid.Stream) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        answer(stream)
        with lock:
            open_now -= 1

    with serving(count) as port:
        examination = inspect(
            "localhost", port, trust=AUTHORITY.trust, observer=watch, connections=2, max_seconds=20, trace_records=True
        )
    assert examination.fine
    assert len(recorders) > 10 and all(len(recorder) for recorder in recorders.values())
    assert most <= 4  # two of ours, and what the server has not yet noticed the end of


def test_inspect_at_fifty_milliseconds_takes_less_than_five_seconds() -> None:
    with serving(alpn=("h2", "http/1.1")) as port, delayed(port, one_way_seconds=0.025) as far:
        examination = examined(far)
    assert examination.judgement.verdict is Verdict.GOOD and examination.facts.unknown == ()
    assert examination.facts.seconds < 5
