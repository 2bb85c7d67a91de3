"""The rule on shared state is itself tested: what is planted is found, and what never changes is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.shared_state import STATE, state_violations

HEAD = '"""A file."""\n'

PLANTED = [
    ("_seen: Final[dict[bytes, int]] = {}\ndef f(x):\n    _seen[x] = 1", "_seen is changed"),
    ("_seen = dict()\ndef f(x):\n    del _seen[x]", "_seen is changed"),
    ("_kept = []\ndef f(x):\n    _kept.append(x)", "_kept is changed"),
    ("_kept = [n for n in ()]\nasync def f(x):\n    _kept[0] += x", "_kept is changed"),
    ("class C:\n    kept = []\n    def f(self, x):\n        self.kept += x", "C.kept is changed"),
    ("_names = set()\nf = lambda x: _names.add(x)", "_names is changed"),
    ("_count = 0\ndef f():\n    global _count\n    _count = 1", "_count is changed"),
    ("class C:\n    table = {}\n    def f(self):\n        self.table[1] = 2", "C.table is changed"),
    (
        "class C:\n    table: ClassVar = []\n    @classmethod\n    def f(cls):\n        cls.table.pop()",
        "C.table is changed",
    ),
    ("_numbers = itertools.count()", "_numbers is a count"),
    ("_held: Final = threading.local()", "_held is a local"),
    ("if X:\n    _room = bytearray(5)", "_room is a bytearray"),
    ("class C:\n    queue = collections.deque()", "C.queue is a deque"),
    ("@functools.lru_cache(maxsize=5)\ndef f(x):\n    return x", "f is a cache"),
    ("@cache\ndef f(x):\n    return x", "f is a cache"),
    ("class C:\n    @functools.cache\n    def f(self):\n        return 1", "C.f is a cache"),
    ("_g: Final = functools.lru_cache(64)(f)", "_g is a cache"),
    ("class C:\n    def __init__(self):\n        self.g = functools.lru_cache(64)(f)", "C.g is a cache"),
    ("def f(x, seen={}):\n    return seen", "f is given a default that can be changed"),
    ("def f(x, *, seen=bytearray(3)):\n    return seen", "f is given a default that can be changed"),
]

ALLOWED = [
    "TABLE: Final = {1: 2}\ndef f(x):\n    return TABLE[x]",
    "TABLE: Final = {1: 2}\nTABLE[3] = 4\nTABLE.update({5: 6})",  # while it is imported, by one thread
    "found = []\ndef f(x):\n    found = []\n    found.append(x)\n    return found",
    "found = []\ndef f(found):\n    found.append(1)",
    "class C:\n    def __init__(self):\n        self.seen = {}\n    def f(self, x):\n        self.seen[x] = 1",
    "NAMES: Final = frozenset({1})\nPAIR = (1, 2)",
    "class C:\n    @functools.cached_property\n    def f(self):\n        return 1",
]


def planted(tmp_path: Path, text: str, file: str = "wire.py") -> list[str]:
    at = tmp_path / file
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(HEAD + text + "\n")
    return state_violations(tmp_path, {})


@pytest.mark.parametrize(("text", "told"), PLANTED)
def test_planted_state_is_found(text: str, told: str, tmp_path: Path) -> None:
    (wrong,) = planted(tmp_path, text)
    assert told in wrong
    assert wrong.startswith("wire.py:")


@pytest.mark.parametrize("text", ALLOWED)
def test_constants_and_what_is_not_shared_are_allowed(text: str, tmp_path: Path) -> None:
    assert planted(tmp_path, text) == []


def test_change_of_another_modules_table_is_found_and_told_of_where_it_is(tmp_path: Path) -> None:
    planted(tmp_path, "TABLE = {}")
    text = "from pellucid.wire import TABLE as T\ndef f(x):\n    T.clear()"
    (wrong,) = planted(tmp_path, text, "handshake/core.py")
    assert wrong.startswith("handshake/core.py:4: TABLE is changed")
    assert state_violations(tmp_path, {("wire.py", "TABLE"): "why"}) == []


def test_edge_is_not_the_core(tmp_path: Path) -> None:
    assert planted(tmp_path, PLANTED[0][0], "net/tcp.py") == []


def test_reason_for_what_is_gone_is_told_of(tmp_path: Path) -> None:
    planted(tmp_path, "x = 1")
    assert state_violations(tmp_path, {("wire.py", "gone"): "why"}) == [
        "wire.py: gone is in STATE, and not in the core"
    ]


def test_every_state_has_its_reason() -> None:
    assert all(len(why) > 20 for why in STATE.values())
