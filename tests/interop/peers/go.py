"""Go's crypto/tls, through programs/go."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.interop.exchange import Purpose
from tests.interop.names import (
    CCM,
    HYBRIDS,
    MLDSA,
    NO_CCM,
    NO_EARLY_DATA,
    NO_ED448,
    NO_KEY_UPDATE,
    NO_MLDSA,
    NO_PSK,
    NO_RSASSA_PSS,
    NO_X448,
    PSKS,
)
from tests.interop.peers.build import built
from tests.interop.peers.own import PROGRAMS, requested, serving, version_tuple
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Peer, Role, RunningServer, ServerSpec


class Go(Peer):
    name = "go"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        return " ".join(output_of(["go", "version"]).split()[2:3]).replace("go", "Go crypto/tls ", 1)

    def missing(self) -> str | None:
        return None if shutil.which("go") else "no go on the PATH (https://go.dev/dl or apt install golang)"

    def lacks(self, role: Role) -> Mapping[str, str]:
        version = version_tuple(self.version())
        reasons = {f"suite:{suite}": NO_CCM for suite in CCM}
        reasons |= {f"credential:{name}": NO_MLDSA for name in MLDSA}
        reasons["credential:ed448"] = NO_ED448
        reasons["credential:rsa-pss"] = NO_RSASSA_PSS
        reasons["group:x448"] = NO_X448
        if version < (1, 26):
            reasons |= {f"group:{group}": "has this hybrid group since Go 1.26" for group in HYBRIDS}
            if version >= (1, 24):
                del reasons["group:X25519MLKEM768"]
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= {"early-data": f"{NO_EARLY_DATA} but for QUIC", **dict.fromkeys(PSKS, NO_PSK)}
        return reasons

    def prepare(self, purpose: Purpose) -> None:
        self._program()

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serving([self._program()], spec)

    def request(self, spec: ClientSpec) -> ClientDone:
        return requested([self._program()], spec)

    def _program(self) -> Path:
        source = PROGRAMS / "go" / "main.go"
        directory = built("go", self.version(), [source], lambda to: ["go", "build", "-o", str(to), str(source)])
        return directory / "main"
