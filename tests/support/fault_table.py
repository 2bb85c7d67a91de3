"""`python -m tests.support.fault_table` writes docs/reference/faults.md: every fault, in a line of a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pellucid.registry import alert_name
from pellucid.testing.faults import FAULTS, Fault, Kind
from pellucid.trace import Role

PATH = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
HEAD = """# Faults

Peers that misbehave on purpose, one way each: [how to meet them](../guides/testing.md). A victim that notices ends with
the diagnosis, and sends the alert if there is one to send. The section is the rule that is broken.
This page is written by `python -m tests.support.fault_table`.
"""
TITLES = {Kind.TRANSPORT: "below TLS", Kind.X509: "certificates", Kind.PROTOCOL: "the protocol"}


def table() -> str:
    return "\n".join((HEAD, *_lines())) + "\n"


def _lines() -> Iterator[str]:
    for side in (Role.SERVER, Role.CLIENT):
        for kind, title in TITLES.items():
            faults = [fault for fault in FAULTS.values() if fault.side is side and fault.kind is kind]
            yield f"## {side.value.capitalize()}s: {title} ({len(faults)})\n"
            yield "| name | what is wrong | diagnosis | alert | section | to notice, it takes |"
            yield "|---|---|---|---|---|---|"
            yield from map(_row, faults)
            yield ""


def _row(fault: Fault) -> str:
    alert = "" if fault.alert is None else alert_name(fault.alert)
    section = f"RFC {fault.rfc}" if fault.rfc else ""
    cells = (f"`{fault.name}`", fault.summary, f"`{fault.code}`", alert, section, fault.needs.text)
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PATH.write_text(table().rstrip() + "\n", encoding="utf-8")
