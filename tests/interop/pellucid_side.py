"""Pellucid's end of a cell, in this process, over its blocking streams; `early` has those of 0-RTT."""

from __future__ import annotations

import contextlib
import select
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pellucid
from pellucid import trace
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.limits import MAX_EARLY_DATA
from pellucid.registry import PskKeyExchangeMode
from pellucid.sessions.client import ClientSession, MemorySessionStore, SessionKey
from pellucid.sessions.psk import ExternalPsk
from pellucid.sessions.server import ServerSession
from pellucid.sessions.shared import Shared
from pellucid.sessions.tickets import TicketKeys
from pellucid.trace import Direction, MessageTraced, TraceEvent
from tests.interop import early
from tests.interop.exchange import Purpose, answer_requests, converse
from tests.interop.names import GROUPS, SUITES
from tests.interop.spec import (
    ClientDone,
    ClientSpec,
    EarlyData,
    Facts,
    Refusal,
    Role,
    RunningServer,
    ServerSpec,
    Ticket,
)

TALK_SECONDS: Final = 30.0
_ONE_HOUR: Final = 3_600_000  # milliseconds
_KEY_UPDATE: Final = 24
_SUITE_NAMES: Final = {code: name for name, code in SUITES.items()}
_GROUP_NAMES: Final = {code: name for name, code in GROUPS.items()}


# How our end must have come to know, by its role.
_REFUSALS: Final = {
    (Refusal.NO_CERTIFICATE, Role.SERVER): r"^pellucid\.errors\.CertificateRequired: ",
    (Refusal.NO_CERTIFICATE, Role.CLIENT): r"^AlertReceived: .* alert ALERT$",
    (
        Refusal.OTHER_NAME,
        Role.SERVER,
    ): r"^pellucid\.errors\.AlertReceived: .*|^0 requests answered$|TruncatedStream|^ConnectionResetError",
    (Refusal.OTHER_NAME, Role.CLIENT): r"^CertificateRejected: .*elsewhere\.example",
}


class Pellucid:
    """Our side of every cell. It lacks nothing: a cell that it cannot fill is a failure, not an empty one."""

    def limits(self, role: Role) -> Mapping[str, str]:
        return {}

    def refusal_words(self, refusal: Refusal, role: Role, alert: str) -> str:
        return _REFUSALS[refusal, role].replace("ALERT", alert)

    def silent_about(self, role: Role) -> frozenset[str]:
        return frozenset()

    def request(self, spec: ClientSpec) -> ClientDone:
        return run_client(spec)

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serve(spec)


def run_client(spec: ClientSpec) -> ClientDone:
    """Connect, verify, converse and close, as often as asked for. Raises what Pellucid raises, and WrongAnswer."""
    sessions = _Sessions(spec)
    config = pellucid.ClientConfig(
        trust=pellucid.TrustStore.from_pem(spec.ca.read_bytes()),
        credentials=() if spec.credential is None else (_credential(spec.credential),),
        middlebox_compatibility=spec.middlebox_compatibility,
        key_shares=tuple(GROUPS[name] for name in spec.key_shares) or None,
        sessions=sessions,
        early_data=spec.early_data is not None,
        **_common(spec, Role.CLIENT),
    )
    facts = [_converse(spec, config, first=not number) for number in range(spec.connections)]
    assert sessions.taken == spec.connections - 1, f"{sessions.taken} tickets were offered"
    return ClientDone(facts[-1], "\n".join(f"Pellucid, client: {one}" for one in facts))


def _converse(spec: ClientSpec, config: pellucid.ClientConfig, *, first: bool) -> Facts:
    updates = _UpdateCounter()
    before_each = before_reading = None
    stream: Any
    if spec.early_data is None:
        stream = pellucid.connect(
            "127.0.0.1", spec.port, config, server_name=spec.server_name, handshake_timeout=TALK_SECONDS, trace=updates
        )
        before_each = _before_each(stream, spec.purpose)
        before_reading = _before_reading(stream, spec.purpose, updates)
    else:
        stream = early.connect(spec.port, config, spec.server_name, updates)
    with stream:
        stream.settimeout(TALK_SECONDS)
        if before_each is not None and before_reading is not None:
            converse(stream, spec.turns, before_each, before_reading)
        else:
            talk = _Early(stream, again=spec.again)
            converse(talk, spec.turns)
            assert talk.sent != first, "nothing could be sent in 0-RTT"
        return _facts(stream, Role.CLIENT, updates)


class _Early:
    """A stream whose first words go in 0-RTT where that is allowed, and once more where they have been rejected.

    again: say them again anyhow: the server will not answer them.
    """

    def __init__(self, stream: early.EarlyStream, *, again: bool) -> None:
        self._stream, self._again = stream, again
        self.recv = stream.recv
        self.sent = False

    def sendall(self, data: bytes, /) -> None:
        self.sent = self._stream.send_early(data)
        accepted = self.sent and self._stream.negotiated.early_data is EarlyDataOutcome.ACCEPTED
        if not accepted or self._again:
            self._stream.sendall(data)


class _Sessions(MemorySessionStore):
    """Sessions that are damaged when they are taken, if the conversation is about that."""

    __slots__ = ("_spec", "taken")

    def __init__(self, spec: ClientSpec) -> None:
        super().__init__()
        self._spec = spec
        self.taken = 0

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        session = super().take(key, now)
        if session is None:
            return None
        self.taken += 1
        if self._spec.ticket is Ticket.BAD:
            middle = len(session.ticket) // 2
            spoiled = bytes((session.ticket[middle] ^ 1,))
            return replace(session, ticket=session.ticket[:middle] + spoiled + session.ticket[middle + 1 :])
        if self._spec.early_data is EarlyData.REJECTED and len(self._spec.groups) < 2:  # else a retry rejects it
            return replace(session, age_add=(session.age_add + _ONE_HOUR) % 2**32)
        return session


@contextlib.contextmanager
def serve(spec: ServerSpec) -> Iterator[RunningServer]:
    """Serve until the block ends."""
    sessions = _Forgetful() if spec.ticket is Ticket.BAD else TicketKeys()
    config = pellucid.ServerConfig(
        credentials=(_credential(spec.credential),),
        client_authentication=pellucid.ClientAuthentication(spec.client_authentication),
        client_trust=pellucid.TrustStore.from_pem(spec.ca.read_bytes()),
        cookie_key=bytes(range(32)) if spec.cookie else None,
        always_retry=spec.cookie,
        sessions=sessions,
        max_early_data=0 if spec.early_data is None else MAX_EARLY_DATA,
        **_common(spec, Role.SERVER),
    )
    updates = _UpdateCounter()
    if spec.early_data is None:
        listener: Any = pellucid.listen("127.0.0.1", 0, config, handshake_timeout=TALK_SECONDS, trace=lambda: updates)
    else:
        # Groups that are not shared make a retry, and that rejects it; otherwise we take none any more.
        without = replace(config, max_early_data=0)
        off = spec.early_data is EarlyData.REJECTED and not spec.retries
        listener = early.EarlyListener(lambda number: without if number and off else config, updates)
    with listener:
        service = _Service(listener, spec, updates)
        service.thread.start()
        replay = getattr(listener, "replay", None)

        def facts() -> Facts:
            found = service.facts()
            assert not isinstance(sessions, _Forgetful) or sessions.shown, "the client offered no ticket"
            return found

        yield RunningServer(listener.address[1], facts, service.output, service.refusal, replay)
    service.thread.join(5.0)


class _Forgetful(Shared):
    """Tickets of one ring of keys, looked up in another: as if the server had been started anew."""

    __slots__ = ("_issued", "_known", "shown")

    single_use: Final = False

    def __init__(self) -> None:
        self._issued, self._known = TicketKeys(), TicketKeys()
        self.shown = 0

    def issue(self, session: ServerSession, now: float) -> bytes:
        return self._issued.issue(session, now)

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        self.shown += 1
        return self._known.redeem(ticket, now)


class _Service:
    """A thread that accepts, one for each client, and what came of them."""

    def __init__(self, listener: Any, spec: ServerSpec, updates: _UpdateCounter) -> None:
        self._listener, self._spec, self._updates = listener, spec, updates
        self._done = threading.Semaphore(0)
        self._facts = Facts()
        self._errors: list[str] = []
        self._answered = 0
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def facts(self) -> Facts:
        """Return the last conversation's facts, once all are over. Raises AssertionError if one went wrong."""
        for number in range(self._spec.connections):
            finished = self._done.acquire(timeout=TALK_SECONDS)
            assert finished, f"{number} of {self._spec.connections} conversations came to their end"
        assert not self._errors, self._errors[0]
        return self._facts

    def refusal(self) -> str:
        """Return what was wrong with the first conversation, once it is over; else that nothing was asked.

        Raises AssertionError if something was answered.
        """
        finished = self._done.acquire(timeout=TALK_SECONDS)
        assert finished, "no conversation came to its end"
        assert not self._answered, f"{self._answered} requests were answered"
        return self._errors[0] if self._errors else "0 requests answered"

    def output(self) -> str:
        return "\n".join([f"Pellucid, server: {self._facts}", *self._errors])

    def _accept(self) -> None:
        for stream in self._listener:
            threading.Thread(target=self._answer, args=(stream,), daemon=True).start()

    def _answer(self, stream: Any) -> None:
        try:
            with stream:
                stream.settimeout(TALK_SECONDS)
                stream.do_handshake()
                purpose = self._spec.purpose
                before_each = _before_each(stream, purpose)

                def before_response() -> None:
                    self._answered += 1
                    before_each()

                answer_requests(stream, before_response, _before_reading(stream, purpose, self._updates))
                self._facts = _facts(stream, Role.SERVER, self._updates)
        except Exception as error:
            self._errors.append("".join(traceback.format_exception(error, limit=-4)))
        self._done.release()


class _UpdateCounter:
    """An observer that counts the KeyUpdates received."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: TraceEvent) -> None:
        if (
            isinstance(event, MessageTraced)
            and event.direction is Direction.RECEIVED
            and event.message_type == _KEY_UPDATE
        ):
            self.count += 1


def _before_each(stream: Any, purpose: Purpose) -> Any:
    if purpose is Purpose.INITIATE_KEY_UPDATE:
        return lambda: stream.key_update(request_peer=True)
    return lambda: None


def _before_reading(stream: Any, purpose: Purpose, updates: _UpdateCounter) -> Callable[[int], None]:
    def cross(number: int) -> None:
        if number != 1:
            return
        # Once something has come, and nobody looked at it, the peer's KeyUpdate is on its way: ours has to meet it.
        readable, _, _ = select.select([stream], [], [], TALK_SECONDS)
        assert readable, "nothing came"
        assert updates.count == 0, "the peer's KeyUpdate was read already"
        stream.key_update(request_peer=True)

    return cross if purpose is Purpose.CROSS_KEY_UPDATES else lambda number: None


def _common(spec: ServerSpec | ClientSpec, role: Role) -> dict[str, Any]:
    """Return what both configurations have in common; what the scenario leaves open stays at its default."""
    common: dict[str, Any] = {"alpn": spec.alpn}
    if spec.suites:
        common["suites"] = tuple(SUITES[name] for name in spec.suites)
    if spec.groups:
        common["groups"] = tuple(GROUPS[name] for name in spec.groups)
    if spec.psk is not None:
        ours = trace.Role.CLIENT if role is Role.CLIENT else trace.Role.SERVER
        common["external_psks"] = (ExternalPsk.plain(spec.psk.identity.encode(), spec.psk.key, role=ours),)
        mode = PskKeyExchangeMode.PSK_DHE_KE if spec.psk.key_exchange else PskKeyExchangeMode.PSK_KE
        common["psk_modes"] = (mode,)
    return common


def _credential(files: Any) -> pellucid.Credential:
    return pellucid.Credential.from_pem(files.certificate.read_bytes(), files.key.read_bytes())


def _facts(stream: Any, role: Role, updates: _UpdateCounter) -> Facts:
    negotiated = stream.negotiated
    if role is Role.SERVER:
        shown = negotiated.client_signature_scheme is not None
    else:
        shown = bool(negotiated.local_certificates)
    early_data = None
    if isinstance(stream, early.EarlyStream):
        early_data = negotiated.early_data is EarlyDataOutcome.ACCEPTED
        if role is Role.SERVER and early_data != bool(stream.early):
            raise AssertionError(f"early data is {negotiated.early_data}, but {bytes(stream.early)!r} came")
    return Facts(
        suite=_SUITE_NAMES[negotiated.cipher_suite],
        group=None if negotiated.group is None else _GROUP_NAMES[negotiated.group],
        alpn=negotiated.alpn or "",
        retried=negotiated.retried,
        client_certificate=shown,
        key_updates=updates.count,
        resumed=negotiated.resumed,
        early_data=early_data,
        psk=negotiated.psk_identity is not None,
    )
