"""The sixth part of the story: request and response as records, and a record that somebody changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pellucid.crypto.provider import Suite
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.explain.reveal import Shown
from pellucid.explain.story import Part, Scene, rows, sentence
from pellucid.explain.text import Line, Span, line
from pellucid.limits import RECORD_HEADER
from pellucid.record.protect import record_nonce, split_inner_plaintext
from pellucid.registry import AlertDescription, ContentType, alert_name, suite_name
from pellucid.trace import AlertTraced, Direction, Epoch, KeysInstalled, RecordTraced, Secret

__all__ = ["Opened", "open_record", "records"]

_ROW: Final = 16
_MAX_ROWS: Final = 5


class Opened(NamedTuple):
    """A record from the trace, opened again with the key from the trace."""

    record: RecordTraced
    keys: KeysInstalled
    suite: Suite
    nonce: Secret
    content: bytes

    @property
    def tag(self) -> bytes:
        return self.record.raw[-self.suite.tag_length :]

    @property
    def ciphertext(self) -> bytes:
        """What stands between header and tag."""
        return self.record.raw[RECORD_HEADER : -self.suite.tag_length]


def open_record(
    record: RecordTraced, installed: Sequence[KeysInstalled], suites: Sequence[Suite] = PYCA.suites
) -> Opened:
    """Open a protected record as its receiver did: key and IV, nonce from the sequence number, header as AAD (§5.2).

    installed: the keys of the trace; the last of the record's direction and epoch counts.
    Raises UsageError if they are not there, the provider's tag error if they do not fit.
    """
    keys = next(
        (keys for keys in reversed(installed) if (keys.direction, keys.epoch) == (record.direction, record.epoch)), None
    )
    suite = None if keys is None else next((suite for suite in suites if suite.code == keys.cipher_suite), None)
    if keys is None or suite is None or record.sequence is None:
        raise UsageError("the keys of this record were not seen")
    nonce = record_nonce(keys.iv.reveal(), record.sequence)
    inner = suite.aead(keys.key.reveal()).decrypt(nonce, record.raw[RECORD_HEADER:], record.raw[:RECORD_HEADER])
    return Opened(record, keys, suite, Secret(nonce), split_inner_plaintext(inner)[1])


def records(scene: Scene) -> Part:
    """The encrypted request and response, and the tampered record refused at the end."""
    installed = scene.client.of(KeysInstalled)
    data = [
        record
        for record in scene.client.of(RecordTraced)
        if record.epoch is Epoch.APPLICATION and record.content_type == ContentType.APPLICATION_DATA
    ]
    tampering = scene.tampering
    kept = [record for record in data if record.raw != tampering.sent]
    opened = [open_record(record, installed) for record in kept]
    requests = [one for one in opened if one.record.direction is Direction.SENT]
    responses = [one for one in opened if one.record.direction is Direction.RECEIVED]
    whole = (
        b"".join(one.content for one in requests) == scene.request
        and b"".join(one.content for one in responses) == scene.response
    )
    alerts = [alert for alert in scene.client.of(AlertTraced) if alert.direction is Direction.RECEIVED]
    refused = [alert_name(alert.description) for alert in alerts]

    def draw(width: int) -> list[Line]:
        lines: list[Line] = []
        for title, group in (("The request, client → server", requests), ("The response, server → client", responses)):
            for index, one in enumerate(group, 1):
                part = f", record {index} of {len(group)}" if len(group) > 1 else ""
                lines += [line("  ", Span(title + part, "strong")), *_record(one, width, scene.shown), ()]
        mark = Span("✓", "good") if whole else Span("✗", "bad")
        lines += sentence(
            "opened once more with the keys of part 5: they hold just what was said",
            width,
            mark=mark,
        )
        return [*lines, (), *_tampered(scene, refused, width)]

    return Part(
        number=6,
        key="records",
        title="The encrypted conversation",
        sentence="The request and the answer travel in records that only the two ends can read, and nobody can change.",
        data={
            "request": [_to_dict(one, scene.shown) for one in requests],
            "response": [_to_dict(one, scene.shown) for one in responses],
            "opened_with_derived_keys": whole,
            "tampered": {
                "position": tampering.position,
                "sent": tampering.sent.hex(),
                "changed": tampering.changed.hex(),
                "alerts": refused,
                "refused": alert_name(AlertDescription.BAD_RECORD_MAC) in refused,
                "server_says": tampering.refusal,
                "requests_delivered": scene.delivered,
            },
        },
        draw=draw,
    )


def _to_dict(one: Opened, shown: Shown) -> dict[str, object]:
    record = one.record
    return {
        "cipher_suite": one.suite.name,
        "sequence": record.sequence,
        "nonce": shown.to_dict(one.nonce),
        "additional_data": record.raw[:RECORD_HEADER].hex(),
        "size": record.size,
        "content_size": record.content_size,
        "padding_size": record.padding_size,
        "plaintext": one.content.decode("utf-8", "backslashreplace"),
        "record": record.raw.hex(),
    }


def _record(one: Opened, width: int, shown: Shown) -> list[Line]:
    record = one.record
    lines = _beside(one.content, one.ciphertext)
    overhead = f"{RECORD_HEADER} header + {record.content_size} data + 1 type"
    padding = f" + {record.padding_size} padding" if record.padding_size else ""
    nonce = f"the iv of {one.keys.secret_name} ⊕ {record.sequence}"
    facts = [
        ("size", f"{record.size} bytes: {overhead}{padding} + {one.suite.tag_length} tag"),
        ("suite", suite_name(one.suite.code)),
        ("nonce", f"{nonce}, {shown.text(one.nonce)}"),
        ("header", f"{record.raw[:RECORD_HEADER].hex(' ')}, readable and sealed (additional data)"),
        ("tag", one.tag.hex(" ")),
    ]
    return [*lines, *rows(facts, width, indent=4)]


def _beside(content: bytes, ciphertext: bytes) -> list[Line]:
    """Return plaintext and ciphertext side by side, byte over byte, *_ROW* in a line."""
    lines = [line("    ", Span("plaintext".ljust(_ROW + 3), "name"), Span("the same bytes on the wire", "name"))]
    shown = min(len(content), _ROW * _MAX_ROWS)
    for start in range(0, shown, _ROW):
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in content[start : start + _ROW])
        secret = ciphertext[start : min(start + _ROW, len(content))].hex(" ")
        lines.append(line("    ", f"{text:<{_ROW}}", Span(" │ ", "muted"), Span(secret, "lock")))
    if len(content) > shown:
        lines.append(line("    ", Span(f"… and {len(content) - shown} bytes more", "muted")))
    return lines


def _tampered(scene: Scene, refused: list[str], width: int) -> list[Line]:
    tampering = scene.tampering
    at = tampering.position
    start = max(RECORD_HEADER, at - 4)
    lines = [line("  ", Span("And if somebody changes a bit on the way?", "strong"))]
    for name, data in (("sent", tampering.sent), ("arrived", tampering.changed)):
        before, byte, after = data[start:at].hex(" "), data[at : at + 1].hex(), data[at + 1 : at + 8].hex(" ")
        lines.append(line("    ", Span(f"{name:<9}", "name"), f"… {before} ", Span(f"[{byte}]", "bad"), f" {after} …"))
    caught = alert_name(AlertDescription.BAD_RECORD_MAC) in refused
    mark = Span("✓", "good") if caught else Span("✗", "bad")
    verdict = (
        f"refused: the server answered with the alert {', '.join(refused)} and ended the connection"
        if refused
        else "nobody noticed"
    )
    lines += sentence(verdict, width, "good" if caught else "bad", mark=mark)
    facts = [
        ("the server", tampering.refusal),
        ("delivered", f"{scene.delivered} request to the web server, the untouched one: no byte of the changed record"),
    ]
    return [*lines, *rows(facts, width, indent=4)]
