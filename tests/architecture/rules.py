"""The house rules as functions over a source tree: each returns what is wrong, as "file:line: why".

They read text, import nothing and so judge a planted tree as well as ours (test_rules.py).
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "pellucid"
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60

# Arrows point downwards only; a unit is a module or a package directly under pellucid/.
RANKS = {
    **dict.fromkeys(("wire", "inlined", "registry", "errors", "limits", "value", "_version"), 0),
    **dict.fromkeys(("messages", "crypto", "trace"), 1),
    **dict.fromkeys(("schedule", "transcript", "verify", "config", "credential", "sessions"), 2),
    **dict.fromkeys(("handshake", "record"), 3),
    "events": 4,
    **dict.fromkeys(("connection", "carrier", "direct", "early", "extraction", "handshaking", "quic", "dtls"), 5),
    **dict.fromkeys(("net", "explain"), 6),
    **dict.fromkeys(("integrations", "inspection", "testing", "aio", "asyncio", "signers"), 7),
    **dict.fromkeys(("cli", "web", "uvicorn", "__init__"), 8),
    "__main__": 9,
}
CORE_RANK = RANKS["connection"]
FOUNDATION = {unit for unit, rank in RANKS.items() if rank == 0}

# Neighbours on one floor that never speak to each other.
STRANGERS = {("handshake", "record"), ("net", "explain"), ("crypto", "messages"), ("messages", "trace")}

# Entropy and time come from the crypto provider; the core opens nothing, waits for nothing and writes no log.
BANNED_IN_CORE = {
    *("socket", "ssl", "asyncio", "anyio", "trio", "threading", "subprocess", "select", "selectors"),
    *("logging", "io", "os", "time", "random", "secrets"),
}
MAY_IMPORT_THREADING = {"sessions"}  # what it holds is shared by connections in many threads: it takes locks, no more
SOURCE_OF_ENTROPY_AND_TIME = "crypto/pyca.py"
MAY_IMPORT_CRYPTOGRAPHY = {"crypto", "verify", "testing"}
MAY_IMPORT_SSL = {"integrations"}
EDGE = {"net", "inspection", "integrations", "cli", "web", "testing", "aio", "asyncio", "signers", "uvicorn"}
REQUIRED_DEPENDENCIES = {"cryptography", "idna"}

EXEMPT = {
    ("net/load.py", "cryptography"): "the class of the warning that parsing the system's roots may give",
}
"""(file, imported) → why a rule does not hold there. An exemption that nobody needs any more is an error too."""


class Import(NamedTuple):
    file: str
    line: int
    module: str
    """dotted; of `from a import b`, "a.b" """
    inside_function: bool
    type_checking: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def files(root: Path) -> Iterator[tuple[str, str]]:
    """(path below *root*, text) of every module."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


@functools.cache
def tree_of(text: str) -> ast.Module:
    """The syntax tree of a module: made once for all rules, which read it and change nothing."""
    return ast.parse(text)


@functools.cache
def nodes_of(text: str) -> tuple[ast.AST, ...]:
    """Every node of a module's tree, as `ast.walk` gives them: several rules ask each."""
    return tuple(ast.walk(tree_of(text)))


def unit_of(file: str) -> str:
    """ "handshake/client.py" → "handshake"; "wire.py" → "wire"."""
    first, slash, _ = file.partition("/")
    return first if slash else first.removesuffix(".py")


def imports(root: Path) -> list[Import]:
    """Every import of the tree, wherever it stands."""
    return [one for file, text in files(root) for one in _imports_of(file, text)]


@functools.cache
def _imports_of(file: str, text: str) -> tuple[Import, ...]:
    found: list[Import] = []
    _collect(tree_of(text), file, found, inside_function=False, type_checking=False)
    return tuple(found)


def _collect(node: ast.AST, file: str, found: list[Import], *, inside_function: bool, type_checking: bool) -> None:
    if isinstance(node, ast.Import):
        found += [Import(file, node.lineno, name.name, inside_function, type_checking) for name in node.names]
    elif isinstance(node, ast.ImportFrom):
        prefix = "." * node.level + (node.module or "")
        found += [
            Import(file, node.lineno, f"{prefix}.{name.name}", inside_function, type_checking) for name in node.names
        ]
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue  # an import is a statement
        _collect(
            child,
            file,
            found,
            inside_function=inside_function or function,
            type_checking=type_checking or (guarded and isinstance(node, ast.If) and child in node.body),
        )


# ---- layers ----------------------------------------------------------------------------------------------------------


def target_of(one: Import, units: set[str]) -> str | None:
    """The unit that an import of ours reaches; None for somebody else's module."""
    parts = one.module.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in units else "__init__"


def layer_violations(root: Path) -> list[str]:
    """No arrow upwards, none between strangers, no circle, no unit that has no floor."""
    units = {unit_of(file) for file, _ in files(root)}
    wrong = [f"{unit}: it stands on no floor of the plan" for unit in sorted(units - set(RANKS))]
    arrows: dict[str, set[str]] = defaultdict(set)
    for one in imports(root):
        if one.module.startswith("."):
            wrong.append(f"{one.where}: a relative import")
            continue
        here, there = unit_of(one.file), target_of(one, units)
        if there is None or here == there or here not in RANKS or there not in RANKS:
            continue
        if not one.type_checking:
            arrows[here].add(there)
        if RANKS[there] > RANKS[here]:
            wrong.append(f"{one.where}: {here} imports {there}, which is above it")
        elif (here, there) in STRANGERS or (there, here) in STRANGERS:
            wrong.append(f"{one.where}: {here} imports {there}, its neighbour")
    return wrong + _circles(arrows)


def _circles(arrows: dict[str, set[str]]) -> list[str]:
    found: list[str] = []
    done: set[str] = set()

    def walk(unit: str, path: tuple[str, ...]) -> None:
        if unit in path:
            found.append("a circle: " + " → ".join((*path[path.index(unit) :], unit)))
            return
        if unit in done:
            return
        for there in sorted(arrows.get(unit, ())):
            # `import pellucid` runs __init__, which reaches everything: no arrow of the plan.
            if "__init__" not in (unit, there):
                walk(there, (*path, unit))
        done.add(unit)

    for unit in sorted(arrows):
        walk(unit, ())
    return found


def foreign_import_violations(root: Path) -> list[str]:
    """What the core may not import; who may import cryptography, and who ssl."""
    wrong, used = [], set()
    for one in imports(root):
        unit = unit_of(one.file)
        problem = None
        if one.top in BANNED_IN_CORE and RANKS.get(unit, 99) <= CORE_RANK:
            allowed = (one.file == SOURCE_OF_ENTROPY_AND_TIME and one.top in {"time", "secrets"}) or (
                unit in MAY_IMPORT_THREADING and one.top == "threading"
            )
            if not allowed:
                problem = f"the core imports {one.top}"
        elif one.top == "ssl" and unit not in MAY_IMPORT_SSL:
            problem = "only the ssl-shaped adapter imports ssl"
        elif one.top == "cryptography" and unit not in MAY_IMPORT_CRYPTOGRAPHY and not one.type_checking:
            problem = "only crypto/ and verify/ import cryptography"
        if problem is not None:
            if (one.file, one.top) in EXEMPT:
                used.add((one.file, one.top))
            else:
                wrong.append(f"{one.where}: {problem}")
    present = {file for file, _ in files(root)}
    stale = {exempt for exempt in EXEMPT if exempt[0] in present} - used
    return wrong + [f"{file}: its exemption for {module} is not needed" for file, module in sorted(stale)]


def clock_violations(root: Path) -> list[str]:
    """The core does not ask datetime for the time either."""
    return [
        f"{file}:{node.lineno}: the core reads a clock"
        for file, text in files(root)
        if RANKS.get(unit_of(file), 99) <= CORE_RANK
        for node in nodes_of(text)
        if isinstance(node, ast.Attribute)
        and node.attr in {"now", "utcnow", "today"}
        and ast.unparse(node.value).startswith(("datetime", "date"))
    ]


def inner_import_violations(root: Path) -> list[str]:
    """Inside functions nothing is imported but, at the edge, an optional dependency."""
    wrong = []
    for one in imports(root):
        if not one.inside_function:
            continue
        optional = one.top not in {PACKAGE, "", *REQUIRED_DEPENDENCIES} and one.top not in sys.stdlib_module_names
        if unit_of(one.file) not in EDGE or not optional:
            wrong.append(f"{one.where}: imports {one.module} inside a function")
    return wrong


# ---- size and form ---------------------------------------------------------------------------------------------------


def size_violations(root: Path) -> list[str]:
    """Files under 600 lines, functions under 60."""
    wrong = []
    for file, text in files(root):
        if (lines := len(text.splitlines())) >= MAX_FILE_LINES:
            wrong.append(f"{file}: {lines} lines")
        for node in nodes_of(text):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines >= MAX_FUNCTION_LINES:
                    wrong.append(f"{file}:{node.lineno}: {node.name} has {lines} lines")
    return wrong


def form_violations(root: Path) -> list[str]:
    """No assert (python -O drops it), no exception swallowed, no stub, a docstring at the head of every file."""
    wrong = []
    for file, text in files(root):
        tree = tree_of(text)
        if tree.body and ast.get_docstring(tree) is None:
            wrong.append(f"{file}: its head does not say what it is for")
        for node in nodes_of(text):
            problem = None
            if isinstance(node, ast.Assert):
                problem = "assert"
            elif isinstance(node, ast.ExceptHandler):
                problem = _handler_problem(node)
            elif isinstance(node, ast.withitem):
                problem = _suppress_problem(node)
            elif (
                isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc)
            ):
                # What the standard library's ssl refuses in this way, the ssl-shaped adapter refuses too.
                problem = None if unit_of(file) == "integrations" else "a stub"
            if problem is not None:
                line = getattr(node, "lineno", getattr(getattr(node, "context_expr", None), "lineno", 0))
                wrong.append(f"{file}:{line}: {problem}")
    return wrong


def _handler_problem(handler: ast.ExceptHandler) -> str | None:
    if handler.type is None:
        return "a bare except"
    silent = all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in handler.body
    )
    if silent:
        return f"except {ast.unparse(handler.type)} swallows it"
    if _is_broad(handler.type):
        names = {node.id for part in handler.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        raises = any(isinstance(node, ast.Raise) for part in handler.body for node in ast.walk(part))
        if not raises and handler.name not in names:
            return f"except {ast.unparse(handler.type)} forgets what it caught"
    return None


def _suppress_problem(item: ast.withitem) -> str | None:
    call = item.context_expr
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in {"suppress", "contextlib.suppress"}:
        return None
    return f"{ast.unparse(call)}" if any(map(_is_broad, call.args)) else None


def _is_broad(kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(one) in {"Exception", "BaseException"} for one in kinds)


def citation_violations(root: Path, sections: set[str]) -> list[str]:
    """Every `rfc="9846 §…"` names a section that there is; nobody cites RFC 8446 for a rule."""
    wrong = []
    for file, text in files(root):
        for node in nodes_of(text):
            if isinstance(node, ast.keyword) and node.arg == "rfc" and isinstance(node.value, ast.Constant):
                rfc, _, section = str(node.value.value).partition(" §")
                if rfc == "8446" or (rfc == "9846" and section not in sections):
                    wrong.append(f"{file}:{node.value.lineno}: there is no RFC {node.value.value}")
    return wrong
