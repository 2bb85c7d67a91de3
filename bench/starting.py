"""What a fresh process pays: `import pellucid`, and the first handshake, which loads what it needs.

Each round is a process of its own, and a number is its processor time. Everything is compiled already.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.harness import NOISE_OF_PROCESSES, OURS, SSL, Measure, Peers, Sample, Scale
from bench.peers import Certificates

_TOLD = """
import os
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""

_IMPORT = """
import time
began = time.process_time()
{work}
print((time.process_time() - began) * 1e3)
"""

_SSL_HANDSHAKE = """
import ssl
client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
client.load_verify_locations({root!r})
server.load_cert_chain({chain!r}, {key!r})
server.num_tickets = 0
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = (client.wrap_bio(down, up, server_hostname="localhost"), server.wrap_bio(up, down, server_side=True))
missing = list(ends)
while missing:
    for end in tuple(missing):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        missing.remove(end)
ends[0].write(bytes(100))
ends[1].read(100)
"""

_OUR_HANDSHAKE = """
import pellucid
trust = pellucid.TrustStore.from_pem(open({root!r}, "rb").read())
credential = pellucid.Credential.from_pem(open({chain!r}, "rb").read(), open({key!r}, "rb").read())
client = pellucid.Connection.client(pellucid.ClientConfig(trust=trust), "localhost")
server = pellucid.Connection.server(pellucid.ServerConfig(credentials=(credential,), tickets=0))
server.receive_data(client.data_to_send())
client.receive_data(server.data_to_send())
client.next_event()
server.receive_data(client.data_to_send())
client.send_data(bytes(100))
server.receive_data(client.data_to_send())
server.next_event()
server.next_event().data
"""


def measures(scale: Scale) -> Iterable[Measure]:
    yield _measure("import", "ms", _importing(0), scale, floor=4.5, record=2.8)
    yield _measure("memory after the import", "MiB", _importing(1), scale)
    yield _measure("first handshake, from import to data, both ends", "ms", _shaking(0), scale)
    yield _measure("memory after the first handshake", "MiB", _shaking(1), scale)


def _measure(
    name: str,
    unit: str,
    work: Callable[[], contextlib.AbstractContextManager[Peers]],
    scale: Scale,
    floor: float | None = None,
    record: float | None = None,
) -> Measure:
    return Measure(
        name=name,
        group="A fresh process",
        unit=unit,
        better="lower",
        open=work,
        rounds=scale.rounds if unit == "ms" else scale.some(4),
        floor=floor,
        record=record,
        slack=NOISE_OF_PROCESSES,
        note="processor time of a process of its own" if unit == "ms" else "what is resident",
    )


def _importing(which: int) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        works = {SSL: "import ssl", OURS: "import pellucid", "cryptography's x509": "import cryptography.x509"}
        yield {name: _round(work, which) for name, work in works.items()}

    return opened


def _shaking(which: int) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        certificates = Certificates("p256")
        with tempfile.TemporaryDirectory() as folder:
            names = {name: str(Path(folder) / f"{name}.pem") for name in ("root", "chain", "key")}
            Path(names["root"]).write_bytes(certificates.root.root_pem)
            Path(names["chain"]).write_bytes(certificates.leaf.chain_pem)
            Path(names["key"]).write_bytes(certificates.leaf.key_pem)
            works = {SSL: _SSL_HANDSHAKE, OURS: _OUR_HANDSHAKE}
            yield {name: _round(work.format(**names), which) for name, work in works.items()}

    return opened


def _round(work: str, which: int) -> Callable[[], Sample]:
    """Return a round: 0 for the milliseconds that *work* takes, 1 for the MiB after it."""
    program = _IMPORT.format(work=work) + _TOLD
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""}

    def one_round() -> Sample:
        command = (sys.executable, "-c", program)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
        milliseconds, octets = map(float, done.stdout.split())
        return Sample(octets / 2**20 if which else milliseconds)

    return one_round
