"""`python -m bench primitives`: what cryptography alone takes of a handshake and of a record, called from Python.

No TLS in Python over these can be faster: the sum is the floor, and ssl's time in the same run divided by it is the
ceiling of the ratio (pyOpenSSL's where ssl has no ML-KEM). Medians, in µs of CPU time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store

from bench.harness import enough
from bench.peers import AES_128, CHACHA, HYBRID, Certificates, How, StdlibStack, ready
from bench.peers.interface import handshake, resumed

ROUNDS = 15
ROUND_SECONDS = 0.02
RECORD = 2**14
MIB = 2**20


def primitives() -> dict[str, Callable[[], object]]:
    """Return what each primitive does once."""
    certificates = Certificates()
    chain = [x509.load_der_x509_certificate(der) for der in certificates.leaf.chain_der]
    store = Store(x509.load_pem_x509_certificates(certificates.roots_pem))
    name = x509.DNSName("localhost")
    key: Any = certificates.leaf.private_key
    message = bytes(130)
    algorithm = ec.ECDSA(hashes.SHA256())
    signature, public = key.sign(message, algorithm), key.public_key()
    share = x25519.X25519PrivateKey.generate()
    peer = x25519.X25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kem = mlkem.MLKEM768PrivateKey.generate()
    kem_public = kem.public_key()
    _, ciphertext = kem_public.encapsulate()

    def verify_chain() -> None:
        now = datetime.datetime.now(datetime.UTC)
        PolicyBuilder().store(store).time(now).build_server_verifier(name).verify(chain[0], chain[1:])

    return {
        "x25519, a key pair": lambda: x25519.X25519PrivateKey.generate().public_key().public_bytes_raw(),
        "x25519, an exchange": lambda: share.exchange(x25519.X25519PublicKey.from_public_bytes(peer)),
        "ML-KEM-768, a key pair": lambda: mlkem.MLKEM768PrivateKey.generate().public_key().public_bytes_raw(),
        "ML-KEM-768, encapsulation": kem_public.encapsulate,
        "ML-KEM-768, decapsulation": lambda: kem.decapsulate(ciphertext),
        "ECDSA P-256, a signature": lambda: key.sign(message, algorithm),
        "ECDSA P-256, its verification": lambda: public.verify(signature, message, algorithm),
        "a leaf and an intermediate, parsed": lambda: [
            x509.load_der_x509_certificate(der).public_key() for der in certificates.leaf.chain_der
        ],
        "a chain of two, verified": verify_chain,
        **records(),
    }


def records() -> dict[str, Callable[[], object]]:
    """Return what it takes to seal and to open a record, full and small, in room that is there."""
    found: dict[str, Callable[[], object]] = {}
    nonce, header = bytes(12), bytes(5)
    for suite, aead in (("AES-128-GCM", AESGCM(bytes(16))), ("ChaCha20-Poly1305", ChaCha20Poly1305(bytes(32)))):
        for size in (RECORD, 100):
            data = memoryview(bytes(size + 1))
            sealed, opened = memoryview(bytearray(size + 17)), memoryview(bytearray(size + 1))
            aead.encrypt_into(nonce, data, header, sealed)
            found[f"{suite}, {size} bytes sealed"] = lambda a=aead, d=data, s=sealed: a.encrypt_into(
                nonce, d, header, s
            )
            found[f"{suite}, {size} bytes opened"] = lambda a=aead, s=sealed, o=opened: a.decrypt_into(
                nonce, s, header, o
            )
    return found


EXCHANGE = {"x25519, a key pair": 2, "x25519, an exchange": 2}
KEM = {**EXCHANGE, "ML-KEM-768, a key pair": 1, "ML-KEM-768, encapsulation": 1, "ML-KEM-768, decapsulation": 1}
PROOF = {"ECDSA P-256, a signature": 1, "ECDSA P-256, its verification": 1}
CHAIN = {"a leaf and an intermediate, parsed": 1, "a chain of two, verified": 1}


def _bulk(suite: str) -> dict[str, float]:
    return {f"{suite}, {RECORD} bytes {done}": MIB // RECORD for done in ("sealed", "opened")}


SUMS: dict[str, dict[str, float]] = {
    "full handshake": {**EXCHANGE, **PROOF, **CHAIN},
    "full handshake, host verified minutes ago": {**EXCHANGE, **PROOF},
    "full handshake, X25519MLKEM768": {**KEM, **PROOF, **CHAIN},
    "resumed handshake": EXCHANGE,
    "bulk AES-128-GCM, 1 MiB": _bulk("AES-128-GCM"),
    "bulk ChaCha20-Poly1305, 1 MiB": _bulk("ChaCha20-Poly1305"),
    "ping-pong, 100 bytes": {"AES-128-GCM, 100 bytes sealed": 2, "AES-128-GCM, 100 bytes opened": 2},
}
"""measure → primitive → how often, both ends together"""


def baselines() -> dict[str, Callable[[], object]]:
    """Return what the baseline of each sum does: ssl, or pyOpenSSL for what ssl has not."""
    certificates = Certificates()
    full, again = StdlibStack(certificates), StdlibStack(certificates, How(resume=True))
    pairs = {suite: StdlibStack(certificates, How(suite=suite)).pair() for suite in (AES_128, CHACHA)}
    for pair in pairs.values():
        handshake(pair)
    data, small = bytes(MIB), bytes(100)
    hybrid = ready("pyOpenSSL", certificates, How(group=HYBRID))
    return {
        **({} if isinstance(hybrid, str) else {"full handshake, X25519MLKEM768": lambda: handshake(hybrid.pair())}),
        "full handshake": lambda: handshake(full.pair()),
        "full handshake, host verified minutes ago": lambda: handshake(full.pair()),
        "resumed handshake": lambda: resumed(again.pair()),
        "bulk AES-128-GCM, 1 MiB": lambda: pairs[AES_128].send(data),
        "bulk ChaCha20-Poly1305, 1 MiB": lambda: pairs[CHACHA].send(data),
        "ping-pong, 100 bytes": lambda: pairs[AES_128].ping_pong(small),
    }


def timed(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each one's median µs; they take turns."""
    counts = {name: enough(work, ROUND_SECONDS) for name, work in works.items()}
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            for _ in range(counts[name]):
                work()
            found[name].append((time.process_time() - start) / counts[name] * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the µs of each primitive, of each sum, of its baseline, and the ceilings."""
    works, base = primitives(), baselines()
    found = timed({**works, **{f"baseline: {name}": work for name, work in base.items()}}, rounds)
    alone = {name: found[name] for name in works}
    floors = {name: sum(count * alone[one] for one, count in parts.items()) for name, parts in SUMS.items()}
    theirs = {name: found[f"baseline: {name}"] for name in base}
    ceilings = {name: theirs[name] / floors[name] for name in theirs}
    return {"schema": 1, "primitives": alone, "floors": floors, "baselines": theirs, "ceilings": ceilings}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench primitives", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    report = measure(options.rounds)
    for name, microseconds in report["primitives"].items():
        print(f"{name:<44}{microseconds:>9.2f} µs")
    print(f"\n{'both ends':<44}{'primitives':>12}{'baseline':>12}{'ceiling':>10}")
    for name, floor in report["floors"].items():
        theirs = report["baselines"].get(name)
        beside = "" if theirs is None else f"{theirs:>9.1f} µs{theirs / floor:>9.2f}×"
        print(f"{name:<44}{floor:>9.1f} µs{beside}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0
