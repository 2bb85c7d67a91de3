"""The code of docs/reference/trace.md runs."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.explain import read_jsonl
from pellucid.testing.ca import CA
from pellucid.trace import HandshakeCompleted

BLOCKS = re.findall(
    r"```python\n(.*?)```",
    (Path(__file__).parents[2] / "docs" / "reference" / "trace.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def test_trace_reference_writes_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = CA("reference root")
    leaf = authority.issue("example.org")
    config = pellucid.ServerConfig(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    trusting = pellucid.ClientConfig(trust=authority.trust)
    monkeypatch.chdir(tmp_path)
    real, context = pellucid.connect, pellucid.SSLContext
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        port = listener.address[1]

        def to_us(host: str, _port: int, config: Any = trusting, **keywords: Any) -> pellucid.Stream:
            return real("127.0.0.1", port, config, server_name=host, **keywords)

        monkeypatch.setattr(pellucid, "connect", to_us)
        monkeypatch.setattr(pellucid, "SSLContext", lambda: context(trusting))
        monkeypatch.setattr(pellucid, "ClientConfig", lambda: trusting)
        space: dict[str, Any] = {}
        for number, text in enumerate(BLOCKS):
            thread = threading.Thread(target=lambda: listener.accept(handshake=True).close())
            thread.start()
            exec(compile(text, "trace.md", "exec"), space)
            if number == 1:
                with socket.create_connection(("127.0.0.1", port), 10) as sock:
                    space["context"].wrap_socket(sock, server_hostname="example.org").close()
            thread.join(10)
            if number == 2:
                continue  # which has compared for itself
            path = tmp_path / "trace.jsonl"
            with path.open(encoding="utf-8") as file:
                assert read_jsonl(file).first(HandshakeCompleted) is not None
            path.unlink()
