"""The static file application: what is served, what never is, conditions, ranges and listings."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.files import StaticFiles


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Site:
    """A directory, and requests to the application that serves it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.withheld: list[Path] = []

    def __call__(self, path: str, *headers: tuple[str, str], method: str = "GET", query: bytes = b"") -> Reply:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is to be received")

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        }
        asyncio.run(StaticFiles(self.root, withheld=self.withheld)(scope, receive, send))
        assert sent[-1].get("more_body", False) is False
        assert sent[0]["type"] == "http.response.start"
        body = b"".join(message["body"] for message in sent[1:])
        reply = Reply(sent[0]["status"], dict(sent[0]["headers"]), body)
        if method != "HEAD" and b"content-length" in reply.headers:
            assert int(reply.headers[b"content-length"]) == len(body)
        return reply


@pytest.fixture
def site(tmp_path: Path) -> Site:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "page.html").write_text("<p>page")
    (root / "data.bin").write_bytes(bytes(range(256)) * 4000)
    (root / "sub" / "index.html").write_text("index of sub")
    (root / ".hidden").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "acme").write_text("token")
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "root-twin").mkdir()
    (tmp_path / "root-twin" / "x").write_text("secret")
    return Site(root)


def test_files_are_served_with_their_type_and_length(site: Site) -> None:
    page = site("/page.html")
    assert (page.status, page.body) == (200, b"<p>page")
    assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert page.headers[b"x-content-type-options"] == b"nosniff"
    data = site("/data.bin")
    assert (len(data.body), data.headers[b"content-type"]) == (1_024_000, b"application/octet-stream")
    assert site("/.well-known/acme").body == b"token"


def test_files_withheld_are_not_served_under_any_name(site: Site) -> None:
    key = site.root / "server-key.pem"
    key.write_text("secret")
    site.withheld = [site.root / ".." / "root" / "server-key.pem", Path("agent:/run/keys"), site.root / "renewed.pem"]
    os.link(key, site.root / "link.pem")
    (site.root / "symlink.pem").symlink_to(key)
    for name in ("server-key.pem", "sub/../server-key.pem", "link.pem", "symlink.pem"):
        assert site(f"/{name}").status == 404
    listing = site("/").body
    assert b"page.html" in listing
    assert b".pem" not in listing
    # A key that is renewed is another file: what the name leads to when it is asked for counts.
    (site.root / "renewed.pem").write_text("secret")
    assert site("/renewed.pem").status == 404


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.js", b"text/javascript; charset=utf-8"),
        ("a.json", b"application/json; charset=utf-8"),
        ("a.wasm", b"application/wasm"),
        ("a.tar.gz", b"application/octet-stream"),
        ("a", b"application/octet-stream"),
        ("a.png", b"image/png"),
    ],
)
def test_files_content_types(site: Site, name: str, kind: bytes) -> None:
    (site.root / name).write_text("x")
    assert site(f"/{name}").headers[b"content-type"] == kind


def test_files_head_has_the_headers_alone(site: Site) -> None:
    reply = site("/data.bin", method="HEAD")
    assert (reply.status, reply.body, reply.headers[b"content-length"]) == (200, b"", b"1024000")
    assert site("/", method="HEAD").body == b""


def test_files_other_methods_are_refused(site: Site) -> None:
    reply = site("/page.html", method="POST")
    assert (reply.status, reply.headers[b"allow"]) == (405, b"GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/%2e%2e%2foutside.txt",
        "/sub/../../outside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/../root-twin/x",
        "//../outside.txt",
        "/page.html/",
        "/page.html%00",
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/.git/",
        "/sub/../.git/config",
        "/none",
        "/escape",
        "/escape-directory/outside.txt",
        "/to-hidden",
        "/broken",
        "/loop",
        "/pipe",
        "/" + "x" * 5000,
        "/%ff%fe",
    ],
)
def test_files_that_are_not_to_be_served_are_not_found(site: Site, path: str) -> None:
    root = site.root
    (root / "escape").symlink_to("../outside.txt")
    (root / "escape-directory").symlink_to("..")
    (root / "to-hidden").symlink_to(".hidden")
    (root / "broken").symlink_to("none")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    reply = site(path)
    assert reply.status == 404
    assert reply.body == b"not found\n"


def test_files_links_inside_the_root_are_followed(site: Site) -> None:
    (site.root / "link.html").symlink_to("page.html")
    (site.root / "dir").symlink_to("sub")
    assert site("/link.html").body == b"<p>page"
    assert site("/dir/").body == b"index of sub"


def test_files_directory_without_slash_is_redirected_on_this_host(site: Site) -> None:
    assert site("/sub").headers[b"location"] == b"/sub/"
    assert site("//sub", query=b"a=b&c=%20").headers[b"location"] == b"/sub/?a=b&c=%20"
    assert site("/./sub", query=b"x\r\ny: z").headers[b"location"] == b"/./sub/?x%0D%0Ay:%20z"


def test_files_listing_is_sorted_escaped_and_shows_what_is_served(site: Site) -> None:
    root = site.root
    (root / "<b>&'\".txt").write_text("x")
    (root / "javascript:alert(1)").write_text("x")
    (root / "zdir").mkdir()
    (root / "escape").symlink_to("../outside.txt")
    with open(os.path.join(os.fsencode(root), b"\xff.txt"), "w") as file:
        file.write("x")
    page = site("/").body.decode()
    assert "hidden" not in page and "git" not in page and "escape" not in page and "../" not in page
    assert "&lt;b&gt;&amp;&#x27;&quot;.txt" in page
    assert 'href="./javascript%3Aalert%281%29"' in page
    assert 'href="./%FF.txt"' in page
    assert page.index("sub/") < page.index("zdir/") < page.index("data.bin") < page.index("page.html")
    assert '<a href="../">' in site("/zdir/").body.decode()
    assert site("/%FF.txt").status == 200


def test_files_conditions_are_answered(site: Site) -> None:
    first = site("/page.html")
    etag = first.headers[b"etag"].decode()
    modified = first.headers[b"last-modified"].decode()
    past = "Mon, 01 Jan 2001 00:00:00 GMT"
    fresh = [
        [("If-None-Match", etag)],
        [("If-None-Match", f'"other", W/{etag}')],
        [("If-None-Match", "*")],
        [("If-Modified-Since", modified)],
        [("If-None-Match", etag), ("If-Modified-Since", past)],
    ]
    for headers in fresh:
        reply = site("/page.html", *headers)
        assert (reply.status, reply.body, reply.headers[b"etag"]) == (304, b"", etag.encode())
    stale = [
        [("If-None-Match", '"other"')],
        [("If-Modified-Since", past)],
        [("If-Modified-Since", "yesterday")],
        [("If-None-Match", '"other"'), ("If-Modified-Since", modified)],
        [("If-Match", etag)],
        [("If-Unmodified-Since", modified)],
    ]
    for headers in stale:
        assert site("/page.html", *headers).status == 200
    for headers in ([("If-Match", '"other"')], [("If-Unmodified-Since", past)]):
        assert site("/page.html", *headers).status == 412
    (site.root / "page.html").write_text("<p>changed")
    assert site("/page.html", ("If-None-Match", etag)).body == b"<p>changed"


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1023990-", 1_023_990, 1_024_000),
        ("bytes=-3", 1_023_997, 1_024_000),
        ("bytes=1023999-9999999", 1_023_999, 1_024_000),
        ("bytes=-9999999", 0, 1_024_000),
        ("Bytes = 2-3", 2, 4),
    ],
)
def test_files_range_is_answered_with_the_part(site: Site, value: str, start: int, end: int) -> None:
    whole = (site.root / "data.bin").read_bytes()
    reply = site("/data.bin", ("Range", value))
    assert (reply.status, reply.body) == (206, whole[start:end])
    assert reply.headers[b"content-range"] == b"bytes %d-%d/1024000" % (start, end - 1)


@pytest.mark.parametrize(
    "value", ["bytes=1-2,5-6", "bytes=9-5", "bytes=", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=1-" + "9" * 5000]
)
def test_files_range_that_is_none_gives_the_whole_file(site: Site, value: str) -> None:
    assert site("/data.bin", ("Range", value)).status == 200


def test_files_range_outside_is_refused_and_if_range_guards(site: Site) -> None:
    for value in ("bytes=1024000-", "bytes=-0"):
        reply = site("/data.bin", ("Range", value))
        assert (reply.status, reply.headers[b"content-range"]) == (416, b"bytes */1024000")
    headers = site("/data.bin").headers
    etag, modified = headers[b"etag"].decode(), headers[b"last-modified"].decode()
    wanted = ("Range", "bytes=0-1")
    assert site("/data.bin", wanted, ("If-Range", etag)).status == 206
    assert site("/data.bin", wanted, ("If-Range", modified)).status == 206
    assert site("/data.bin", wanted, ("If-Range", '"other"')).status == 200
    assert site("/data.bin", wanted, ("If-Range", "Mon, 01 Jan 2001 00:00:00 GMT")).status == 200


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_not_found(site: Site) -> None:
    (site.root / "page.html").chmod(0)
    assert site("/page.html").status == 404
