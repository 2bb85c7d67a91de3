"""A client and a server over a module shaped like the standard library's ssl: ssl itself, rtls, utls.

Arguments are words `key=value`, see tests/interop/peers/own.py. Run as `python -m`, so that it finds `exchange`.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tests.interop import http2
from tests.interop.exchange import Reader, answer_requests

TIMEOUT_SECONDS = 20.0


def main() -> int:
    words: dict[str, str] = {}
    turns = []
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        if key == "turn":
            turns.append(value)
        words[key] = value
    tls = importlib.import_module(words["module"])
    if words["role"] == "server":
        return serve(tls, words)
    return connect(tls, words, turns)


def context_for(tls: Any, words: dict[str, str]) -> Any:
    server = words["role"] == "server"
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER if server else tls.PROTOCOL_TLS_CLIENT)
    context.minimum_version = tls.TLSVersion.TLSv1_3
    # Before the certificates: rtls builds its verifier from what it knows when they are loaded.
    mode = {"none": tls.CERT_NONE, "optional": tls.CERT_OPTIONAL, "required": tls.CERT_REQUIRED}
    if server:
        context.verify_mode = mode[words["client_authentication"]]
    if not server or words["client_authentication"] != "none":
        context.load_verify_locations(words["ca"])
    if words.get("certificate"):
        context.load_cert_chain(words["certificate"], words["key"])
    if words.get("alpn"):
        context.set_alpn_protocols(words["alpn"].split(","))
    if words.get("ciphers"):
        context.set_ciphers(words["ciphers"])
    if words.get("middlebox") == "no":  # ssl only
        context.options &= ~tls.OP_ENABLE_MIDDLEBOX_COMPAT
    if words.get("curves"):
        context.set_ecdh_curve(words["curves"])
    return context


def print_facts(tls_socket: Any) -> None:
    cipher = tls_socket.cipher()
    print(f"suite={cipher[0].replace('TLS13_', 'TLS_')}")
    print(f"alpn={tls_socket.selected_alpn_protocol() or ''}")
    group = getattr(tls_socket, "group", None)
    if callable(group):  # Python 3.15
        print(f"group={group()}")
    if tls_socket.context.__class__.__module__.partition(".")[0] != "rtls":  # whose session_reused is always False
        print(f"resumed={1 if tls_socket.session_reused else 0}")


def serve(tls: Any, words: dict[str, str]) -> int:
    context = context_for(tls, words)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port={listener.getsockname()[1]}", flush=True)
    while True:
        threading.Thread(target=serve_one, args=(context, listener.accept()[0]), daemon=True).start()


def serve_one(context: Any, sock: socket.socket) -> None:
    sock.settimeout(TIMEOUT_SECONDS)
    # A socket that is closed with something unread in it resets the connection, and our last alert may be lost.
    rest = sock.dup()
    try:
        with context.wrap_socket(sock, server_side=True) as stream:
            print_facts(stream)
            print(f"client_certificate={1 if stream.getpeercert() else 0}", flush=True)
            answer_requests(stream)
            stream.unwrap()
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            rest.shutdown(socket.SHUT_WR)
            while rest.recv(2**16):
                pass
    finally:
        rest.close()


def connect(tls: Any, words: dict[str, str], turns: list[str]) -> int:
    context = context_for(tls, words)
    if words.get("hello_groups") or words.get("hello_schemes"):  # utls only
        groups = [int(code) for code in words["hello_groups"].split(",") if code]
        schemes = [int(code) for code in words["hello_schemes"].split(",")]
        fingerprint = tls.Fingerprint(
            supported_groups=groups or None, key_shares=groups[:1] or None, signature_algorithms=schemes
        )
        context.set_fingerprint(fingerprint)
    session = None
    for _ in range(int(words["connections"])):
        session = connect_once(context, words, turns, session)
    return 0


def connect_once(context: Any, words: dict[str, str], turns: list[str], session: Any) -> Any:
    """Connect, converse and close; return the session to offer the next time."""
    options = {} if session is None else {"session": session}
    sock = socket.create_connection(("127.0.0.1", int(words["port"])), TIMEOUT_SECONDS)
    with context.wrap_socket(sock, server_hostname=words["name"], **options) as stream:
        reader = Reader(stream)
        for turn in turns:
            path, _, size = turn.rpartition(":")
            if size == "http2":
                answer = http2.get(stream, Path(path).read_text())
            else:
                stream.sendall(Path(path).read_bytes())
                answer = reader.message()[1] if size == "http" else reader.exactly(int(size))
            Path(path + ".answer").write_bytes(answer)
        print_facts(stream)
        return stream.session


if __name__ == "__main__":
    sys.exit(main())
