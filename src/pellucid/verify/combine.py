"""Verifiers made of verifiers: all of them must accept, or any of them may.

There is no third way to combine them, and no operators: `all_of` never accepts what one of its parts refuses, and
`any_of` accepts what its most lenient part accepts, which is what their names say.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn, cast

from pellucid.crypto.provider import PENDING
from pellucid.errors import UsageError
from pellucid.verify.report import (
    ALERTS,
    DECISIVE_ORDER,
    Check,
    CheckGroup,
    Failure,
    LazyChecks,
    Outcome,
    VerificationReport,
)
from pellucid.verify.request import (
    PeerVerifier,
    PendingPart,
    Requirement,
    VerificationRequest,
    VerifierAnswer,
)

__all__ = ["all_of", "any_of", "check_requirements", "refuse_what_is_no_verifier"]

_MAX_PARTS: Final = 32

_Checks = Sequence[Check]
_Asked = tuple[PeerVerifier | None, object]
"""(whose answer it is, None for a requirement's; the answer)"""
_Steps = Generator[_Asked, object, VerificationReport]


def all_of(verifier: PeerVerifier, *more: PeerVerifier | Requirement) -> PeerVerifier:
    """Return the verifier that accepts what *verifier* and every one of *more* accepts.

    more: verifiers, or requirements such as `SpkiPins`, which look at what *verifier* has accepted. They are asked in
          this order, and the first refusal ends it. The verified path is *verifier*'s.
    Raises UsageError if the first is a requirement: it lets nobody in.
    """
    parts = (verifier, *more)
    refuse_what_is_no_verifier(verifier)
    check_requirements(more)
    return _AllOf(_counted(parts))


def any_of(verifier: PeerVerifier, *others: PeerVerifier) -> PeerVerifier:
    """Return the verifier that accepts what *verifier* or one of *others* accepts: it is as lenient as all together.

    They are asked in this order, and the first that accepts decides. Where none does, the report is *verifier*'s, with
    what the others said. Raises UsageError for a requirement among them: by itself it would let anybody in.
    """
    parts = (verifier, *others)
    for part in parts:
        refuse_what_is_no_verifier(part)
    return _AnyOf(cast(tuple[PeerVerifier, ...], _counted(parts)))


def check_requirements(parts: tuple[PeerVerifier | Requirement, ...]) -> None:
    """Raise UsageError if one of *parts*, or what should be a tuple of them, can demand nothing."""
    if not isinstance(parts, tuple):
        raise UsageError(f"requirements are a tuple, not a {type(parts).__name__}")
    for part in parts:
        if not callable(getattr(part, "examine", None)):
            refuse_what_is_no_verifier(part)


def refuse_what_is_no_verifier(part: object) -> None:
    """Raise UsageError for a requirement, which decides nothing by itself, and for anything else without `verify`."""
    if callable(getattr(part, "verify", None)):
        return
    name = type(part).__name__
    if hasattr(part, "examine"):
        raise UsageError(
            f"{name} demands something of a peer that a verifier has accepted: all_of(WebPKIVerifier(trust), {name}(…))"
        )
    raise UsageError(f"{name} is no verifier: it has no verify()")


@dataclass(frozen=True, slots=True)
class _AllOf:
    parts: tuple[PeerVerifier | Requirement, ...]
    certificate_types: tuple[int, ...] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = [types for types in map(_types_of, self.parts) if types is not None]
        common = tuple(one for one in known[0] if all(one in types for types in known)) if known else None
        if known and not common:
            raise UsageError("no kind of certificate is accepted by all of these verifiers")
        object.__setattr__(self, "certificate_types", common)

    @property
    def authorities(self) -> Sequence[bytes]:
        """Those of the first part that has any: the others accept no more than it does."""
        named: list[Sequence[bytes]] = [getattr(part, "authorities", ()) for part in self.parts]
        return next((names for names in named if names), ())

    @property
    def session_identity(self) -> bytes | None:
        return _identity(b"all of", self.parts)

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        return _drive(self._ask(request), request)

    def _ask(self, request: VerificationRequest) -> _Steps:
        first, *more = self.parts
        verifier = cast(PeerVerifier, first)
        report = _a_report((yield verifier, verifier.verify(request)))
        for number, part in enumerate(more):
            if not report.accepted:
                report = _with(report, [_not_asked(one) for one in more[number:]])
                break
            if hasattr(part, "examine"):
                checks = yield None, part.examine(request, report)
                report = _examined(report, _some_checks(checks))
            else:
                report = _both(report, _a_report((yield part, part.verify(request))))
        return report if report.accepted else _presented(report, request)


@dataclass(frozen=True, slots=True)
class _AnyOf:
    parts: tuple[PeerVerifier, ...]
    certificate_types: tuple[int, ...] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        types = [_types_of(part) for part in self.parts]
        known = [one for one in types if one is not None]
        union = tuple(dict.fromkeys(code for one in known for code in one)) if len(known) == len(types) else None
        object.__setattr__(self, "certificate_types", union)

    @property
    def authorities(self) -> Sequence[bytes]:
        """Those of all parts; none where a part has none: its peers are issued by nobody in particular."""
        names = [tuple(part.authorities) for part in self.parts]
        return tuple(dict.fromkeys(name for one in names for name in one)) if all(names) else ()

    @property
    def session_identity(self) -> bytes | None:
        return _identity(b"any of", self.parts)

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        return _drive(self._ask(request), request)

    def _ask(self, request: VerificationRequest) -> _Steps:
        refused: list[VerificationReport] = []
        for part in self.parts:
            report = _a_report((yield part, part.verify(request)))
            if report.accepted:
                return _with(report, [_alternative(part, one) for part, one in zip(self.parts, refused, strict=False)])
            refused.append(report)
        return _presented(_all_refused(refused), request)


# ---- asking the parts: at once, or with a pause for one of them ------------------------------------------------------


def _drive(steps: _Steps, request: VerificationRequest, answer: object = None) -> VerifierAnswer:
    """Go on with *steps*, which were waiting for *answer*, until the report is there or a part needs time."""
    while True:
        try:
            whose, answer = steps.send(answer)
        except StopIteration as done:
            return cast(VerificationReport, done.value)
        paused = _paused(steps, request, whose, answer)
        if paused is not None:
            return paused


def _paused(
    steps: _Steps, request: VerificationRequest, whose: PeerVerifier | None, answer: object
) -> PendingPart | Awaitable[VerifierAnswer] | None:
    """Return what the combination answers while the part *whose* has not answered yet; None if *answer* is there."""
    if isinstance(answer, PendingPart):
        part = answer
        return PendingPart(part.verifier, part.request, lambda report: _go_on(steps, request, whose, part.then(report)))
    if answer is PENDING:
        if whose is None:
            raise UsageError("a requirement answers with checks, or an awaitable of them; it cannot be PENDING")
        return PendingPart(whose, request, _once(lambda report: _go_on(steps, request, whose, report)))
    return _Later(steps, request, whose, answer) if inspect.isawaitable(answer) else None


def _once(then: Callable[[VerificationReport], VerifierAnswer]) -> Callable[[VerificationReport], VerifierAnswer]:
    """Return *then* for one call: a second answer would be taken for that of the next part."""
    calls: list[Callable[[VerificationReport], VerifierAnswer]] = [then]

    def call(report: VerificationReport) -> VerifierAnswer:
        if not calls:
            raise UsageError("this part of a combination of verifiers was answered already")
        return calls.pop()(report)

    return call


def _go_on(steps: _Steps, request: VerificationRequest, whose: PeerVerifier | None, answer: object) -> VerifierAnswer:
    paused = _paused(steps, request, whose, answer)
    return _drive(steps, request, answer) if paused is None else paused


class _Later(Awaitable[VerifierAnswer]):
    """The combination's answer once the part *whose* has given the awaited *answer*. To be awaited once."""

    __slots__ = ("_answer", "_request", "_steps", "_whose")

    def __init__(
        self, steps: _Steps, request: VerificationRequest, whose: PeerVerifier | None, answer: Awaitable[object]
    ) -> None:
        self._steps = steps
        self._request = request
        self._whose = whose
        self._answer: Awaitable[object] | None = answer

    def __await__(self) -> Generator[object, None, VerifierAnswer]:
        return self._wait().__await__()

    async def _wait(self) -> VerifierAnswer:
        answer, self._answer = self._answer, None
        if answer is None:
            raise UsageError("the answer of a combination of verifiers is awaited once")
        following = _go_on(self._steps, self._request, self._whose, await answer)
        return await following if inspect.isawaitable(following) else following

    def cancel(self) -> None:
        """Let go of what nobody has awaited."""
        answer, self._answer = self._answer, None
        if inspect.iscoroutine(answer):
            answer.close()
        elif callable(cancel := getattr(answer, "cancel", None)):
            cancel()


# ---- the reports put together ----------------------------------------------------------------------------------------


def _with(report: VerificationReport, more: list[Check]) -> VerificationReport:
    """Return *report* with checks that change nothing of it."""
    if not more:
        return report
    return replace(report, explanation=LazyChecks(lambda: _merged(report.checks, tuple(more))), later=())


def _examined(report: VerificationReport, checks: _Checks) -> VerificationReport:
    """Return *report*, an accepted one, with a requirement's *checks*: a FAILED one makes it a refusal."""
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    merged = _with(report, list(checks))
    return _refused(merged, failed) if failed else merged


def _both(report: VerificationReport, other: VerificationReport) -> VerificationReport:
    """Return the report of two verifiers, the first of which accepted."""
    explanation = LazyChecks(lambda: _merged(report.checks, other.checks))
    if other.accepted:
        # What a dangerous verifier says of the peer means nothing: summary and path are those of one that looked.
        return replace(
            other if report.dangerous and not other.dangerous else report,
            explanation=explanation,
            later=(),
            dangerous=report.dangerous and other.dangerous,
            failure=report.failure if report.dangerous and other.dangerous else None,
            on_proof=report.on_proof + other.on_proof,
        )
    return replace(
        other,
        explanation=explanation,
        later=(),
        certificate_type=report.certificate_type,
        serialized_scts=report.serialized_scts,
    )


def _refused(report: VerificationReport, failed: list[Check]) -> VerificationReport:
    decisive = min(failed, key=lambda check: DECISIVE_ORDER.index(check.failure or Failure.POLICY))
    failure = decisive.failure or Failure.POLICY
    return replace(
        report,
        accepted=False,
        dangerous=False,
        failure=failure,
        summary=decisive.evidence,
        alert=ALERTS[failure],
        path=(),
        on_proof=(),
    )


def _presented(report: VerificationReport, request: VerificationRequest) -> VerificationReport:
    return report if report.presented else replace(report, presented=(request.leaf.der, *request.intermediates))


def _all_refused(reports: list[VerificationReport]) -> VerificationReport:
    """Return the first report, with what the others said: it is the verifier that was meant first."""
    first, *others = reports
    summaries = dict.fromkeys(report.summary for report in reports)
    return replace(
        first,
        summary="; and ".join(summaries),
        explanation=LazyChecks(lambda: _merged(first.checks, *(report.checks for report in others))),
        later=(),
    )


def _merged(*several: _Checks) -> tuple[Check, ...]:
    """Return the checks of all, in their order; what two verifiers saw alike is told once."""
    return tuple(dict.fromkeys(check for checks in several for check in checks))


def _not_asked(part: object) -> Check:
    text = f"{type(part).__name__.lstrip('_')} was not asked, for the peer is refused already"
    return Check(group=CheckGroup.TRUST, name="not asked", outcome=Outcome.NOT_CHECKED, evidence=text)


def _alternative(part: object, report: VerificationReport) -> Check:
    """Say that a part refused what another accepts: a check of neither."""
    text = f"{type(part).__name__.lstrip('_')} refuses it ({report.summary}), and another verifier accepts it"
    return Check(group=CheckGroup.TRUST, name="alternative", outcome=Outcome.NOT_APPLICABLE, evidence=text)


# ---- what the parts are ----------------------------------------------------------------------------------------------


def _counted(parts: tuple[PeerVerifier | Requirement, ...]) -> tuple[PeerVerifier | Requirement, ...]:
    if len(parts) > _MAX_PARTS:
        raise UsageError(f"{len(parts)} verifiers; at most {_MAX_PARTS} are combined")
    return parts


def _types_of(part: object) -> tuple[int, ...] | None:
    return getattr(part, "certificate_types", None)


def _identity(kind: bytes, parts: tuple[object, ...]) -> bytes | None:
    """Return what sessions are bound to; None, and none are kept, where one part cannot be told from others."""
    digest = hashlib.sha256(kind)
    for part in parts:
        identity: object = getattr(part, "session_identity", None)
        if not isinstance(identity, bytes):
            return None
        digest.update(hashlib.sha256(identity).digest())
    return kind + b" " + digest.digest()


def _a_report(answer: object) -> VerificationReport:
    if not isinstance(answer, VerificationReport):
        _no_answer(answer)
    return answer


def _some_checks(answer: object) -> _Checks:
    if not isinstance(answer, Sequence) or not all(isinstance(check, Check) for check in answer):
        raise UsageError(f"a requirement answers with Checks, not with {type(answer).__name__}")
    return answer


def _no_answer(answer: object) -> NoReturn:
    raise UsageError(
        f"a verifier answers with a VerificationReport, PENDING or an awaitable, not {type(answer).__name__}"
    )
