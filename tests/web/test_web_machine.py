"""The state machine is drawn from the tables, and the path of the peer is the one it took."""

from __future__ import annotations

import itertools
import re

import pytest

from pellucid.explain.recorder import Recorder
from pellucid.handshake.states import CLIENT, SERVER
from pellucid.registry import handshake_type_name
from pellucid.trace import Role
from pellucid.web.machine import boxes_and_edges, machine, taken
from tests.support.gallery import GALLERY, recording
from tests.support.pair import Pair, asking_server_config, client_config, credential, server_config
from tests.support.resuming import settle

TABLES = {Role.CLIENT: CLIENT, Role.SERVER: SERVER}


@pytest.mark.parametrize("role", Role)
def test_every_state_and_every_arrow_of_the_table_is_drawn(role: Role) -> None:
    boxes, edges = boxes_and_edges(role)
    drawn = machine(role, everything=True)
    for row in TABLES[role]:
        assert row.state.value in boxes
        leaving = [edge for edge in edges if edge.source == row.state.value]
        assert any(handshake_type_name(row.receives) in edge.labels for edge in leaving)
        for box in (*row.leads_to, *row.via):
            assert box.value in boxes
    for box in boxes:
        assert f">{box}</text>" in drawn
    assert drawn.count('class="wire"') == len(edges)


@pytest.mark.parametrize("role", Role)
def test_every_state_can_be_reached_by_the_arrows_drawn(role: Role) -> None:
    boxes, edges = boxes_and_edges(role)
    reached = {"START"}
    while more := {edge.target for edge in edges if edge.source in reached} - reached:
        reached |= more
    assert reached | {"CONNECTED_PHA"} >= set(boxes)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", GALLERY)
def test_the_path_goes_along_arrows(name: str, role: Role) -> None:
    hops = taken(recording(name).events, role, recorder=Role.SERVER)
    _, edges = boxes_and_edges(role)
    assert {(hop.source, hop.target) for hop in hops} <= {(edge.source, edge.target) for edge in edges}
    assert all(before.target == after.source for before, after in itertools.pairwise(hops))
    if name != "refused":
        assert hops[0].source == "START"
        assert hops[-1].target == "CONNECTED"
    assert machine(role, hops).count('class="box lit') == len({box for hop in hops for box in (hop.source, hop.target)})


@pytest.mark.parametrize("asking", [False, True], ids=["plain", "client-certificate"])
def test_the_peer_s_path_is_the_one_it_took(asking: bool) -> None:
    client, server = Recorder(), Recorder()
    configs = (
        (client_config(credentials=(credential(),)), asking_server_config())
        if asking
        else (client_config(), server_config(tickets=2))
    )
    settle(Pair.of(*configs, client_trace=client, server_trace=server))
    for role, own, other in ((Role.CLIENT, client, server), (Role.SERVER, server, client)):
        known = taken(own.events, role, recorder=role)
        inferred = taken(other.events, role, recorder=role.peer)
        assert [(hop.source, hop.target) for hop in inferred] == [(hop.source, hop.target) for hop in known]


def test_nothing_taken_lights_nothing() -> None:
    assert taken((), Role.CLIENT, recorder=Role.SERVER) == ()
    assert " lit" not in machine(Role.CLIENT)


# ---- what is written, and where --------------------------------------------------------------------------------------

CHARACTER = 6.3
"""How wide a character is at most, on the average of a label, in the units of the drawing."""


def wires(drawn: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the straight pieces of every arrow."""
    pieces = []
    for path in re.findall(r'class="wire" d="([^"]+)"', drawn):
        x = y = 0.0
        for command, arguments in re.findall(r"([MHVhqa])([-\d. ]*)", path):
            numbers = [float(one) for one in arguments.split()]
            before = (x, y)
            match command:
                case "M":
                    x, y = numbers
                    continue
                case "H":
                    x = numbers[0]
                case "V":
                    y = numbers[0]
                case "h":
                    x += numbers[0]
                case _:
                    x, y = x + numbers[-2], y + numbers[-1]
            pieces.append((before, (x, y)))
    return pieces


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("role", Role)
def test_no_arrow_crosses_what_is_written(role: Role, everything: bool) -> None:
    drawn = machine(role, everything=everything)
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    assert size
    labels = re.findall(
        r'<text x="(\d+)" y="(\d+)" text-anchor="(start|end)">([^<]+)</text>', drawn.partition("</desc>")[2]
    )
    assert len(labels) > 10
    for at, base, anchor, words in labels:
        width = CHARACTER * len(words)
        left = float(at) - (width if anchor == "end" else 0)
        top, bottom = float(base) - 8, float(base)
        assert left >= 0, words
        assert left + width <= float(size[1]), words
        assert bottom + 3 <= float(size[2]), words
        for (x1, y1), (x2, y2) in wires(drawn):
            beside = max(x1, x2) <= left or min(x1, x2) >= left + width
            assert beside or max(y1, y2) <= top or min(y1, y2) >= bottom, words


@pytest.mark.parametrize(
    ("name", "lit", "dark"),
    [
        ("renewed", "or KeyUpdate", "NewSessionTicket"),
        ("full", "NewSessionTicket", "or KeyUpdate"),
        ("retried", "or compressed", "Certificate"),
    ],
)
def test_only_what_was_received_is_lit_of_what_stands_at_an_arrow(name: str, lit: str, dark: str) -> None:
    drawn = machine(Role.CLIENT, taken(recording(name).events, Role.CLIENT, recorder=Role.SERVER))
    assert re.search(rf'<text class="lit" [^>]*>{lit}</text>', drawn)
    assert not re.search(rf'<text class="lit" [^>]*>{dark}</text>', drawn)
