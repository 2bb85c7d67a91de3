"""wolfSSL, through programs/c."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from tests.interop.exchange import Purpose
from tests.interop.names import GROUPS, HYBRIDS, MLDSA, NO_HYBRID, NO_MLDSA, NO_RSASSA_PSS
from tests.interop.peers.build import built
from tests.interop.peers.own import PROGRAMS, requested, serving
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role, RunningServer, ServerSpec

S = TypeVar("S", ServerSpec, ClientSpec)

_SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": "TLS13-AES128-GCM-SHA256",
    "TLS_AES_256_GCM_SHA384": "TLS13-AES256-GCM-SHA384",
    "TLS_CHACHA20_POLY1305_SHA256": "TLS13-CHACHA20-POLY1305-SHA256",
    "TLS_AES_128_CCM_SHA256": "TLS13-AES128-CCM-SHA256",
    "TLS_AES_128_CCM_8_SHA256": "TLS13-AES128-CCM-8-SHA256",
}
_LOWER: Final = {name.lower(): name for name in GROUPS}
# Before which turn it sends its KeyUpdate, by role.
_UPDATES: Final = {
    (Purpose.INITIATE_KEY_UPDATE, Role.CLIENT): 1,
    (Purpose.INITIATE_KEY_UPDATE, Role.SERVER): 0,
    (Purpose.CROSS_KEY_UPDATES, Role.CLIENT): 1,
    (Purpose.CROSS_KEY_UPDATES, Role.SERVER): 1,
}


class WolfSSL(Peer):
    name = "wolfssl"
    demands_cookies = True

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        return output_of([self._program()]).partition("\n")[0]

    @functools.cache  # noqa: B019
    def missing(self) -> str | None:
        lacking = "no C compiler or no headers of wolfSSL (apt install gcc libc6-dev libwolfssl-dev)"
        if shutil.which("cc") is None:
            return lacking
        found = output_of(["cc", "-E", "-include", "wolfssl/options.h", "-x", "c", "/dev/null"])
        return lacking if "fatal error" in found else None

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = {f"group:{group}": NO_HYBRID for group in HYBRIDS}
        reasons |= {f"credential:{name}": NO_MLDSA for name in MLDSA}
        reasons["credential:rsa-pss"] = NO_RSASSA_PSS
        reasons["early-data"] = "Debian builds wolfSSL without WOLFSSL_EARLY_DATA"
        if role is Role.CLIENT:
            # RFC 9846 §4.2.2 has it repeat the first but for what was asked for, and we hold it to that.
            moved = "wolfSSL puts the extensions of its second ClientHello in another order, which we refuse"
            reasons |= dict.fromkeys(("retry", "cookie", "cookie-only"), moved)
        else:
            reasons["cookie-only"] = "wolfSSL sends a cookie in a HelloRetryRequest for a group, and in no other"
        return reasons

    def prepare(self, purpose: Purpose) -> None:
        self._program()

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        with serving([self._program(), *_words(spec, Role.SERVER)], _spelled(spec)) as server:
            yield RunningServer(server.port, lambda: _facts(server.facts()), server.output, pid=server.pid)

    def request(self, spec: ClientSpec) -> ClientDone:
        done = requested([self._program(), *_words(spec, Role.CLIENT)], _spelled(spec))
        return ClientDone(_facts(done.facts), done.output)

    def _program(self) -> Path:
        source = PROGRAMS / "c" / "wolfssl.c"
        compiler = output_of(["cc", "--version"]).partition("\n")[0]
        command = ["cc", "-O1", "-Wall", "-Wextra", str(source), "-o"]
        directory = built("wolfssl", compiler, [source], lambda to: [*command, str(to / "wolfssl"), "-lwolfssl"])
        return directory / "wolfssl"


def _words(spec: ServerSpec | ClientSpec, role: Role) -> list[str]:
    words = ["cookie=1"] if isinstance(spec, ServerSpec) and spec.cookie else []
    turn = _UPDATES.get((spec.purpose, role))
    return words if turn is None else [*words, f"update={turn}"]


def _spelled(spec: S) -> S:
    suites = (":".join(_SUITES[suite] for suite in spec.suites),) if spec.suites else ()
    return replace(spec, suites=suites, groups=tuple(str(GROUPS[group]) for group in spec.groups))


def _facts(facts: Facts) -> Facts:
    spelled = {theirs: name for name, theirs in _SUITES.items()}
    return replace(facts, suite=spelled.get(facts.suite or ""), group=_LOWER.get((facts.group or "").lower()))
