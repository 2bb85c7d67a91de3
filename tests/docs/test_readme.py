"""The README's code runs: its blocks are taken from the file, with a server of ours in the place of example.org."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import threading
from pathlib import Path

import pytest

import pellucid
from pellucid.explain import CODES
from pellucid.testing.ca import CA

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def authority() -> CA:
    return CA("README root")


def block(word: str) -> str:
    (found,) = [text for text in BLOCKS if word in text]
    return found


def serve_once(listener: pellucid.Listener, answer: bytes) -> threading.Thread:
    def run() -> None:
        with contextlib.suppress(pellucid.AlertReceived), listener.accept(handshake=True) as stream:
            stream.recv()
            stream.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_readme_client_gets_an_answer_in_six_lines(authority: CA, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block("for data in stream")
    assert len([line for line in text.splitlines() if line.strip()]) <= 6
    leaf = authority.issue("example.org")
    config = pellucid.ServerConfig(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        thread = serve_once(listener, b"HTTP/1.1 200 OK\r\n\r\nhello")
        real = pellucid.connect

        def to_us(host: str, port: int) -> pellucid.Stream:
            assert (host, port) == ("example.org", 443)
            trust = pellucid.ClientConfig(trust=authority.trust)
            return real("127.0.0.1", listener.address[1], trust, server_name=host)

        monkeypatch.setattr(pellucid, "connect", to_us)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, "README", "exec"), {})
        thread.join(10)
    assert "hello" in out.getvalue()


def test_readme_server_serves_in_four_lines(authority: CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = block("for stream in listener")
    assert len([line for line in text.splitlines() if line.strip()]) <= 4
    leaf = authority.issue("localhost")
    (tmp_path / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    monkeypatch.chdir(tmp_path)
    made: list[pellucid.Listener] = []
    ready = threading.Event()
    real = pellucid.listen

    def at_any_port(host: str, port: int, config: pellucid.ServerConfig) -> pellucid.Listener:
        assert (host, port) == ("127.0.0.1", 8443)
        made.append(real(host, 0, config))
        ready.set()
        return made[0]

    monkeypatch.setattr(pellucid, "listen", at_any_port)
    source = compile(text, "README", "exec")
    failed: list[BaseException] = []

    def run() -> None:
        try:
            exec(source, {"pellucid": pellucid, "pathlib": pathlib})
        except OSError as error:  # the listener is closed under it at the end
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    with pellucid.connect("localhost", made[0].address[1], pellucid.ClientConfig(trust=authority.trust)) as stream:
        assert stream.read_to_end() == b"hello\n"
    made[0].close()
    thread.join(10)
    assert not thread.is_alive()


def test_readme_rejected_certificate_tells_every_check(authority: CA, capsys: pytest.CaptureFixture[str]) -> None:
    text = block("error.report")
    leaf = authority.issue("right.example")
    config = pellucid.ServerConfig(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        thread = serve_once(listener, b"")
        port = listener.address[1]
        trust = pellucid.ClientConfig(trust=authority.trust)

        class Facade:
            @staticmethod
            def connect(host: str) -> pellucid.Stream:
                return pellucid.connect("127.0.0.1", port, trust, server_name=host)

        exec(compile(text, "README", "exec"), {"pellucid": Facade})
        thread.join(10)
    said = capsys.readouterr().out
    assert "right.example" in said
    assert "✔ signed by a trusted CA" in said
    assert "✘ name matches" in said
    assert "error[X509-WRONG-NAME]" in said and "X509-WRONG-NAME" in CODES


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 170
