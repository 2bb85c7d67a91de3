"""Values made quickly: as frozen, as strict and as documented as the dataclasses that they are."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from pellucid import credential
from pellucid.errors import UsageError
from pellucid.handshake import actions, authenticate
from pellucid.sessions import client, psk, server
from pellucid.value import quickly_made
from pellucid.verify import report, request

MODULES = (actions, authenticate, client, credential, psk, report, request, server)
QUICK = {
    thing.__name__: thing
    for module in MODULES
    for thing in vars(module).values()
    if isinstance(thing, type) and dataclasses.is_dataclass(thing) and hasattr(thing.__init__, "__wrapped__")
}


@quickly_made
@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """One field of each kind."""

    first: int
    second: str = "two"
    third: list[int] = dataclasses.field(default_factory=list)
    fourth: int = dataclasses.field(default=4, kw_only=True)
    made: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", self.first * 2)


def test_those_that_handshakes_make_are_among_them() -> None:
    assert {"Negotiated", "Complete", "ClientSession", "ServerSession", "VerificationReport"} <= QUICK.keys()


@pytest.mark.parametrize("quick", QUICK.values(), ids=QUICK)
def test_it_sets_what_the_dataclass_would(quick: Any) -> None:
    fields = [one for one in dataclasses.fields(quick) if one.init]
    every = {one.name: f"{one.name}'s" for one in fields}
    fewest = {name: value for name, value in every.items() if _is_required(quick, name)}
    for given in (every, fewest):
        values = []
        for make in (quick.__init__, quick.__init__.__wrapped__):
            made = object.__new__(quick)
            _without_checks(make, made, given)
            kept = (getattr(made, one.name) for one in fields)
            made_anew = (one.default_factory is not dataclasses.MISSING and one.name not in given for one in fields)
            values.append([type(value) if anew else value for value, anew in zip(kept, made_anew, strict=True)])
        assert values[0] == values[1]
    with pytest.raises(TypeError):
        quick(**every, nobodys=1)
    if fewest:
        with pytest.raises(TypeError):
            quick()


def _is_required(quick: type, name: str) -> bool:
    return inspect.signature(quick).parameters[name].default is inspect.Parameter.empty


def _without_checks(make: Any, made: object, given: dict[str, str]) -> None:
    """The fields are set before `__post_init__`, which may refuse such values."""
    try:
        make(made, **given)
    except (AttributeError, TypeError, ValueError, UsageError) as error:
        assert "argument" not in str(error), error


@pytest.mark.parametrize("quick", QUICK.values(), ids=QUICK)
def test_it_is_frozen(quick: Any) -> None:
    made = object.__new__(quick)
    for one in dataclasses.fields(quick):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, one.name, 1)


def test_defaults_factories_and_what_is_made_afterwards() -> None:
    kept = Kept(1)
    assert (kept.first, kept.second, kept.third, kept.fourth, kept.made) == (1, "two", [], 4, 2)
    assert kept.third is not Kept(1).third
    assert Kept(2, "b", [3], fourth=5) == dataclasses.replace(Kept(1), first=2, second="b", third=[3], fourth=5)
    assert list(inspect.signature(Kept).parameters) == ["first", "second", "third", "fourth"]
    with pytest.raises(TypeError):
        Kept(1, "b", [], 5)  # type: ignore[misc]  # fourth is by name alone
    with pytest.raises(dataclasses.FrozenInstanceError):
        kept.first = 2  # type: ignore[misc]  # that is what is tried
    assert pickle.loads(pickle.dumps(kept)) == kept
