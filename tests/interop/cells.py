"""One cell of the matrix: a peer in a role in a scenario, with us at the other end."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tests.interop.certificates import Certificates
from tests.interop.confined import reachable_sockets
from tests.interop.exchange import Turn
from tests.interop.peers import PEERS
from tests.interop.scenarios import Scenario
from tests.interop.spec import ClientDone, ClientSpec, EarlyData, Facts, Peer, Refusal, Role, RunningServer, ServerSpec

CELL_SECONDS: Final = 90.0


class Mark(enum.Enum):
    PASSED = "✔"
    FAILED = "✘"
    EMPTY = "·"


@dataclass(frozen=True, slots=True)
class Outcome:
    """text: the reason of an empty cell, the diagnosis of a failed one, what was negotiated in one that passed."""

    peer: str
    role: Role
    scenario: str
    mark: Mark
    text: str
    seconds: float = field(default=0.0, compare=False)


class OurSide(Protocol):
    """Pellucid, or what stands in for it."""

    def limits(self, role: Role) -> Mapping[str, str]: ...
    def refusal_words(self, refusal: Refusal, role: Role, alert: str) -> str: ...
    def silent_about(self, role: Role) -> frozenset[str]: ...
    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]: ...
    def request(self, spec: ClientSpec) -> ClientDone: ...


class Mismatch(Exception):
    """The conversation went well, but with something else than was asked for."""


def reason_for_empty(peer: Peer, role: Role, scenario: Scenario, ours: OurSide) -> str | None:
    """Return why there is nothing to try; None if there is. Where CI is set, a peer that is missing is no reason."""
    if "role" in (limits := peer.limits(role)):
        return limits["role"]
    missing = peer.missing()
    if missing is not None:
        return None if os.environ.get("CI") else missing
    why = scenario.why_not(peer, role, scenario.purpose)
    if why is not None:
        return why
    our_role = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    lacks = ours.limits(our_role)
    ours_lacks = next((lacks[need] for need in ("role", *scenario.needs_of_ours()) if need in lacks), None)
    return f"our side: {ours_lacks}" if ours_lacks is not None else None


def run_cell(
    peer: Peer, role: Role, scenario: Scenario, ours: OurSide, certificates: Certificates, workdir: Path
) -> Outcome:
    """Try one cell; never raises, never waits longer than CELL_SECONDS. workdir: made here, the cell's own."""
    start = time.monotonic()
    try:
        if (reason := reason_for_empty(peer, role, scenario, ours)) is not None:
            return Outcome(peer.name, role, scenario.name, Mark.EMPTY, reason)
        if (missing := peer.missing()) is not None:
            return Outcome(peer.name, role, scenario.name, Mark.FAILED, f"CI must have every peer: {missing}")
        peer.prepare(scenario.purpose)
        start = time.monotonic()
        for name in ("client", "server"):
            (workdir / name).mkdir(parents=True, exist_ok=True)
        cell = _Cell(peer, role, scenario, ours, certificates, workdir)
        text = _bounded(cell.try_once, CELL_SECONDS)
        mark = Mark.PASSED
    except Exception as error:
        mark = Mark.FAILED
        text = "".join(traceback.format_exception(error, limit=-4)).rstrip()
    return Outcome(peer.name, role, scenario.name, mark, text, time.monotonic() - start)


class _Cell:
    def __init__(
        self, peer: Peer, role: Role, scenario: Scenario, ours: OurSide, certificates: Certificates, workdir: Path
    ) -> None:
        self.peer, self.role, self.scenario, self.ours = peer, role, scenario, ours
        self.certificates, self.workdir = certificates, workdir
        group = () if scenario.group is None else (scenario.group,)
        self.client_groups = self.server_groups = group
        if scenario.retry:
            shared, taken = peer.retry(role)
            self.client_groups, self.server_groups = (shared, taken), (taken,)

    def try_once(self) -> str:
        """Return a line about what was negotiated; raise on any failure."""
        peer_serves = self.role is Role.SERVER
        server, client = (self.peer, self.ours) if peer_serves else (self.ours, self.peer)
        with server.serve(self._server_spec(peer_serves)) as running:
            try:
                _check_listening(running)
                if self.scenario.refusal is not None and not self._refused_over_http():
                    return self._refusal(self.scenario.refusal, running, server, client)
                done = client.request(self._client_spec(running.port, not peer_serves))
                facts = running.facts()
                self._compare(client, Role.CLIENT, done.facts)
                self._compare(server, Role.SERVER, facts)
                our_facts = done.facts if peer_serves else facts
                if our_facts.key_updates is not None and our_facts.key_updates < self.scenario.key_updates:
                    raise Mismatch(f"the peer sent {our_facts.key_updates} KeyUpdates: {self.scenario.key_updates} due")
                if self.scenario.early_data is EarlyData.REPLAYED:
                    _check_replay(running)
            except Exception as error:
                error.add_note(f"The server's output:\n{running.output()}")
                raise
        told = {**_told(facts), **_told(done.facts)}
        return ", ".join(f"{name} {value}" for name, value in told.items())

    def _refusal(self, refusal: Refusal, running: RunningServer, server: Peer | OurSide, client: Peer | OurSide) -> str:
        """Return how the client came to know; raise unless there was no conversation, and for the right reason."""
        try:
            done = client.request(self._client_spec(running.port, client is self.peer))
        except Exception as error:
            client_says = f"{type(error).__name__}: {error}"
        else:
            raise Mismatch(f"nobody refused anything: {done.output}")
        server_says = running.refusal() if running.refusal is not None else running.output()
        alert = self.peer.no_certificate_alert if server is self.peer else "certificate_required"
        found = []
        for end, role, said in ((client, Role.CLIENT, client_says), (server, Role.SERVER, server_says)):
            words = end.refusal_words(refusal, role, alert)
            # The command line is no answer: it may hold the very words.
            answer = "\n".join(line for line in said.splitlines() if not re.match(r"(\w+: )?\$ ", line))
            if (match := re.search(words, answer, re.MULTILINE)) is None:
                raise Mismatch(f"the {role.value} should have said something like {words!r}, but said:\n{said}")
            found.append(match.group())
        return "refused: " + ", ".join(words for words in found if words)

    def _refused_over_http(self) -> bool:
        return (
            self.peer.refuses_over_http and self.role is Role.SERVER and self.scenario.refusal is Refusal.NO_CERTIFICATE
        )

    def _turns(self) -> tuple[Turn, ...]:
        if self.scenario.refusal is Refusal.NO_CERTIFICATE and self.role is Role.SERVER:
            return self.peer.refused_turns()
        return self.peer.turns(self.role, self.scenario.purpose)

    def _server_spec(self, is_peer: bool) -> ServerSpec:
        scenario = self.scenario
        return ServerSpec(
            workdir=self.workdir / "server",
            ca=self.certificates.ca,
            credential=self.certificates.servers[scenario.credential],
            suites=() if scenario.suite is None else (scenario.suite,),
            groups=self.server_groups,
            alpn=scenario.server_alpn,
            client_authentication=scenario.client_authentication,
            cookie=scenario.cookie,
            purpose=scenario.purpose if is_peer else scenario.our_purpose,
            connections=scenario.connections,
            ticket=scenario.ticket,
            early_data=scenario.early_data,
            retries=scenario.retry,
            psk=scenario.psk,
        )

    def _client_spec(self, port: int, is_peer: bool) -> ClientSpec:
        scenario = self.scenario
        return ClientSpec(
            workdir=self.workdir / "client",
            ca=self.certificates.ca,
            port=port,
            turns=self._turns(),
            credential=self.certificates.clients[scenario.client_credential] if scenario.client_credential else None,
            suites=() if scenario.suite is None else (scenario.suite,),
            groups=self.client_groups,
            key_shares=self.client_groups[:1],
            alpn=scenario.client_alpn,
            # s_server -stateless takes no change_cipher_spec before the second ClientHello (§E.4 allows us to send it).
            middlebox_compatibility=is_peer or not scenario.cookie,
            purpose=scenario.purpose if is_peer else scenario.our_purpose,
            connections=scenario.connections,
            ticket=scenario.ticket,
            early_data=scenario.early_data,
            again=not is_peer and scenario.early_data is not None and not self.peer.answers_early_data,
            psk=scenario.psk,
        )

    def _compare(self, end: Peer | OurSide, role: Role, facts: Facts) -> None:
        expected = self.scenario.expected(self.server_groups)
        due = self.scenario.must_be_told - end.silent_about(role)
        for item in dataclasses.fields(Facts):
            wanted, said = getattr(expected, item.name), getattr(facts, item.name)
            if said is None and item.name in due:
                raise Mismatch(f"the {role.value} does not say whether {item.name} is {wanted!r}")
            if wanted is not None and said is not None and wanted != said:
                raise Mismatch(f"the {role.value} says {item.name} is {said!r}, it should be {wanted!r}")


def _check_replay(server: RunningServer) -> None:
    """Send what came in 0-RTT once more; raise Mismatch unless the server rejects it for that reason."""
    if server.replay is None:
        raise Mismatch("the server keeps nothing to replay")
    if "seen before" not in (why := server.replay()):
        raise Mismatch(f"the replay was not recognised: {why}")


def _check_listening(server: RunningServer) -> None:
    """Raise Mismatch unless the server's process, if it has one of its own, listens on loopback and nowhere else."""
    if server.pid is None or sys.platform != "linux":
        return
    sockets = reachable_sockets(server.pid)
    if strangers := [listening for listening in sockets if not listening.is_loopback()]:
        raise Mismatch(f"the server can be reached from outside: {strangers}")
    if server.port not in {listening.port for listening in sockets}:
        raise Mismatch(f"port {server.port} is not among the sockets of process {server.pid}: {sockets}")


def _told(facts: Facts) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(facts).items() if value not in (None, "", False)}


def _bounded(function: Callable[[], str], seconds: float) -> str:
    """Return what *function* does, or raise what it raises; TimeoutError if it is not done in time."""
    results: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"the cell was not done within {seconds:g} s")
    return results[0]


def all_cells() -> Iterator[tuple[Peer, Role]]:
    """Yield every peer in both roles, in the table's order."""
    for peer in PEERS.values():
        for role in Role:
            yield peer, role
