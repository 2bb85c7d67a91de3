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
# Where it matters how a connection began: with -WWW s_server does not say, and takes no early data.
_WORD: Final = b"word\n"
_BEGINNINGS: Final = (Purpose.RESUME, Purpose.EARLY_DATA, Purpose.PSK)
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
        if purpose in _BEGINNINGS:
            return (Turn(_WORD, b"answer " + _WORD, raw=True),)
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
        command += [] if spec.tickets is None else ["-num_tickets", str(spec.tickets)]
        command += [] if spec.staple is None else ["-status_file", str(spec.staple)]
        command += ["-early_data"] if spec.early_data is not None else []
        # Against replays it takes a ticket out of its cache at once, and does not find it in a second ClientHello.
        command += ["-no_anti_replay"] if spec.early_data is not None and spec.retries else []
        if spec.purpose is Purpose.LARGE:
            command += ["-rev"]
        elif spec.purpose in _TYPED:
            command += ["-msg"]  # shows when the KeyUpdate is sent
        elif spec.purpose not in _BEGINNINGS:
            (spec.workdir / "hello").write_bytes(TOKEN)
            command += ["-WWW"]
        with running(command, cwd=spec.workdir) as program:
            port = int(program.wait_for(rb"^ACCEPT 127\.0\.0\.1:(\d+)$").group(1))
            if spec.purpose in _TYPED:
                threading.Thread(target=_operate, args=(program, spec.purpose), daemon=True).start()
            elif spec.purpose in _BEGINNINGS:
                threading.Thread(target=_answer_each, args=(program, spec.connections), daemon=True).start()
            yield RunningServer(port, lambda: _server_facts(program, spec), program.output, pid=program.pid)

    def request(self, spec: ClientSpec) -> ClientDone:
        if spec.purpose in _BEGINNINGS:
            return [self._once_more(spec, number) for number in range(spec.connections)][-1]
        command = [*_client(spec), "-brief"]
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

    def _once_more(self, spec: ClientSpec, number: int) -> ClientDone:
        """Make connection *number* of several, which keep their sessions in a file."""
        session, early = spec.workdir / "session.pem", spec.workdir / "early"
        command = [*_client(spec), "-ign_eof"]
        command += ["-sess_out", str(session)] if number + 1 < spec.connections else []
        command += ["-sess_in", str(session)] if number else []
        (turn,) = spec.turns
        if number and spec.early_data is not None:
            early.write_bytes(turn.send)
            command += ["-early_data", str(early)]
        with running(command, cwd=spec.workdir) as program:
            # Once the handshake is done, and before any data, it says what was agreed on.
            said = program.wait_for(rb"^Early data was (accepted|rejected|not sent)$").group(1).decode()
            if said != "accepted":
                program.write(turn.send)
            program.wait_for(re.escape(turn.expect) + (b"" if turn.raw else rb"(?:.*\n)*closed$"))
            text = program.stdout.decode("utf-8", "replace")
        suite = re.search(r"^(New|Reused), TLSv1\.3, Cipher is (\S+)$", text, re.MULTILINE)
        if suite is None:
            raise PeerFailed(f"it does not say what was agreed on:\n{text}")
        alpn = re.search(r"^ALPN protocol: (\S+)$", text, re.MULTILINE)
        # A PSK is a session to OpenSSL: without a certificate there is one or the other.
        shown = re.search(r"^Server certificate$", text, re.MULTILINE) is not None
        reused = suite.group(1) == "Reused"
        return ClientDone(
            Facts(
                suite=suite.group(2),
                group=openssl_names.temporary_key(text),
                alpn=alpn.group(1) if alpn else "",
                resumed=reused and spec.psk is None,
                early_data={"accepted": True, "rejected": False}.get(said),
                psk=reused and spec.psk is not None and not shown,
            ),
            text,
        )


def _client(spec: ClientSpec) -> list[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{spec.port}", "-tls1_3", *_common(spec)]
    command += ["-servername", spec.server_name, "-verify_hostname", spec.server_name]
    command += ["-CAfile", str(spec.ca), "-verify_return_error"]
    if spec.credential is not None:
        command += _credential(spec.credential, spec.workdir)
    return command if spec.middlebox_compatibility else [*command, "-no_middlebox"]


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
    if spec.psk is not None:
        command += ["-psk_identity", spec.psk.identity, "-psk", spec.psk.key.hex()]
        command += [] if spec.psk.key_exchange else ["-allow_no_dhe_kex"]
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


def _answer_each(program: Program, connections: int) -> None:
    """Type an answer to what is said on each connection, in 0-RTT or later."""
    with contextlib.suppress(PeerFailed):
        for number in range(connections):
            program.wait_until(
                lambda out, due=number: len(re.findall(rb"^%b$" % _WORD.rstrip(), bytes(out), re.M)) > due
            )
            program.write(b"answer " + _WORD)


def _server_facts(program: Program, spec: ServerSpec) -> Facts:
    if spec.purpose in _BEGINNINGS:
        # It says so when the handshake is done, but it comes when its buffer is written.
        with contextlib.suppress(PeerFailed):
            program.wait_until(lambda out: out.count(b"Secure Renegotiation IS") >= spec.connections, 5.0)
    text = program.stdout.decode("utf-8", "replace")
    last = text[max(text.rfind("-----BEGIN SSL SESSION"), 0) :]
    suite = re.search(r"^(?:CIPHER is|Ciphersuite:) (\S+)$", last, re.MULTILINE)
    if spec.purpose not in _BEGINNINGS:
        return Facts(suite=suite.group(1) if suite else None)
    early = re.findall(r"^(No early data received|Early data was rejected|Early data received:)$", text, re.MULTILINE)
    reused = re.search(r"^Reused session-id$", last, re.MULTILINE) is not None
    # A PSK is a session to OpenSSL.
    return Facts(
        suite=suite.group(1) if suite else None,
        resumed=reused and spec.psk is None,
        early_data=early[-1] == "Early data received:" if early else None,
        psk=reused and spec.psk is not None,
    )
