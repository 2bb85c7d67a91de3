"""`pellucid demo`: what is printed is what happened, and secrets stand in it only when asked for."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pellucid.cli import demo
from pellucid.cli.demo import Options, perform, tell
from pellucid.cli.main import cli
from pellucid.cli.output import Output
from pellucid.explain.records import open_record
from pellucid.explain.reveal import Shown
from pellucid.explain.story import Scene, Story
from pellucid.explain.text import cells, plain
from pellucid.messages import extensions as x
from pellucid.messages.handshake import ClientHello, ServerHello
from pellucid.net.packets import Capture
from pellucid.registry import AlertDescription, ContentType, group_by_name, suite_by_name
from pellucid.trace import (
    AlertTraced,
    Direction,
    Epoch,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    SecretDerived,
    SharedSecretComputed,
    TcpPacket,
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return perform(Options(group=group_by_name("x25519")))


@pytest.fixture(scope="module")
def hybrid() -> Scene:
    return perform(Options())


def text_of(story: Story, width: int = 80) -> str:
    return "\n".join(plain(one) for one in story.lines(width))


def section(text: str, number: int) -> str:
    """Return one part of the story's text."""
    return re.split(r"^━━ \d ", text, flags=re.MULTILINE)[number]


def squeezed(text: str) -> str:
    """Return *text* without blanks and bars: what was wrapped stands together again."""
    return re.sub(r"[\s│]+", "", text)


def public_values(scene: Scene) -> tuple[bytes, bytes]:
    """Return A and B as they stand in the hello messages."""
    bodies = [event.body for event in scene.client.of(MessageTraced)]
    hello = next(body for body in bodies if isinstance(body, ClientHello))
    answer = next(body for body in bodies if isinstance(body, ServerHello))
    share = x.decode_extensions(x.M.SH, answer.extensions, requested={code for code, _ in answer.extensions})
    chosen = share.get(x.KEY_SHARE)
    offered = x.decode_extensions(x.M.CH, hello.extensions).get(x.KEY_SHARES)
    assert chosen is not None
    assert offered is not None
    return next(entry.key_exchange for entry in offered if entry.group == chosen.group), chosen.key_exchange


def secrets_of(scene: Scene) -> set[bytes]:
    found: set[bytes] = set()
    for recorder in (scene.client, scene.server):
        found |= {event.secret.reveal() for event in recorder.of(SecretDerived)}
        found |= {event.secret.reveal() for event in recorder.of(SharedSecretComputed)}
        for event in recorder.of(KeysInstalled):
            found |= {event.key.reveal(), event.iv.reveal()}
    return found


def revealed(scene: Scene, *, reveal: bool) -> Story:
    return tell(
        Scene(**{name: getattr(scene, name) for name in Scene.__slots__ if name != "shown"}, shown=Shown(reveal))
    )


# ---- the story -----------------------------------------------------------------------------------------------------


def test_story_has_six_numbered_parts_each_with_its_sentence(scene: Scene) -> None:
    story = tell(scene)
    assert [part.key for part in story.parts] == [
        "tcp",
        "tls",
        "verifications",
        "shared_secret",
        "key_schedule",
        "records",
    ]
    text = text_of(story)
    for number, part in enumerate(story.parts, 1):
        assert part.number == number
        assert part.title in text
        assert part.sentence.endswith(".")
        assert " ".join(section(text, number).split()).startswith(part.title)
        assert squeezed(part.sentence) in squeezed(section(text, number))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_story_fits_its_width(scene: Scene, hybrid: Scene, width: int) -> None:
    for told in (scene, hybrid):
        assert max(cells(plain(one)) for one in tell(told).lines(width)) <= width


def test_story_tcp_tells_of_the_connection(scene: Scene) -> None:
    text = section(text_of(tell(scene)), 1)
    for packet in scene.client.of(TcpPacket):
        assert "-".join(packet.flags) in text
    assert f"port {scene.url.rpartition(':')[2].rstrip('/')}" in text
    for words in ("round trip", "MSS"):
        assert words in text or "TCP_INFO" in text


def test_story_tls_names_every_message_with_size_and_keys(scene: Scene) -> None:
    text = section(text_of(tell(scene)), 2)
    for event in scene.client.of(MessageTraced):
        if event.epoch is Epoch.APPLICATION:
            continue
        keys = {Epoch.INITIAL: "in the open", Epoch.HANDSHAKE: "🔒 handshake keys"}[event.epoch]
        assert f" {len(event.raw)} bytes · {keys} ─" in text


def test_story_verifications_are_four_with_evidence(scene: Scene) -> None:
    text = squeezed(section(text_of(tell(scene)), 3))
    part = tell(scene).parts[2].to_dict()
    assert part["groups"] == {
        "certificate valid": "passed",
        "name matches": "passed",
        "signed by a trusted CA": "passed",
        "CertificateVerify correct": "passed",
    }
    for number in range(1, 5):
        assert f"✓{number}." in text
    for evidence in ("localhost names the host name localhost", "2 signatures lead to 'Pellucid demo root'"):
        assert squeezed(evidence) in text
    assert "neitherOCSPnorCRLswereconsulted" in text


def test_story_shared_secret_shows_a_and_b_of_the_hellos(scene: Scene, hybrid: Scene) -> None:
    a, b = public_values(scene)
    text = section(text_of(tell(scene)), 4)
    assert a.hex() in text
    assert b.hex() in text
    a, b = public_values(hybrid)
    part, text = tell(hybrid).parts[3].to_dict(), section(text_of(tell(hybrid)), 4)
    assert (part["A"], part["B"]) == (a.hex(), b.hex())
    assert a[-32:].hex() in text
    assert b[-32:].hex() in text
    assert a[:12].hex() in text


def test_story_shared_secret_is_equal_at_both_ends(scene: Scene) -> None:
    prints = {end.of(SharedSecretComputed)[0].secret.fingerprint() for end in (scene.client, scene.server)}
    part = tell(scene).parts[3].to_dict()
    assert len(prints) == 1
    assert part["equal"] is True
    assert section(text_of(tell(scene)), 4).count(prints.pop()) == 2


def test_story_shared_secret_says_so_when_the_ends_differ(scene: Scene, hybrid: Scene) -> None:
    fields = {name: getattr(scene, name) for name in Scene.__slots__ if name != "server"}
    story = tell(Scene(**fields, server=hybrid.server))
    assert story.parts[3].to_dict()["equal"] is False
    assert "✗ they differ" in text_of(story)
    assert story.parts[4].to_dict()["equal_at_both_ends"] == 2  # what comes before any secret is mixed in


def test_story_keys_draws_every_secret_by_its_fingerprint(scene: Scene) -> None:
    text = section(text_of(tell(scene)), 5)
    for event in scene.client.of(SecretDerived):
        assert event.secret.fingerprint() in text
        assert not event.label or f'"{event.label}"' in text
    for event in scene.client.of(KeysInstalled):
        assert event.key.fingerprint() in text
        assert event.iv.fingerprint() in text
    assert "integrity key" in text


def test_story_records_show_the_bytes_on_the_wire(scene: Scene) -> None:
    text = section(text_of(tell(scene)), 6)
    installed = scene.client.of(KeysInstalled)
    data = [
        record
        for record in scene.client.of(RecordTraced)
        if record.epoch is Epoch.APPLICATION and record.content_type == ContentType.APPLICATION_DATA
    ]
    request, response = data[0], data[1]
    assert open_record(request, installed).content == scene.request
    assert open_record(response, installed).content == scene.response
    assert scene.response.endswith(demo.PAGE)
    for record in (request, response):
        assert record.raw[5:21].hex(" ") in text
        assert f"{record.size} bytes: 5 header + {record.content_size} data + 1 type + 16 tag" in text
    assert "GET / HTTP/1.1·· │" in text


def test_story_tampered_record_is_refused(scene: Scene) -> None:
    tampering = scene.tampering
    changed = [
        index for index, (was, now) in enumerate(zip(tampering.sent, tampering.changed, strict=True)) if was != now
    ]
    assert changed == [tampering.position]
    assert [alert.description for alert in scene.client.of(AlertTraced)] == [AlertDescription.BAD_RECORD_MAC]
    assert [alert.direction for alert in scene.server.of(AlertTraced)] == [Direction.SENT]
    part = tell(scene).parts[5].to_dict()["tampered"]
    assert isinstance(part, dict)
    assert (part["refused"], part["alerts"], part["requests_delivered"]) == (True, ["bad_record_mac"], 1)
    text = section(text_of(tell(scene)), 6)
    assert "bad_record_mac" in text
    assert f"[{tampering.changed[tampering.position]:02x}]" in text


# ---- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_story_holds_no_secret_unless_revealed_and_then_all(scene: Scene, hybrid: Scene, width: int) -> None:
    for told in (scene, hybrid):
        secrets = secrets_of(told)
        assert len(secrets) > 15
        hidden = squeezed(text_of(revealed(told, reveal=False), width))
        shown = squeezed(text_of(revealed(told, reveal=True), width))
        assert not any(secret.hex() in hidden for secret in secrets)
        assert all(secret.hex() in shown for secret in secrets)


def test_json_holds_no_secret_unless_revealed_and_then_all(scene: Scene) -> None:
    secrets = secrets_of(scene)
    hidden = json.dumps(revealed(scene, reveal=False).to_dict())
    shown = json.dumps(revealed(scene, reveal=True).to_dict())
    assert not any(secret.hex() in hidden for secret in secrets)
    assert all(secret.hex() in shown for secret in secrets)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_command_prints_the_story_in_a_pipe_without_colour() -> None:
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert [f"━━ {number} " in result.stdout for number in range(1, 7)] == [True] * 6
    assert max(map(cells, result.stdout.splitlines())) <= 80
    assert "hint: " in result.stderr
    assert "hint: " not in result.stdout


def test_command_json_is_one_document_with_a_schema() -> None:
    result = CliRunner().invoke(cli, ["demo", "--json", "--suite", "TLS_CHACHA20_POLY1305_SHA256"])
    assert result.exit_code == 0, result.output
    story = json.loads(result.stdout)
    assert story["schema"] == 1
    assert story["secrets_revealed"] is False
    assert story["parts"][1]["cipher_suite"] == "TLS_CHACHA20_POLY1305_SHA256"
    assert story["parts"][5]["opened_with_derived_keys"] is True
    assert [message["name"] for message in story["parts"][1]["messages"]][:2] == ["ClientHello", "ServerHello"]


@pytest.mark.parametrize("by_option", [True, False])
def test_command_keylog_opens_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_option: bool) -> None:
    path = tmp_path / "keys.log"
    arguments = ["demo", "--json", "--reveal"]
    if by_option:
        arguments += ["--keylog", str(path)]
    else:
        monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    lines = [row.split(" ") for row in path.read_text("ascii").splitlines()]
    assert [row[0] for row in lines] == [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    ]
    assert all(row[2] in result.stdout for row in lines)


def test_command_keylog_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", "--keylog", str(tmp_path / "missing" / "file")])
    assert "cannot write the key log" in str(result.exception)
    assert result.stdout == ""


def test_demo_without_packet_capture_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capture, "open", staticmethod(lambda _address: "needs CAP_NET_RAW: not allowed"))
    text = section(text_of(tell(perform(Options(suite=suite_by_name("TLS_AES_256_GCM_SHA384"))))), 1)
    assert "no packets" in text
    assert "needs CAP_NET_RAW: not allowed" in text
    assert "SYN-ACK ─" not in text


# ---- output --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_output_is_coloured_on_a_terminal_unless_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal, pipe = Terminal(), io.StringIO()
    story = tell(scene)
    Output(stdout=terminal, stderr=io.StringIO()).facts(story.lines(80))
    Output(stdout=pipe, stderr=io.StringIO()).facts(story.lines(80))
    assert ("\x1b[" in terminal.getvalue()) is coloured
    bare = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert [row.rstrip() for row in bare.splitlines()] == pipe.getvalue().splitlines()


def test_output_is_drawn_in_ascii_where_nothing_else_can_be_written(scene: Scene) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stdout=stream, stderr=io.StringIO()).facts(tell(scene).lines(80))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "== 1 The TCP handshake =" in text
    assert "\\u" not in text
    assert "\\x" not in text


# ---- the page that explains it -------------------------------------------------------------------------------------


def test_concepts_page_has_the_six_parts_and_its_example_runs(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "six-steps.md").read_text("utf-8")
    for part in tell(scene).parts:
        assert f"\n## {part.number}. {part.title}\n" in page
    examples = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    exec(compile(examples[0], "six-steps.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert "ClientHello" in out[1]
    assert re.fullmatch(r"[0-9a-f]{16}", out[-1])
