"""`ReloadingConfig`: a server's configuration that follows its files, or a function, while connections come and go.

A new configuration takes the old one's place in one step, for connections made from then on; what cannot be made
leaves the old one there, and says so. Sessions live on: tickets are opened by the same ring of keys, and are bound to
the clients' CAs by what they say of themselves.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pellucid.config import Credential, ServerConfig
from pellucid.crypto import own_chain
from pellucid.crypto.certificates import X509Certificate
from pellucid.errors import TLSError, UsageError
from pellucid.net.config_files import FunctionMaker, Loaded, Maker, files_maker
from pellucid.net.credential_files import CredentialError, FilePath, Password, Paths, Stamp
from pellucid.sessions.early_data import ReplayGuard
from pellucid.sessions.tickets import ServerSessions

__all__ = ["CredentialError", "CredentialStatus", "ExpiryWarning", "ReloadStatus", "ReloadingConfig"]

_log: Final = logging.getLogger("pellucid.reload")

_SETTLE_SECONDS: Final = 0.2  # without a write, before a file is taken to be whole
_RETRY_SECONDS: Final = 5.0  # after which what could not be read is tried again, changed or not
_DAY: Final = 86_400.0
_WARN_DAYS: Final = 14.0
_WARN_SHARE: Final = 0.25  # of a certificate's life, where that is less


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialStatus:
    """One credential in use. not_before: the leaf's, not_after: the chain's, seconds since 1970; serial: hexadecimal.

    A raw public key has no serial, "", and no end: infinity. files: () where it is of a function.
    """

    names: tuple[str, ...]
    key_algorithm: str
    serial: str
    not_before: float
    not_after: float
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStatus:
    """What is in use, and how reloading went. Times in seconds since 1970, as the configuration's provider tells them.

    loaded_at: when the present configuration was made.   reloads: how often it was replaced since the start.
    failures:  how often that went wrong, in whole or in part; last_error: what the last time went wrong, "" if nothing.
    warnings:  what is strange about the files in use.
    """

    credentials: tuple[CredentialStatus, ...]
    loaded_at: float
    reloads: int = 0
    failures: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def not_after(self) -> float:
        """When the first of the credentials ends; infinity where none does."""
        return min((one.not_after for one in self.credentials), default=float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryWarning:
    """A credential ends soon, or has. seconds_left: negative where it has."""

    credential: CredentialStatus
    seconds_left: float

    def __str__(self) -> str:
        one = self.credential
        whose = ", ".join(one.names[:3]) or one.key_algorithm
        where = f" ({one.files[0]})" if one.files else ""
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(one.not_after))
        if self.seconds_left <= 0:
            return f"the certificate for {whose}{where} expired on {when}"
        left = self.seconds_left / _DAY
        span = f"{left:.0f} days" if left >= 2 else f"{self.seconds_left / 3600:.1f} hours"
        return f"the certificate for {whose}{where} expires in {span}, on {when}"


@dataclass(frozen=True, slots=True)
class _State:
    """Replaced in one step: readers take no lock."""

    config: ServerConfig
    made: ServerConfig
    """*config* as it was made, without the sessions that live on"""
    stamps: Mapping[str, Stamp]
    status: ReloadStatus
    retry_at: float | None = None
    """by time.monotonic: when what could not be read is tried again"""


class ReloadingConfig:
    """A ConfigSource made anew when its files change, on a signal, or by call; for `listen`, `aio`, `SSLContext`, ….

    make:  gives a ServerConfig; is called again for each reload. `from_files` needs none.
    files: what *make* reads: files, and directories with what is in them. They are looked at when the configuration is
           asked for, at most every *check_seconds*; None: only `reload`, `request_reload` and signals count.
    warn_days: before a certificate's end, from when on `pellucid.reload` logs a warning and *on_expiry_warning* is
           called, at the start and once a day. None: 14 days, or the last quarter of a shorter life.
    on_reload: called after each reload.   on_problem: called with what went wrong; what was there before is in use.
           Both in the thread that reloads.

    What cannot be made at the start is raised: CredentialError for a certificate that has expired, is not valid yet,
    does not belong to its key, or whose chain is out of order. Later it is logged, and tried again.
    Where *make* names no `sessions` and no `replay_guard`, those of the first configuration live on.
    """

    def __init__(
        self,
        make: Callable[[], ServerConfig],
        *,
        files: Iterable[FilePath] = (),
        check_seconds: float | None = 1.0,
        warn_days: float | None = None,
        on_reload: Callable[[ReloadStatus], object] | None = None,
        on_problem: Callable[[Exception], object] | None = None,
        on_expiry_warning: Callable[[ExpiryWarning], object] | None = None,
    ) -> None:
        self._set_up(FunctionMaker(make, files), check_seconds, warn_days, on_reload, on_problem, on_expiry_warning)

    @classmethod
    def from_files(
        cls,
        cert: Paths,
        key: Paths | None = None,
        *,
        ocsp: Paths | None = None,
        client_ca: Paths | None = None,
        ticket_keys: FilePath | None = None,
        password: Password | None = None,
        check_seconds: float | None = 1.0,
        warn_days: float | None = None,
        on_reload: Callable[[ReloadStatus], object] | None = None,
        on_problem: Callable[[Exception], object] | None = None,
        on_expiry_warning: Callable[[ExpiryWarning], object] | None = None,
        **fields: Any,  # Any: ServerConfig's, each of its own type
    ) -> ReloadingConfig:
        """Return the configuration of a server's files, which follows them.

        cert, key:   a chain (PEM, leaf first) and its key, or several of each in the same order. Without *key* the
                     chain's file has it too: PEM or PKCS#12. A directory has any number of pairs (`pairs_in`). Of
                     several, one that cannot be read again is kept as it was, and holds up no other.
        ocsp:        OCSP responses (DER) to staple, one for each *cert*. One that is for another certificate, or over,
                     is not stapled.
        client_ca:   whose client certificates are accepted: PEM files or directories. Clients are then required to show
                     one unless `client_authentication` says otherwise; no session outlives the CAs it was made under.
        ticket_keys: a file with `TicketKeys.export_keys()`, shared with other servers. None: a ring of this one's own.
        password:    of encrypted keys; a function is given the key's path, at each reading.
        fields:      ServerConfig's others.
        """
        self = cls.__new__(cls)
        maker = files_maker(cert, key, ocsp, client_ca, ticket_keys, password, fields)
        self._set_up(maker, check_seconds, warn_days, on_reload, on_problem, on_expiry_warning)
        return self

    def _set_up(
        self,
        maker: Maker,
        check_seconds: float | None,
        warn_days: float | None,
        on_reload: Callable[[ReloadStatus], object] | None,
        on_problem: Callable[[Exception], object] | None,
        on_expiry_warning: Callable[[ExpiryWarning], object] | None,
    ) -> None:
        if check_seconds is not None and check_seconds < 0:
            raise UsageError(f"files are looked at every so many seconds, not {check_seconds}")
        self._maker = maker
        self._check_seconds = check_seconds
        self._warn_days = warn_days
        self._on_reload = on_reload
        self._on_problem = on_problem
        self._on_expiry_warning = on_expiry_warning
        self._lock = threading.Lock()
        self._wanted = False
        """a signal came: the next use reloads"""
        self._sessions: ServerSessions | None = None
        self._guard: ReplayGuard | None = None
        self._warned: dict[tuple[str, float], float] = {}
        """which credential was warned of, and when"""
        loaded = maker.load(everything=True, forget_sessions=False)
        config = self._carrying(loaded.config)
        status = ReloadStatus(credentials=_statuses(loaded), loaded_at=config.provider.now(), warnings=loaded.warnings)
        self._state = _State(config, loaded.config, loaded.stamps, status)
        self._look_again_at = 0.0 if check_seconds is None else time.monotonic() + check_seconds
        for text in loaded.warnings:
            _log.warning("%s", text)
        self._warn_of_expiry()

    # ---- what listeners ask ------------------------------------------------------------------------------------------

    @property
    def current(self) -> ServerConfig:
        """The configuration for a new connection. Looks at the files now and then; never raises."""
        if self._wanted or (self._check_seconds is not None and time.monotonic() >= self._look_again_at):
            self.check()
        return self._state.config

    @property
    def status(self) -> ReloadStatus:
        """What is in use, and how reloading went."""
        return self._state.status

    # ---- reloading ---------------------------------------------------------------------------------------------------

    def reload(self, *, forget_sessions: bool = False) -> ReloadStatus:
        """Read everything again, changed or not; return the status.

        forget_sessions: take no ticket that was issued before, as when a key was stolen. (TicketKeys of a file: what is
                         not in the file is forgotten.)
        raises: what went wrong, after it was logged. What could not be made anew is then still in use, the rest is new.
        """
        with self._lock:
            before = self._state
            problems = self._load(everything=True, forget_sessions=forget_sessions)
            after = self._state
        self._tell(problems, reloaded=after.config is not before.config)
        self._warn_of_expiry()
        if problems:
            raise problems[0]
        return after.status

    def request_reload(self, *_: object) -> None:
        """Have the next use reload. Does nothing else, and so may be called in a signal handler, or as one."""
        self._wanted = True

    def reload_on_signal(self, number: int | None = None) -> None:
        """Have the next use after a signal reload. number: None: SIGHUP. To be called in the main thread.

        Raises UsageError where the platform has no SIGHUP.
        """
        if number is None and (number := getattr(signal, "SIGHUP", None)) is None:
            raise UsageError("this platform has no SIGHUP: name another signal")
        signal.signal(number, self.request_reload)

    def check(self) -> bool:
        """Look at the files now, and reload what has changed; return whether anything was. Never raises.

        What somebody else is reloading right now is not waited for.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            before = self._state
            try:
                problems = self._check()
            except Exception as error:  # noqa: BLE001  # whatever a file system may raise: whoever connects is served
                problems = [error]
                text = _told(error)
                self._state = replace(before, status=replace(before.status, last_error=text))
            after = self._state
        finally:
            self._lock.release()
        changed = after.config is not before.config
        self._tell(problems if after.status.last_error != before.status.last_error else [], reloaded=changed)
        self._warn_of_expiry()
        return changed

    @contextlib.contextmanager
    def watching(self, seconds: float = 1.0) -> Iterator[ReloadingConfig]:
        """Look at the files in a thread of its own as long as the context lasts: then no connection waits for it."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(seconds):
                self.check()

        thread = threading.Thread(target=watch, name="pellucid-reload", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    async def watch(self, seconds: float = 1.0) -> None:
        """Look at the files for ever, in worker threads: a task for asyncio or trio, ended by its cancellation."""
        import anyio  # noqa: PLC0415  # an optional dependency, at the edge
        import anyio.to_thread  # noqa: PLC0415

        while True:
            await anyio.sleep(seconds)
            await anyio.to_thread.run_sync(self.check)

    # ---- within; the lock is held ------------------------------------------------------------------------------------

    def _check(self) -> list[Exception]:
        now = time.monotonic()
        if self._check_seconds is not None:
            self._look_again_at = now + self._check_seconds
        if self._wanted:
            self._wanted = False  # before reading: a signal that comes now counts again
            return self._load(everything=True, forget_sessions=False)
        state = self._state
        stamps = self._maker.stamps()
        due = state.retry_at is not None and now >= state.retry_at
        if not due and (stamps == state.stamps or not _settled(stamps, state.stamps)):
            return []
        return self._load(everything=False, forget_sessions=False)

    def _load(self, *, everything: bool, forget_sessions: bool) -> list[Exception]:
        """Make a configuration and put it in place; return what went wrong."""
        state = self._state
        try:
            loaded = self._maker.load(everything=everything, forget_sessions=forget_sessions)
            if forget_sessions:
                self._sessions = self._guard = None
            config = self._carrying(loaded.config)
        except Exception as error:  # noqa: BLE001  # whatever a function may raise: the old configuration stays
            self._failed(state, [error])
            return [error]
        problems = list(loaded.problems)
        if loaded.config is state.made and not forget_sessions:
            self._state = replace(state, stamps=loaded.stamps, retry_at=None)
            if problems:
                self._failed(self._state, problems)
            elif state.status.last_error:
                self._state = replace(self._state, status=replace(state.status, last_error=""))
            return problems
        status = replace(
            state.status,
            credentials=_statuses(loaded),
            loaded_at=config.provider.now(),
            reloads=state.status.reloads + 1,
            last_error="",
            warnings=loaded.warnings,
        )
        self._state = _State(config, loaded.config, loaded.stamps, status)
        for text in loaded.warnings:
            if text not in state.status.warnings:
                _log.warning("%s", text)
        if problems:
            self._failed(self._state, problems)
        return problems

    def _failed(self, state: _State, problems: list[Exception]) -> None:
        text = "; ".join(map(_told, problems))
        before = state.status
        again = text == before.last_error  # a file that stays as it is, tried once more
        status = replace(
            before,
            failures=before.failures + (not again),
            last_error=text,
            last_error_at=before.last_error_at if again else state.config.provider.now(),
        )
        self._state = replace(
            state, stamps=self._maker.stamps(), status=status, retry_at=time.monotonic() + _RETRY_SECONDS
        )

    def _carrying(self, config: ServerConfig) -> ServerConfig:
        """Return *config* with the sessions and the replay guard of the first one, where it names none."""
        changes: dict[str, Any] = {}
        if config.sessions is None and config.session_store is not None:
            self._sessions = self._sessions or config.session_store
            changes["sessions"] = self._sessions
        if config.replay_guard is None and config.early_data_guard is not None:
            self._guard = self._guard or config.early_data_guard
            changes["replay_guard"] = self._guard
        return replace(config, **changes) if changes else config

    # ---- telling; without the lock -----------------------------------------------------------------------------------

    def _tell(self, problems: list[Exception], *, reloaded: bool) -> None:
        status = self._state.status
        for error in problems:
            _log.warning("not reloaded, what was there before stays in use: %s", _told(error))
            self._call(self._on_problem, error)
        if reloaded:
            _log.info("reloaded: %d credentials", len(status.credentials))
            self._call(self._on_reload, status)

    def _warn_of_expiry(self) -> None:
        state = self._state
        now = state.config.provider.now()
        in_use = {(one.serial, one.not_after) for one in state.status.credentials}
        self._warned = {known: last for known, last in self._warned.items() if known in in_use}
        for one in state.status.credentials:
            left = one.not_after - now
            days = self._warn_days
            before = (
                min(_WARN_DAYS * _DAY, (one.not_after - one.not_before) * _WARN_SHARE) if days is None else days * _DAY
            )
            known = (one.serial, one.not_after)
            last = self._warned.get(known)
            if left > before or (last is not None and now - last < _DAY and not last < one.not_after <= now):
                continue
            self._warned[known] = now
            warning = ExpiryWarning(credential=one, seconds_left=left)
            _log.log(logging.ERROR if left <= 0 else logging.WARNING, "%s", warning)
            self._call(self._on_expiry_warning, warning)

    def _call(self, callback: Callable[[Any], object] | None, value: object) -> None:
        if callback is None:
            return
        try:
            callback(value)
        except Exception as error:  # noqa: BLE001  # the caller's: a server goes on without being watched
            _log.error("%s raised", getattr(callback, "__name__", "a callback"), exc_info=error)

    def __repr__(self) -> str:
        status = self._state.status
        return f"ReloadingConfig({len(status.credentials)} credentials, {status.reloads} reloads)"


def _settled(stamps: Mapping[str, Stamp], before: Mapping[str, Stamp]) -> bool:
    """Whether nothing that changed was written a moment ago: whoever is writing it may not be done."""
    now = time.time()
    for path, stamp in stamps.items():
        if stamp is None or stamp == before.get(path):
            continue
        age = now - stamp.modified / 1e9
        if 0 <= age < _SETTLE_SECONDS:
            return False
    return True


def _statuses(loaded: Loaded) -> tuple[CredentialStatus, ...]:
    return tuple(
        _status(one, next((files for source, files in loaded.sources if source is one), ()))
        for one in loaded.config.credentials
    )


def _status(credential: Credential, files: tuple[str, ...]) -> CredentialStatus:
    leaf = credential.leaf
    if not isinstance(leaf, X509Certificate):
        return CredentialStatus(
            names=(), key_algorithm=leaf.key_algorithm, serial="", not_before=0.0, not_after=float("inf"), files=files
        )
    begins, ends = own_chain.lifetime(credential.chain)
    return CredentialStatus(
        names=credential.names,
        key_algorithm=leaf.key_algorithm,
        serial=f"{own_chain.serial_of(credential.chain):x}",
        not_before=begins,
        not_after=ends,
        files=files,
    )


def _told(error: Exception) -> str:
    return error.reason if isinstance(error, TLSError) else f"{type(error).__name__}: {error}"
