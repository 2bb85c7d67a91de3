"""Raw public keys on the command line: `pellucid serve` shows one, `pellucid get` knows the server by it, and back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pellucid.cli.main import main
from pellucid.crypto.certificates import parse_raw_public_key
from pellucid.crypto.credentials import private_key_from_pem, spki_of
from pellucid.testing.ca import CA, Issued
from tests.support.programs import Pellucid
from tests.unit.test_cli_serve import Running, starting

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server is stopped by a signal")


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Files:
    """A directory to serve, two keys with certificates, and their public halves."""

    folder: Path
    server: Issued
    client: Issued
    captured: pytest.CaptureFixture[str]

    def run(self, *arguments: object) -> Result:
        """Run `pellucid` in this process, which is in the directory: starting another is what takes time."""
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        out, err = self.captured.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    def get(self, *arguments: object) -> Result:
        return self.run("get", *arguments)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return kept | {"PELLUCID_HOME": str(self.folder / "home"), "COLUMNS": "100", "SSLKEYLOGFILE": ""}

    @contextlib.contextmanager
    def serve(self, *arguments: object) -> Iterator[tuple[str, Running]]:
        with starting(Pellucid, self.folder, self.folder / "home")(self.folder / "site", *arguments) as running:
            yield running.url, running


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Files:
    authority = CA("command line")
    made = Files(tmp_path, authority.issue("localhost"), authority.issue("somebody", purposes=("client",)), capsys)
    monkeypatch.chdir(tmp_path)
    for name in {*os.environ} - {*made.environment}:
        monkeypatch.delenv(name)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello")
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    for name, leaf in (("server", made.server), ("client", made.client)):
        (tmp_path / f"{name}.pem").write_bytes(leaf.chain_pem)
        (tmp_path / f"{name}-key.pem").write_bytes(leaf.key_pem)
        key = parse_raw_public_key(spki_of(private_key_from_pem(leaf.key_pem)))
        (tmp_path / f"{name}-public.pem").write_text(key.pem)
    return made


def test_server_shows_its_key_to_those_who_know_it_and_its_certificate_to_others(files: Files) -> None:
    own = ("--cert", "server.pem", "--key", "server-key.pem", "--raw-public-key")
    with files.serve(*own) as (url, server):
        server.wait_for("-----END PUBLIC KEY-----", server.said)
        assert (files.folder / "server-public.pem").read_text().strip() in "".join(server.said)
        for trust, kind in (
            (("--pubkey", "server-public.pem"), "raw public key"),
            (("--pubkey", "server-public.pem", "--cacert", "root.pem"), "raw public key"),
            (("--cacert", "root.pem"), "X.509"),
        ):
            found = files.get(url, "--json", *trust)
            assert found.returncode == 0, found.stderr
            assert json.loads(found.stdout)["tls"]["certificate_type"] == kind
        drawn = files.get(url, "-v", "--pubkey", "server-public.pem")
        assert drawn.stdout == "hello"
        assert "raw public key" in drawn.stderr


def test_server_with_another_key_is_told_from_the_one_that_was_meant(files: Files) -> None:
    with files.serve("--key", "server-key.pem", "--raw-public-key") as (url, _server):
        refused = files.get(url, "--pubkey", "client-public.pem")
        assert (refused.returncode, refused.stdout) == (60, "")
        assert "is not the one that is trusted" in refused.stderr
        assert "have it by a way that you trust: --pubkey FILE" in refused.stderr
        assert files.get(url, "--pubkey", "server-public.pem").stdout == "hello"
        without = files.get(url, "--cacert", "root.pem")
        assert without.returncode == 58 or "unsupported_certificate" in without.stderr, without.stderr


def test_server_without_a_raw_key_is_no_matter_of_the_client_certificate(files: Files) -> None:
    with files.serve("--cert", "server.pem", "--key", "server-key.pem") as (url, _server):
        refused = files.get(url, "--pubkey", "server-public.pem")
        assert refused.returncode == 35, refused.stderr
        assert "hint: the server has no raw public key to show" in refused.stderr
        assert "another client certificate" not in refused.stderr


def test_revocation_is_asked_for_certificates_beside_raw_keys(files: Files) -> None:
    known = ("--cacert", "root.pem", "--pubkey", "client-public.pem")
    with files.serve("--cert", "server.pem", "--key", "server-key.pem") as (url, _server):
        assert files.get(url, *known).stdout == "hello"
        refused = files.get(url, *known, "--cert-status")
        assert refused.returncode == 60, refused.stderr
        assert "no OCSP response was stapled" in refused.stderr
        pointless = files.get(url, "--pubkey", "server-public.pem", "--cert-status")
        assert pointless.returncode == 2 and "for certificates only" in pointless.stderr, pointless.stderr


def test_clients_are_known_by_their_keys(files: Files) -> None:
    own = ("--cert", "server.pem", "--key", "server-key.pem", "--client-pubkey", "client-public.pem")
    shown = ("--cacert", "root.pem", "--raw-public-key")
    with files.serve(*own) as (url, server):
        assert files.get(url, *shown, "--key", "client-key.pem").stdout == "hello"
        assert files.get(url, *shown, "--cert", "client.pem", "--key", "client-key.pem").stdout == "hello"
        refused = files.get(url, *shown, "--key", "server-key.pem")
        assert refused.returncode == 58, refused.stderr
        server.wait_for("refused (bad_certificate): the client's raw public key", server.said)
        assert files.get(url, "--cacert", "root.pem").returncode == 58
        server.wait_for("refused (unsupported_certificate)", server.said)
    with files.serve(*own, "--client-ca", "root.pem", "--client-auth", "optional") as (url, _server):
        for credential in (
            ("--cert", "client.pem", "--key", "client-key.pem"),
            ("--raw-public-key", "--key", "client-key.pem"),
            (),
        ):
            found = files.get(url, "--cacert", "root.pem", *credential)
            assert found.stdout == "hello", (credential, found.stderr)


def test_options_that_make_no_sense_are_refused(files: Files) -> None:
    (files.folder / "junk.pem").write_text("junk")
    url = "https://localhost:1/"
    for arguments, code, words in (
        (("--pubkey", "none.pem"), 77, "cannot read none.pem"),
        (("--pubkey", "junk.pem"), 77, "junk.pem"),
        (("--pubkey", "server.pem"), 77, "no PUBLIC KEY"),
        (("--raw-public-key",), 2, "needs --key or --cert"),
        (("--raw-public-key", "--key", "junk.pem"), 58, "junk.pem"),
        (("--raw-public-key", "--key", "none.pem"), 58, "none.pem"),
        (("--key", "client-key.pem"), 2, "--key needs --cert, or --raw-public-key"),
    ):
        found = files.get(url, *arguments)
        assert (found.returncode, words in found.stderr) == (code, True), found.stderr
    for arguments, code, words in (
        (("--client-pubkey", "none.pem"), 77, "cannot read none.pem"),
        (("--client-pubkey", "junk.pem"), 77, "junk.pem"),
        (("--client-auth", "optional"), 2, "--client-pubkey"),
    ):
        found = files.run("serve", "site", "--port", "0", *arguments)
        assert (found.returncode, words in found.stderr) == (code, True), found.stderr
