"""The Python that the page shows computes what the page shows."""

from __future__ import annotations

import contextlib
import io

import pytest

from pellucid import ClientConfig, ServerConfig
from pellucid.explain.recorder import Recorder
from pellucid.explain.snippets import MAX_SECRETS, snippets
from pellucid.explain.tree import key_schedule
from pellucid.registry import CipherSuite
from tests.support.gallery import GALLERY, recording
from tests.support.pair import Pair, client_config, server_config


def run(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
    return printed.getvalue().strip()


@pytest.mark.parametrize("name", sorted(set(GALLERY) - {"refused"}))
def test_every_snippet_that_can_run_gives_the_value_shown(name: str) -> None:
    made = snippets(recording(name).events, reveal=True)
    root = key_schedule(recording(name).events)
    assert root is not None
    assert [one.name for one in made] == [node.name for node in root.walk()]
    still = [one.name for one in made if not one.runnable]
    assert still == (["early_secret"] if name in {"resumed", "again"} else [])
    for one in made:
        if one.runnable:
            assert run(one.code) == one.result.reveal().hex(), one.name


@pytest.mark.parametrize("suite", [CipherSuite.TLS_AES_256_GCM_SHA384, CipherSuite.TLS_CHACHA20_POLY1305_SHA256])
def test_snippets_know_the_suite_s_hash(suite: int) -> None:
    recorder = Recorder()
    client: ClientConfig = client_config(suites=(suite,))
    server: ServerConfig = server_config(suites=(suite,))
    Pair.of(client, server, server_trace=recorder).connect()
    made = snippets(recorder.events, reveal=True)
    assert len(made) > 15
    assert all(run(one.code) == one.result.reveal().hex() for one in made)


def test_hidden_snippets_hold_no_secret_and_say_so() -> None:
    made = snippets(recording("full").events, reveal=False)
    for one in made:
        for secret in recording("full").secrets.values():
            assert secret.reveal().hex() not in one.code
        compile(one.code, "snippet", "exec")
    assert [one.name for one in made if one.runnable] == ["early_secret"]  # without a PSK everybody can compute it
    assert run(made[0].code) == made[0].result.reveal().hex()


def test_no_events_no_snippets_and_many_are_bounded() -> None:
    assert snippets((), reveal=True) == ()
    assert len(snippets(recording("renewed").events, reveal=True)) < 4 * MAX_SECRETS
