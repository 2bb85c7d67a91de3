"""What it costs to be told of handshakes: `python -m bench.observing`. Processor time, both ends in memory, per end."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import pellucid
from pellucid.integrations.opentelemetry import Telemetry
from pellucid.integrations.prometheus import Metrics
from pellucid.testing.ca import CA
from pellucid.trace import Observer, TraceEvent

ROUNDS = 300
Trace = Callable[[], Observer]


def quiet(event: TraceEvent) -> None:
    """Look, and do nothing."""


def reporters() -> dict[str, Trace | None]:
    logger = logging.getLogger("pellucid.bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    return {
        "off": None,
        "an observer that does nothing": lambda: quiet,
        "metrics": Metrics(CollectorRegistry()),
        "logs": pellucid.log_to(logger),
        "spans": Telemetry(TracerProvider()),
    }


def handshake(client: pellucid.ClientConfig, server: pellucid.ServerConfig) -> float:
    """Return the seconds of processor time of one handshake, both ends."""
    begun = time.process_time()
    ends = (pellucid.Connection.client(client, "bench.test"), pellucid.Connection.server(server))
    for _ in range(3):
        for sender, receiver in (ends, ends[::-1]):
            receiver.receive_data(sender.data_to_send())
    took = time.process_time() - begun
    if not all(end.handshake_complete for end in ends):
        raise RuntimeError("no handshake came about")
    return took


def main() -> None:
    ca = CA("bench")
    leaf = ca.issue("bench.test")
    credential = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    pairs = {
        name: (
            pellucid.ClientConfig(trust=ca.trust, sessions=None, trace=trace),
            pellucid.ServerConfig(credentials=(credential,), tickets=0, trace=trace),
        )
        for name, trace in reporters().items()
    }
    best = dict.fromkeys(pairs, float("inf"))
    for _ in range(ROUNDS):
        for name, pair in pairs.items():
            best[name] = min(best[name], handshake(*pair))
    for name, seconds in best.items():
        more = (seconds - best["off"]) / 2
        print(f"{name:30} {seconds * 1e6:6.0f} µs for both ends, {more * 1e6:+5.0f} µs for each")


if __name__ == "__main__":
    main()
