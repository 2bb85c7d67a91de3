"""nginx. A server only: files by GET, and by PUT for what is to come back."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, http_turn
from tests.interop.names import NO_KEY_UPDATE, NO_PSK, PSKS
from tests.interop.peers import openssl_names
from tests.interop.peers.own import version_tuple
from tests.interop.process import PeerFailed, output_of, running
from tests.interop.spec import Facts, Peer, Role, RunningServer, ServerSpec

_PROGRAM = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


class Nginx(Peer):
    name = "nginx"
    refuses_over_http = True

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        text = output_of([_PROGRAM or "nginx", "-V"])
        version = re.search(r"nginx/\S+", text)
        library = re.search(r"running with (OpenSSL \S+)", text) or re.search(r"built with (OpenSSL \S+)", text)
        return " with ".join(found.group(found.lastindex or 0) for found in (version, library) if found)

    def missing(self) -> str | None:
        return None if _PROGRAM else "no nginx (apt install nginx-light)"

    def lacks(self, role: Role) -> Mapping[str, str]:
        if role is Role.CLIENT:
            return {"role": "nginx is a server"}
        reasons = openssl_names.lacks(version_tuple(self.version().rpartition("OpenSSL")[2]))
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= dict.fromkeys(PSKS, NO_PSK)
        return reasons

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        if purpose is Purpose.LARGE:
            put = http_turn("PUT", "/echo", b"", LARGE, last=False)
            return (put, http_turn("GET", "/echo", LARGE, last=True))
        if purpose is Purpose.HTTP2:
            return (replace(http_turn("GET", "/hello", TOKEN, last=True), http2=True),)
        return super().turns(role, purpose)

    def refused_turns(self) -> tuple[Turn, ...]:
        return (replace(http_turn("GET", "/hello", b"HTTP/1.1 400 Bad Request\r\n", last=True), raw=True),)

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        root = spec.workdir / "www"
        root.mkdir(exist_ok=True)
        (root / "hello").write_bytes(TOKEN)
        # nginx takes over listening sockets that it is told of, as when it replaces itself: so the port is ours to
        # get from the system, and nobody can take it in between.
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            port = int(listener.getsockname()[1])
            configuration = spec.workdir / "nginx.conf"
            configuration.write_text(_configuration(spec, port))
            command = [_PROGRAM or "nginx", "-p", spec.workdir, "-c", configuration, "-e", "stderr"]
            number = listener.fileno()
            with running(command, cwd=spec.workdir, env={"NGINX": f"{number};"}, pass_fds=[number]) as program:
                try:
                    program.wait_for(rb"using inherited sockets")
                except PeerFailed as error:
                    raise PeerFailed(f"{error}\n{configuration.read_text()}") from None

                def facts() -> Facts:
                    with contextlib.suppress(PeerFailed):
                        program.wait_until(lambda out: out.count(b"\nclient_certificate=") >= spec.connections, 2.0)
                    found = Facts.from_lines(program.stdout.decode())
                    return replace(
                        found,
                        group=openssl_names.group_name(found.group or ""),
                        alpn=(found.alpn or "").removeprefix("-"),  # how it logs what is empty
                    )

                yield RunningServer(port, facts, program.output, pid=program.pid)


def _configuration(spec: ServerSpec, port: int) -> str:
    http2 = " http2" if "h2" in spec.alpn else ""
    verify = {"none": "off", "optional": "optional", "required": "on"}[spec.client_authentication]
    tls = [
        "ssl_protocols TLSv1.3;",
        f"ssl_certificate {spec.credential.certificate};",
        f"ssl_certificate_key {spec.credential.key};",
        f"ssl_verify_client {verify};",
    ]
    if spec.client_authentication != "none":
        tls.append(f"ssl_client_certificate {spec.ca};")
    if spec.early_data is not None:
        tls.append("ssl_early_data on;")
    if spec.tickets is not None:
        tls.append(f"ssl_conf_command NumTickets {spec.tickets};")
    if spec.staple is not None:
        tls.append(f"ssl_stapling on; ssl_stapling_file {spec.staple};")
    if spec.groups:
        tls.append(f"ssl_ecdh_curve {openssl_names.group_list(spec.groups)};")
    if spec.suites:
        tls.append(f"ssl_conf_command Ciphersuites {':'.join(spec.suites)};")
        if any("CCM" in suite for suite in spec.suites):
            tls.append("ssl_ciphers DEFAULT:@SECLEVEL=0;")
    # $ssl_early_data is 1 until the handshake is complete, which it may be once the line is logged: it is looked at
    # when the request is read.
    facts = r"suite=$ssl_cipher\ngroup=$ssl_curve\nalpn=$ssl_alpn_protocol\nresumed=$resumed\nearly_data=$came_early"
    facts += r"\nclient_certificate=$shown"
    paths = "\n  ".join(
        f"{kind}_temp_path {spec.workdir}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Started by root, the workers would become nobody, who may not read this cell's directory.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""daemon off;
worker_processes 1;
{user}
pid {spec.workdir}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  {paths}
  map $ssl_client_verify $shown {{ SUCCESS 1; default 0; }}
  map $ssl_session_reused $resumed {{ r 1; default 0; }}
  map $ssl_early_data $early {{ 1 1; default 0; }}
  log_format facts '{facts}';
  access_log /dev/stdout facts;
  client_max_body_size 8m;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} ssl{http2};
    root {spec.workdir}/www;
    {" ".join(tls)}
    set $came_early $early;
    location / {{ dav_methods PUT; }}
  }}
}}
"""
