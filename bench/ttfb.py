"""`python -m bench ttfb`: the time to the first byte of an answer over a path of 50 ms there and back.

From before the TCP connection to the answer's first byte, with a full handshake, a resumed one, and a resumed one whose
request is early data. Client and server are Pellucid's, on this machine; the path is `bench.delay`'s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import pellucid
from bench.delay import delayed
from bench.peers import Certificates

RTT_SECONDS = 0.05
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"
WAYS = {
    "full handshake": "TCP, TLS, request and answer: 3 round trips",
    "resumed": "the same 3, without certificates",
    "resumed, early data": "TCP, then all at once: 2 round trips",
}


def measure(repeat: int, rtt_seconds: float = RTT_SECONDS) -> dict:
    """Return, for each way, the seconds of *repeat* visits; the three take turns. Fails if one is not what it says."""
    certificates = Certificates()
    credential = pellucid.Credential.from_pem(certificates.leaf.chain_pem, certificates.leaf.key_pem)
    server = pellucid.ServerConfig(credentials=(credential,), max_early_data=16_384)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with pellucid.listen("127.0.0.1", 0, server) as listener:
        thread = threading.Thread(target=listener.serve, args=(_answer,), daemon=True)
        thread.start()
        with delayed(listener.address[1], one_way_seconds=rtt_seconds / 2) as port:
            config = pellucid.ClientConfig(trust=certificates.root.trust)
            _visit(port, config, "full handshake")
            for _ in range(repeat):
                for way in WAYS:
                    fresh = pellucid.ClientConfig(trust=certificates.root.trust)
                    times[way].append(_visit(port, fresh if way == "full handshake" else config, way))
        listener.close()
        thread.join(10)
    return {"schema": 1, "rtt_seconds": rtt_seconds, "seconds": times}


def _answer(stream: pellucid.Stream) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = stream.recv()
        if not data:
            return
        request += data
    stream.sendall(ANSWER)
    stream.recv()


def _visit(port: int, config: pellucid.ClientConfig, way: str) -> float:
    """Return the seconds to the first byte. The connection leaves with a ticket for the next."""
    early = way == "resumed, early data"
    begun = time.perf_counter()
    with pellucid.connect("localhost", port, config, early_data=REQUEST if early else b"") as stream:
        if not early:
            stream.sendall(REQUEST)
        first = stream.recv()
        seconds = time.perf_counter() - begun
        stream.settimeout(10)
        kept = stream.wait_for_ticket()
        accepted = stream.early_data is pellucid.EarlyDataOutcome.ACCEPTED
        if (stream.negotiated.resumed, accepted) != (way != "full handshake", early) or not kept:
            raise SystemExit(f"this was no visit of the kind {way!r}")
    if not ANSWER.startswith(first[:1]):
        raise SystemExit("the answer is another")
    return seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench ttfb", description=__doc__)
    parser.add_argument("--repeat", type=int, default=11, help="visits of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    report = measure(options.repeat)
    rtt = report["rtt_seconds"]
    print(f"time to the first byte, round trip {rtt * 1e3:.0f} ms, of {options.repeat} visits each")
    print(f"{'':<22}{'median':>12}{'best':>12}{'round trips':>14}")
    best = {way: min(seconds) for way, seconds in report["seconds"].items()}
    for way, seconds in report["seconds"].items():
        print(
            f"{way:<22}{statistics.median(seconds) * 1e3:>9.1f} ms{best[way] * 1e3:>9.1f} ms"
            f"{best[way] / rtt:>14.2f}   {WAYS[way]}"
        )
    saved = best["full handshake"] - best["resumed, early data"]
    print(f"early data saves {saved * 1e3:.1f} ms = {saved / rtt:.2f} round trips against a full handshake")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if saved >= 0.9 * rtt else 1
