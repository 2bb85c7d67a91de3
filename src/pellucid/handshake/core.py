"""The driver: looks the arrow up, decodes, calls the handler, checks where it led, hands the actions back.

It knows no message's meaning. It never sees a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from pellucid.config import ClientConfig, ServerConfig
from pellucid.errors import InternalError, UnexpectedMessage, UsageError
from pellucid.handshake.actions import Action, InstallKeys, Need, Pause, Result, SendMessage, Step
from pellucid.handshake.states import Arrow, State
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, message_type
from pellucid.registry import HandshakeType, handshake_type_name
from pellucid.trace import (
    ChoiceMade,
    Direction,
    Epoch,
    KeysInstalled,
    MessageTraced,
    Observer,
    Role,
    Secret,
    SecretDerived,
    StateChanged,
)
from pellucid.transcript import Transcript
from pellucid.wire import WireStruct

Config = TypeVar("Config", ClientConfig, ServerConfig)
Handler = Callable[[Any, Any, Any, bytes], Result]
"""(context, phase, decoded body, message with header) → result. Any: the tables pair phase and body with the state."""


class Context(Generic[Config]):
    """What every handler of one connection may use: the configuration, the transcript, the observer."""

    __slots__ = ("closed", "config", "epoch", "port", "provider", "role", "trace", "transcript")

    def __init__(self, role: Role, config: Config, trace: Observer | None, port: int = 0) -> None:
        """port: of the server, for its client; 0: not known."""
        self.role = role
        self.port = port
        self.config: Config = config
        self.provider = config.provider
        self.trace = trace
        self.transcript = Transcript()
        self.epoch = Epoch.INITIAL
        self.closed = False
        """whether close_notify was our last word: nothing more is said, tickets and answers neither"""

    def fork(self) -> Context[Config]:
        """Return a context whose transcript goes on by itself: that of one post-handshake authentication (§4.5)."""
        copy = Context(self.role, self.config, self.trace, self.port)
        copy.transcript = self.transcript.fork()
        copy.epoch = self.epoch
        return copy

    def chose(
        self, what: str, chosen: str, reason: str, local: tuple[str, ...] = (), peer: tuple[str, ...] = ()
    ) -> None:
        """Tell the observer of a choice. Call only under `if context.trace is not None`."""
        if self.trace is not None:
            self.trace(ChoiceMade(what=what, chosen=chosen, reason=reason, local=local, peer=peer))

    def derived(
        self,
        name: str,
        value: bytes,
        *,
        parent: str | None,
        method: str = "Derive-Secret",
        label: str = "",
        context: bytes = b"",
        messages: str = "",
        keylog: str = "",
    ) -> None:
        """Tell the observer of a step of the key schedule. Call only under `if context.trace is not None`."""
        if self.trace is not None:
            self.trace(
                SecretDerived(
                    name=name,
                    parent=parent,
                    method=method,
                    label=label,
                    context=context,
                    messages=messages,
                    secret=Secret(value),
                    keylog=keylog,
                )
            )


class _Row(NamedTuple):
    """What becomes of a message: how its body is decoded, who handles it, where that may lead."""

    decode: Callable[[bytes], WireStruct]
    handle: Handler
    leads_to: frozenset[State]


class Table:
    """One side's arrows and handlers (RFC 9846 App. A), as they are looked up: by the state, then by the message."""

    def __init__(self, arrows: dict[tuple[State, int], Arrow], handlers: dict[tuple[State, int], Handler]) -> None:
        self.rows: dict[State, dict[int, _Row]] = {one: {} for state, _ in arrows for one in type(state)}
        for (state, kind), arrow in arrows.items():
            self.rows[state][kind] = _Row(BODIES[kind].decode, handlers[state, kind], frozenset(arrow.leads_to))
        self.on_wire: dict[State, frozenset[int]] = {}
        """the types that may come in a state; HelloRetryRequest's is a reserved number, on the wire it is a ServerHello
        (§4.2.3)"""
        for state, rows in self.rows.items():
            kinds = (HandshakeType.SERVER_HELLO if kind == HandshakeType.HELLO_RETRY_REQUEST else kind for kind in rows)
            self.on_wire[state] = frozenset(kinds)


class Handshake(Generic[Config]):
    """One side's state machine. `receive` and `resume` return actions to be carried out in order."""

    def __init__(self, context: Context[Config], table: Table, state: State, phase: object) -> None:
        self.context: Context[Config] = context
        self.state = state
        self.phase = phase
        self.need: Need | None = None
        self._table = table
        self._resume: Callable[[Any], Result] | None = None
        self._cause: int | None = None

    @property
    def expected(self) -> frozenset[int]:
        """The types of the messages, as on the wire, that may come now."""
        return self._table.on_wire[self.state]

    def receive(self, raw: bytes) -> list[Action]:
        """Take one whole handshake message, header included. Raises PeerError; then the connection is over."""
        if self.need is not None:
            raise InternalError("a message was handed over while the handshake is paused")
        kind = message_type(raw)
        row = self._table.rows[self.state].get(kind)
        if row is None or raw[0] == HandshakeType.HELLO_RETRY_REQUEST:
            raise UnexpectedMessage(f"{handshake_type_name(kind)} came in state {self.state.value}", rfc="9846 §A")
        decode, handle, leads_to = row
        body = decode(raw[HEADER_LENGTH:])
        context = self.context
        if context.trace is not None:
            context.trace(
                MessageTraced(direction=Direction.RECEIVED, epoch=context.epoch, message_type=kind, raw=raw, body=body)
            )
        self._cause = kind
        result = handle(context, self.phase, body, raw)
        if type(result) is Step and context.trace is None:
            # As _take does it, without the call: most messages end here.
            self.phase, state, actions = result
            if state not in leads_to:
                raise _no_arrow(self.state, state)
            self.state = state
            return actions
        return self._take(result)

    def resume(self, answer: object) -> list[Action]:
        """Answer the pause named by `need`. Raises UsageError if there is none."""
        if self._resume is None:
            raise UsageError("the handshake is not paused")
        resume, self._resume, self.need = self._resume, None, None
        return self._take(resume(answer))

    def forget(self) -> None:
        """Let go of all that is known, secrets with it: the connection has failed."""
        if self.need is not None and self.need.answer is not None:
            self.need.answer.close()
        self.phase = None
        self.need = self._resume = None

    def begin(self, step: Result, cause: str) -> list[Action]:
        """Carry out a step that we take by ourselves: the ClientHello, a KeyUpdate."""
        self._cause = None
        return self._take(step, cause)

    def _take(self, result: Result, own_cause: str = "") -> list[Action]:
        if isinstance(result, Pause):
            self.need, self._resume = result
            return []
        phase, state, actions = result
        old, cause = self.state, self._cause
        if cause is not None and state not in self._table.rows[old][cause].leads_to:
            raise _no_arrow(old, state)
        self.phase, self.state = phase, state
        if self.context.trace is not None:
            self._tell(result, old, own_cause)
        return actions

    def _tell(self, step: Step, old: State, own_cause: str) -> None:
        trace = self.context.trace
        if trace is None:
            return
        for action in step.actions:
            match action:
                case SendMessage(epoch, raw):
                    kind = message_type(raw)
                    body = BODIES[kind].decode(raw[HEADER_LENGTH:])
                    trace(MessageTraced(direction=Direction.SENT, epoch=epoch, message_type=kind, raw=raw, body=body))
                case InstallKeys(direction, secret, name):
                    keys = secret.keys()
                    trace(
                        KeysInstalled(
                            direction=direction,
                            epoch=secret.epoch,
                            generation=secret.generation,
                            cipher_suite=secret.suite.code,
                            secret_name=name,
                            key=Secret(keys.key),
                            iv=Secret(keys.iv),
                        )
                    )
                case _:
                    continue
        cause = own_cause or ("" if self._cause is None else handshake_type_name(self._cause))
        trace(StateChanged(role=self.context.role, old=old.value, new=step.state.value, cause=cause))


def _no_arrow(old: State, new: State) -> InternalError:
    return InternalError(f"no arrow leads from {old.value} to {new.value}")
