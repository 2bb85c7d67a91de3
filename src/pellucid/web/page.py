"""The page as HTML: the story of one connection, step by step, and behind each step its bytes.

All is in the document: without JavaScript it is complete. page.js only adds what happens after it was loaded.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pellucid.explain.recorder import Recorded
from pellucid.explain.sentences import moment, seconds
from pellucid.explain.snippets import bounded, snippets
from pellucid.explain.tree import key_schedule
from pellucid.registry import HandshakeType as H
from pellucid.registry import exchange_name, suite_name
from pellucid.trace import (
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    Role,
    SecretDerived,
    StateChanged,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TcpPacket,
)
from pellucid.web.appraisal import appraise
from pellucid.web.checks import checks
from pellucid.web.html import Child, Markup, h, joined, raw
from pellucid.web.keys import graph, key_list
from pellucid.web.lanes import (
    Numbered,
    Seen,
    exchange_rows,
    not_kept,
    record_row,
    recorder_role,
    rows,
    unseen_packets,
)
from pellucid.web.machine import Hop, machine, taken
from pellucid.web.octets import Budget
from pellucid.web.offer import choices, offer_of, offered
from pellucid.web.view import STATIC, Action, View

__all__ = ["Fragment", "changed_sections", "fragment", "page"]

_DOCTYPE: Final = "<!doctype html>\n"
_TCP: Final = (TcpConnecting, TcpConnectFailed, TcpPacket, TcpConnected)
_ORDER: Final = "Time runs downward here, from the lowest layer to the highest."


class Fragment(NamedTuple):
    """What happened since: rows to add to the lanes, "" for none; position: up to which event they tell."""

    html: str
    position: int


class _Scene(NamedTuple):
    """What the parts of the page are drawn from."""

    view: View
    recorded: tuple[Recorded, ...]
    role: Role
    completed: HandshakeCompleted | None
    budget: Budget


def page(view: View, *, standalone: bool = False) -> str:
    """Return the whole document. standalone: with its style inside, to be saved as one file."""
    scene = _scene(view)
    main = h(
        "main",
        {"id": "main"},
        _section("steps", "Step by step", _ORDER, _steps(scene)),
        _section("offer", "What was offered, and what was chosen", *_offer(scene)),
        _section("checks", "The four verifications", *_checks(scene)),
        _keys_section(scene),
        _states_section(scene),
    )
    body = h(
        "body",
        h("a", {"class": "skip", "href": "#main"}, "To the steps"),
        _top(scene),
        main,
        h("footer", h("p", "Drawn by Pellucid: TLS 1.3 you can see through. Sections are those of RFC 9846.")),
    )
    return _DOCTYPE + h("html", {"lang": "en"}, _head(view, standalone=standalone), body)


def fragment(view: View, since: int) -> Fragment:
    """Return the rows of the lanes that tell of the events from number *since* on (`data-position` of the page's list).

    Records of application data are not told of: the stream that carries the fragments is made of them.
    """
    recorded = view.recorder.recorded
    since = max(0, since)
    numbered = [Numbered(number, at, event) for number, (at, event) in enumerate(recorded)]
    role, seen = recorder_role(recorded), Seen()
    rows([one for one in numbered[:since] if isinstance(one.event, KeysInstalled)], role, Budget(), seen)
    return Fragment(joined(rows(numbered[since:], role, Budget(), seen)), len(recorded))


def changed_sections(view: View, since: int) -> tuple[Markup, ...]:
    """Return the page's sections that events from number *since* on have changed, whole: the keys, the states."""
    scene = _scene(view)
    later = [event for _seconds, event in scene.recorded[max(0, since) :]]
    changed = []
    if any(isinstance(event, SecretDerived) for event in later):
        changed.append(_keys_section(scene))
    if any(isinstance(event, (StateChanged, MessageTraced)) for event in later):
        changed.append(_states_section(scene))
    return tuple(changed)


def _scene(view: View) -> _Scene:
    recorded = view.recorder.recorded
    completed = next((event for _seconds, event in recorded if isinstance(event, HandshakeCompleted)), None)
    return _Scene(view, recorded, recorder_role(recorded), completed, Budget())


def _head(view: View, *, standalone: bool) -> Markup:
    style: Child
    if standalone:
        style = h("style", raw((STATIC / "page.css").read_text(encoding="utf-8")))
    else:
        style = [
            h("link", {"rel": "stylesheet", "href": f"{view.assets}page.css"}),
            h("script", {"type": "module", "src": f"{view.assets}page.js"}),
        ]
    return h(
        "head",
        h("meta", {"charset": "utf-8"}),
        h("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", {"name": "color-scheme", "content": "light dark"}),
        h("meta", {"name": "referrer", "content": "no-referrer"}),
        h("title", "Your connection, step by step – Pellucid"),
        style,
    )


def _section(name: str, title: str, lead: str, *content: Child) -> Markup:
    return h(
        "section",
        {"id": name, "aria-labelledby": f"{name}-title"},
        h("h2", {"id": f"{name}-title"}, title),
        h("p", {"class": "lead"}, h("strong", lead)),
        content,
    )


def _keys_section(scene: _Scene) -> Markup:
    return _section("keys", "The keys", *_keys(scene))


def _states_section(scene: _Scene) -> Markup:
    return _section("states", "The states", *_states(scene))


# ---- the top -----------------------------------------------------------------------------------------------------


def _top(scene: _Scene) -> Markup:
    completed = scene.completed
    lead = (
        "The handshake was not completed: this is how far it came."
        if completed is None
        else "Two strangers made a secret in the open, and nobody who listened has it. These are the bytes."
    )
    return h(
        "header",
        {"class": "top"},
        h("p", {"class": "brand"}, "Pellucid"),
        h("h1", "Your connection"),
        h("p", {"class": "lead"}, h("strong", lead)),
        _stack(scene),
        _actions(scene.view),
        _contents(),
    )


def _stack(scene: _Scene) -> Markup:
    """The layers as they lie on one another, the highest at the top, each with what was agreed in it."""
    exchange, completed = scene.view.exchange, scene.completed
    http: list[tuple[str, Child]] = []
    if completed is not None and completed.server_name:
        http.append(("name", completed.server_name))
    if exchange is not None:
        http.append(("asked", exchange.request))
        if exchange.response:
            http.append(("answered", exchange.response))
    below = any(isinstance(event, _TCP) for _seconds, event in scene.recorded)
    return h(
        "nav",
        {"aria-label": "The layers of this connection, the highest first"},
        h(
            "ol",
            {"class": "stack"},
            _stratum("http", "HTTP" if exchange is None else exchange.protocol, http, linked=exchange is not None),
            _stratum("tls", "TLS 1.3", _tls_facts(scene)),
            _stratum("tcp", "TCP", _tcp_facts(scene), linked=below),
        ),
    )


_PURPOSES: Final = {
    "http": "says what is wanted",
    "tls": "keeps it between the two ends",
    "tcp": "carries all of it, in order",
}


def _stratum(layer: str, title: str, facts: list[tuple[str, Child]], *, linked: bool = True) -> Markup:
    """Return one layer; *linked*: to its part of the steps."""
    name = h("a", {"href": f"#layer-{layer}"}, title) if linked else title
    told = h("dl", {"class": "summary"}, [h("div", h("dt", term), h("dd", value)) for term, value in facts])
    return h(
        "li",
        {"class": f"stratum in-{layer}"},
        h("div", h("p", {"class": "tag"}, name), h("p", {"class": "quiet"}, _PURPOSES[layer])),
        told if facts else h("p", {"class": "quiet"}, "It did not come to that." if layer != "tcp" else "Not seen."),
    )


def _tcp_facts(scene: _Scene) -> list[tuple[str, Child]]:
    connected = next((event for _seconds, event in scene.recorded if isinstance(event, TcpConnected)), None)
    if connected is None:
        return []
    named = scene.completed.server_name if scene.completed is not None else None
    here = f"{connected.local_address or named or 'this one,'} port {connected.local_port}"
    there = f"{connected.peer_address} port {connected.peer_port}"
    client, server = (there, here) if scene.role is Role.SERVER else (here, there)
    facts: list[tuple[str, Child]] = [("client", client), ("server", server)]
    if connected.info is not None:
        facts.append(("round trip", seconds(connected.info.rtt_seconds)))
    return facts


def _tls_facts(scene: _Scene) -> list[tuple[str, Child]]:
    completed = scene.completed
    if completed is None:
        return []
    kind = f"resumed; verified {moment(completed.authenticated_at)}" if completed.resumed else "full"
    facts: list[tuple[str, Child]] = [
        ("cipher suite", suite_name(completed.cipher_suite)),
        ("key exchange", exchange_name(completed.group)),
        ("handshake", kind),
    ]
    first = next((at for at, event in scene.recorded if isinstance(event, MessageTraced)), 0.0)
    took = next(at for at, event in scene.recorded if event is completed)
    return [*facts, ("done in", seconds(max(0.0, took - first)))]


def _actions(view: View) -> Markup | None:
    if not view.actions and not view.links:
        return None
    forms = [h("li", _action(one), h("p", {"class": "quiet"}, one.note) if one.note else None) for one in view.actions]
    links = [
        h("li", h("a", {"href": link.url}, link.label), h("p", {"class": "quiet"}, link.note) if link.note else None)
        for link in view.links
    ]
    return h(
        "div",
        {"class": "doings"},
        h("div", h("h2", "Try it"), h("ul", {"class": "actions"}, forms)) if forms else None,
        h("div", h("h2", "Take it with you"), h("ul", {"class": "links"}, links)) if links else None,
    )


def _action(action: Action) -> Markup:
    if action.method == "GET":  # it may lead to another port, where the page's policy lets no form go
        return h("a", {"class": "button", "href": action.url}, action.label)
    return h(
        "form",
        {"action": action.url, "method": "post", "data-action": action.name},
        h("button", {"type": "submit"}, action.label),
    )


def _contents() -> Markup:
    parts = (
        ("#steps", "Steps"),
        ("#offer", "Offer"),
        ("#checks", "Verifications"),
        ("#keys", "Keys"),
        ("#states", "States"),
    )
    return h(
        "nav",
        {"aria-label": "Parts of this page"},
        h("ul", [h("li", h("a", {"href": target}, name)) for target, name in parts]),
    )


# ---- the steps ---------------------------------------------------------------------------------------------------


def _steps(scene: _Scene) -> list[Markup]:
    numbered = [Numbered(number, at, event) for number, (at, event) in enumerate(scene.recorded)]
    below = [one for one in numbered if isinstance(one.event, _TCP)]
    others = [one for one in numbered if not isinstance(one.event, _TCP)]
    end = next((i for i, one in enumerate(others, 1) if one.event is scene.completed), len(others))
    seen = Seen()
    role, budget = scene.role, scene.budget
    parts = []
    if below:
        lead = "Two machines agree to talk: three packets, one round trip. Nothing is secret yet."
        packets = [one for one in below if isinstance(one.event, TcpPacket)]
        rest = [one for one in below if not isinstance(one.event, TcpPacket)]
        unseen = unseen_packets((one.event for one in below), role)
        seen_rows = rows(packets, role, budget, seen)
        parts.append(_layer("tcp", "TCP", lead, [*seen_rows, *unseen, *rows(rest, role, budget, seen)]))
    parts.append(_layer("tls", "TLS 1.3", _tls_lead(scene), rows(others[:end], role, budget, seen)))
    if scene.view.exchange is not None:
        lead = "What it was all for: a question and its answer, which only the two ends can read."
        inside = [*exchange_rows(scene.view.exchange, role)]
        dropped = scene.view.recorder.dropped
        records = record_row(role, scene.view.recorder.of(RecordTraced), budget, dropped=dropped)
        parts.append(
            _layer("http", scene.view.exchange.protocol, lead, inside if records is None else [*inside, records])
        )
    later = rows(others[end:], role, budget, seen)
    if later or scene.view.live is not None:
        parts.append(_since(scene, later))
    if scene.view.recorder.dropped:
        parts.append(h("p", {"class": "quiet"}, not_kept(scene.view.recorder.dropped)))
    return parts


def _tls_lead(scene: _Scene) -> str:
    """Return what the handshake came to, in a sentence."""
    completed = scene.completed
    if completed is None:
        return "The two ends did not come to an agreement."
    if any(isinstance(e, MessageTraced) and e.message_type == H.HELLO_RETRY_REQUEST for _seconds, e in scene.recorded):
        return "It took a second try, and so two round trips; only the hellos can be read by others."
    if completed.resumed:
        return "The two ends have met before: no certificate is shown, and the key that both kept is the proof."
    return "In one round trip the two ends agree on everything; only the hellos can be read by others."


def _layer(name: str, title: str, lead: str, inside: Child) -> Markup:
    return h(
        "section",
        {"class": f"layer layer-{name}", "aria-labelledby": f"layer-{name}"},
        h("h3", {"id": f"layer-{name}"}, title),
        h("p", {"class": "lead"}, h("strong", lead)),
        _heads(),
        h("ol", {"class": "lanes"}, inside),
    )


def _since(scene: _Scene, later: list[Markup]) -> Markup:
    live = scene.view.live
    lead = "Keys are renewed, tickets are given out, somebody says goodbye."
    waiting = (
        h("p", {"class": "quiet", "id": "waiting", "role": "status"}, "What happens from now on appears here.")
        if live
        else None
    )
    return h(
        "section",
        {"class": "layer layer-tls", "aria-labelledby": "layer-since"},
        h("h3", {"id": "layer-since"}, "Since then"),
        h("p", {"class": "lead"}, h("strong", lead)),
        _heads(),
        h("ol", {"class": "lanes", "id": "lanes", "data-live": live, "data-position": len(scene.recorded)}, later),
        waiting,
    )


def _heads() -> Markup:
    return h("p", {"class": "heads", "aria-hidden": "true"}, h("span", "client"), h("span", "server"))


# ---- the other parts -----------------------------------------------------------------------------------------------


def _offer(scene: _Scene) -> tuple[str, Child]:
    events = scene.view.recorder.events
    offer = offer_of(events)
    if offer is None:
        return "No ClientHello was seen.", None
    lead = "The client says all it can do, and by that shows which program it is; the server picks one of each."
    made = choices(events)
    chosen = [h("h3", "What was chosen, and why"), made] if made is not None else None
    return lead, [h("h3", "What the client offered"), offered(offer), chosen]


def _checks(scene: _Scene) -> tuple[str, Child]:
    lead = "So far anybody could have answered. Four questions decide whether this is the server that was meant."
    found = appraise(scene.view.recorder.events, scene.role, now=scene.view.now)
    told = None
    if found.inferred and found.report is not None:
        told = h(
            "p",
            "This is the server's page: it cannot look into the client. These are the checks that the client must have "
            "made before it spoke a word of HTTP, made here again over what was sent.",
        )
    return lead, [told, checks(found)]


def _keys(scene: _Scene) -> tuple[str, Child]:
    events = bounded(scene.view.recorder.events)
    root = key_schedule(events)
    if root is None:
        return "No secret was derived.", None
    reveal = scene.view.reveal
    lead = "From one shared secret every key is derived, each with its own label, so that none tells of another."
    told = (
        "These are the secrets of this very connection, and of no other. Each can be computed again with the Python "
        "beside it, which needs nothing but the standard library."
        if reveal
        else "The secrets are hidden here; what is shown are fingerprints, enough to compare two and not to use one. "
        "The Python computes each once you put in the values."
    )
    return lead, [
        h("p", told),
        h(
            "div",
            {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": "The key schedule, drawn"},
            graph(root, name="schedule"),
        ),
        h("h3", "Each key, and how to compute it"),
        key_list(root, snippets(events, reveal=reveal), reveal=reveal),
    ]


def _states(scene: _Scene) -> tuple[str, Child]:
    lead = "Each end waits for one thing at a time, and anything else ends the connection."
    drawn = []
    for role in (Role.CLIENT, Role.SERVER):
        hops = taken(scene.view.recorder.events, role, recorder=scene.role)
        inferred = " (as its messages show)" if role is not scene.role else ""
        drawn.append(
            h(
                "figure",
                h("figcaption", h("b", f"The {role.value}"), inferred),
                h(
                    "div",
                    {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": f"States of the {role.value}"},
                    machine(role, hops, name=f"states-{role.value}"),
                ),
                _path(hops, f"path-{role.value}"),
            )
        )
    return lead, h("div", {"class": "machines"}, drawn)


def _path(hops: tuple[Hop, ...], name: str) -> Markup:
    if not hops:
        return h("p", {"class": "quiet"}, "It took no step.")
    steps = [h("li", hop.target, h("span", {"class": "cause"}, hop.cause) if hop.cause else None) for hop in hops]
    count = f"{len(hops)} step{'' if len(hops) == 1 else 's'}"
    return h(
        "details",
        {"id": name},
        h("summary", f"The path in words: {count}"),
        h("ol", {"class": "path"}, h("li", hops[0].source), steps),
    )
