"""The state machine is drawn from the tables, and the path of the peer is the one it took."""

from __future__ import annotations

import itertools

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
