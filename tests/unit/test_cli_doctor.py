"""`pellucid doctor`: real programs of this machine fetch a page; what is told to help helps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.doctor_server import probes
from pellucid.cli.doctor_surroundings import Finding, Level, ca_findings, variable_findings
from pellucid.cli.main import main
from pellucid.cli.stores import Root
from pellucid.cli.trust_lines import all_trust_lines
from tests.support.needs import need

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs are those of Unix")

_VARIABLES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("NODE_EXTRA_CA_CERTS", "SSLKEYLOGFILE", "AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)


@pytest.fixture(autouse=True)
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The development CA's file, in a home of the test's own; no variable of this machine's in the way."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "data"))
    # the Python on the PATH is the one of these tests, which has the modules
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return DevelopmentCA.open().certificate_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["doctor", *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code


def program(name: str, capsys: pytest.CaptureFixture[str], *, code: int) -> dict[str, object]:
    """What is told of one program."""
    assert run(name, "--json") == code
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    (found,) = told["programs"]
    assert isinstance(found, dict)
    assert [store["name"] for store in told["stores"]] == {"node": [], "chromium": ["nss"]}.get(name, ["debian"])
    return found


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        pytest.param("curl", "CURL_CA_BUNDLE", marks=pytest.mark.program("curl")),
        pytest.param("git", "GIT_SSL_CAINFO", marks=pytest.mark.program("git")),
        pytest.param("openssl", "SSL_CERT_FILE", marks=pytest.mark.program("openssl")),
        ("python", "SSL_CERT_FILE"),
        ("requests", "REQUESTS_CA_BUNDLE"),
        ("httpx", "SSL_CERT_FILE"),
        ("pip", "PIP_CERT"),
        pytest.param("node", "NODE_EXTRA_CA_CERTS", marks=pytest.mark.program("node")),
    ],
)
def test_doctor_tells_what_helps_each_program(
    name: str, variable: str, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = program(name, capsys, code=60)
    assert found["trusts"] is False
    assert "cert" in str(found["said"]).lower()
    assert found["fix_helps"] is True, found
    assert str(ca) in str(found["fix"])
    monkeypatch.setenv(variable, str(ca))
    found = program(name, capsys, code=0)
    assert (found["trusts"], found["fix"]) == (True, "")


# ---- what is told is what helps, to the letter -----------------------------------------------------------------------


def typed(name: str, text: str, url: str, here: Path) -> str:
    """A line that was told, with what it leaves to its reader: a program, a place, a package."""
    fetch = "import requests as r; r.get" if name == "requests" else "import urllib.request as r; r.urlopen"
    (here / "your_program.py").write_text(f"{fetch}({url!r}, timeout=10)")
    (here / "your_program.js").write_text(f"require('https').get({url!r}, r => r.resume())")
    (here / "client.py").write_text(f"import httpx, ssl\n{text}.get({url!r})")
    (here / "request").write_bytes(f"GET /{url.split('/')[3]}/ HTTP/1.1\r\n\r\n".encode())
    index = f"--no-deps --disable-pip-version-check --retries 0 -d {here} -i {url} probe"
    place = f"{url.split('/')[2]} -quiet -servername localhost < request"
    return {
        "git": f"{text}; git ls-remote {url}",
        "httpx": "python client.py",
        "pip": text.replace("pip install", "python -m pip download").replace("...", index),
        "openssl": text.replace("HOST:PORT", place),
    }.get(name, text)


_TYPED = ("pellucid", "curl", "requests", "httpx", "node", "python", "pip", "git", "wget", "openssl")


@pytest.mark.parametrize("name", _TYPED)
def test_trust_lines_help_as_they_stand(name: str, ca: Path, tmp_path: Path) -> None:
    need(None if name in {"requests", "httpx", "python", "pip", "pellucid"} or shutil.which(name) else f"no {name}")
    with probes(DevelopmentCA.open().credential()) as server:
        url = server.url()
        text = dict(all_trust_lines(ca, url))[name]
        assert str(ca) in text
        environment = os.environ | {"NO_PROXY": "localhost", "no_proxy": "localhost"}
        command = typed(name, text, url, tmp_path)
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, timeout=60, capture_output=True, check=False
        )
        assert server.asked(url), done.stderr.decode()[-500:]


@pytest.mark.program("wget")
def test_doctor_tries_wget(capsys: pytest.CaptureFixture[str]) -> None:
    assert program("wget", capsys, code=60)["fix_helps"] is True


@pytest.mark.program("chromium")
@pytest.mark.program("certutil")
def test_doctor_tries_chromium_over_its_store(capsys: pytest.CaptureFixture[str]) -> None:
    found = program("chromium", capsys, code=60)
    assert "ERR_CERT_AUTHORITY_INVALID" in str(found["said"])
    assert (found["fix"], found["fix_helps"]) == ("pellucid trust --apply nss", True)
    with pytest.raises(SystemExit) as left:
        main(["trust", "--apply", "nss"])
    assert left.value.code == 0
    capsys.readouterr()
    assert program("chromium", capsys, code=0)["trusts"] is True


@pytest.mark.program("git")
def test_doctor_says_which_variable_is_in_the_way(
    ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = DevelopmentCA.open(tmp_path / "another").certificate_path
    monkeypatch.setenv("GIT_SSL_CAINFO", str(elsewhere))
    assert run("git") == 60
    out = capsys.readouterr().out
    assert f"! GIT_SSL_CAINFO  {elsewhere} lacks the development CA" in out
    assert f"unset GIT_SSL_CAINFO; git config --global http.https://localhost:8443/.sslCAInfo {ca}" in out
    assert "tried: it helps" in out


def test_doctor_without_a_ca_or_program_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert run("curl") == 26
    assert "curl: not installed" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "data")
    assert run() == 58
    assert "hint: pellucid dev-cert localhost" in capsys.readouterr().err


def test_doctor_refuses_a_ca_that_others_may_read(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca.with_name("ca-key.pem").chmod(0o640)
    assert run() == 58
    assert "others may read" in capsys.readouterr().err


# ---- what is around --------------------------------------------------------------------------------------------------


def surroundings(ca: Path, **environment: str) -> dict[str, Finding]:
    return {one.what: one for one in variable_findings(Root.read(ca), environment)}


def test_doctor_judges_variables(ca: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("\x1b[2Jnothing")
    found = surroundings(
        ca,
        SSL_CERT_FILE=str(ca),
        CURL_CA_BUNDLE=str(tmp_path / "nowhere\x1b[2J.pem"),
        PIP_CERT=str(tmp_path / "empty.pem"),
        NODE_TLS_REJECT_UNAUTHORIZED="0",
        GIT_SSL_NO_VERIFY="true",
        SSLKEYLOGFILE="/tmp/keys",
        HTTPS_PROXY="http://proxy.test",
    )
    assert {what: one.level for what, one in found.items()} == {
        "SSL_CERT_FILE": Level.GOOD,
        "CURL_CA_BUNDLE": Level.BAD,
        "PIP_CERT": Level.BAD,
        "NODE_TLS_REJECT_UNAUTHORIZED": Level.WARNING,
        "GIT_SSL_NO_VERIFY": Level.WARNING,
        "SSLKEYLOGFILE": Level.WARNING,
        "HTTPS_PROXY": Level.WARNING,
    }
    assert all(one.text.isprintable() for one in found.values())
    assert "No such file" in found["CURL_CA_BUNDLE"].text
    assert surroundings(ca, HTTPS_PROXY="x", NO_PROXY="a, localhost", GIT_SSL_NO_VERIFY="false") == {}


def test_doctor_judges_dates_clock_and_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = DevelopmentCA.open()
    assert [(one.what, one.level) for one in ca_findings(authority)] == [("ca", Level.GOOD)]
    certificate = authority.authority.certificate
    for when, expected in (
        (certificate.not_valid_after_utc.timestamp() + 1, [("ca", Level.BAD)]),
        (certificate.not_valid_after_utc.timestamp() - 86400 * 100, [("ca", Level.WARNING)]),
        (certificate.not_valid_before_utc.timestamp() - 1, [("ca", Level.GOOD), ("clock", Level.BAD)]),
    ):
        monkeypatch.setattr("pellucid.cli.doctor_surroundings.PYCA", _Clock(when))
        assert [(one.what, one.level) for one in ca_findings(authority)] == expected
    monkeypatch.undo()
    limitless = DevelopmentCA.open(tmp_path / "any", any_name=True)
    assert [one.level for one in ca_findings(limitless)] == [Level.GOOD, Level.WARNING]


class _Clock:
    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now
