"""`python -m tests.interop.inspection [PEER …]`: what inspect finds of servers, beside what each was configured to.

Servers that we did not write, and ours; each in configurations that differ in all that inspect tells of. Exit code 1 if
a fact is not what the configuration says.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pellucid
from pellucid.inspection import Examination, Facts, Settings, Target, examine
from pellucid.net.load import ocsp_file
from pellucid.registry import group_by_name, suite_by_name
from pellucid.testing.ca import CA
from tests.interop import pellucid_side
from tests.interop.certificates import CredentialFiles
from tests.interop.exchange import TOKEN, Purpose
from tests.interop.peers import PEERS
from tests.interop.spec import EarlyData, Role, RunningServer, ServerSpec

OWN: Final = "pellucid"
NAMES: Final = ("openssl", "gnutls", "nginx", "go", OWN)
HOST: Final = "localhost"
_RSA_SCHEMES: Final = ("rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512")
_ALL_SUITES: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a server is told to be. None: nothing is said about it, and nothing expected."""

    name: str
    key: str
    groups: tuple[str, ...]
    suites: tuple[str, ...]
    alpn: tuple[str, ...]
    tickets: int | None
    early_data: bool
    staple: bool
    client_authentication: str = "none"
    cookie: bool = False
    peers: tuple[str, ...] = NAMES
    """who can be configured so"""


CONFIGURATIONS: Final = (
    Configuration(
        name="narrow",
        key="p256",
        groups=("secp384r1", "secp256r1"),
        suites=("TLS_AES_256_GCM_SHA384",),
        alpn=("h2", "http/1.1"),
        tickets=3,
        early_data=False,
        staple=True,
    ),
    Configuration(
        name="wide",
        key="rsa2048",
        groups=("x25519", "secp256r1", "secp521r1"),
        suites=("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        alpn=("http/1.1",),
        tickets=1,
        early_data=True,
        staple=False,
    ),
    Configuration(
        name="bare",
        key="p384",
        groups=("x25519",),
        suites=("TLS_AES_128_GCM_SHA256",),
        alpn=(),
        tickets=0,
        early_data=False,
        staple=False,
        client_authentication="required",
    ),
    Configuration(
        name="cookie",
        key="p256",
        groups=("x25519", "secp256r1"),
        suites=("TLS_AES_128_GCM_SHA256",),
        alpn=(),
        tickets=2,
        early_data=False,
        staple=False,
        cookie=True,
        # s_server -stateless demands one of the first client only, and of no client in compatibility mode.
        peers=(OWN,),
    ),
)
_SCHEMES: Final = {
    "p256": ("ecdsa_secp256r1_sha256",),
    "p384": ("ecdsa_secp384r1_sha384",),
    "rsa2048": _RSA_SCHEMES,
}


class InspectionFiles:
    """A CA in *folder*, and of it a leaf of each kind of key with an OCSP response that says it is good."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = CA("inspection root")
        self.root = folder / "root.pem"
        self.root.write_bytes(self.authority.root_pem)
        self.credentials: dict[str, CredentialFiles] = {}
        self.staples: dict[str, Path] = {}
        for kind in _SCHEMES:
            leaf = self.authority.issue(HOST, "127.0.0.1", key=kind)  # type: ignore[arg-type]
            files = CredentialFiles(folder / f"{kind}.pem", folder / f"{kind}.key")
            files.certificate.write_bytes(leaf.chain_pem)
            files.key.write_bytes(leaf.key_pem)
            self.credentials[kind] = files
            self.staples[kind] = folder / f"{kind}.ocsp"
            self.staples[kind].write_bytes(self.authority.ocsp_response(leaf, by_name=True))


def spec_of(files: InspectionFiles, configuration: Configuration, workdir: Path) -> ServerSpec:
    return ServerSpec(
        workdir=workdir,
        ca=files.root,
        credential=files.credentials[configuration.key],
        suites=configuration.suites,
        groups=configuration.groups,
        alpn=configuration.alpn,
        client_authentication=configuration.client_authentication,
        early_data=EarlyData.ACCEPTED if configuration.early_data else None,
        tickets=configuration.tickets,
        staple=files.staples[configuration.key] if configuration.staple else None,
        cookie=configuration.cookie,
        # With this one s_server takes early data, and answers no requests.
        purpose=Purpose.RESUME if configuration.early_data else Purpose.HELLO,
    )


@contextlib.contextmanager
def serving(peer: str, spec: ServerSpec) -> Iterator[RunningServer]:
    """Start *peer* as *spec* says."""
    if peer != OWN:
        PEERS[peer].prepare(spec.purpose)
        with PEERS[peer].serve(spec) as running:
            yield running
        return
    credential = pellucid_side._credential(spec.credential)
    if spec.staple is not None:
        credential = dataclasses.replace(credential, ocsp_response=ocsp_file(spec.staple))
    config = pellucid.ServerConfig(
        credentials=(credential,),
        groups=tuple(map(group_by_name, spec.groups)),
        suites=tuple(map(suite_by_name, spec.suites)),
        alpn=spec.alpn,
        client_authentication=pellucid.ClientAuthentication(spec.client_authentication),
        client_trust=pellucid.TrustStore.from_pem(spec.ca.read_bytes()),
        tickets=2 if spec.tickets is None else spec.tickets,
        tickets_on_resumption=1 if spec.tickets is None else min(spec.tickets, 1),
        max_early_data=0 if spec.early_data is None else 16_384,
        cookie_key=bytes(range(32)) if spec.cookie else None,
        always_retry=spec.cookie,
    )
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        thread = threading.Thread(target=listener.serve, args=(_answer,), daemon=True)
        thread.start()
        yield RunningServer(listener.address[1])
        listener.close()
    thread.join(10.0)


def _answer(stream: pellucid.Stream) -> None:
    stream.settimeout(10.0)
    if stream.recv():
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN))


def missing(peer: str) -> str | None:
    """Return why *peer* cannot be a server here; None if it can."""
    if peer == OWN:
        return None
    return PEERS[peer].missing() or PEERS[peer].limits(Role.SERVER).get("role")


# ---- what the configuration says -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: what the configuration says of it, and what inspect does."""

    name: str
    configured: object
    found: object

    @property
    def right(self) -> bool:
        return self.configured == self.found


def compared(peer: str, configuration: Configuration, facts: Facts) -> list[Fact]:
    """Return every fact that the configuration settles."""
    given = _as_configured(peer, configuration)
    assert facts.groups and facts.suites and facts.schemes and facts.alpn and facts.resumption and facts.early_data
    assert facts.retry and facts.staple and facts.chain and facts.negotiated and facts.client_certificate
    kind = {"p256": "EC secp256r1", "p384": "EC secp384r1", "rsa2048": "RSA 2048"}[given.key]
    first_share = "x25519"  # what every client of ours sends beside X25519MLKEM768
    rows = [
        Fact("chain accepted", True, facts.chain.report.accepted),
        Fact("leaf", kind, facts.chain.certificates[0].key),
        Fact("groups", set(given.groups), set(facts.groups.accepted)),
        Fact("suites", set(given.suites), set(facts.suites.accepted)),
        Fact("suite agreed on", True, facts.negotiated.cipher_suite in given.suites),
        Fact("signs with", set(_SCHEMES[given.key]), set(facts.schemes.accepted)),
        Fact("retry for", set(given.groups), set(facts.retry.asks_for)),
        Fact("first handshake retried", given.cookie or first_share not in given.groups, _retried(facts)),
        Fact("cookie", given.cookie, facts.retry.cookie),
        Fact("retries always", given.cookie, facts.retry.always),
        Fact("whose order of groups", _order(_GROUP_ORDER[peer], given.groups), facts.groups.preference),
        Fact("first group", _first(peer, given.groups), facts.groups.accepted[0]),
        Fact("ALPN", set(given.alpn), set(facts.alpn.accepted)),
        Fact("ALPN agreed on", given.alpn[0] if given.alpn else None, facts.negotiated.alpn),
        Fact("staple", "passed" if given.staple else "not checked", facts.staple.outcome),
        Fact("client certificate", given.client_authentication != "none", facts.client_certificate.requested),
        Fact("… required", given.client_authentication == "required", facts.client_certificate.required),
        Fact("nothing is unknown", (), facts.unknown),
        Fact("raw public key", False, facts.raw_public_key is not None and bool(facts.raw_public_key.supported)),
    ]
    if given.tickets is not None:
        rows.append(Fact("tickets", given.tickets, len(facts.resumption.tickets)))
    if given.client_authentication == "none":
        has_tickets = given.tickets is None or given.tickets > 0
        rows.append(Fact("resumes", True if has_tickets else None, facts.resumption.resumed))
        rows.append(Fact("early data offered", given.early_data, bool(facts.early_data.offered)))
        rows.append(Fact("early data accepted", True if given.early_data else None, facts.early_data.accepted))
        replayed = peer in _TAKES_REPLAYS if given.early_data else None
        rows.append(Fact("… the same bytes again", replayed, facts.early_data.again))
        # It is owed before the next data only, and s_server answers GET and nothing else.
        update = "accepted" if peer == "openssl" else "answered"
        rows.append(Fact("KeyUpdate", update, facts.key_update.outcome if facts.key_update else None))
    return rows


_GROUP_ORDER: Final = {"openssl": "client", "gnutls": "client", "nginx": "client", "go": "server", OWN: "server"}
_TAKES_REPLAYS: Final = ("nginx",)  # it turns OpenSSL's anti-replay off, and says so in the manual of ssl_early_data
_OUR_ORDER: Final = ("x25519", "secp256r1", "secp384r1", "secp521r1")


def _order(whose: str, groups: tuple[str, ...]) -> str | None:
    return whose if len(groups) > 1 else None


def _first(peer: str, groups: tuple[str, ...]) -> str:
    """Return which group is picked first: the server's first, or ours, where the server's order does not count.

    crypto/tls has an order of its own, whatever it is told, and it is ours.
    """
    return groups[0] if peer == OWN else min(groups, key=_OUR_ORDER.index)


def _retried(facts: Facts) -> bool:
    """Whether the first connection took two round trips: four flights before the last."""
    return facts.timing is not None and len(facts.timing.flights) > 3


def _as_configured(peer: str, configuration: Configuration) -> Configuration:
    """Return what *peer* makes of *configuration*: not all can be told everything."""
    if peer == "go":
        # crypto/tls has its own suites in TLS 1.3, gives one ticket, and takes early data over QUIC only.
        tickets = min(configuration.tickets or 0, 1)
        return dataclasses.replace(configuration, suites=_ALL_SUITES, tickets=tickets, early_data=False)
    if peer == "gnutls":
        return dataclasses.replace(configuration, tickets=0 if configuration.tickets == 0 else None)
    if peer == "nginx":
        # It speaks HTTP/1 whatever it is told, and refuses clients without a certificate over HTTP.
        asks = "optional" if configuration.client_authentication == "required" else configuration.client_authentication
        first = ("h2",) if "h2" in configuration.alpn else ()
        alpn = (*first, "http/1.1", "http/1.0")
        return dataclasses.replace(configuration, alpn=alpn, client_authentication=asks)
    return configuration


@dataclass(frozen=True, slots=True)
class Cell:
    """A server in a configuration, examined."""

    peer: str
    configuration: Configuration
    examination: Examination
    facts: list[Fact]
    seconds: float

    @property
    def wrong(self) -> list[Fact]:
        return [fact for fact in self.facts if not fact.right]


def inspected(peer: str, configuration: Configuration, files: InspectionFiles, workdir: Path) -> Cell:
    """Start the server, examine it, compare."""
    workdir.mkdir(parents=True, exist_ok=True)
    settings = Settings(trust=files.authority.trust, max_seconds=30.0, early_data=True)
    with serving(peer, spec_of(files, configuration, workdir)) as running:
        started = time.monotonic()
        examination = examine(Target.of(HOST, running.port, resolve={HOST: "127.0.0.1"}), settings)
        seconds = time.monotonic() - started
    if examination.facts.failed is not None:
        raise AssertionError(f"{peer}, {configuration.name}: {examination.facts.failed.message}\n{running.output()}")
    return Cell(peer, configuration, examination, compared(peer, configuration, examination.facts), seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop.inspection", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(NAMES))
    options = parser.parse_args(arguments)
    wrong = checked = 0
    with tempfile.TemporaryDirectory(prefix="pellucid-inspection-") as name:
        files = InspectionFiles(Path(name))
        for peer in options.peers or NAMES:
            version = pellucid.__version__ if peer == OWN else PEERS[peer].version()
            print(f"{peer}: {version}")
            if (why := missing(peer)) is not None:
                print(f"  not here: {why}")
                wrong += 1
                continue
            for configuration in (one for one in CONFIGURATIONS if peer in one.peers):
                cell = inspected(peer, configuration, files, Path(name) / f"{peer}-{configuration.name}")
                made = f"{cell.examination.facts.connections} connections in {cell.seconds:.2f} s"
                print(f"  {configuration.name}: {cell.examination.judgement.verdict.value}, {made}")
                for fact in cell.facts:
                    mark = "✓" if fact.right else "✗ configured:"
                    print(f"    {fact.name:<24} {_shown(fact.found):<48} {mark}", end="")
                    print("" if fact.right else f" {_shown(fact.configured)}")
                checked += len(cell.facts)
                wrong += len(cell.wrong)
    print(f"{checked - wrong} of {checked} facts are what the configuration says")
    return 1 if wrong else 0


def _shown(value: object) -> str:
    if isinstance(value, (set, tuple)):
        return ", ".join(sorted(map(str, value))) or "none"
    return (
        {True: "yes", False: "no", None: "-"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
    )


if __name__ == "__main__":
    sys.exit(main())
