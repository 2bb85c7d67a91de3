"""docs/guides/resumption.md: its code runs, in its order, against servers made as it says; its commands are options."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

import pellucid
from pellucid.cli.get import command as get_command
from pellucid.cli.serve import command as serve_command
from pellucid.testing.ca import CA

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "resumption.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@contextmanager
def served(handler: Any, config: pellucid.ServerConfig) -> Iterator[int]:
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        thread = threading.Thread(
            target=listener.serve, args=(handler,), kwargs={"on_error": lambda *_: None}, daemon=True
        )
        thread.start()
        yield listener.address[1]
        listener.close()
        thread.join(10)


def answer(stream: pellucid.Stream) -> None:
    while stream.recv():
        stream.sendall(b"answer")


def test_guide_runs_in_its_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resume, in_a_file, share, send, take = BLOCKS
    authority = CA("guide root")
    leaf = authority.issue("localhost")
    credential = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    names: dict[str, Any] = {
        "pellucid": pellucid,
        "trust": authority.trust,
        "credential": credential,
        "host": "localhost",
        "path": tmp_path / "sessions",
    }
    exec(compile(take, "guide", "exec"), names)
    assert names["server"].max_early_data == 16_384
    with served(answer, names["server"]) as port:
        names["port"] = port
        exec(compile(resume, "guide", "exec"), names)
        assert capsys.readouterr().out.split("\n")[:2] == ["full handshake", "resumed"]
        exec(compile(send, "guide", "exec"), names)
        assert capsys.readouterr().out == "b'answer'\n"
        exec(compile(in_a_file, "guide", "exec"), names)
        exec(compile(send, "guide", "exec"), names)
        assert capsys.readouterr().out == "not early: there was no session to resume\nb'answer'\n"
        assert (tmp_path / "sessions").stat().st_size > 100
    with served(names["handle"], names["server"]) as port:
        names["port"] = port
        for early in (b"GET one", b"GET two", b"POST three"):
            with pellucid.connect("localhost", port, names["config"], early_data=early) as stream:
                if stream.early_data is not pellucid.EarlyDataOutcome.ACCEPTED:
                    stream.sendall(early)
                assert stream.read_to_end() == b"answer"
                assert stream.negotiated.resumed is (early != b"GET one")
                stream.wait_for_ticket()
    exec(compile(share, "guide", "exec"), names)
    assert names["server"].session_store is names["keys"]
    assert pellucid.TicketKeys.from_keys(names["exported"]).export_keys() == names["exported"]


def test_guide_commands_have_the_options_they_are_given() -> None:
    commands = re.findall(r"^pellucid (get|serve) ([^#\n]*)", GUIDE, re.MULTILINE)
    assert len(commands) == 4
    for name, rest in commands:
        command: click.Command = {"get": get_command, "serve": serve_command}[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("-")} <= known
