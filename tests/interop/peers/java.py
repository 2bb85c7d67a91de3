"""Java's JSSE, through programs/java."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, http_turn
from tests.interop.names import CCM, HYBRIDS, MLDSA, NO_CCM, NO_EARLY_DATA, NO_HYBRID, NO_MLDSA, NO_PSK, PSKS
from tests.interop.peers.build import built
from tests.interop.peers.own import PROGRAMS, requested, serving
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Peer, Role, RunningServer, ServerSpec

# JSSE sends a KeyUpdate by itself once it has protected this much with one key.
_KEY_LIMIT: Final = "2^17"
_UPDATES: Final = (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES)


class Java(Peer):
    name = "java"
    no_certificate_alert = "bad_certificate"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        lines = output_of(["java", "-version"]).splitlines()
        return f"JSSE of {lines[1]}" if len(lines) > 1 else ""

    def missing(self) -> str | None:
        return None if shutil.which("javac") else "no javac on the PATH (apt install default-jdk-headless)"

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = {f"suite:{suite}": NO_CCM for suite in CCM}
        reasons |= {f"group:{group}": NO_HYBRID for group in HYBRIDS}
        reasons |= {f"credential:{name}": NO_MLDSA for name in MLDSA}
        reasons |= {"early-data": NO_EARLY_DATA, **dict.fromkeys(PSKS, NO_PSK)}
        return reasons

    def retry(self, role: Role) -> tuple[str, str]:
        # JSSE shares one group of each family at once: both have to be of the same one.
        return ("secp256r1", "secp384r1")

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        if purpose in _UPDATES:
            # Much data one way only: for what it reads under a key of ours that is used up, JSSE sends a KeyUpdate with
            # every record until our new key comes. We may have sent all of it before the first of them, and
            # Pellucid ends a connection over more than limits.MAX_KEY_UPDATES in a row.
            if role is Role.CLIENT:
                large = http_turn("POST", "/discard", TOKEN, LARGE, last=False)
            else:
                large = http_turn("GET", "/large", LARGE, last=False)
            first = (http_turn("GET", "/hello", TOKEN, last=False),) if purpose is Purpose.CROSS_KEY_UPDATES else ()
            return (*first, large, http_turn("GET", "/hello", TOKEN, last=True))
        return super().turns(role, purpose)

    def prepare(self, purpose: Purpose) -> None:
        self._command()

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serving([*self._command(), *_limit(spec.purpose)], spec)

    def request(self, spec: ClientSpec) -> ClientDone:
        return requested([*self._command(), *_limit(spec.purpose)], spec)

    def _command(self) -> list[str | Path]:
        source = PROGRAMS / "java" / "Peer.java"
        classes = built("java", self.version(), [source], lambda to: ["javac", "-d", str(to), str(source)])
        # A short life: no second compiler, no collector's threads.
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", str(classes), "Peer"]


def _limit(purpose: Purpose) -> list[str]:
    return [f"key_limit={_KEY_LIMIT}"] if purpose in _UPDATES else []
