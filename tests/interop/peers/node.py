"""Node's tls module, through programs/node."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.interop.names import NO_EARLY_DATA, NO_KEY_UPDATE
from tests.interop.peers import openssl_names
from tests.interop.peers.own import PROGRAMS, requested, serving, version_tuple
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Peer, Role, RunningServer, ServerSpec

_COMMAND: Final = ["node", str(PROGRAMS / "node" / "peer.js")]


class Node(Peer):
    name = "node"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        script = "`Node ${process.versions.node} with OpenSSL ${process.versions.openssl}`"
        return output_of(["node", "-p", script]).strip()

    def missing(self) -> str | None:
        return None if shutil.which("node") else "no node on the PATH (apt install nodejs)"

    def lacks(self, role: Role) -> Mapping[str, str]:
        version = version_tuple(self.version().rpartition("OpenSSL")[2])
        reasons = openssl_names.lacks(version)
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons["early-data"] = NO_EARLY_DATA
        return reasons

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serving(_COMMAND, replace(spec, groups=_spelled(spec.groups)))

    def request(self, spec: ClientSpec) -> ClientDone:
        return requested(_COMMAND, replace(spec, groups=_spelled(spec.groups)))


def _spelled(groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(openssl_names.group_list((group,)) for group in groups)
