"""GnuTLS through gnutls-serv and gnutls-cli."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, check, http_turn, line_turns
from tests.interop.names import HYBRIDS, MLDSA
from tests.interop.peers.piped import talk
from tests.interop.process import START_SECONDS, PeerFailed, Program, output_of, running
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role, RunningServer, ServerSpec

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


class GnuTLS(Peer):
    name = "gnutls"

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
        reasons = {
            f"group:{group}": f"{self.version()} has no {group}"
            for group in HYBRIDS
            if f"GROUP-{_GROUPS[group]}" not in known
        }
        reasons |= {
            f"credential:{name}": f"{self.version()} has no ML-DSA"
            for name in MLDSA
            if f"ML-DSA-{name[-2:]}" not in known.upper()
        }
        if role is Role.CLIENT:
            reasons["cookie-only"] = "GnuTLS answers a HelloRetryRequest without key_share with illegal_parameter"
        if role is Role.SERVER:
            reasons["key-update:initiate"] = "gnutls-serv has no command that sends a KeyUpdate"
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
        command = ["gnutls-serv", "--port", "0", "--priority", _priority(spec.suites, spec.groups)]
        command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        if spec.client_authentication == "none":
            command += ["--disable-client-cert"]
        else:
            command += ["--x509cafile", str(spec.ca), "--verify-client-cert"]
            command += ["--require-client-cert"] if spec.client_authentication == "required" else []
        for name in spec.alpn:
            command += ["--alpn", name]
        if spec.purpose in (Purpose.LARGE, Purpose.ANSWER_KEY_UPDATE):
            command += ["--echo"]
        else:
            (spec.workdir / "hello").write_bytes(TOKEN)
            command += ["--http", "--httpdata", str(spec.workdir / "hello")]
        with running(command, cwd=spec.workdir) as program:
            port = _listening_port(program)
            yield RunningServer(port, lambda: _facts(program.output()), program.output)

    def request(self, spec: ClientSpec) -> ClientDone:
        log = spec.workdir / "gnutls-cli.log"
        command = ["gnutls-cli", "--priority", _priority(spec.suites, spec.groups), "--port", str(spec.port)]
        command += ["--x509cafile", str(spec.ca), "--logfile", str(log)]
        command += ["--sni-hostname", spec.server_name, "--verify-hostname", spec.server_name]
        if len(spec.groups) > 1:
            command += ["--single-key-share"]
        if spec.credential is not None:
            command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        for name in spec.alpn:
            command += ["--alpn", name]
        if spec.purpose is Purpose.INITIATE_KEY_UPDATE:
            command += ["--inline-commands"]
        command += ["127.0.0.1"]
        with running(command, cwd=spec.workdir) as program:

            def between() -> None:
                if spec.purpose is Purpose.INITIATE_KEY_UPDATE:
                    # The log, where it says that it did so, is only written at its end.
                    program.write(b"^rekey^\n")

            try:
                for turn, answer in zip(spec.turns, talk(program, spec.turns, between), strict=True):
                    check(turn, answer)
            except PeerFailed as error:
                raise PeerFailed(f"{error}\n{_text(log)}") from None
            program.close_input()
            return ClientDone(_facts(_text(log)), program.output() + "\n" + _text(log))


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""


def _priority(suites: tuple[str, ...], groups: tuple[str, ...]) -> str:
    words = ["NORMAL", "-VERS-ALL", "+VERS-TLS1.3"]
    if suites:
        words += ["-CIPHER-ALL", *(f"+{_CIPHERS[suite]}" for suite in suites)]
    if groups:
        words += ["-GROUP-ALL", *(f"+GROUP-{_GROUPS[group]}" for group in groups)]
    return ":".join(words)


def _facts(text: str) -> Facts:
    """Return what the last `- Description: (TLS1.3-X.509)-(ECDHE-X25519)-(…)-(AES-256-GCM)` says."""
    found = re.findall(r"^- Description: \(TLS1\.3[^)]*\)-\(([^)]+)\)-\([^)]+\)-\(([^)]+)\)", text, re.MULTILINE)
    if not found:
        return Facts()
    key_exchange, cipher = found[-1]
    groups = {spelling: name for name, spelling in _GROUPS.items()}
    suites = {spelling: name for name, spelling in _CIPHERS.items()}
    alpn = re.findall(r"^- Application protocol: (\S+)", text, re.MULTILINE)
    return Facts(
        suite=suites.get(cipher),
        group=groups.get(key_exchange.removeprefix("ECDHE-").removeprefix("HYBRID-")),
        alpn=alpn[-1] if alpn else None,
    )


def _listening_port(program: Program) -> int:
    """Return the IPv4 port *program* listens on: told to take any, gnutls-serv does not say which it got."""
    deadline = time.monotonic() + START_SECONDS
    program.wait_for(rb"IPv4 .*done")
    while time.monotonic() < deadline:
        inodes = _socket_inodes(program.pid)
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                return int(fields[1].rpartition(":")[2], 16)
        time.sleep(0.05)
    raise PeerFailed(f"no listening socket found\n{program.output()}")


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    return inodes
