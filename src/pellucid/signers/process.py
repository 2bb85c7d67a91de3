"""The key agent as a process of its own: it reads the keys, opens its socket, and then gives up what it may do.

Started by root it becomes another user before it answers anybody, so that neither the TLS process can read the keys nor
the agent anything of the TLS process's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from pellucid.errors import InternalError, UsageError
from pellucid.net.load import read_pem
from pellucid.signers.agent import KeyAgent, signers_of_keys
from pellucid.trace import Role

try:  # POSIX; elsewhere there are no Unix sockets that tell who is at their other end
    import pwd
    import resource
except ImportError as error:  # pragma: no cover
    raise ImportError("a key agent needs a POSIX system") from error

__all__ = ["AgentProcess", "AgentSettings", "bind_socket", "run_agent"]

_READY: Final = b"ready\n"
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_START_SECONDS: Final = 20.0
_END_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How an agent is run.

    path:  of the socket. keys: files, PEM or DER.
    user:  whom the process becomes once it has read them; None: it stays who it is.
    allow: user names or numbers that may ask; (): who starts it.
    mode:  permissions of the socket. None: 0600, for who may ask if that is one user and root can give it to them; else
           0666. Whatever they are, the kernel says who asks, and nobody else is answered.
    roles: "server", "client": whose CertificateVerify is signed.
    """

    path: str
    keys: tuple[str, ...]
    user: str | None = None
    allow: tuple[str, ...] = ()
    mode: int | None = None
    roles: tuple[str, ...] = ("server", "client")


def run_agent(
    settings: AgentSettings,
    *,
    password: bytes | None = None,
    ready: Callable[[KeyAgent], None] = lambda _: None,
    until: int | None = None,
) -> None:
    """Be the agent until SIGTERM or SIGINT. The caller's process is changed for good.

    ready: called once it answers. until: a pipe whose end is the agent's end too.
    Raises UsageError: a key cannot be read or used, others may read its file, the socket is taken, a user is unknown.
    """
    os.umask(0o077)
    signers = signers_of_keys([_read_key(path) for path in settings.keys], password)
    users = [_user_number(name) for name in settings.allow] or [os.geteuid()]
    agent = KeyAgent(signers, users=users, roles=[Role(name) for name in settings.roles])
    owner = users[0] if len(users) == 1 and os.geteuid() in (0, users[0]) else None
    mode = settings.mode if settings.mode is not None else 0o666 if owner is None else 0o600
    with bind_socket(settings.path, mode=mode, owner=owner) as listening:
        if settings.user is not None:
            _become(settings.user)
        _harden()
        asyncio.run(_serve(agent, listening, ready, until))


async def _serve(
    agent: KeyAgent, listening: socket.socket, ready: Callable[[KeyAgent], None], until: int | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until is not None:
        loop.add_reader(until, stop.set)
    serving = asyncio.create_task(agent.serve(listening))
    stopping = asyncio.create_task(stop.wait())
    ready(agent)
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, stopping):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving  # by itself it ends with an error alone


@contextlib.contextmanager
def bind_socket(path: str, *, mode: int = 0o600, owner: int | None = None) -> Iterator[socket.socket]:
    """Give a listening Unix socket at *path*, which is gone afterwards. One that nobody listens on is replaced.

    owner: who may connect beside root, if the caller may give it away. Raises UsageError, naming *path*.
    """
    _remove_dead(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listening.bind(path)
            os.chmod(path, mode)
            if owner is not None and os.geteuid() == 0:
                os.chown(path, owner, -1)
            listening.listen(64)
            identity = _identity(path)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from error
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):  # having become another user, it may not
                if _identity(path) == identity:
                    os.unlink(path)
    finally:
        listening.close()


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _remove_dead(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError(f"{path} is there, and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        try:
            trying.connect(path)
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise UsageError(f"{path}: {error.strerror or error}") from error
            os.unlink(path)
            return
    raise UsageError(f"{path}: an agent is running there")


def _read_key(path: str) -> bytes:
    """Return a private key's file. Raises UsageError if it cannot be read, or if others may."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if mode & 0o077:
        raise UsageError(f"others may read or change {path}: chmod go= {path}")
    return read_pem(path)


def _user_number(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(f"there is no user {name!r}") from None


def _become(name: str) -> None:
    """Be *name* from now on, without any other group, for good. Raises UsageError."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name!r}") from None
    try:
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise UsageError(f"only root can become {name}") from error
    if os.getuid() == 0 or os.geteuid() == 0:
        raise UsageError("an agent that becomes somebody becomes somebody else than root")
    os.chdir("/")


def _harden() -> None:
    """Leave no core file, and let no process of the same user look into this one (Linux)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


# ---- started by the TLS process --------------------------------------------------------------------------------------


class AgentProcess:
    """An agent that runs as long as the block: `with AgentProcess(["key.pem"]) as agent: agent.path`.

    Start it before the TLS process gives up its own rights. path: None makes a folder of its own for the socket. The
    rest is as in `AgentSettings`. Raises UsageError with what the agent says if it does not start.
    """

    def __init__(
        self,
        keys: Sequence[str | os.PathLike[str]],
        *,
        path: str | os.PathLike[str] | None = None,
        user: str | None = None,
        allow: Sequence[str | int] = (),
        mode: int | None = None,
        roles: Sequence[str] = ("server", "client"),
        password: bytes | None = None,
    ) -> None:
        self._folder = None if path is not None else tempfile.TemporaryDirectory(prefix="pellucid-agent-")
        self.path = os.fspath(path) if path is not None else str(Path(self._folder.name if self._folder else "", "s"))
        allowed = tuple(map(str, allow)) or (str(os.geteuid()),)
        if self._folder is not None and allowed != (str(os.geteuid()),):
            os.chmod(self._folder.name, 0o711)  # noqa: S103  # whoever may ask must get to the socket
        self._settings = AgentSettings(
            path=self.path,
            keys=tuple(os.path.abspath(key) for key in keys),
            user=user,
            allow=allowed,
            mode=mode,
            roles=tuple(roles),
        )
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AgentProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pellucid.signers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the terminal is for the TLS process, which ends this one
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            self._start(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise InternalError("a process has no pipes")
        password = None if self._password is None else self._password.decode("latin-1")
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said is below
            process.stdin.write(json.dumps({"settings": asdict(self._settings), "password": password}).encode() + b"\n")
            process.stdin.flush()  # and stays open: its end is the agent's, should this process just be gone
        line = _line_within(process.stdout, _START_SECONDS, process)
        if line != _READY:
            raise UsageError(f"the key agent did not start: {line.decode('utf-8', 'replace').strip() or 'it ended'}")

    @property
    def pid(self) -> int | None:
        """The process's number, while it runs."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the agent."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._folder is not None:
            with contextlib.suppress(PermissionError):  # who has become another user since can remove nothing of root's
                self._folder.cleanup()
        else:
            # Having become another user, it could not remove its socket.
            with contextlib.suppress(OSError):
                if process is not None and stat.S_ISSOCK(os.lstat(self.path).st_mode):
                    os.unlink(self.path)

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the agent: by the end of its standard input, too, for who has given up the right to send it a signal."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    with contextlib.suppress(PermissionError):
        process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _line_within(pipe: IO[bytes], seconds: float, process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line; b"" at the end. A process that says nothing is ended."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        return pipe.readline()
    finally:
        timer.cancel()


def main() -> int:
    """Be the agent that the first line of standard input describes, until its end."""
    request = json.loads(sys.stdin.buffer.readline())
    fields: dict[str, Any] = {  # Any: JSON, and each setting has its own type
        name: tuple(value) if isinstance(value, list) else value for name, value in request["settings"].items()
    }
    password = request["password"]

    def ready(_: KeyAgent) -> None:
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()

    try:
        secret = None if password is None else password.encode("latin-1")
        run_agent(AgentSettings(**fields), password=secret, ready=ready, until=sys.stdin.fileno())
    except UsageError as error:
        print(error.reason, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
