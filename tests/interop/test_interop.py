"""A sample of the matrix: each peer in each role, by default and in one scenario that it is good for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.verify.report import CertificateRejected
from tests.interop import chromium
from tests.interop.cells import Mark, Outcome, all_cells, reason_for_empty, run_cell
from tests.interop.certificates import Certificates
from tests.interop.matrix import report
from tests.interop.peers import PEERS
from tests.interop.pellucid_side import Pellucid, run_client, serve
from tests.interop.process import PeerFailed
from tests.interop.scenarios import SCENARIOS
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role, RunningServer, ServerSpec
from tests.support.needs import need

# As a client, as a server; "": it has no such role. The matrix tries all scenarios with all of them, here they share.
SAMPLE = {
    "openssl": ("key-update-peer", "key-update-peer"),
    "curl": ("alpn-h2", ""),
    "gnutls": ("retry-cookie", "retry"),
    "nginx": ("", "large"),
    "go": ("X25519MLKEM768", "client-required"),
    "node": ("client-optional", "x448"),
    "java": ("key-update-peer", "retry"),
    "rustls": ("mldsa65", "key-update-ours"),
    "stdlib": ("AES_128_CCM_SHA256", "rsa-pss"),
    "boringssl": ("large", "mldsa44"),
    "wolfssl": ("resume", "retry-cookie"),
}

# Besides: sessions, 0-RTT and external PSKs, in both roles as far as the peer has them.
SESSIONS = {
    "openssl": (
        "resume",
        "resume-retry",
        "resume-client",
        "ticket-bad",
        "early",
        "early-rejected",
        "early-replay",
        "psk",
    ),
    "gnutls": ("resume", "early", "early-rejected", "psk-ke"),
    "nginx": ("early",),
    "go": ("resume",),
    "java": ("resume",),
}

# Besides: what must be refused, by both ends, and key updates that cross.
REFUSALS = ("openssl", "gnutls", "nginx", "go", "rustls")


def _sampled() -> list[object]:
    cells = []
    for peer, role in all_cells():
        special = SAMPLE[peer.name][list(Role).index(role)]
        for name in ("defaults", special) if special else ():
            label = f"{peer.name}-{role.value}-{name}"
            cells.append(pytest.param(peer.name, role, name, id=label, marks=pytest.mark.peer(peer.name)))
    for peer, role in all_cells():
        names = ["client-refused", "server-refused"] if peer.name in REFUSALS else []
        names += ["key-update-both", "chain", "client-ed25519"] if peer.name == "openssl" else []
        names += SESSIONS.get(peer.name, ())
        for name in names:
            if SCENARIOS[name].why_not(peer, role, SCENARIOS[name].purpose) is None:
                label = f"{peer.name}-{role.value}-{name}"
                cells.append(pytest.param(peer.name, role, name, id=label, marks=pytest.mark.peer(peer.name)))
    return cells


@pytest.mark.parametrize(("peer", "role", "scenario"), _sampled())
def test_interop_cell_passes(peer: str, role: Role, scenario: str, certificates: Certificates, tmp_path: Path) -> None:
    outcome = run_cell(PEERS[peer], role, SCENARIOS[scenario], Pellucid(), certificates, tmp_path)
    if outcome.mark is Mark.EMPTY:
        pytest.skip(outcome.text)
    assert outcome.mark is Mark.PASSED, outcome.text


def test_interop_empty_cell_has_its_reason() -> None:
    reasons = [
        reason_for_empty(peer, role, scenario, Pellucid())
        for peer, role in all_cells()
        for scenario in SCENARIOS.values()
    ]
    assert all(reason is None or len(reason) > 10 for reason in reasons)


class Absent(Peer):
    name = "absent"

    def missing(self) -> str:
        return "no such program (apt install absent)"


@pytest.mark.parametrize(("ci", "mark"), [("", Mark.EMPTY), ("true", Mark.FAILED)])
def test_interop_missing_peer_is_empty_at_home_and_fails_in_ci(
    ci: str, mark: Mark, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    outcome = run_cell(Absent(), Role.CLIENT, SCENARIOS["full"], Pellucid(), certificates, tmp_path)
    assert (outcome.mark, "apt install absent" in outcome.text) == (mark, True)


class Talkative(Peer):
    """A server that reports another suite than was asked for."""

    name = "talkative"

    def missing(self) -> None:
        return None

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        with serve(spec) as running:
            yield RunningServer(running.port, lambda: Facts(suite="TLS_AES_256_GCM_SHA384"), running.output)


def test_interop_wrong_suite_is_a_failure(certificates: Certificates, tmp_path: Path) -> None:
    scenario = SCENARIOS["AES_128_GCM_SHA256"]
    outcome = run_cell(Talkative(), Role.SERVER, scenario, Pellucid(), certificates, tmp_path)
    assert outcome.mark is Mark.FAILED
    assert "the server says suite is 'TLS_AES_256_GCM_SHA384'" in outcome.text


class Trusting(Peer):
    """A client that takes the server for what it says it is."""

    name = "trusting"

    def missing(self) -> None:
        return None

    def request(self, spec: ClientSpec) -> ClientDone:
        return run_client(dataclasses.replace(spec, server_name="elsewhere.example"))


def test_interop_client_that_does_not_refuse_another_name_is_a_failure(
    certificates: Certificates, tmp_path: Path
) -> None:
    outcome = run_cell(Trusting(), Role.CLIENT, SCENARIOS["server-refused"], Pellucid(), certificates, tmp_path)
    assert outcome.mark is Mark.FAILED
    assert "nobody refused anything" in outcome.text


class Grumbling(Peer):
    """A client that gives up for another reason than it should."""

    name = "grumbling"

    def missing(self) -> None:
        return None

    def request(self, spec: ClientSpec) -> ClientDone:
        with contextlib.suppress(CertificateRejected):
            run_client(spec)
        raise PeerFailed("$ grumbling --verify-hostname 'hostname mismatch'\nno, thank you")


def test_interop_client_that_refuses_for_another_reason_is_a_failure(
    certificates: Certificates, tmp_path: Path
) -> None:
    outcome = run_cell(Grumbling(), Role.CLIENT, SCENARIOS["server-refused"], Pellucid(), certificates, tmp_path)
    assert outcome.mark is Mark.FAILED
    assert "the client should have said something like" in outcome.text


class Forgetful(Peer):
    """A client that does not resume, and one that says so of a session that it did resume."""

    name = "forgetful"

    def __init__(self, *, resumes: bool) -> None:
        self._resumes = resumes

    def missing(self) -> None:
        return None

    def request(self, spec: ClientSpec) -> ClientDone:
        if self._resumes:
            done = run_client(spec)
            return ClientDone(dataclasses.replace(done.facts, resumed=None))
        once = dataclasses.replace(spec, connections=1)
        run_client(once)
        done = run_client(once)
        return ClientDone(dataclasses.replace(done.facts, resumed=True))


@pytest.mark.parametrize(
    ("resumes", "said"),
    [(False, "the server says resumed is False, it should be True"), (True, "the client does not say whether resumed")],
)
def test_interop_resumption_that_one_end_does_not_confirm_is_a_failure(
    resumes: bool, said: str, certificates: Certificates, tmp_path: Path
) -> None:
    outcome = run_cell(Forgetful(resumes=resumes), Role.CLIENT, SCENARIOS["resume"], Pellucid(), certificates, tmp_path)
    assert outcome.mark is Mark.FAILED
    assert said in outcome.text


def test_interop_pellucid_resumes_early_and_finds_replays(certificates: Certificates, tmp_path: Path) -> None:
    """Both ends ours: the harness alone."""

    class Ours(Peer):
        name = "ours"

        def missing(self) -> None:
            return None

        def request(self, spec: ClientSpec) -> ClientDone:
            return run_client(spec)

    for name in ("resume", "early", "early-retry", "early-replay", "psk", "psk-ke"):
        outcome = run_cell(Ours(), Role.CLIENT, SCENARIOS[name], Pellucid(), certificates, tmp_path / name)
        assert outcome.mark is Mark.PASSED, outcome.text


class Repeating(Peer):
    """A client whose 0-RTT data never is any: it says it after the handshake, and that it was accepted."""

    name = "repeating"

    def missing(self) -> None:
        return None

    def request(self, spec: ClientSpec) -> ClientDone:
        done = run_client(dataclasses.replace(spec, early_data=None))
        return ClientDone(dataclasses.replace(done.facts, early_data=True))


def test_interop_early_data_that_came_late_is_a_failure(certificates: Certificates, tmp_path: Path) -> None:
    outcome = run_cell(Repeating(), Role.CLIENT, SCENARIOS["early"], Pellucid(), certificates, tmp_path)
    assert outcome.mark is Mark.FAILED
    assert "the server says early_data is False, it should be True" in outcome.text


def test_matrix_report_fits_into_100_columns_and_says_each_reason_once() -> None:
    reason = "has no such thing, for reasons that go beyond the scope of this line"
    outcomes = [
        Outcome(peer.name, role, name, Mark.EMPTY if name == "x448" else Mark.PASSED, reason)
        for name in SCENARIOS
        for peer, role in all_cells()
    ]
    text = report(outcomes, list(PEERS.values()), "pellucid")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count(reason) == 1
    cells = " ".join(text.partition(reason)[2].split())
    assert cells == f"— {', '.join(PEERS)}: x448"
    row = next(line for line in text.splitlines() if line.startswith("x448 "))
    assert row.split()[1:] == ["·"] * 2 * len(PEERS)


def test_matrix_report_names_the_role_where_it_is_one_only() -> None:
    outcomes = [
        Outcome("go", Role.CLIENT, "x448", Mark.EMPTY, "one reason"),
        Outcome("go", Role.SERVER, "x448", Mark.EMPTY, "another reason"),
        Outcome("go", Role.CLIENT, "full", Mark.PASSED, ""),
        Outcome("go", Role.SERVER, "full", Mark.FAILED, "what went wrong"),
    ]
    text = report(outcomes, [PEERS["go"]], "pellucid")
    assert "  one reason — go as client: x448\n  another reason — go as server: x448\n" in text
    assert text.endswith("✘ go as server, full\n    what went wrong")


@pytest.mark.peer("chromium")
def test_chromium_page_comes_over_http2(certificates: Certificates, tmp_path: Path) -> None:
    need(chromium.missing())
    credential = certificates.servers["ecdsa-p256"]
    spec = ServerSpec(workdir=tmp_path, ca=certificates.ca, credential=credential, alpn=("h2", "http/1.1"))
    with serve(spec) as running:
        page = chromium.load(f"https://localhost:{running.port}/page", credential.spki_sha256())
        assert page.protocol == "h2", page.dom
        facts = running.facts()
    assert (facts.alpn, facts.group) == ("h2", "X25519MLKEM768")
