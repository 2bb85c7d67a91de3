"""What a handshake costs with more of something: roots, certificates, extensions, connections alive. In `--full` alone.

With one of everything it is what `handshakes` measures; these show how it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pellucid
from bench.bulk import ROUND_SECONDS
from bench.handshakes import handshakes
from bench.harness import Measure, Peers, Round, Scale, enough, opened, per_second
from bench.peers import Certificates, How, PellucidStack, StdlibStack, ready
from bench.peers.interface import handshake

PEERS = ("ssl", "pyOpenSSL", "rtls", "utls", "pellucid")
SHAPED = ("ssl", "pellucid")
ROOTS = (1, 10, 150, 1000)
CHAIN = (1, 2, 3, 4, 5)
EXTENSIONS = ((0, 0), (10, 0), (100, 0), (1, 4096), (1, 16384))
ALIVE = (1, 100, 10_000)


def measures(scale: Scale) -> Iterable[Measure]:
    if not scale.full:
        return
    rounds = scale.some(3)

    def cost(name: str, group: str, make: Callable[[], Peers], **more: Any) -> Measure:
        return Measure(name=name, group=group, unit="/s", better="higher", rounds=rounds, open=opened(make), **more)

    for count in ROOTS:
        kept, fresh = roots(scale, count)
        yield cost(f"full handshake, {count} roots, configuration kept", "cost of roots", kept)
        yield cost(f"full handshake, {count} roots, configuration made for it", "cost of roots", fresh)
    for count in CHAIN:
        name = f"full handshake, chain of {count} certificate{'s' if count > 1 else ''}"
        yield cost(name, "cost of a chain", chain(scale, count))
    for count, size in EXTENSIONS:
        name = f"server's flight, {count} unknown extensions of {size} bytes"
        yield cost(name, "cost of extensions", extensions(scale, count, size))
    for count in ALIVE:
        name = f"ping-pong, each of {count:,} connections in turn"
        yield cost(name, "cost of connections alive", alive(scale, count))


def _names(scale: Scale, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in (scale.peers or names))


def roots(scale: Scale, count: int) -> tuple[Callable[[], Peers], Callable[[], Peers]]:
    """Return what makes handshakes with *count* roots trusted: with one configuration, and with a new one each time."""

    def kept() -> Peers:
        certificates = Certificates(roots=count)
        stacks = {name: ready(name, certificates, How()) for name in _names(scale, PEERS)}
        return {name: one if isinstance(one, str) else handshakes(one) for name, one in stacks.items()}

    def fresh() -> Peers:
        certificates = Certificates(roots=count)
        stacks = {name: ready(name, certificates, How()) for name in _names(scale, SHAPED)}
        return {name: one if isinstance(one, str) else _fresh(one) for name, one in stacks.items()}

    return kept, fresh


def _fresh(stack: Any) -> Round:
    def one() -> None:
        stack.new_client()
        handshake(stack.pair())

    return per_second(one, enough(one, ROUND_SECONDS))


def chain(scale: Scale, count: int) -> Callable[[], Peers]:
    """Return what makes handshakes whose server shows *count* certificates."""

    def make() -> Peers:
        certificates = Certificates(intermediates=count - 1)
        stacks = {name: ready(name, certificates, How()) for name in _names(scale, PEERS)}
        return {name: one if isinstance(one, str) else handshakes(one) for name, one in stacks.items()}

    return make


def extensions(scale: Scale, count: int, size: int) -> Callable[[], Peers]:
    """Return what makes servers answer a ClientHello with *count* more extensions of *size* bytes that nobody knows."""

    def make() -> Peers:
        certificates = Certificates()
        theirs, ours = StdlibStack(certificates), PellucidStack(certificates)
        hello = _longer(pellucid.Connection.client(ours.client, "localhost").data_to_send(), count, size)

        def stdlib() -> None:
            pair = theirs.pair()
            pair.to_server.write(hello)
            pair.server_turn()
            if not pair.to_client.pending:
                raise RuntimeError("ssl did not answer")

        def pellucids() -> None:
            server = pellucid.Connection.server(ours.server)
            server.receive_data(hello)
            if not server.data_to_send():
                raise RuntimeError("pellucid did not answer")

        work = {"ssl": stdlib, "pellucid": pellucids}
        return {name: per_second(work[name], enough(work[name], ROUND_SECONDS)) for name in _names(scale, SHAPED)}

    return make


def _longer(flight: bytes, count: int, size: int) -> bytes:
    """Return the ClientHello in *flight*, a record, with more extensions, in as many records as it takes."""
    hello = flight[5 : 5 + int.from_bytes(flight[3:5])]
    at = 4 + 2 + 32
    at += 1 + hello[at]  # session ID
    at += 2 + int.from_bytes(hello[at : at + 2])  # suites
    at += 1 + hello[at]  # compression methods
    more = b"".join((0xF000 + i).to_bytes(2) + size.to_bytes(2) + bytes(size) for i in range(count))
    body = hello[4:at] + (len(hello) - at - 2 + len(more)).to_bytes(2) + more + hello[at + 2 :]
    message = b"\x01" + len(body).to_bytes(3) + body
    pieces = (message[i : i + 2**14] for i in range(0, len(message), 2**14))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def alive(scale: Scale, count: int) -> Callable[[], Peers]:
    """Return what sends 100 bytes there and back on each of *count* connections in turn."""

    def make() -> Peers:
        certificates = Certificates()
        stacks = {name: ready(name, certificates, How()) for name in _names(scale, SHAPED)}
        return {name: one if isinstance(one, str) else _alive(one, count) for name, one in stacks.items()}

    return make


def _alive(stack: Any, count: int) -> Round:
    pairs = [stack.pair() for _ in range(count)]
    for pair in pairs:
        handshake(pair)
    data = bytes(100)
    turn = iter(())

    def one() -> None:
        nonlocal turn
        pair = next(turn, None)
        if pair is None:
            turn = iter(pairs)
            pair = next(turn)
        pair.ping_pong(data)

    return per_second(one, enough(one, ROUND_SECONDS))
