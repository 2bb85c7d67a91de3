"""The first five parts of the story: TCP, the messages, the four verifications, the shared secret, the keys."""

from __future__ import annotations

import hmac
from typing import Final

from pellucid.errors import UsageError
from pellucid.explain.fields import certificate_name, message_fields
from pellucid.explain.ladder import FIELDS, LadderPrinter, arrow, between, heads
from pellucid.explain.meanings import HYBRIDS
from pellucid.explain.recorder import Recorder
from pellucid.explain.sentences import MESSAGES, describe, moment, protection, seconds
from pellucid.explain.story import Part, Scene, one, rows, sentence
from pellucid.explain.text import Line, Span, escaped, line, shortened, wrap
from pellucid.explain.tree import key_schedule, tree_lines
from pellucid.messages.handshake import CertificateVerify
from pellucid.registry import exchange_name, group_name, handshake_type_name, scheme_name, suite_name
from pellucid.trace import (
    Direction,
    Epoch,
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    Role,
    SharedSecretComputed,
    SignatureTraced,
    TcpConnected,
    TcpInfo,
    TcpPacket,
    VerificationTraced,
)
from pellucid.verify.report import Check, CheckGroup, Outcome, VerificationReport

__all__ = ["key_exchange", "keys", "tcp", "tls", "verifications"]

GOOD: Final = Span("✓", "good")
BAD: Final = Span("✗", "bad")


# ---- 1: TCP --------------------------------------------------------------------------------------------------------

_PACKETS: Final = {
    ("SYN",): "“shall we talk? my bytes count from {}”",
    ("SYN", "ACK"): "“yes; mine count from {}”",
    ("ACK",): "“I hear you: connected”",
}
_SOURCES: Final = {
    "AF_PACKET": "AF_PACKET: captured as they went by",
    "TCP_SAVED_SYN": "TCP_SAVED_SYN: the server's kernel kept the first one",
}
_NOT_DRAWN: Final = "What is not drawn went by unseen: why, stands below."


def tcp(scene: Scene) -> Part:
    """The TCP handshake: the packets as captured, else what the kernel kept of them."""
    connected = one(scene.client, TcpConnected)
    packets = scene.client.of(TcpPacket)
    to_server = Direction.SENT
    if not packets:
        packets, to_server = scene.server.of(TcpPacket), Direction.RECEIVED
    unavailable = (*connected.unavailable, *one(scene.server, TcpConnected).unavailable)
    info = connected.info

    def draw(width: int) -> list[Line]:
        here = f"{connected.local_address} port {connected.local_port}"
        there = f"{connected.peer_address} port {connected.peer_port}"
        lines = [heads(width, f"client, {here}", f"server, {there}")]
        for packet in packets:
            name = Span("-".join(packet.flags), "strong")
            told = _PACKETS.get(packet.flags)
            about = line("" if told is None else told.format(packet.sequence))
            lines.append(arrow(width, name, about, to_server=packet.direction is to_server))
        if len(packets) < len(_PACKETS):
            lines.append(between(width, line(Span(f"  {_NOT_DRAWN}", "muted"))))
        lines.append(())
        lines += rows(_tcp_facts(connected, packets, info), width)
        lines += rows(((f"no {what}", why) for what, why in unavailable), width)
        return lines

    return Part(
        number=1,
        key="tcp",
        title="The TCP handshake",
        sentence="Two machines agree to talk: three packets, one round trip. Nothing is secret yet.",
        data={
            "client": f"{connected.local_address} {connected.local_port}",
            "server": f"{connected.peer_address} {connected.peer_port}",
            "connect_seconds": connected.seconds,
            "round_trip_seconds": None if info is None else info.rtt_seconds,
            "send_mss": None if info is None else info.send_mss,
            "packets": [
                {
                    "from": "client" if packet.direction is to_server else "server",
                    "flags": list(packet.flags),
                    "seconds": packet.seconds,
                    "sequence": packet.sequence,
                    "acknowledgment": packet.acknowledgment,
                    "window": packet.window,
                    "options": [[name, value] for name, value in packet.options],
                    "source": packet.source,
                }
                for packet in packets
            ],
            "unavailable": dict(unavailable),
        },
        draw=draw,
    )


def _tcp_facts(connected: TcpConnected, packets: tuple[TcpPacket, ...], info: TcpInfo | None) -> list[tuple[str, str]]:
    facts = []
    if connected.seconds is not None:
        facts.append(("connected in", f"{seconds(connected.seconds)}, as the program saw it"))
    if info is not None:
        facts += [
            ("round trip", f"{seconds(info.rtt_seconds)} there and back, by the kernel's measure (TCP_INFO)"),
            ("segment size", f"{info.send_mss} bytes at most in one packet (MSS), path MTU {info.path_mtu}"),
        ]
    for packet in packets[:2]:
        offered = [
            f"{name} {value}".strip() for name, value in packet.options if name not in {"no-operation", "timestamps"}
        ]
        facts.append((f"{'-'.join(packet.flags)} offers", ", ".join(offered)))
    if packets:
        facts.append(("seen by", _SOURCES.get(packets[0].source, packets[0].source)))
    return facts


# ---- 2: TLS --------------------------------------------------------------------------------------------------------


def tls(scene: Scene) -> Part:
    """The TLS handshake: each message with its size, its fields and the keys that protect it."""
    completed = one(scene.client, HandshakeCompleted)
    told = scene.client.of(MessageTraced)
    messages = [event for event in told if event.epoch is not Epoch.APPLICATION]
    later = [event for event in told if event.epoch is Epoch.APPLICATION]

    def draw(width: int) -> list[Line]:
        lines: list[Line] = []
        printer = LadderPrinter(lines.append, width=width, role=Role.CLIENT, detail=FIELDS, meanings=True)
        for event in scene.client.events:
            if isinstance(event, KeysInstalled) or event in messages:
                printer(event)
        facts = [
            ("agreed", f"TLS 1.3, {suite_name(completed.cipher_suite)}, {exchange_name(completed.group)}"),
            ("to speak", completed.alpn or "whatever the two ends like: no protocol was named"),
            ("messages", f"{len(messages)} in {sum(len(event.raw) for event in messages)} bytes, one round trip"),
            ("afterwards", ", ".join(handshake_type_name(event.message_type) for event in later)),
        ]
        return [*lines, (), *rows(facts, width)]

    return Part(
        number=2,
        key="tls",
        title="The TLS handshake",
        sentence="In one round trip the two ends agree on everything, and only the two hellos can be read by others.",
        data={
            "version": "TLS 1.3",
            "cipher_suite": suite_name(completed.cipher_suite),
            "group": exchange_name(completed.group),
            "alpn": completed.alpn,
            "server_name": completed.server_name,
            "messages": [
                {
                    "name": handshake_type_name(event.message_type),
                    "from": "client" if event.direction is Direction.SENT else "server",
                    "size": len(event.raw),
                    "epoch": event.epoch.name.lower(),
                    "protected_by": None if event.epoch is Epoch.INITIAL else protection(event.epoch),
                    "meaning": MESSAGES.get(event.message_type, ""),
                    "fields": {field.name: field.value for field in message_fields(event)},
                }
                for event in messages
            ],
        },
        draw=draw,
    )


# ---- 3: the four verifications -------------------------------------------------------------------------------------

_QUESTIONS: Final = {
    CheckGroup.VALIDITY: "Is the certificate valid?",
    CheckGroup.NAME: "Is it for the name that was asked for?",
    CheckGroup.TRUST: "Does a trusted CA vouch for it?",
    CheckGroup.SIGNATURE: "Is the server the one it was issued to? (CertificateVerify)",
}
_SIGNED: Final = "64 blanks, “TLS 1.3, server CertificateVerify”, a zero, and the hash of ClientHello…Certificate"
_TELLING: Final = frozenset({"dates", "key strength", "key usage", "purpose", "signature algorithm", "revocation"})


def verifications(scene: Scene) -> Part:
    """The four verifications, each with its evidence; of a resumed session that they were made before, and when."""
    completed = one(scene.client, HandshakeCompleted)
    if completed.resumed:
        return _resumed(scene, completed)
    report = one(scene.client, VerificationTraced).report
    if not isinstance(report, VerificationReport):
        raise UsageError("the story needs a VerificationReport")
    proof = next(event.body for event in scene.client.of(MessageTraced) if isinstance(event.body, CertificateVerify))
    checked = {event.what: event for event in scene.client.of(SignatureTraced)}
    path = [certificate_name(der) for der in report.path]

    def draw(width: int) -> list[Line]:
        lines: list[Line] = []
        for number, (group, checks) in enumerate(report.by_group().items(), 1):
            passed = report.outcome(group) is Outcome.PASSED
            verdict = Span("yes" if passed else "NO", "good" if passed else "bad")
            lines.append(
                line("  ", GOOD if passed else BAD, " ", Span(f"{number}. {_QUESTIONS[group]} ", "strong"), verdict)
            )
            lines += _evidence(group, checks, width)
            if group is CheckGroup.TRUST:
                lines += _chain(path, width)
            if group is CheckGroup.SIGNATURE:
                about = [("signed", _SIGNED), ("signature", shortened(proof.signature, whole=0, head=16, tail=8))]
                lines += rows(about, width, indent=6)
            lines.append(())
        finished = checked.get("Finished")
        if finished is not None:
            lines += sentence(f"Last of all: {describe(finished)}", width)
        return lines

    return Part(
        number=3,
        key="verifications",
        title="The four verifications",
        sentence="So far anybody could have answered. Four questions decide whether this is the server that was meant.",
        data={
            **report.to_dict(),
            "chain": path,
            "signature_scheme": scheme_name(proof.algorithm),
            "signature": proof.signature.hex(),
            "finished_valid": None if "Finished" not in checked else checked["Finished"].valid,
        },
        draw=draw,
    )


def _resumed(scene: Scene, completed: HandshakeCompleted) -> Part:
    verified = moment(completed.authenticated_at)
    checked = [event for event in scene.client.of(SignatureTraced) if event.what == "Finished"]

    def draw(width: int) -> list[Line]:
        lines = sentence(f"resumed: verified at {verified}", width, "good", mark=GOOD)
        lines += sentence(
            "Then the four questions were answered, and both ends kept a key that nobody else has. Now the server "
            "shows that it has it: its Finished is right.",
            width,
        )
        for finished in checked:
            lines += sentence(describe(finished), width)
        return lines

    return Part(
        number=3,
        key="verifications",
        title="The verifications were made before",
        sentence="A session was resumed: nobody shows a certificate.",
        data={
            "resumed": True,
            "authenticated_at": completed.authenticated_at,
            "finished_valid": all(event.valid for event in checked),
        },
        draw=draw,
    )


def _evidence(group: CheckGroup, checks: tuple[Check, ...], width: int) -> list[Line]:
    """Return the checks that tell most: of the many on validity the leaf's, and whatever did not pass."""
    told = [
        check
        for check in checks
        if group is not CheckGroup.VALIDITY
        or check.outcome in {Outcome.FAILED, Outcome.NOT_CHECKED}
        or (check.certificate == 0 and check.name in _TELLING)
    ]
    lines: list[Line] = []
    for check in told:
        mark = {Outcome.PASSED: GOOD, Outcome.FAILED: BAD}.get(check.outcome, Span("·", "muted"))
        extra = " (not checked)" if check.outcome is Outcome.NOT_CHECKED else ""
        first = line("      ", mark, " ", Span(f"{check.name}: ", "name"))
        lines += wrap(line(f"{escaped(check.evidence)}{extra}"), width, first=first, rest=line("        "))
    if rest := len(checks) - len(told):
        lines.append(
            line("      ", Span(f"· and {rest} more, all passed or not applicable (--json has them)", "muted"))
        )
    return lines


def _chain(path: list[str], width: int) -> list[Line]:
    lines: list[Line] = []
    for index, name in enumerate(path):
        first = line("      ", Span("   " * index + ("└─ " if index else ""), "muted"))
        trusted = "; trusted" if index == len(path) - 1 else ""
        lines += wrap(line(name + trusted), width, first=first)
    return lines


# ---- 4: the shared secret ------------------------------------------------------------------------------------------


def key_exchange(scene: Scene) -> Part:
    """The shared secret: A and B, which everybody may see, and what only the two ends can make of them."""
    client = one(scene.client, SharedSecretComputed)
    server = one(scene.server, SharedSecretComputed)
    name = group_name(client.group)
    equal = hmac.compare_digest(client.secret.reveal(), server.secret.reveal())
    halves = HYBRIDS.get(client.group, ((name, len(client.local_public), len(client.peer_public)),))
    show = scene.shown

    def draw(width: int) -> list[Line]:
        lines = [heads(width)]
        for letter, data, sizes, to_server in (
            ("A", client.local_public, [half[1] for half in halves], True),
            ("B", client.peer_public, [half[2] for half in halves], False),
        ):
            about = line(Span(f"{len(data)} bytes · in the open", "open"))
            lines.append(arrow(width, Span(f"{letter}, for {name}", "strong"), about, to_server=to_server))
            offset = 0
            for (half, _client, _server), size in zip(halves, sizes, strict=True):
                value = shortened(data[offset : offset + size], whole=32, head=12, tail=8)
                told = line(Span(f"{half}, {size} bytes: ", "name"), value)
                lines += [between(width, content) for content in wrap(told, width - 7, first=line("  "))]
                offset += size
        lines.append(())
        lines += rows(
            [
                ("client's secret", f"{len(client.secret)} bytes, {show.text(client.secret)}"),
                ("server's secret", f"{len(server.secret)} bytes, {show.text(server.secret)}"),
            ],
            width,
        )
        verdict = "they are equal, and they were never sent" if equal else "they differ"
        lines += sentence(verdict, width, "good" if equal else "bad", mark=GOOD if equal else BAD)
        return [*lines, (), *sentence(_how(client.group), width)]

    return Part(
        number=4,
        key="shared_secret",
        title="The shared secret",
        sentence="Each end sends a public value and keeps a private one; both arrive at the same secret, and who "
        "listens does not.",
        data={
            "group": name,
            "A": client.local_public.hex(),
            "B": client.peer_public.hex(),
            "server_saw_A": server.peer_public == client.local_public,
            "client_secret": show.to_dict(client.secret),
            "server_secret": show.to_dict(server.secret),
            "equal": equal,
        },
        draw=draw,
    )


def _how(group: int) -> str:
    curve = (
        "Each end has a secret number (a, b) and sends that multiple of a point G that all know (A = a·G, B = b·G). "
        "Then a·B = b·A: the same point, which cannot be found from A and B alone."
    )
    if group not in HYBRIDS:
        return curve
    return (
        f"{curve} ML-KEM is a lock: A holds an open one, the server puts a random secret into it, snaps it shut and "
        "sends it back as B. The result takes both halves, and holds as long as one of them does: ML-KEM is there "
        "against quantum computers."
    )


# ---- 5: the keys ---------------------------------------------------------------------------------------------------

_INTEGRITY: Final = (
    "Where is the integrity key? Older versions kept a MAC key beside the encryption key. TLS 1.3 has none: each "
    "AEAD key both encrypts and seals every record (the tag at its end), and the two Finished keys seal the handshake "
    "as a whole."
)


def keys(scene: Scene) -> Part:
    """The key derivation, as a tree."""
    root = key_schedule(scene.client.events)
    if root is None:
        raise UsageError("the story cannot be told: no secret was derived")
    agreeing, total = _agreement(scene.client, scene.server)

    def draw(width: int) -> list[Line]:
        lines = tree_lines(root, width, scene.shown)
        same = f"{agreeing} of {total} secrets are the same at both ends, each derived there on its own"
        lines += [(), *sentence(same, width, mark=GOOD if agreeing == total else BAD)]
        lines += sentence(
            "The numbers at the right are fingerprints: enough to compare two secrets, not to use one."
            if not scene.shown.reveal
            else "Beneath each fingerprint stands the secret itself: with these, a recording of this connection opens.",
            width,
        )
        return [*lines, (), *sentence(_INTEGRITY, width)]

    return Part(
        number=5,
        key="key_schedule",
        title="The keys",
        sentence="From the one secret every key is derived by HKDF, each with its own label, so that none tells of "
        "another.",
        data={
            "tree": root.to_dict(scene.shown),
            "equal_at_both_ends": agreeing,
            "secrets": total,
            "integrity": _INTEGRITY,
        },
        draw=draw,
    )


def _agreement(client: Recorder, server: Recorder) -> tuple[int, int]:
    """Return how many secrets both ends have alike, and how many there are at either."""
    here, there = client.secrets, server.secrets
    names = here.keys() | there.keys()
    alike = [
        name
        for name in names
        if name in here and name in there and hmac.compare_digest(here[name].reveal(), there[name].reveal())
    ]
    return len(alike), len(names)
