"""The house stands as DESIGN draws it: layers, sizes, form, a public surface that is described and light to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pellucid
from tests.architecture import rules, shared_state
from tests.support.rfc9846 import SECTIONS

SOURCE = Path(pellucid.__file__).parent

RULES: list[Callable[[Path], list[str]]] = [
    rules.layer_violations,
    rules.foreign_import_violations,
    rules.clock_violations,
    rules.inner_import_violations,
    rules.size_violations,
    rules.form_violations,
    shared_state.state_violations,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    wrong = rule(SOURCE)
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_citation_of_rfc_9846_is_of_a_section_it_has() -> None:
    wrong = rules.citation_violations(SOURCE, set(SECTIONS))
    assert not wrong, "\n" + "\n".join(wrong)


def test_use_of_the_core_is_light_and_loads_no_other_tls() -> None:
    """Neither the ssl module nor an optional dependency is loaded; the core needs cryptography and idna only."""
    unwanted = {"click", "rich", "anyio", "httpx2", "hypercorn", "h2", "h11", "trio", "certifi", "wassima"}
    unwanted |= {"ssl", "_ssl", "asyncio"}
    used = "pellucid.connect, pellucid.listen, pellucid.Connection, pellucid.Credential, pellucid.FileSessionStore"
    program = f"import sys, pellucid; {used}; print(*sorted(set(sys.modules) & set({unwanted!r})))"
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_lazy_names_are_there() -> None:
    for name in pellucid.__all__:
        assert getattr(pellucid, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pellucid.no_such_name


def public_things() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for module, names in ((pellucid, pellucid.__all__), (pellucid.aio, pellucid.aio.__all__)):
        for name in names:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.append((f"{module.__name__}.{name}", thing))
    return found


@pytest.mark.parametrize(("name", "thing"), public_things(), ids=[name for name, _ in public_things()])
def test_public_name_is_described(name: str, thing: object) -> None:
    described = thing.__doc__
    assert described and not described.startswith(f"{name.rpartition('.')[2]}("), f"{name} has no docstring of its own"
    if inspect.isclass(thing) and name.endswith((".Connection", ".Credential", ".TrustStore")):
        for method, value in vars(thing).items():
            function = getattr(value, "__func__", value)
            if not method.startswith("_") and inspect.isfunction(function):
                assert function.__doc__, f"{name}.{method} has no docstring"


def test_peers_that_cheat_are_reached_by_their_own_command_and_by_nobody_else() -> None:
    """Nothing that a program imports without meaning to can bend a connection."""
    bending = ("pellucid.testing.bent", "pellucid.testing.faults")
    reaching = {
        one.file
        for one in rules.imports(SOURCE)
        if one.module.startswith(bending) and not one.file.startswith("testing/")
    }
    assert reaching == {"cli/serve_fault.py", "cli/dev_cert_faults.py"}
    program = "import sys, pellucid.cli.serve, pellucid.cli.get; print(*[m for m in sys.modules if 'testing.' in m])"
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, encoding="utf-8", timeout=60, check=True
    )
    assert set(done.stdout.split()) <= {"pellucid.testing.ca", "pellucid.testing.revocation"}
