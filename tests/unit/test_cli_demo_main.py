"""The command line's skeleton: help, lazily imported commands, and the one table of exit codes."""

from __future__ import annotations

import errno
import io
import socket
import subprocess
import sys

import click
import pytest

from pellucid import AlertReceived, InternalError, TruncatedStream, UsageError
from pellucid.cli import main as entry
from pellucid.cli.common import EXIT_CODES, CommandFailed, exit_code, fail, hints_for
from pellucid.cli.output import Output
from pellucid.errors import BadRecordMac, HandshakeFailure, UnexpectedMessage
from pellucid.verify.report import CertificateRejected, Failure, LazyChecks, VerificationReport


def rejected(failure: Failure) -> CertificateRejected:
    report = VerificationReport(accepted=False, summary="no", failure=failure, explanation=LazyChecks(tuple))
    return CertificateRejected(report)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("x", code=22), 22),
        (click.UsageError("x"), 2),
        (UsageError("x"), 2),
        (socket.gaierror(socket.EAI_NONAME, "x"), 6),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), 7),
        (OSError(errno.ENETUNREACH, "x"), 7),
        (BrokenPipeError(errno.EPIPE, "x"), 23),
        (FileNotFoundError(errno.ENOENT, "x"), 26),
        (TimeoutError("x"), 28),
        (HandshakeFailure("x"), 35),
        (AlertReceived(40), 35),
        (AlertReceived(20), 56),
        (TruncatedStream(), 56),
        (ConnectionResetError(errno.ECONNRESET, "x"), 56),
        (AlertReceived(116), 58),
        (rejected(Failure.EXPIRED), 60),
        (KeyboardInterrupt(), 130),
        (InternalError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_code_is_curls(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
    assert code in EXIT_CODES


def test_hints_can_be_acted_on() -> None:
    assert "--cacert" in hints_for(rejected(Failure.UNKNOWN_CA))[0]
    assert hints_for(CommandFailed("x", hints=("do this",))) == ("do this",)
    assert "plain HTTP" in hints_for(UnexpectedMessage("the peer does not speak TLS", code="PEER-PLAIN-HTTP"))[0]
    assert hints_for(BadRecordMac("x")) == ()


def test_fail_tells_in_lines_and_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(CommandFailed("bad \x1b[2J name", code=6, hints=("try another",))) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "pellucid: bad \\x1b[2J name\nhint: try another\n"


def test_output_closed_by_its_reader_is_silent_and_23() -> None:
    script = (
        "from pellucid.cli.output import Output; from pellucid.cli import main as entry\n"
        "import click, types, sys\n"
        "@click.command()\n"
        "def command():\n"
        "    for _ in range(100_000): Output().fact('x' * 60)\n"
        "sys.modules['pellucid.cli.demo'] = types.SimpleNamespace(command=command)\n"
        "entry.importlib.util.find_spec = lambda name: name\n"
        "entry.main(['demo'])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 23
        assert process.stderr.read() == b""


def test_a_connection_that_breaks_is_not_taken_for_closed_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def command() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(entry.LazyGroup, "get_command", lambda *_: command)
    with pytest.raises(SystemExit) as leaving:
        entry.main(["demo"])
    assert leaving.value.code == 56
    assert capsys.readouterr().err == "pellucid: the connection broke: Broken pipe\n"


def test_main_lists_the_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        entry.main(["--help"])
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    assert "demo" in out
    assert "Exit codes" in out


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nonsense"], 2), (["demo", "--nonsense"], 2)])
def test_main_leaves_with_the_exit_code(arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as leaving:
        entry.main(arguments)
    assert leaving.value.code == code


def test_main_keeps_going_without_a_command_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "COMMANDS", {"demo": "x", "missing": "y"})
    context = click.Context(entry.cli)
    assert entry.cli.list_commands(context) == ["demo"]
    assert entry.cli.get_command(context, "missing") is None


def test_a_missing_extra_is_named_with_the_way_to_install_it() -> None:
    script = "import sys; sys.modules['h11'] = None\nfrom pellucid.cli.main import main; main(['demo'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "pellucid: `pellucid demo` needs h11\nhint: pip install 'pellucid[cli]'\n"


def test_without_click_the_entry_point_says_so() -> None:
    script = "import sys; sys.modules['click'] = None\nfrom pellucid.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "pellucid: the command line needs click\nhint: pip install 'pellucid[cli]'\n"


def test_help_imports_no_command() -> None:
    script = (
        "import sys\nfrom pellucid.cli.main import main\n"
        "try: main(['--help'])\nfinally: print(sorted(m for m in sys.modules if m in"
        " {'h11', 'rich', 'httpx2', 'pellucid.cli.demo'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_output_writes_bytes_as_they_are_after_the_lines_before_them() -> None:
    raw = io.BytesIO()
    output = Output(stdout=io.TextIOWrapper(raw, encoding="utf-8"), stderr=io.StringIO())
    output.fact("head")
    output.raw(b"\xff\x00\n")
    assert raw.getvalue() == b"head\n\xff\x00\n"
