"""The documents' pictures: `make pictures` writes them, a test holds them up to date.

They are drawn from the tables that the driver obeys and from a handshake of ours, without a value in them.
"""

from __future__ import annotations

from pathlib import Path

from pellucid.explain.tree import key_schedule
from pellucid.trace import Role
from pellucid.web.keys import graph
from pellucid.web.machine import machine
from pellucid.web.pictures import picture
from tests.support.gallery import recording

FOLDER = Path(__file__).parents[2] / "docs" / "concepts" / "pictures"


def pictures() -> dict[str, str]:
    """File name → content."""
    root = key_schedule(recording("full").events)
    assert root is not None
    return {
        "client-states.svg": picture(machine(Role.CLIENT, name="client", everything=True)),
        "server-states.svg": picture(machine(Role.SERVER, name="server", everything=True)),
        "key-schedule.svg": picture(graph(root, values=False)),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, content in pictures().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
