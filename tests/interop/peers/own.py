"""What the peers that need a program of ours have in common: words `key=value` in, lines `key=value` out.

    role=server | client     name=<server name>       ca=, certificate=, key=<PEM file>
    suites=, groups=, alpn=<comma-separated>           client_authentication=none | optional | required
    port=<where to connect>  turn=<file to send>:<bytes to receive, or http>; the answer goes to <file>.answer
                             (only ssl_shaped: turn=<file with a path>:http2)
    tickets=<0 for none>, staple=<OCSP response, DER>  (only the server of Go)
    psk_identity=, psk=<hexadecimal>, psk_mode=psk_dhe_ke | psk_ke
    connections=<how often to connect and take all turns, each time with the session of the time before>

A server prints port=…; for each connection each end prints suite=, alpn=, if it knows group=, resumed= and psk=, and
last, a server, client_certificate=.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.interop.exchange import check
from tests.interop.process import PeerFailed, running
from tests.interop.spec import ClientDone, ClientSpec, Facts, RunningServer, ServerSpec

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache"
PROGRAMS: Final = Path(__file__).resolve().parent.parent / "programs"
ROOT: Final = Path(__file__).resolve().parents[3]


def server_words(spec: ServerSpec) -> list[str]:
    return [
        "role=server",
        f"ca={spec.ca}",
        f"certificate={spec.credential.certificate}",
        f"key={spec.credential.key}",
        f"suites={','.join(spec.suites)}",
        f"groups={','.join(spec.groups)}",
        f"alpn={','.join(spec.alpn)}",
        f"client_authentication={spec.client_authentication}",
        *([] if spec.tickets is None else [f"tickets={spec.tickets}"]),
        *([] if spec.staple is None else [f"staple={spec.staple}"]),
        *_psk_words(spec),
    ]


def client_words(spec: ClientSpec) -> list[str]:
    words = [
        "role=client",
        f"port={spec.port}",
        f"name={spec.server_name}",
        f"ca={spec.ca}",
        f"suites={','.join(spec.suites)}",
        f"groups={','.join(spec.groups)}",
        f"alpn={','.join(spec.alpn)}",
        f"connections={spec.connections}",
        *_psk_words(spec),
    ]
    if spec.credential is not None:
        words += [f"certificate={spec.credential.certificate}", f"key={spec.credential.key}"]
    for number, turn in enumerate(spec.turns):
        path = spec.workdir / f"turn-{number:03}"
        path.write_bytes(turn.path.encode() if turn.http2 else turn.send)
        size = "http2" if turn.http2 else str(len(turn.expect)) if turn.raw else "http"
        words.append(f"turn={path}:{size}")
    return words


def _psk_words(spec: ServerSpec | ClientSpec) -> list[str]:
    if spec.psk is None:
        return []
    mode = "psk_dhe_ke" if spec.psk.key_exchange else "psk_ke"
    return [f"psk_identity={spec.psk.identity}", f"psk={spec.psk.key.hex()}", f"psk_mode={mode}"]


@contextlib.contextmanager
def serving(
    command: Sequence[str | Path], spec: ServerSpec, *, env: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Start a server program of ours with *command* and the words for *spec*."""
    with running([*command, *server_words(spec)], cwd=ROOT, env=env) as program:
        port = int(program.wait_for(rb"^port=(\d+)$").group(1))

        def facts() -> Facts:
            with contextlib.suppress(PeerFailed):
                program.wait_until(lambda out: out.count(b"\nclient_certificate=") >= spec.connections, 2.0)
            return Facts.from_lines(program.stdout.decode())

        yield RunningServer(port, facts, program.output, pid=program.pid)


def requested(command: Sequence[str | Path], spec: ClientSpec, *, env: Mapping[str, str] | None = None) -> ClientDone:
    """Run a client program of ours to its end, and check what it was answered."""
    with running([*command, *client_words(spec)], cwd=ROOT, env=env) as program:
        if program.finished() != 0:
            raise PeerFailed(program.output())
        for number, turn in enumerate(spec.turns):
            check(turn, (spec.workdir / f"turn-{number:03}.answer").read_bytes())
        return ClientDone(Facts.from_lines(program.stdout.decode()), program.output())


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the first dotted number in *text*, e.g. (3, 0, 19); () if there is none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
