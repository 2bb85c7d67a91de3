"""The rules are themselves tested: a planted violation is found, and what is allowed is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import rules

HEAD = '"""A file."""\n'

PLANTED: list[tuple[Callable[[Path], list[str]], str, str, str]] = [
    (rules.layer_violations, "handshake/client.py", "from pellucid.connection import Connection", "above it"),
    (rules.layer_violations, "wire.py", "import pellucid.messages.handshake", "above it"),
    (rules.layer_violations, "wire.py", "from pellucid import messages", "above it"),
    (rules.layer_violations, "connection.py", "from pellucid import __version__", "above it"),
    (rules.layer_violations, "connection.py", "from pellucid.explain.recorder import Recorder", "above it"),
    (rules.layer_violations, "record/reader.py", "from pellucid.handshake.core import Context", "neighbour"),
    (rules.layer_violations, "handshake/core.py", "from pellucid.record.reader import Record", "neighbour"),
    (rules.layer_violations, "handshake/core.py", "from ..record import reader", "relative"),
    (rules.layer_violations, "net/sync.py", "from pellucid.explain import story", "neighbour"),
    (rules.layer_violations, "config.py", "def f():\n    from pellucid.net import sync", "above it"),
    (rules.layer_violations, "attic.py", "", "no floor"),
    (rules.foreign_import_violations, "connection.py", "import socket", "the core imports socket"),
    (rules.foreign_import_violations, "handshake/core.py", "from time import monotonic", "the core imports time"),
    (rules.foreign_import_violations, "crypto/groups.py", "import secrets", "the core imports secrets"),
    (rules.foreign_import_violations, "crypto/pyca.py", "import os", "the core imports os"),
    (rules.foreign_import_violations, "verify/names.py", "import logging", "the core imports logging"),
    (rules.foreign_import_violations, "handshake/core.py", "import threading", "the core imports threading"),
    (rules.foreign_import_violations, "sessions/client.py", "import time", "the core imports time"),
    (rules.foreign_import_violations, "net/tcp.py", "import ssl", "only the ssl-shaped adapter"),
    (rules.foreign_import_violations, "handshake/core.py", "from cryptography import x509", "only crypto/"),
    (rules.foreign_import_violations, "net/load.py", "import os", "is not needed"),
    (rules.clock_violations, "verify/names.py", "import datetime\nx = datetime.datetime.now()", "a clock"),
    (rules.inner_import_violations, "handshake/core.py", "def f():\n    import anyio", "inside a function"),
    (rules.inner_import_violations, "net/tcp.py", "def f():\n    import json", "inside a function"),
    (rules.inner_import_violations, "net/tcp.py", "def f():\n    from pellucid import wire", "inside a function"),
    (rules.inner_import_violations, "net/tcp.py", "class C:\n    def f(self):\n        import idna", "inside a func"),
    (rules.size_violations, "wire.py", "x = 1\n" * 600, "601 lines"),
    (rules.size_violations, "wire.py", "def f():\n" + "    x = 1\n" * 59, "f has 60 lines"),
    (rules.form_violations, "wire.py", "assert True", "assert"),
    (rules.form_violations, "wire.py", "try:\n    x = 1\nexcept:\n    raise", "bare"),
    (rules.form_violations, "wire.py", "try:\n    x = 1\nexcept OSError:\n    pass", "swallows"),
    (rules.form_violations, "wire.py", "try:\n    x = 1\nexcept Exception:\n    x = 2", "forgets"),
    (
        rules.form_violations,
        "wire.py",
        "import contextlib\nwith contextlib.suppress(Exception):\n    x = 1",
        "suppress",
    ),
    (rules.form_violations, "wire.py", "def f():\n    raise NotImplementedError", "stub"),
]

ALLOWED: list[tuple[Callable[[Path], list[str]], str, str]] = [
    (rules.layer_violations, "connection.py", "from pellucid.handshake.core import Context\nfrom pellucid import wire"),
    (rules.layer_violations, "net/sync.py", "from pellucid.connection import Connection"),
    (rules.foreign_import_violations, "crypto/pyca.py", "import secrets\nimport time"),
    (rules.foreign_import_violations, "sessions/client.py", "import threading"),
    (rules.foreign_import_violations, "verify/webpki.py", "from cryptography import x509"),
    (rules.foreign_import_violations, "net/tcp.py", "import socket\nimport time"),
    (rules.foreign_import_violations, "integrations/ssl_context.py", "import ssl"),
    (rules.foreign_import_violations, "net/load.py", "from cryptography.utils import CryptographyDeprecationWarning"),
    (rules.clock_violations, "handshake/cookie.py", "def f(config):\n    return config.provider.now()"),
    (rules.inner_import_violations, "net/load.py", "def f():\n    import certifi"),
    (rules.size_violations, "wire.py", "x = 1\n" * 598),
    (rules.size_violations, "wire.py", "def f():\n" + "    x = 1\n" * 58),
    (rules.form_violations, "wire.py", "try:\n    x = 1\nexcept OSError:\n    x = 2"),
    (rules.form_violations, "wire.py", "try:\n    x = 1\nexcept Exception as error:\n    x = error"),
    (rules.form_violations, "wire.py", "import contextlib\nwith contextlib.suppress(KeyError):\n    x = 1"),
]


def plant(root: Path, file: str, code: str) -> Path:
    for unit in ("messages", "handshake", "record", "explain", "net", "verify"):
        (root / unit).mkdir(parents=True)
        (root / unit / "__init__.py").write_text(HEAD, encoding="utf-8")
    for module in ("__init__", "wire", "connection"):
        (root / f"{module}.py").write_text(HEAD, encoding="utf-8")
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + code, encoding="utf-8")
    return root


@pytest.mark.parametrize(("rule", "file", "code", "words"), PLANTED)
def test_planted_violation_is_found(
    rule: Callable[[Path], list[str]], file: str, code: str, words: str, tmp_path: Path
) -> None:
    (found,) = rule(plant(tmp_path, file, code))
    assert words in found
    assert found.startswith((file, rules.unit_of(file)))


@pytest.mark.parametrize(("rule", "file", "code"), ALLOWED)
def test_what_is_allowed_is_not_found(rule: Callable[[Path], list[str]], file: str, code: str, tmp_path: Path) -> None:
    assert rule(plant(tmp_path, file, code)) == []


def test_circle_between_neighbours_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "schedule.py", "from pellucid.transcript import x")
    (tmp_path / "transcript.py").write_text(HEAD + "from pellucid.schedule import y", encoding="utf-8")
    assert rules.layer_violations(tmp_path) == ["a circle: schedule → transcript → schedule"]


def test_file_without_a_head_is_found(tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text("x = 1\n", encoding="utf-8")
    assert rules.form_violations(tmp_path) == ["wire.py: its head does not say what it is for"]


def test_citation_of_no_section_is_found(tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text('raise E("x", rfc="9846 §99.9")\nraise E("x", rfc="9846 §5.1")', encoding="utf-8")
    assert rules.citation_violations(tmp_path, {"5.1"}) == ["wire.py:1: there is no RFC 9846 §99.9"]
