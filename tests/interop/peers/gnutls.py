"""GnuTLS through gnutls-serv and gnutls-cli."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.interop import confined
from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, check, http_turn, line_turns
from tests.interop.names import HYBRIDS, MLDSA, NO_HYBRID, NO_KEY_UPDATE, NO_MLDSA
from tests.interop.peers.piped import talk
from tests.interop.process import PeerFailed, Program, output_of, running
from tests.interop.spec import ClientDone, ClientSpec, EarlyData, Facts, Peer, Role, RunningServer, ServerSpec

_CIPHERS: Final = {
    "TLS_AES_128_GCM_SHA256": "AES-128-GCM",
    "TLS_AES_256_GCM_SHA384": "AES-256-GCM",
    "TLS_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "TLS_AES_128_CCM_SHA256": "AES-128-CCM",
    "TLS_AES_128_CCM_8_SHA256": "AES-128-CCM-8",
}
_GROUPS: Final = {
    "secp256r1": "SECP256R1",
    "secp384r1": "SECP384R1",
    "secp521r1": "SECP521R1",
    "x25519": "X25519",
    "x448": "X448",
    "X25519MLKEM768": "X25519-MLKEM768",
    "SecP256r1MLKEM768": "SECP256R1-MLKEM768",
    "SecP384r1MLKEM1024": "SECP384R1-MLKEM1024",
}


_BEGINNINGS: Final = (Purpose.RESUME, Purpose.EARLY_DATA, Purpose.PSK)
_RESUMED: Final = "*** This is a resumed session"


class GnuTLS(Peer):
    name = "gnutls"
    answers_early_data = False  # gnutls-serv reads it, and does nothing with it

    def silent_about(self, role: Role) -> frozenset[str]:
        return frozenset({"early_data"}) if role is Role.CLIENT else frozenset()

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        return output_of(["gnutls-cli", "--version"]).partition("\n")[0].replace("gnutls-cli", "GnuTLS")

    def missing(self) -> str | None:
        return None if shutil.which("gnutls-serv") else "no gnutls-serv on the PATH (apt install gnutls-bin)"

    @functools.cache  # noqa: B019
    def _list(self) -> str:
        return output_of(["gnutls-cli", "--list"])

    def lacks(self, role: Role) -> Mapping[str, str]:
        known = self._list()
        reasons = {f"group:{group}": NO_HYBRID for group in HYBRIDS if f"GROUP-{_GROUPS[group]}" not in known}
        reasons |= {f"credential:{name}": NO_MLDSA for name in MLDSA if f"ML-DSA-{name[-2:]}" not in known.upper()}
        # HSK_KEY_UPDATE_ASKED in lib/tls13/key_update.c; RFC 9846 §4.7.3 has such messages cross.
        reasons["key-update:cross"] = "GnuTLS takes a KeyUpdate that crosses its own for an illegal_parameter"
        # RFC 9846 §4.2.2: the second ClientHello goes in the open, without early_data.
        reasons["early-data:retry"] = "GnuTLS protects the second ClientHello with the keys of 0-RTT, and expects it so"
        if role is Role.CLIENT:
            reasons["cookie-only"] = "GnuTLS answers a HelloRetryRequest without key_share with illegal_parameter"
        if role is Role.SERVER:
            # In CI it has to work: there the cell fails with what unshare says.
            if (unconfined := confined.missing()) is not None and not os.environ.get("CI"):
                reasons["role"] = f"gnutls-serv binds every interface, and {unconfined}"
            reasons["key-update:initiate"] = NO_KEY_UPDATE
        return reasons

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        if role is Role.CLIENT:
            return super().turns(role, purpose)
        if purpose is Purpose.LARGE:
            return line_turns(LARGE)
        if purpose is Purpose.ANSWER_KEY_UPDATE:
            return line_turns(b"one\ntwo\nthree\n")
        return (http_turn("GET", "/hello", TOKEN, last=True),)

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        command = ["gnutls-serv", "--port", str(confined.PORT), "--priority", _priority(spec)]
        command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        if spec.client_authentication == "none":
            command += ["--disable-client-cert"]
        else:
            command += ["--x509cafile", str(spec.ca), "--verify-client-cert"]
            command += ["--require-client-cert"] if spec.client_authentication == "required" else []
        for name in spec.alpn:
            command += ["--alpn", name]
        command += ["--noticket"] if spec.tickets == 0 else []
        command += [] if spec.staple is None else ["--ocsp-response", str(spec.staple)]
        if spec.early_data is not None:
            command += ["--earlydata", "--debug", "5"]  # it says what it took in its log only
        if spec.psk is not None:
            passwords = spec.workdir / "passwords"
            passwords.write_text(f"{spec.psk.identity}:{spec.psk.key.hex()}\n")
            command += ["--pskpasswd", str(passwords)]
        if spec.purpose in (Purpose.LARGE, Purpose.ANSWER_KEY_UPDATE):
            command += ["--echo"]
        else:
            (spec.workdir / "hello").write_bytes(TOKEN)
            command += ["--http", "--httpdata", str(spec.workdir / "hello")]
        with confined.confined(command, cwd=spec.workdir) as (program, port):
            program.wait_for(rb"IPv4 .*done")
            yield RunningServer(port, lambda: _server_facts(program, spec), program.output, pid=program.pid)

    def request(self, spec: ClientSpec) -> ClientDone:
        log = spec.workdir / "gnutls-cli.log"
        command = ["gnutls-cli", "--priority", _priority(spec), "--port", str(spec.port)]
        command += ["--x509cafile", str(spec.ca), "--logfile", str(log)]
        command += ["--sni-hostname", spec.server_name, "--verify-hostname", spec.server_name]
        if len(spec.groups) > 1:
            command += ["--single-key-share"]
        if spec.credential is not None:
            command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        for name in spec.alpn:
            command += ["--alpn", name]
        if spec.purpose in (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES):
            command += ["--inline-commands"]
        if spec.psk is not None:
            command += ["--pskusername", spec.psk.identity, "--pskkey", spec.psk.key.hex()]
        if spec.connections > 1:
            return _again(command, spec, log)
        command += ["127.0.0.1"]
        with running(command, cwd=spec.workdir) as program:

            def between(number: int) -> None:
                if number == 1 and spec.purpose in (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES):
                    # The log, where it says that it did so, is only written at its end.
                    program.write(b"^rekey^\n")

            try:
                for turn, answer in zip(spec.turns, talk(program, spec.turns, between), strict=True):
                    check(turn, answer)
            except PeerFailed as error:
                raise PeerFailed(f"{error}\n{_text(log)}") from None
            program.close_input()
            if spec.psk is not None:
                program.finished()  # only then the log is complete
            return ClientDone(_facts(_text(log)), program.output() + "\n" + _text(log))


def _again(command: list[str], spec: ClientSpec, log: Path) -> ClientDone:
    """Have it connect, keep the session without a word, connect again and only then speak."""
    (turn,) = spec.turns
    command += ["--resume", "--waitresumption"]
    if spec.early_data is not None:
        early = spec.workdir / "early"
        early.write_bytes(turn.send)
        command += ["--earlydata", str(early)]
        if spec.early_data is not EarlyData.REJECTED:
            turn = replace(turn, send=b"")
    with running([*command, "127.0.0.1"], cwd=spec.workdir) as program:
        try:
            (answer,) = talk(program, (turn,))
            check(turn, answer)
            program.close_input()
            program.finished()
        except PeerFailed as error:
            raise PeerFailed(f"{error}\n{_text(log)}") from None
        return ClientDone(_facts(_text(log)), program.output() + "\n" + _text(log))


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""


def _priority(spec: ServerSpec | ClientSpec) -> str:
    words = ["NORMAL", "-VERS-ALL", "+VERS-TLS1.3"]
    if spec.suites:
        words += ["-CIPHER-ALL", *(f"+{_CIPHERS[suite]}" for suite in spec.suites)]
    if spec.groups:
        words += ["-GROUP-ALL", *(f"+GROUP-{_GROUPS[group]}" for group in spec.groups)]
    if spec.psk is not None:
        words += ["-KX-ALL", "+DHE-PSK" if spec.psk.key_exchange else "+PSK"]
    return ":".join(words)


def _facts(text: str) -> Facts:
    """Return what the last `- Description: (TLS1.3-X.509)-(ECDHE-X25519)-(…)-(AES-256-GCM)` says, and around it."""
    last = text[max(text.rfind("\nConnecting to "), text.rfind("* Accepted connection"), 0) :]
    found = re.findall(r"^- Description: \(TLS1\.3[^)]*\)-(.*)-\(([^)]+)\)$", last, re.MULTILINE)
    if not found:
        return Facts()
    middle, cipher = found[-1]
    key_exchange = re.search(r"\((?:ECDHE|HYBRID)-([^)]+)\)", middle)
    groups = {spelling: name for name, spelling in _GROUPS.items()}
    suites = {spelling: name for name, spelling in _CIPHERS.items()}
    alpn = re.findall(r"^- Application protocol: (\S+)", last, re.MULTILINE)
    return Facts(
        suite=suites.get(cipher),
        group=groups.get(key_exchange.group(1)) if key_exchange else None,
        alpn=alpn[-1] if alpn else None,
        resumed=_RESUMED in last,
        psk="- PSK authentication" in last,
    )


def _server_facts(program: Program, spec: ServerSpec) -> Facts:
    with contextlib.suppress(PeerFailed):
        program.wait_until(lambda out: out.count(b"\n- Channel bindings") >= spec.connections, 2.0)
    facts = _facts(program.stdout.decode("utf-8", "replace"))
    if spec.early_data is None:
        return facts
    # The last connection's: on the first there is none to be accepted.
    log = program.stderr.decode("utf-8", "replace")
    read = re.search(r"decrypted early data with length: [1-9]", log) is not None
    return replace(facts, early_data=read and "early data accepted" in log)
