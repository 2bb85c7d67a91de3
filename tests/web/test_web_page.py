"""The page of real handshakes: complete, well-formed, escaped, bounded, and without a secret that it may not show."""

from __future__ import annotations

import functools
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from pellucid import Credential
from pellucid.explain.recorder import Recorder
from pellucid.explain.text import cells
from pellucid.messages.handshake import (
    BODIES,
    ClientHello,
    Extension,
    KeyUpdate,
    NewSessionTicket,
    handshake_message,
)
from pellucid.registry import CertificateType, ContentType, handshake_type_name
from pellucid.registry import HandshakeType as H
from pellucid.trace import (
    AlertTraced,
    ChoiceMade,
    Direction,
    Epoch,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    Secret,
    SecretDerived,
    SharedSecretComputed,
)
from pellucid.verify import RawPublicKeyVerifier, dangerous_accept_any
from pellucid.verify.report import CheckGroup
from pellucid.web.document import document
from pellucid.web.downloads import KINDS, download
from pellucid.web.page import changed_sections, fragment, page
from pellucid.web.text import WIDTH, text
from pellucid.web.view import STATIC, Action, Exchange, Link, View
from tests.support.gallery import GALLERY, recording, view
from tests.support.pair import Pair, authority, client_config, credential, server_config
from tests.support.resuming import settle
from tests.support.soak import times

VOID = {"meta", "link", "br", "hr", "input", "wbr"}
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp;\u202e\x1b[31m"


class Document(HTMLParser):
    """What a browser would see: elements with their attributes, text, and whether all that was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.comments: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [one for _tag, one in self.elements if name in (one.get("class") or "").split()]

    def text_of(self, tag: str) -> list[str]:
        return [data for name, data in self.texts if name == tag]


@pytest.fixture(scope="module", params=GALLERY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@functools.cache
def drawn(name: str) -> str:
    """The page of one of the gallery, drawn once."""
    return page(view(name, live="/events?x=1&y=2"))


# ---- form ----------------------------------------------------------------------------------------------------------


def test_page_is_well_formed_with_headings_in_order_and_each_id_once(name: str) -> None:
    html = drawn(name)
    found = Document(html)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in found.elements:
        for reference in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(reference) or "").split()) <= set(ids)
        href = attributes.get("href") or ""
        assert not href.startswith("#") or href[1:] in ids
    assert {tag for tag, _ in found.elements} >= {"header", "nav", "main", "footer", "section"}
    assert found.named("html") == [{"lang": "en"}]


def test_page_needs_no_inline_script_no_inline_style_and_nobody_else(name: str) -> None:
    html = drawn(name)
    found = Document(html)
    assert found.comments == []
    assert found.named("script") == [{"type": "module", "src": "/static/page.js"}]
    assert found.named("link") == [{"rel": "stylesheet", "href": "/static/page.css"}]
    assert found.named("style") == []
    for _, attributes in found.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        for key in ("href", "src", "action"):
            assert not (attributes.get(key) or "").startswith(("http", "//"))


def test_standalone_page_has_its_style_inside_and_refers_to_nothing(name: str) -> None:
    found = Document(page(view(name), standalone=True))
    assert found.named("script") == found.named("link") == []
    (style,) = found.text_of("style")
    assert style == (STATIC / "page.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_style_and_module_ask_nobody_else_for_anything() -> None:
    script = (STATIC / "page.js").read_text(encoding="utf-8")
    for file in (script, (STATIC / "page.css").read_text(encoding="utf-8")):
        assert "http:" not in file
        assert "https:" not in file
    assert "import" not in script


def test_what_opens_in_a_section_that_may_be_drawn_anew_has_an_id(name: str) -> None:
    for section in ("keys", "states"):
        part = drawn(name).partition(f'<section id="{section}"')[2].partition("</section>")[0]
        assert part.count("<details") == part.count('<details id="')


def test_drawings_have_a_title_and_a_description(name: str) -> None:
    html = drawn(name)
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == (2 if name == "refused" else 3)
    for drawing in drawings:
        label = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"', drawing)
        assert label
        title, description = label.groups()
        assert re.search(rf'<title id="{title}">[^<]+</title><desc id="{description}">[^<]+</desc>', drawing)


# ---- content -------------------------------------------------------------------------------------------------------


def messages(recorder: Recorder) -> tuple[MessageTraced, ...]:
    return recorder.of(MessageTraced)


def test_every_message_is_an_arrow_with_name_size_epoch_and_direction(name: str) -> None:
    html = drawn(name)
    rows = re.findall(r'<li class="msg (to-\w+) (ep-\w+)" id="m\d+">(.*?)</li>', html, re.DOTALL)
    told = messages(recording(name))
    assert len(rows) == len(told)
    for (to, epoch, row), event in zip(rows, told, strict=True):
        assert to == ("to-server" if event.direction is Direction.RECEIVED else "to-client")
        assert epoch == f"ep-{event.epoch.name.lower()}"
        assert f'<span class="name">{handshake_type_name(event.message_type)}</span>' in row
        assert f"{len(event.raw):,} bytes" in row or f"{len(event.raw):,} byte" in row


def test_layers_lie_on_one_another_and_lead_to_their_steps() -> None:
    html = drawn("full")
    (stack,) = re.findall(r'<ol class="stack">(.*?)</ol>', html, re.DOTALL)
    assert re.findall(r'<a href="(#[\w-]+)">([^<]+)</a>', stack) == [
        ("#layer-http", "HTTP/2"),
        ("#layer-tls", "TLS 1.3"),
        ("#layer-tcp", "TCP"),
    ]
    steps = html.partition('<section id="steps"')[2]
    assert "Time runs downward here, from the lowest layer to the highest." in steps.partition("</p>")[0]
    assert steps.index('id="layer-tcp"') < steps.index('id="layer-tls"') < steps.index('id="layer-http"')


def test_a_layer_that_was_not_reached_leads_nowhere() -> None:
    (stack,) = re.findall(r'<ol class="stack">(.*?)</ol>', drawn("refused"), re.DOTALL)
    assert re.findall(r'href="(#[\w-]+)"', stack) == ["#layer-tls"]
    assert stack.count("It did not come to that.") == 2
    assert "Not seen." in stack


def dumps(html: str) -> Iterator[str]:
    for one in re.findall(r'<div class="hex">(.*?)</div>', html, re.DOTALL):
        yield re.sub(r"<[^>]+>", "", one).replace(" ", "")


def test_every_message_shows_its_bytes_each_once(name: str) -> None:
    told = [event.raw.hex() for event in messages(recording(name))]
    assert [dump for dump in dumps(drawn(name)) if not dump.startswith("1703")] == told


def test_first_record_of_each_end_is_shown_as_it_travelled() -> None:
    found = [dump for dump in dumps(drawn("full")) if dump.startswith("1703")]
    records = [one for one in recording("full").of(RecordTraced) if one.content_type == ContentType.APPLICATION_DATA]
    assert (
        found
        == [one.raw.hex() for one in records if one.direction is Direction.RECEIVED][:1]
        + [one.raw.hex() for one in records if one.direction is Direction.SENT][:1]
    )
    assert "encrypted_record" in drawn("full")


def test_packets_that_were_not_kept_are_drawn_as_unseen() -> None:
    assert drawn("full").count("tcp unseen") == 0
    assert re.findall(r'<li class="msg (to-\w+) ep-tcp tcp unseen">', drawn("renewed")) == ["to-client", "to-server"]


def test_fields_and_bytes_bear_the_same_numbers(name: str) -> None:
    for one in re.findall(r'<div class="octets">(.*?)</table>', drawn(name), re.DOTALL):
        pieces = [int(number) for number in re.findall(r'<span class="\w+" data-f="(\d+)">', one)]
        rows = re.findall(r'<tr data-f="(\d+)-(\d+)" class="(d\d)( leaf)?">', one)
        assert pieces == list(range(len(pieces)))
        leaves = [int(first) for first, last, _depth, leaf in rows if leaf and first == last]
        assert leaves == pieces
        assert all(int(first) <= int(last) < len(pieces) for first, last, _depth, _leaf in rows)


def test_a_step_has_one_bold_sentence_and_its_time() -> None:
    html = drawn("full")
    assert "<strong>The client says what it can do, and sends its half of the key exchange.</strong>" in html
    assert re.search(r'<span class="time">\+[\d.]+ (µs|ms|s)</span>', html)
    assert "From here on: handshake keys" in html
    assert html.index("From here on the server sends under application keys") < html.index(
        "From here on the client sends under application keys"
    )


def test_a_server_that_signs_is_not_said_to_have_checked_itself() -> None:
    for told in (unescape(drawn("full")), " ".join(text(view("full")).replace("│", " ").split())):
        assert "The server signs the conversation with its certificate's private key (ecdsa_secp256r1_sha256)" in told
        assert "The server's CertificateVerify (ecdsa_secp256r1_sha256) is right" not in told


def test_what_was_offered_and_chosen_is_told_with_its_reasons() -> None:
    html = drawn("full")
    assert "It sent a post-quantum key share: X25519MLKEM768." in html
    assert re.search(r'<code id="ja4">t13d03\d\dh2_[0-9a-f]{12}_[0-9a-f]{12}</code>', html)
    for made in recording("full").of(ChoiceMade):
        assert made.reason.replace("'", "'") in html


@pytest.mark.parametrize("shown", ["full", "retried", "authenticated"])
def test_four_verifications_are_made_again_over_what_was_sent(shown: str) -> None:
    found = document(view(shown))["verifications"]
    assert isinstance(found, dict)
    assert found["inferred"]
    assert found["server_name"] == "pair.test"
    assert found["must_trust"] == "CN=Pair test root"
    assert found["report"]["accepted"]
    assert found["report"]["groups"] == {group.value: "passed" for group in CheckGroup}
    assert "root '" not in json.dumps(found["report"]["checks"])


def test_verifications_of_another_time_fail_by_the_dates() -> None:
    made = view("full")
    late = View(recorder=made.recorder, now=4_000_000_000.0)
    found = document(late)["verifications"]
    assert isinstance(found, dict)
    assert found["report"]["groups"]["certificate valid"] == "failed"
    assert found["report"]["groups"]["CertificateVerify correct"] == "passed"


@pytest.mark.parametrize("name_shown", ["192.0.2.7", "*.wild.test"])
def test_a_client_that_names_nobody_leaves_the_name_open(name_shown: str) -> None:
    recorder = Recorder()
    leaf = authority().issue(name_shown, common_name="")
    server = server_config(credentials=(Credential.from_pem(leaf.chain_pem, leaf.key_pem),))
    client = client_config(verifier=dangerous_accept_any())
    settle(Pair.of(client, server, name="192.0.2.7", server_trace=recorder))
    found = document(View(recorder=recorder))["verifications"]
    assert isinstance(found, dict)
    groups = found["report"]["groups"]
    assert groups.pop("name matches") == "not checked"
    assert set(groups.values()) == {"passed"}
    assert found["server_name"] is None
    assert "so what it asked for is not seen" in page(View(recorder=recorder))
    assert "not seen" in text(View(recorder=recorder))


def test_a_raw_public_key_is_told_of() -> None:
    recorder = Recorder()
    key = credential().as_raw_public_key()
    types = (CertificateType.RAW_PUBLIC_KEY,)
    client = client_config(verifier=RawPublicKeyVerifier([key.chain[0]]), server_certificate_types=types)
    server = server_config(credentials=(key,))
    settle(Pair.of(client, server, server_trace=recorder))
    assert "The server showed a raw public key" in page(View(recorder=recorder))
    assert "The server showed a raw public key" in text(View(recorder=recorder))


def test_resumed_session_has_no_verifications_but_says_why() -> None:
    assert "nobody shows a certificate" in page(view("resumed"))
    assert "nobody shows a certificate" in text(view("resumed"))


def test_a_client_s_own_record_shows_its_own_verdict() -> None:
    recorder = Recorder()
    Pair.of(client_config(), server_config(), client_trace=recorder).connect()
    found = document(View(recorder=recorder))
    assert found["recorded_by"] == "client"
    assert isinstance(found["verifications"], dict)
    assert not found["verifications"]["inferred"]
    assert "Does a trusted CA vouch for it?" in page(View(recorder=recorder))


def test_actions_are_forms_and_links_are_links() -> None:
    found = Document(drawn("full"))
    forms = [(one["action"], one["method"]) for one in found.named("form")]
    assert forms == [("/again", "post"), ("/retry", "post"), ("/update", "post")]
    assert {"/c.pcapng", "/c.json", "/c.txt"} <= {one["href"] for one in found.named("a")}


def test_empty_record_is_a_page_too() -> None:
    for render in (page, text, lambda one: json.dumps(document(one))):
        assert render(View(recorder=Recorder()))


# ---- what happens later --------------------------------------------------------------------------------------------


def test_fragment_tells_of_what_came_since_and_of_records_nothing() -> None:
    recorder = Recorder()
    pair = Pair.of(client_config(trace_records=True), server_config(trace_records=True), server_trace=recorder)
    pair.connect()
    shown = View(recorder=recorder, live="/events")
    lanes = next(one for one in Document(page(shown)).named("ol") if one.get("id") == "lanes")
    assert lanes["data-live"] == "/events"
    position = int(lanes["data-position"] or "")
    assert position == len(recorder)
    assert fragment(shown, position) == ("", position)
    pair.send(pair.client, b"data")
    told = fragment(shown, position)
    assert told.html == ""
    assert told.position == len(recorder) > position
    pair.client.send_key_update()
    pair.pump()
    told = fragment(shown, told.position)
    assert told.html.count('class="msg to-server ep-application"') == 1
    assert "KeyUpdate" in told.html
    assert "generation 1" in told.html
    assert "From here on" not in told.html


def test_what_has_changed_since_is_drawn_anew_as_the_page_has_it() -> None:
    recorder = Recorder()
    pair = Pair.of(client_config(trace_records=True), server_config(trace_records=True), server_trace=recorder)
    pair.connect()
    shown = View(recorder=recorder, live="/events")
    position = len(recorder)
    assert changed_sections(shown, position) == ()
    pair.send(pair.client, b"data")
    assert changed_sections(shown, position) == ()
    pair.client.send_key_update()
    pair.pump()
    keys, states = changed_sections(shown, position)
    assert keys in page(shown)
    assert states in page(shown)
    assert 'id="keys"' in keys
    assert "client_application_traffic_secret_1" in keys
    assert 'id="states"' in states
    assert "or KeyUpdate</text>" in states
    assert changed_sections(shown, len(recorder)) == ()


# ---- secrets -------------------------------------------------------------------------------------------------------


def secrets(recorder: Recorder) -> Iterator[Secret]:
    for event in recorder.events:
        if isinstance(event, (SecretDerived, SharedSecretComputed)):
            yield event.secret
        elif isinstance(event, KeysInstalled):
            yield event.key
            yield event.iv


def renderings(shown: View) -> Iterator[str]:
    yield page(shown)
    yield text(shown)
    yield json.dumps(document(shown))
    yield fragment(shown, 0).html
    yield from changed_sections(shown, 0)
    for kind in KINDS:
        yield download(kind, shown).body.decode("latin-1")


def test_hidden_secrets_stand_nowhere(name: str) -> None:
    for rendered in renderings(view(name, reveal=False)):
        flat = re.sub(r"[\s:]|<[^>]*>", "", rendered)
        for secret in secrets(recording(name)):
            value = secret.reveal().hex()
            assert value not in rendered
            assert value not in flat
            assert value[:16] not in flat


def test_revealed_secrets_stand_with_their_keys() -> None:
    shown = view("full", reveal=True)
    html = page(shown)
    for secret in recording("full").secrets.values():
        assert secret.reveal().hex() in html
        assert secret.reveal().hex() in text(shown)
    assert document(shown)["secrets_revealed"] is True


# ---- what a peer may do to it --------------------------------------------------------------------------------------


def hostile_recorder() -> Recorder:
    """Everything that a peer chooses, chosen badly."""
    recorder = Recorder()
    evil = HOSTILE.encode()
    names = [
        Extension(0, (len(evil) + 3).to_bytes(2, "big") + b"\0" + len(evil).to_bytes(2, "big") + evil),
        Extension(16, (len(evil) + 1).to_bytes(2, "big") + bytes([len(evil)]) + evil),
        Extension(0x7777, evil),
    ]
    hello = ClientHello(
        legacy_version=0x0303,
        random=(evil * 2)[:32],
        legacy_session_id=evil[:32],
        cipher_suites=(0x3C3C,),
        legacy_compression_methods=b"\0",
        extensions=tuple(names),
    )
    raw = handshake_message(hello)
    body = BODIES[H.CLIENT_HELLO].decode(raw[4:])
    recorder(
        MessageTraced(
            direction=Direction.RECEIVED, epoch=Epoch.INITIAL, message_type=H.CLIENT_HELLO, raw=raw, body=body
        )
    )
    recorder(ChoiceMade(what="alpn", chosen=HOSTILE, reason=HOSTILE))
    recorder(AlertTraced(direction=Direction.SENT, epoch=Epoch.INITIAL, description=80, reason=HOSTILE))
    return recorder


def hostile_view() -> View:
    headers = (("x-evil", HOSTILE), (HOSTILE, "x"))
    return View(
        recorder=hostile_recorder(),
        exchange=Exchange(
            protocol=HOSTILE,
            request=HOSTILE,
            request_headers=headers,
            response=HOSTILE,
            response_headers=headers,
        ),
        actions=(Action(name=HOSTILE, label=HOSTILE, url="/x?" + HOSTILE, note=HOSTILE),),
        links=(Link(label=HOSTILE, url="/" + HOSTILE, note=HOSTILE),),
        live="/" + HOSTILE,
    )


def test_nothing_that_a_peer_sends_becomes_an_element() -> None:
    found = Document(page(hostile_view()))
    assert found.named("script") == [{"type": "module", "src": "/static/page.js"}]
    assert found.named("img") == []
    assert not [one for _, one in found.elements if "onerror" in one]
    assert any("<script>" in data for _, data in found.texts)  # it is there, as text


def test_hostile_certificate_name_is_text() -> None:
    recorder = Recorder()
    leaf = authority().issue("pair.test", common_name="<script>alert(3)</script>")
    evil = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    Pair.of(client_config(), server_config(credentials=(evil,)), server_trace=recorder).connect()
    html = page(View(recorder=recorder))
    assert "&lt;script&gt;alert(3)" in html
    assert len(Document(html).named("script")) == 1


def test_text_moves_no_cursor_and_keeps_within_its_width(name: str) -> None:
    for shown in (view(name), view(name, reveal=False), hostile_view()):
        for line in text(shown).splitlines():
            assert cells(line) <= WIDTH
            assert all(character.isprintable() for character in line)


def test_document_is_json_with_a_schema(name: str) -> None:
    read = json.loads(json.dumps(document(view(name))))
    assert read["schema"] == 1
    assert [one["message"] for one in read["steps"] if "message" in one] == [
        handshake_type_name(event.message_type) for event in messages(recording(name))
    ]


def flood(kind: str) -> Recorder:
    """A recorder full of what a peer repeats without end, after a real handshake."""
    recorder = Recorder(limit=10_500)
    for event in recording("full").events:
        recorder(event)
    derived = next(event for event in recording("full").of(SecretDerived) if event.label == "c ap traffic")
    update = handshake_message(KeyUpdate(request_update=0))
    ticket = NewSessionTicket(
        ticket_lifetime=1, ticket_age_add=1, ticket_nonce=b"", ticket=bytes(2**16 - 1), extensions=()
    )
    big = handshake_message(ticket)
    for number in range(10_000):
        if kind == "records":
            event = RecordTraced(
                direction=Direction.RECEIVED,
                epoch=Epoch.APPLICATION,
                content_type=ContentType.APPLICATION_DATA,
                size=16_406,
                content_size=16_384,
                padding_size=0,
                sequence=number,
                raw=b"",
            )
        elif kind == "secrets":
            event = SecretDerived(
                name=f"client_application_traffic_secret_{number + 1}",
                parent=f"client_application_traffic_secret_{number}",
                method="HKDF-Expand-Label",
                label="traffic upd",
                context=b"",
                messages="",
                secret=derived.secret,
            )
        else:
            raw, code = (update, H.KEY_UPDATE) if kind == "updates" else (big, H.NEW_SESSION_TICKET)
            body = BODIES[code].decode(raw[4:])
            event = MessageTraced(
                direction=Direction.RECEIVED, epoch=Epoch.APPLICATION, message_type=code, raw=raw, body=body
            )
        recorder(event)
    return recorder


@pytest.mark.parametrize("kind", ["records", "updates", "secrets", "tickets"])
def test_a_full_recorder_makes_no_endless_page(kind: str) -> None:
    shown = View(recorder=flood(kind), reveal=True)
    before = time.process_time()
    assert len(page(shown)) < 2_500_000
    assert len(text(shown)) < 250_000
    assert len(json.dumps(document(shown))) < 2_500_000
    assert time.process_time() - before < 20


def test_a_full_recorder_says_so() -> None:
    recorder = Recorder(limit=len(recording("full")) - 1)
    for event in recording("full").events:
        recorder(event)
    shown = replace(view("full"), recorder=recorder)
    told = "The record of this connection is full. Not told of: 1 event."
    assert told in page(shown)
    assert "So far it took at least" in page(shown)
    assert told in text(shown)
    assert "is full" not in page(view("full")) + text(view("full"))


def dense_hello(size: int) -> Recorder:
    """A ClientHello made of as many fields as *size* bytes hold, as anybody may send it."""
    names = b"\1x" * (size // 2)
    hello = ClientHello(
        legacy_version=0x0303,
        random=bytes(32),
        legacy_session_id=b"",
        cipher_suites=(0x1301,),
        legacy_compression_methods=b"\0",
        extensions=(Extension(16, len(names).to_bytes(2, "big") + names),),
    )
    raw = handshake_message(hello)
    recorder = Recorder()
    recorder(
        MessageTraced(
            direction=Direction.RECEIVED, epoch=Epoch.INITIAL, message_type=H.CLIENT_HELLO, raw=raw, body=hello
        )
    )
    return recorder


def test_a_long_message_to_a_server_is_drawn_without_its_fields() -> None:
    html = page(View(recorder=dense_hello(50_000)))
    assert "So long a message is not explained field by field." in html
    assert html.count('class="fields"') == 0
    short = page(View(recorder=dense_hello(1000)))
    assert "So long a message" not in short
    assert short.count('class="fields"') == 1


@pytest.mark.parametrize("shown", ["full", "resumed", "retried", "authenticated"])
def test_a_connection_that_breaks_off_anywhere_is_drawn(shown: str) -> None:
    events = recording(shown).events
    for stop in range(1, len(events), times(17, 7)):
        recorder = Recorder()
        for event in events[:stop]:
            recorder(event)
        broken = View(recorder=recorder, reveal=True)
        Document(page(broken))
        assert text(broken)
        assert json.loads(json.dumps(document(broken)))["schema"] == 1
