"""`import pellucid` is cheap, and every public name is there when it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pellucid

HEAVY = (
    "cryptography",
    "asyncio",
    "socket",
    "ssl",
    "threading",
    "anyio",
    "click",
    "rich",
    "h11",
    "httpx2",
    "pellucid.connection",
)


def in_a_process_of_its_own(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_that_is_not_asked_for() -> None:
    new = f"[name for name in {HEAVY!r} if name in sys.modules and name not in before]"
    script = f"import sys; before = set(sys.modules); import pellucid; print({new})"
    assert in_a_process_of_its_own(script) == "[]"


def test_naming_an_exception_loads_no_cryptography() -> None:
    script = "import sys, pellucid; pellucid.PeerError, pellucid.UsageError; print('cryptography' in sys.modules)"
    assert in_a_process_of_its_own(script) == "False"


def test_every_public_name_has_one_home_and_is_there() -> None:
    modules = {"aio", "asyncio", "uvicorn"}
    assert set(pellucid._MODULE_OF) == set(pellucid.__all__) - modules - {"__version__"}
    assert sum(map(len, pellucid._HOMES.values())) == len(pellucid._MODULE_OF)
    assert sorted(pellucid.__all__) == sorted(set(pellucid.__all__))
    for name in pellucid.__all__:
        assert getattr(pellucid, name) is not None, name
    assert set(pellucid.__all__) <= set(dir(pellucid))


def test_names_are_the_same_objects_as_where_they_live() -> None:
    for name, module in pellucid._MODULE_OF.items():
        assert getattr(pellucid, name) is getattr(importlib.import_module(module), name)


def test_rooms_are_reached_as_attributes() -> None:
    script = "import pellucid; print(pellucid.verify.either.__module__, pellucid.testing.__name__)"
    assert in_a_process_of_its_own(script) == "pellucid.verify.raw_keys pellucid.testing"


def test_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pellucid.nothing  # type: ignore[attr-defined]


def test_error_made_before_anything_else_is_loaded_explains_itself() -> None:
    script = "import pellucid\ntry: raise pellucid.UsageError('x')\nexcept OSError as error: print(error.report.code)"
    assert in_a_process_of_its_own(script) == "USAGE"
