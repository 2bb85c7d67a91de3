"""OpenSSL through `openssl s_server` and `openssl s_client`."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.interop.certificates import CredentialFiles
from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, check, http_turn, line_turns
from tests.interop.peers import openssl_names
from tests.interop.peers.own import version_tuple
from tests.interop.peers.piped import talk
from tests.interop.process import PeerFailed, Program, output_of, running
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role, RunningServer, ServerSpec

_LINES: Final = (b"one\n", b"two\n", b"three\n")
# What s_server can only do while somebody types the answers: with -WWW and -rev, -stateless does nothing.
_TYPED: Final = (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES, Purpose.COOKIE)
# The turn in which s_server sends its KeyUpdate.
_UPDATES_IN: Final = {Purpose.INITIATE_KEY_UPDATE: 0, Purpose.CROSS_KEY_UPDATES: 1}


class OpenSSL(Peer):
    name = "openssl"
    demands_cookies = True

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        return output_of(["openssl", "version"]).strip()

    def missing(self) -> str | None:
        return None if shutil.which("openssl") else "no openssl on the PATH (apt install openssl)"

    def lacks(self, role: Role) -> Mapping[str, str]:
        return openssl_names.lacks(version_tuple(self.version()))

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        if role is Role.CLIENT:
            return super().turns(role, purpose)
        if purpose is Purpose.LARGE:
            return line_turns(LARGE, reverse=True)
        if purpose in _TYPED:
            return tuple(Turn(line, b"answer " + line, raw=True) for line in _LINES)
        # -WWW ends the connection after one answer.
        return (http_turn("GET", "/hello", TOKEN, last=True),)

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_3", *_common(spec)]
        command += _credential(spec.credential, spec.workdir)
        if spec.client_authentication != "none":
            command += ["-CAfile", str(spec.ca), "-verify_return_error"]
            command += ["-Verify" if spec.client_authentication == "required" else "-verify", "3"]
        command += ["-stateless"] if spec.cookie else []
        if spec.purpose is Purpose.LARGE:
            command += ["-rev"]
        elif spec.purpose in _TYPED:
            command += ["-msg"]  # shows when the KeyUpdate is sent
        else:
            (spec.workdir / "hello").write_bytes(TOKEN)
            command += ["-WWW"]
        with running(command, cwd=spec.workdir) as program:
            port = int(program.wait_for(rb"^ACCEPT 127\.0\.0\.1:(\d+)$").group(1))
            if spec.purpose in _TYPED:
                threading.Thread(target=_operate, args=(program, spec.purpose), daemon=True).start()
            yield RunningServer(port, lambda: _server_facts(program), program.output, pid=program.pid)

    def request(self, spec: ClientSpec) -> ClientDone:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{spec.port}", "-tls1_3", *_common(spec)]
        command += ["-servername", spec.server_name, "-verify_hostname", spec.server_name]
        command += ["-CAfile", str(spec.ca), "-verify_return_error", "-brief"]
        if spec.credential is not None:
            command += _credential(spec.credential, spec.workdir)
        command += [] if spec.middlebox_compatibility else ["-no_middlebox"]
        if spec.purpose not in _UPDATES_IN:
            command += ["-ign_eof"]  # or some letters at the start of a line would be commands
        with running(command, cwd=spec.workdir) as program:

            def between(number: int) -> None:
                if number == 1 and spec.purpose in _UPDATES_IN:
                    program.write(b"K\n")
                    program.wait_for(rb"KEYUPDATE", 10.0)

            for turn, answer in zip(spec.turns, talk(program, spec.turns, between), strict=True):
                check(turn, answer)
            text = program.output()
            suite = re.search(r"^Ciphersuite: (\S+)$", text, re.MULTILINE)
            facts = Facts(suite=suite.group(1) if suite else None, group=openssl_names.temporary_key(text))
            return ClientDone(facts, text)


def _credential(files: CredentialFiles, workdir: Path) -> list[str]:
    words = ["-cert", str(files.certificate), "-key", str(files.key)]
    # Of -cert only the first certificate counts.
    _, *issuers = re.split(r"(?=-----BEGIN )", files.certificate.read_text())[1:]
    if issuers:
        chain = workdir / "issuers.pem"
        chain.write_text("".join(issuers))
        words += ["-cert_chain", str(chain)]
    return words


def _common(spec: ServerSpec | ClientSpec) -> list[str]:
    command = []
    if spec.suites:
        command += ["-ciphersuites", ":".join(spec.suites)]
        if any("CCM" in suite for suite in spec.suites):
            command += ["-cipher", "DEFAULT:@SECLEVEL=0"]  # CCM_8's short tag is below the usual level
    if spec.groups:
        command += ["-groups", openssl_names.group_list(spec.groups)]
    if spec.alpn:
        command += ["-alpn", ",".join(spec.alpn)]
    return command


def _operate(program: Program, purpose: Purpose) -> None:
    """Type the answers of s_server, and before one of them the command that makes it send a KeyUpdate."""
    with contextlib.suppress(PeerFailed):
        for number, line in enumerate(_LINES):
            program.wait_for(rb"^%b$" % line.rstrip())
            if _UPDATES_IN.get(purpose) == number:
                program.write(b"K\n")
                # Only then: what is typed in one go with the command is lost.
                program.wait_for(rb">>> .*KeyUpdate")
            program.write(b"answer " + line)


def _server_facts(program: Program) -> Facts:
    text = program.output()
    suite = re.search(r"^(?:CIPHER is|Ciphersuite:) (\S+)$", text, re.MULTILINE)
    return Facts(suite=suite.group(1) if suite else None)
