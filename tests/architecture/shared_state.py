"""What connections in several threads share without being told so: the state of the core's modules, with its reasons.

On a free-threaded build nothing else orders two threads in the core. So it has no state but what stands in STATE, and
what stands there is a cache of pure facts (whoever loses a race computes the same again), or changed by single
operations that are atomic on every build. Sessions, ticket keys and registers of early data are shared on purpose, by
configurations, and take locks: they are objects, not modules.

Like the other rules this reads text and imports nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture import rules

PURE = "a cache of functools: its value depends on its arguments alone, and it orders threads itself"
LENT = "list.pop and list.append are atomic: no two threads ever have the same one; a race keeps some more than four"

STATE: dict[tuple[str, str], str] = {
    ("connection.py", "_key_of"): f"{PURE}: the name of a server and the digest of a configuration",
    ("crypto/certificates.py", "parse_certificate"): f"{PURE}; parsing judges nothing",
    ("crypto/certificates.py", "parse_raw_public_key"): f"{PURE}; parsing judges nothing",
    ("crypto/certificates.py", "valid_until"): PURE,
    ("errors.py", "_explainer"): "set once, while explain/ is imported, and read",
    ("handshake/authenticate.py", "_signature_check"): f"{PURE}: a sentence about kinds, not about a signature or peer",
    ("handshake/certificates.py", "_compressed_message"): f"{PURE}; what is sent in it is public to who may be sent it",
    ("handshake/certificates.py", "_encoded_chain"): PURE,
    ("handshake/connected.py", "secret_name"): PURE,
    ("handshake/offer.py", "_grease_share"): PURE,
    ("handshake/offer.py", "_of_its_own"): PURE,
    ("handshake/offer.py", "_server_name"): PURE,
    ("handshake/offer.py", "_versions"): PURE,
    ("handshake/server_flight.py", "_encrypted_extensions_message"): f"{PURE}; extensions hold no secret",
    ("messages/extensions.py", "Body.again"): (
        "set, read and cleared by single operations; bodies of 128 bytes that decode to the same for everybody, 128 of "
        "each extension; who loses a race decodes once more"
    ),
    ("messages/extensions.py", "Body.extension"): f"{PURE}; extensions hold no secret",
    ("record/bulk.py", "_openers"): LENT,
    ("record/bulk.py", "_sealers"): LENT,
    ("schedule.py", "_early_without_psk"): f"{PURE}: a secret everybody knows, of no PSK",
    ("schedule.py", "_label_head"): PURE,
    ("schedule.py", "_zero_prf"): f"{PURE}: of a key of zeros",
    ("schedule.py", "empty_hash"): PURE,
    ("verify/names.py", "reference_name"): PURE,
    ("verify/ocsp.py", "_authenticate"): f"{PURE}: of signatures; the time is judged outside of it",
    ("verify/supplied.py", "load_certificate"): f"{PURE}; parsing judges nothing",
    ("verify/leaf.py", "leaf_facts"): f"{PURE}: neither name, nor time, nor trust is in it",
}
"""(file, name) → why threads may share it. One that is not there any more is an error too."""

CONTAINERS = {"dict", "list", "set", "fromkeys"}
"""what is a constant as long as nobody changes it"""
CHANGING = {
    *("bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "count", "cycle", "array", "BytesIO", "StringIO"),
    *("local", "Lock", "RLock", "ContextVar", "WeakValueDictionary", "WeakKeyDictionary", "WeakSet", "Queue"),
}
CACHES = {"cache", "lru_cache"}
MUTATORS = {
    *("append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard"),
    *("sort", "reverse", "appendleft", "popleft", "move_to_end", "difference_update", "intersection_update"),
}
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def state_violations(root: Path, state: dict[tuple[str, str], str] | None = None) -> list[str]:
    """Nothing in the core's modules changes while connections run, but what the table allows."""
    allowed = STATE if state is None else state
    core = {
        file: rules.tree_of(text)
        for file, text in rules.files(root)
        if rules.RANKS.get(rules.unit_of(file), 99) <= rules.CORE_RANK
    }
    found: dict[tuple[str, str], str] = {}
    constants = {file: set(_containers(tree)) for file, tree in core.items()}
    for file, tree in core.items():
        for name, line, what in (*_caches(tree), *_changing(tree), *_defaults(tree)):
            found[file, name] = f"{file}:{line}: {name} is {what}"
        for name, line in _held(tree):
            found[file, name] = f"{file}:{line}: {name} is a container of something that a module holds"
        for where, name, line in _changes(file, tree, constants):
            found.setdefault((where, name), f"{file}:{line}: {name} is changed while connections run")
    wrong = [
        f"{text}: threads share it. Do without, or say in STATE why they may"
        for one, text in found.items()
        if one not in allowed
    ]
    stale = [f"{file}: {name} is in STATE, and not in the core" for file, name in allowed if (file, name) not in found]
    return sorted(wrong) + sorted(stale)


# ---- what is bound to names of modules and classes -------------------------------------------------------------------


def _bindings(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.expr]]:
    """Names that *body*, of a module or class, binds outside of functions, and to what."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield prefix + target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            if isinstance(statement.target, ast.Name):
                yield prefix + statement.target.id, statement.value
        elif isinstance(statement, ast.ClassDef):
            yield from _bindings(statement.body, f"{prefix}{statement.name}.")
        elif isinstance(statement, ast.If | ast.Try):
            yield from _bindings([*statement.body, *statement.orelse], prefix)


def _called(value: ast.expr) -> str:
    """The last part of the name of what is called: "lru_cache" of functools.lru_cache(64)(f); "" if it is no call."""
    while isinstance(value, ast.Call):
        value = value.func
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""


def _is_container(value: ast.expr) -> bool:
    literal = isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)
    return literal or (isinstance(value, ast.Call) and _called(value) in CONTAINERS)


def _containers(tree: ast.Module) -> Iterator[str]:
    return (name for name, value in _bindings(tree.body) if _is_container(value))


def _changing(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    for name, value in _bindings(tree.body):
        if isinstance(value, ast.Call) and _called(value) in CHANGING:
            yield name, value.lineno, f"a {_called(value)}"


def _held(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Containers that an object has which the module itself makes, where a method of its class changes them."""
    made = {_class_of(value) for _, value in _bindings(tree.body)}
    for child in tree.body:
        if not isinstance(child, ast.ClassDef) or child.name not in made:
            continue
        nodes = list(ast.walk(child))
        own = {
            target.attr: node.lineno
            for node in nodes
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_container(node.value)
            for target in (node.targets if isinstance(node, ast.Assign) else (node.target,))
            if isinstance(target, ast.Attribute)
        }
        changed = {one.attr for node in nodes if isinstance(one := _changed(node), ast.Attribute)}
        yield from ((f"{child.name}.{name}", line) for name, line in own.items() if name in changed)


def _class_of(value: ast.expr) -> str:
    """The name of what is called, of `Body(…)` and `Body[bytes](…)` alike."""
    if not isinstance(value, ast.Call):
        return ""
    function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    return function.id if isinstance(function, ast.Name) else ""


def _caches(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Caches of functools, by decoration and by call, wherever they stand."""
    yield from _caches_in(tree, "")


def _caches_in(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, str]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(_called(one) in CACHES for one in child.decorator_list):
                yield prefix + child.name, child.lineno, "a cache"
        elif isinstance(child, ast.ClassDef):
            inner = f"{prefix}{child.name}."
        elif isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            if isinstance(child.value, ast.Call) and _called(child.value) in CACHES:
                name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
                yield prefix + name, child.lineno, "a cache"
        yield from _caches_in(child, inner)


def _defaults(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            for value in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                if _is_container(value) or (isinstance(value, ast.Call) and _called(value) in CHANGING):
                    yield getattr(node, "name", "lambda"), node.lineno, "given a default that can be changed"


# ---- what functions do to them ---------------------------------------------------------------------------------------


def _changes(file: str, tree: ast.Module, constants: dict[str, set[str]]) -> Iterator[tuple[str, str, int]]:
    """(file, name, line) of what functions of *file* change: containers of any module of the core, names by global."""
    homes = {name: (file, name) for name in constants[file]}
    homes |= _imported(tree, constants)
    members = {name.rpartition(".")[2]: (file, name) for name in constants[file] if "." in name}
    for function in ast.walk(tree):
        if not isinstance(function, Function):
            continue
        nodes = list(ast.walk(function))
        declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
        for name in declared:
            yield file, name, function.lineno
        own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        for node in nodes:
            changed = _changed(node)
            if isinstance(changed, ast.Name) and changed.id in homes and changed.id not in own - declared:
                yield *homes[changed.id], node.lineno
            elif isinstance(changed, ast.Attribute) and changed.attr in members:
                yield *members[changed.attr], node.lineno


def _changed(node: ast.AST) -> ast.expr | None:
    """What *node* changes in place."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.value
    if isinstance(node, ast.AugAssign):
        return node.target
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return node.func.value
    return None


def _imported(tree: ast.Module, constants: dict[str, set[str]]) -> dict[str, tuple[str, str]]:
    """Containers of other modules of the core, by the name they have here."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{rules.PACKAGE}."):
            path = (node.module or "").removeprefix(f"{rules.PACKAGE}.").replace(".", "/")
            for where in (f"{path}.py", f"{path}/__init__.py"):
                for alias in node.names:
                    if alias.name in constants.get(where, ()):
                        found[alias.asname or alias.name] = (where, alias.name)
    return found
