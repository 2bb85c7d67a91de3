"""Pellucid's end of a cell, in this process, over its blocking streams. The only module here that imports it."""

from __future__ import annotations

import contextlib
import select
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pellucid
from pellucid.trace import Direction, MessageTraced, TraceEvent
from tests.interop.exchange import Purpose, answer_requests, converse
from tests.interop.names import GROUPS, SUITES
from tests.interop.spec import ClientDone, ClientSpec, Facts, Refusal, Role, RunningServer, ServerSpec

TALK_SECONDS: Final = 30.0
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

    def request(self, spec: ClientSpec) -> ClientDone:
        return run_client(spec)

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serve(spec)


def run_client(spec: ClientSpec) -> ClientDone:
    """Connect, verify, converse and close. Raises what Pellucid raises, and WrongAnswer."""
    config = pellucid.ClientConfig(
        trust=pellucid.TrustStore.from_pem(spec.ca.read_bytes()),
        credentials=() if spec.credential is None else (_credential(spec.credential),),
        middlebox_compatibility=spec.middlebox_compatibility,
        key_shares=tuple(GROUPS[name] for name in spec.key_shares) or None,
        **_common(spec),
    )
    updates = _UpdateCounter()
    stream = pellucid.connect(
        "127.0.0.1", spec.port, config, server_name=spec.server_name, handshake_timeout=TALK_SECONDS, trace=updates
    )
    with stream:
        stream.settimeout(TALK_SECONDS)
        converse(stream, spec.turns, _before_each(stream, spec.purpose), _before_reading(stream, spec.purpose, updates))
        facts = _facts(stream, updates)
    return ClientDone(facts, f"Pellucid, client: {facts}")


@contextlib.contextmanager
def serve(spec: ServerSpec) -> Iterator[RunningServer]:
    """Serve until the block ends."""
    config = pellucid.ServerConfig(
        credentials=(_credential(spec.credential),),
        client_authentication=pellucid.ClientAuthentication(spec.client_authentication),
        client_trust=pellucid.TrustStore.from_pem(spec.ca.read_bytes()),
        cookie_key=bytes(range(32)) if spec.cookie else None,
        always_retry=spec.cookie,
        **_common(spec),
    )
    updates = _UpdateCounter()
    with pellucid.listen("127.0.0.1", 0, config, handshake_timeout=TALK_SECONDS, trace=lambda: updates) as listener:
        service = _Service(listener, spec, updates)
        service.thread.start()
        yield RunningServer(listener.address[1], service.facts, service.output, service.refusal)
    service.thread.join(5.0)


class _Service:
    """A thread that accepts, one for each client, and what came of them."""

    def __init__(self, listener: Any, spec: ServerSpec, updates: _UpdateCounter) -> None:
        self._listener, self._spec, self._updates = listener, spec, updates
        self._done = threading.Event()
        self._facts = Facts()
        self._errors: list[str] = []
        self._answered = 0
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def facts(self) -> Facts:
        """Return the last conversation's facts, once one is over. Raises AssertionError if one went wrong."""
        finished = self._done.wait(TALK_SECONDS)
        assert finished, "no conversation came to its end"
        assert not self._errors, self._errors[0]
        return self._facts

    def refusal(self) -> str:
        """Return what was wrong with the first conversation, once it is over; else that nothing was asked.

        Raises AssertionError if something was answered.
        """
        finished = self._done.wait(TALK_SECONDS)
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
                self._facts = _facts(stream, self._updates)
        except Exception as error:
            self._errors.append("".join(traceback.format_exception(error, limit=-4)))
        self._done.set()


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


def _common(spec: ServerSpec | ClientSpec) -> dict[str, Any]:
    """Return what both configurations have in common; what the scenario leaves open stays at its default."""
    common: dict[str, Any] = {"alpn": spec.alpn}
    if spec.suites:
        common["suites"] = tuple(SUITES[name] for name in spec.suites)
    if spec.groups:
        common["groups"] = tuple(GROUPS[name] for name in spec.groups)
    return common


def _credential(files: Any) -> pellucid.Credential:
    return pellucid.Credential.from_pem(files.certificate.read_bytes(), files.key.read_bytes())


def _facts(stream: Any, updates: _UpdateCounter) -> Facts:
    negotiated = stream.negotiated
    return Facts(
        suite=_SUITE_NAMES[negotiated.cipher_suite],
        group=_GROUP_NAMES[negotiated.group],
        alpn=negotiated.alpn or "",
        retried=negotiated.retried,
        client_certificate=negotiated.client_signature_scheme is not None,
        key_updates=updates.count,
    )
