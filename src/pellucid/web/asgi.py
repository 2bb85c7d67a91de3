"""The live page over HTTP: an ASGI application that answers each request from the connection it came on.

What it knows of a connection it has from the scope of the request (`integrations.asgi`), and from nowhere else. The
page carries its connection's id into every URL of its own: what comes over another connection is told so, and nothing.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from pellucid.errors import UsageError
from pellucid.explain.recorder import Recorder
from pellucid.integrations.asgi import EXTENSION, OwnConnection, own_connection
from pellucid.trace import TcpConnected
from pellucid.web import downloads
from pellucid.web.answers import HTML, JSON, TEXT, Answer, asset, headers_of, is_own, notice, preferred, send_answer
from pellucid.web.document import document
from pellucid.web.masking import without_own_address
from pellucid.web.page import page
from pellucid.web.stream import stream
from pellucid.web.text import text
from pellucid.web.view import Action, Exchange, View

__all__ = ["Application", "app", "application"]

_FORWARDED: Final = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
)
"""Who has one of these was passed on. A proxy sends the requests of several visitors over one connection, and the
record of that is none of theirs."""
_HIDDEN_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_MAX_HEADERS: Final = 64
_MAX_VALUE: Final = 512
_HOST_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII | re.IGNORECASE)
_DOWNLOAD: Final = re.compile(r"/connection\.([a-z]+)")


@dataclass(frozen=True, slots=True)
class _Request:
    """One request that came on a connection of ours. connection_id: the one its page was of, "" if it does not say."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    scope: Any  # ASGI's dictionary
    own: OwnConnection
    recorder: Recorder
    receive: Any  # ASGI's callables
    send: Any

    @property
    def elsewhere(self) -> bool:
        """Whether the page that asks is of another connection."""
        return self.query.get("connection", self.own.id) != self.own.id

    @property
    def wants(self) -> str:
        return preferred(self.headers.get("accept"))


class Application:
    """The page as an ASGI application. It holds nothing of any connection.

    secrets:     whether a visitor sees the secrets of its own connection. They are this server's too: not for the
                 public, whose machines and networks may keep what they are shown. Nor is the address that this machine
                 has where it stands, behind a translator of addresses for instance: without secrets it is not shown.
    port:        where this application is, and
    retry_port:  where it is too, with a configuration that has browsers try again (HelloRetryRequest); None: nowhere.
    """

    records_connections = True

    def __init__(self, *, secrets: bool = False, port: int | None = None, retry_port: int | None = None) -> None:
        self.secrets = secrets
        self.port = port
        self.retry_port = retry_port

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            answer = await self._answer(scope, receive, send)
            if answer is not None:
                await send_answer(send, answer, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> Answer | None:
        """Return the answer; None if it was given: a stream."""
        method, path, headers = scope["method"], scope["path"], headers_of(scope)
        wants = preferred(headers.get("accept"))
        route = _ROUTES.get(path)
        download = _DOWNLOAD.fullmatch(path)
        if download is not None and download[1] in downloads.KINDS:
            route = _Route(("GET", "HEAD"), Application._download, draws=True)
        if path.startswith("/static/") and method in {"GET", "HEAD"}:
            found = asset(path.removeprefix("/static/"), headers.get("if-none-match"))
            return found or notice(wants, 404, "There is nothing here")
        if path == "/favicon.ico":
            return Answer(status=204)
        if route is None:
            return notice(wants, 404, "There is nothing here")
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            return notice(wants, 405, f"Only {allowed} can be asked for here", allow=allowed)
        own = own_connection(scope)
        if own is None or own.recorder is None:
            return _strange(wants, ours=own is not None)
        if not _FORWARDED.isdisjoint(headers):
            return _strange(wants, ours=False)
        if scope["extensions"][EXTENSION].get("early_data"):
            # What the page tells of is not over yet. The client asks again once it is (RFC 8470 §5.2).
            return notice(wants, 425, "Too early", "This request came as early data. Ask again after the handshake.")
        query = {name: values[0] for name, values in _query(scope).items()}
        request = _Request(method, path, query, headers, scope, own, own.recorder, receive, send)
        if request.elsewhere and not route.anywhere:
            return _elsewhere(wants)
        if method == "POST" and not is_own(headers):
            return notice(wants, 403, "Another site's page asked for this", "Only the page itself can: open it first.")
        if not route.draws:
            answer: Answer | None = await route.handler(self, request)
            return answer
        # To draw takes long, and one connection can ask for it a hundred times at once.
        async with own.turns.turn() as granted:
            if not granted:
                why = "So much was asked for on this connection that it has to wait. Ask again in a moment."
                return notice(wants, 429, "Too much at once", why, retry_after="1")
            drawn: Answer = await route.handler(self, request)
            return drawn

    # ---- what can be asked for ---------------------------------------------------------------------------------------

    async def _page(self, request: _Request) -> Answer:
        kind = request.wants
        answer = Answer.of("", kind, vary="accept")
        view = self._view(request)
        if kind == HTML:
            view = replace(view, exchange=_exchange(request, answer))
            return replace(answer, body=page(view).encode())
        if kind == JSON:
            return replace(answer, body=_json(document(replace(view, exchange=_exchange(request, answer)))))
        return replace(answer, body=text(replace(view, exchange=_exchange(request, answer))).encode())

    async def _download(self, request: _Request) -> Answer:
        kind = request.path.rpartition(".")[2]
        return downloads.download(kind, self._view(request))

    async def _events(self, request: _Request) -> None:
        """Give the stream: it takes turns itself, and tells a page of another connection that it is."""
        await stream(
            lambda: self._view(request), request.own, request.query, request.headers, request.receive, request.send
        )

    async def _key_update(self, request: _Request) -> Answer:
        try:
            await request.own.key_update(request_peer=True)
        except UsageError as error:
            return notice(request.wants, 409, "The keys cannot be changed now", error.reason)
        return _done(request)

    async def _resume(self, request: _Request) -> Answer:
        answer = _done(request)
        if request.wants == HTML:
            # Browsers follow a redirect before they have read all of the answer, and so before the goodbye.
            answer = notice(HTML, 200, "Connecting again", alone=True, refresh="0; url=/")
        await request.own.retire()
        if request.scope["http_version"].startswith("1"):
            answer = replace(answer, headers=(*answer.headers, (b"connection", b"close")))
        return answer

    # ---- what is shown -----------------------------------------------------------------------------------------------

    def _view(self, request: _Request) -> View:
        own = request.own
        return View(
            recorder=request.recorder if self.secrets else without_own_address(request.recorder),
            reveal=self.secrets,
            actions=self._actions(request),
            links=downloads.links(own.id, secrets=self.secrets),
            live=f"/events?connection={own.id}&since={len(request.recorder)}",
        )

    def _actions(self, request: _Request) -> tuple[Action, ...]:
        suffix = f"?connection={request.own.id}"
        actions = [
            Action(
                name="key-update",
                label="Change the keys",
                url=f"/key-update{suffix}",
                note="The server sends a KeyUpdate and asks your browser for one: both go on with new keys.",
            ),
            Action(
                name="resume",
                label="Connect again and resume",
                url=f"/resume{suffix}",
                note="This connection ends, and your browser comes again with the ticket it was given.",
            ),
        ]
        port = (request.scope.get("server") or (None, None))[1]
        if self.retry_port is not None and port != self.retry_port and (url := self._url(request, self.retry_port)):
            label = "Connect with a HelloRetryRequest"
            note = "Another port takes none of the key shares your browser sends at once, so that it has to try again."
            actions.append(Action(name="retry", label=label, url=url, method="GET", note=note))
        elif self.port is not None and port == self.retry_port and (url := self._url(request, self.port)):
            note = "The first port, which takes what your browser sends at once."
            actions.append(Action(name="back", label="Connect without a retry", url=url, method="GET", note=note))
        return tuple(actions)

    def _url(self, request: _Request, port: int) -> str | None:
        """Return the URL of another port here: by the name that the client asked TLS for, or the address it came to.

        Not by Host, which TLS does not vouch for; and not by an address that is not shown.
        """
        negotiated = request.own.negotiated
        name = None if negotiated is None else negotiated.server_name
        if name is not None:
            return f"https://{name}:{port}/" if _HOST_NAME.fullmatch(name) else None
        if not self.secrets:
            return None
        connected = request.recorder.first(TcpConnected)
        name = connected.local_address if connected is not None else (request.scope.get("server") or ("",))[0]
        try:
            address = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return None
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return f"https://[{address}]:{port}/" if address.version == 6 else f"https://{address}:{port}/"


@dataclass(frozen=True, slots=True)
class _Route:
    """draws: at length, and so in turn; anywhere: what comes over another connection than its page may ask, too."""

    methods: tuple[str, ...]
    handler: Callable[[Application, _Request], Any]
    draws: bool = False
    anywhere: bool = False


_ROUTES: Final = {
    "/": _Route(("GET", "HEAD"), Application._page, draws=True),
    "/events": _Route(("GET",), Application._events, anywhere=True),
    "/key-update": _Route(("POST",), Application._key_update),
    "/resume": _Route(("POST",), Application._resume),
}


def application(*, secrets: bool = False, port: int | None = None, retry_port: int | None = None) -> Application:
    """Return the page as an ASGI application. Its arguments are `Application`'s."""
    return Application(secrets=secrets, port=port, retry_port=retry_port)


app: Final = application()
"""The page for everybody: it shows no secrets."""


def _query(scope: Any) -> dict[str, list[str]]:  # Any: ASGI's dictionary
    try:
        return parse_qs(scope.get("query_string", b"").decode("ascii"), max_num_fields=8)
    except ValueError:  # too many fields, or bytes that no URL has
        return {}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=True).encode() + b"\n"


def _done(request: _Request) -> Answer:
    """Return what a button answers: the page again, or nothing to a script, which stays where it is."""
    if request.wants == JSON:
        return Answer(status=204)
    return Answer.of("done\n", TEXT, 303, location="/")


def _strange(wants: str, *, ours: bool) -> Answer:
    if ours:
        why = "This server records nothing of its connections, so there is nothing to show."
    else:
        why = (
            "This page shows your own TLS connection, and only the server that speaks TLS with you sees it. "
            "Here that is not this one: another server, or a proxy, stands before it."
        )
    return notice(wants, 501, "Your connection cannot be seen here", why, "To see it, run: pellucid page")


def _elsewhere(wants: str) -> Answer:
    why = "This request came over another connection than the page it belongs to. Load it anew."
    return notice(wants, 409, "Another connection", why)


def _exchange(request: _Request, answer: Answer) -> Exchange:
    """Return the exchange as the page tells it: without what proves to a server who the visitor is."""
    version = request.scope["http_version"]
    protocol = "HTTP/2" if version == "2" else f"HTTP/{version}"
    old = version.startswith("1")  # HTTP/2 has no such lines, but the same in header fields
    headers = [(name, _shown(name, value)) for name, value in list(request.headers.items())[:_MAX_HEADERS]]
    target = request.path + ("?…" if request.scope.get("query_string") else "")
    # How long the body is depends on what it tells: it is left out.
    told = [(name.decode(), value.decode("latin-1")) for name, value in answer.all_headers()]
    return Exchange(
        protocol=protocol,
        request=f"{request.method} {target} {protocol}" if old else f"{request.method} {target}",
        request_headers=tuple(headers),
        response=f"{protocol} {answer.status} {HTTPStatus(answer.status).phrase}" if old else str(answer.status),
        response_headers=tuple((name, value) for name, value in told if name != "content-length"),
    )


def _shown(name: str, value: str) -> str:
    if name in _HIDDEN_HEADERS:
        return f"(hidden, {len(value)} characters)"
    return value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}… ({len(value)} characters)"
