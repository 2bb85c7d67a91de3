"""Servers that are programs of their own: PostgreSQL, Redis, Dovecot, Mosquitto, vsftpd. OpenSSL does their TLS.

Each runs with its data in a temporary folder, on a port of 127.0.0.1, for as long as its block; the tests end it by its
process. None needs to be root. A program that is missing fails the test in CI, and skips it elsewhere.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pellucid.testing.ca import CA
from tests.interop.process import PeerFailed, Program
from tests.support.needs import need
from tests.support.ports import free_port

HOST: Final = "localhost"
_START_SECONDS: Final = 20.0
_TRIES: Final = 3  # a free port may be somebody else's by the time a program binds it


class Daemon(NamedTuple):
    """Where a server listens. port: the one with TLS from the first byte, or the only one."""

    port: int
    plain_port: int = 0
    """where TLS begins with STARTTLS; 0: nowhere"""


class Keys:
    """A leaf for localhost, and for no address, with its chain and key in files, and the root of the clients' CA."""

    def __init__(self, folder: Path, ca: CA, clients: CA | None = None) -> None:
        leaf = ca.issue(HOST)
        self.chain, self.key, self.clients = folder / "chain.pem", folder / "key.pem", folder / "clients.pem"
        self.chain.write_bytes(leaf.chain_pem)
        self.key.write_bytes(leaf.key_pem)
        self.key.chmod(0o600)
        self.clients.write_bytes((clients or ca).root_pem)


def program(name: str, package: str, *patterns: str) -> str:
    """Return the path of *name*: on the PATH, in /usr/sbin, or as the last that one of *patterns* matches."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        found = next((paths[-1] for pattern in patterns if (paths := sorted(glob.glob(pattern)))), None)
    need(None if found is not None else f"{name} is not installed (Debian: {package})")
    return str(found)


def unprivileged() -> str | None:
    """Return the account that servers run as which refuse to be root's; None: whose we are."""
    return "nobody" if os.geteuid() == 0 else None


def _owned(path: Path) -> None:
    account = unprivileged()
    if account is not None:
        entry = pwd.getpwnam(account)
        for one in (path, *path.rglob("*")):
            os.chown(one, entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Make a folder that an unprivileged server reaches: those of pytest are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix=f"pellucid-{name}-") as folder:
        yield Path(folder)


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------

_POSTGRES: Final = ("postgresql", "/usr/lib/postgresql/*/bin/{}")
_ACCESS: Final = """\
hostssl all certified 127.0.0.1/32 cert
hostssl all all       127.0.0.1/32 trust
host    all plain     127.0.0.1/32 trust
"""


def _new_cluster(data: Path) -> None:
    initdb = program("initdb", _POSTGRES[0], _POSTGRES[1].format("initdb"))
    words = ("--auth=trust", "--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8", "--wal-segsize=1")
    done = subprocess.run(
        [initdb, "-D", data, "-U", "postgres", *words],
        cwd="/",
        user=unprivileged(),
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise PeerFailed(f"initdb failed:\n{(done.stdout + done.stderr).decode(errors='replace')}")


@contextlib.contextmanager
def postgres(ca: CA) -> Iterator[Daemon]:
    """PostgreSQL with the database and the superuser `postgres`, no password, TLS 1.3 after its SSLRequest.

    The user `certified` needs a client certificate of *ca* with that common name.
    """
    binary = program("postgres", _POSTGRES[0], _POSTGRES[1].format("postgres"))
    with _folder("postgres") as folder:
        keys = Keys(folder, ca)
        _owned(folder)
        data = folder / "data"
        _new_cluster(data)
        (data / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": keys.chain,
            "ssl_key_file": keys.key,
            "ssl_ca_file": keys.clients,
            "ssl_min_protocol_version": "TLSv1.3",
            "fsync": "off",
            "shared_buffers": "1MB",
            "max_connections": "20",
            "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        end = signal.SIGINT  # SIGTERM waits for its clients to go

        def command(port: int) -> list[str | Path]:
            return [binary, "-D", data, "-p", str(port), *words]

        with _started(command, rb"ready to accept connections", end=end) as port:
            yield Daemon(port)


# ---- Redis -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(ca: CA) -> Iterator[Daemon]:
    """Redis with TLS 1.3, and client certificates of *ca* for those who have one."""
    binary = program("redis-server", "redis-server")
    with _folder("redis") as folder:
        keys = Keys(folder, ca)
        _owned(folder)
        words: list[str | Path] = ["--port", "0", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        words += ["--dir", folder, "--tls-cert-file", keys.chain, "--tls-key-file", keys.key]
        words += ["--tls-ca-cert-file", keys.clients, "--tls-auth-clients", "optional", "--tls-protocols", "TLSv1.3"]
        with _started(lambda port: [binary, "--tls-port", str(port), *words], rb"Ready to accept connections") as port:
            yield Daemon(port)


# ---- Dovecot ---------------------------------------------------------------------------------------------------------

_DOVECOT: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{keys.chain}
ssl_key = <{keys.key}
ssl_min_protocol = TLSv1.3
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
auth_mechanisms = plain
mail_location = maildir:{folder}/mail/%u
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {port}
  }}
}}
"""


@contextlib.contextmanager
def dovecot(ca: CA) -> Iterator[Daemon]:
    """Dovecot's IMAP: TLS 1.3 at once or after STARTTLS, any user, password `secret`, mailboxes that are empty."""
    binary = program("dovecot", "dovecot-imapd")
    with _folder("dovecot") as folder:
        keys = Keys(folder, ca)
        account = unprivileged()
        entry = pwd.getpwuid(os.geteuid()) if account is None else pwd.getpwnam(account)
        plain_port = free_port()

        def command(port: int) -> list[str | Path]:
            text = _DOVECOT.format(
                folder=folder,
                keys=keys,
                user=entry.pw_name,
                group=grp.getgrgid(entry.pw_gid).gr_name,
                port=port,
                plain_port=plain_port,
            )
            (folder / "dovecot.conf").write_text(text, encoding="utf-8")
            _owned(folder)
            return [binary, "-F", "-c", folder / "dovecot.conf"]

        with _started(command, rb"starting up for imap", end=signal.SIGKILL) as port:
            yield Daemon(port, plain_port)


# ---- Mosquitto -------------------------------------------------------------------------------------------------------

_MOSQUITTO: Final = """\
listener {port} 127.0.0.1
certfile {keys.chain}
keyfile {keys.key}
cafile {keys.clients}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
persistence false
log_dest stderr
"""


@contextlib.contextmanager
def mosquitto(ca: CA) -> Iterator[Daemon]:
    """Mosquitto's MQTT over TLS 1.3, for clients with a certificate of *ca*."""
    binary = program("mosquitto", "mosquitto")
    with _folder("mosquitto") as folder:
        keys = Keys(folder, ca)

        def command(port: int) -> list[str | Path]:
            (folder / "mosquitto.conf").write_text(_MOSQUITTO.format(keys=keys, port=port), encoding="utf-8")
            _owned(folder)
            return [binary, "-c", folder / "mosquitto.conf"]

        with _started(command, None) as port:
            yield Daemon(port)


# ---- vsftpd ----------------------------------------------------------------------------------------------------------

_VSFTPD: Final = """\
listen=YES
background=NO
listen_address=127.0.0.1
listen_port={port}
run_as_launching_user=YES
anonymous_enable=YES
ftp_username={user}
anon_root={folder}/files
secure_chroot_dir={folder}/files
seccomp_sandbox=NO
ssl_enable=YES
ssl_ciphers=HIGH
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
rsa_cert_file={keys.chain}
rsa_private_key_file={keys.key}
vsftpd_log_file={folder}/log
"""


@contextlib.contextmanager
def vsftpd(ca: CA, files: dict[str, bytes]) -> Iterator[Daemon]:
    """vsftpd with *files* for anonymous. Its data connections have to resume the session of the control connection."""
    binary = program("vsftpd", "vsftpd")
    with _folder("vsftpd") as folder:
        keys = Keys(folder, ca)
        (folder / "files").mkdir()
        for name, content in files.items():
            (folder / "files" / name).write_bytes(content)
        account = unprivileged() or pwd.getpwuid(os.geteuid()).pw_name

        def command(port: int) -> list[str | Path]:
            text = _VSFTPD.format(folder=folder, keys=keys, user=account, port=port)
            (folder / "vsftpd.conf").write_text(text, encoding="utf-8")
            _owned(folder)
            (folder / "files").chmod(0o555)  # vsftpd serves no folder that could be written to
            return [binary, folder / "vsftpd.conf"]

        with _started(command, None) as port:
            yield Daemon(port)


# ---- running ---------------------------------------------------------------------------------------------------------

Command = Callable[[int], Sequence[str | Path]]


@contextlib.contextmanager
def _started(command: Command, ready: bytes | None, *, end: signal.Signals = signal.SIGTERM) -> Iterator[int]:
    """Run the command for a free port until the block ends. ready: what it prints once it listens; None: nothing."""
    for tries_left in reversed(range(_TRIES)):
        port = free_port()
        server = Program(command(port), cwd=Path("/"), user=unprivileged(), own_group=True)
        try:
            if ready is None:
                _wait_for(port, server)
            else:
                server.wait_for(ready, _START_SECONDS)
        except PeerFailed:
            server.end()
            if tries_left and "in use" in server.output():
                continue
            raise
        break
    try:
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, end)
        server.end()


def _wait_for(port: int, server: Program) -> None:
    """Return once something listens on *port*. Raises PeerFailed if nothing does in time."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise PeerFailed(f"nobody listens on port {port}:\n{server.output()}")
