"""A server's configuration made of files, and of functions: what `ReloadingConfig` reads again. No clock, no threads.

What cannot be read the second time leaves in its place what was read before: one certificate that cannot be renewed
holds up no other.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.crypto import own_chain
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.net.credential_files import (
    CredentialError,
    FilePath,
    Pair,
    Password,
    Paths,
    Stamp,
    expanded,
    exposed,
    load_pair,
    pairs_in,
    stamp_of,
)
from pellucid.net.load import load_trust, read_pem
from pellucid.sessions.tickets import TicketKeys
from pellucid.verify.trust import TrustStore

__all__ = ["FilesMaker", "FunctionMaker", "Loaded", "Maker", "files_maker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was made. sources: which files a credential came from; stamps: what everything was when it was read.

    problems: what could not be read; what was there before is in its place.   warnings: what is strange.
    """

    config: ServerConfig
    stamps: Mapping[str, Stamp]
    sources: tuple[tuple[Credential, tuple[str, ...]], ...] = ()
    problems: tuple[Exception, ...] = ()
    warnings: tuple[str, ...] = ()


class Maker(Protocol):
    """Makes a configuration, again and again. The first time any problem is raised."""

    def load(self, *, everything: bool, forget_sessions: bool) -> Loaded:
        """Return the same configuration where nothing is new.

        everything: also what its stamp says is unchanged.   forget_sessions: no ticket is taken any more.
        """
        ...

    def stamps(self) -> Mapping[str, Stamp]:
        """Return what everything is now."""
        ...


class FunctionMaker:
    """Of a function. files: what it reads, if that is to be watched; directories with what is in them."""

    def __init__(self, make: Callable[[], ServerConfig], files: Iterable[FilePath]) -> None:
        self._make = make
        self._files = tuple(files)

    def load(self, *, everything: bool, forget_sessions: bool) -> Loaded:
        stamps = self.stamps()
        config = self._make()
        if not isinstance(config, ServerConfig):
            raise UsageError(f"a ServerConfig was to be made, not a {type(config).__name__}")
        warnings = []
        for credential in config.credentials:
            if isinstance(credential.leaf, X509Certificate):
                finding = own_chain.examine(credential.chain, config.provider.now())
                if finding is not None:
                    whose = ", ".join(credential.names) or "a credential"
                    raise CredentialError(f"{whose}: {finding.why}", fault=finding.fault.value)
                warnings.append(own_chain.unfit(credential.chain))
        return Loaded(config=config, stamps=stamps, warnings=tuple(filter(None, warnings)))

    def stamps(self) -> Mapping[str, Stamp]:
        return {path: stamp_of(path) for path in expanded(self._files)}


@dataclass(slots=True)
class _Known:
    """A pair of files as it was read last."""

    credential: Credential
    stamps: dict[str, Stamp]
    warnings: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class FilesMaker:
    """Of files. fields: ServerConfig's others."""

    cert: tuple[str, ...]
    key: tuple[str, ...]
    ocsp: tuple[str, ...]
    client_ca: tuple[str, ...]
    ticket_keys: str | None
    password: Password | None = field(repr=False)
    fields: dict[str, Any]  # Any: each field has its own type
    _known: dict[Pair, _Known] = field(default_factory=dict, init=False, repr=False)
    _trust: tuple[TrustStore, dict[str, Stamp]] | None = field(default=None, init=False, repr=False)
    _ring: tuple[TicketKeys, Stamp] | None = field(default=None, init=False, repr=False)
    _problems: list[Exception] = field(default_factory=list, init=False, repr=False)
    _made: tuple[tuple[object, ...], ServerConfig] | None = field(default=None, init=False, repr=False)
    """what the last configuration was made of, and itself: it stays the same where nothing is new"""
    _begun: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        directories = [path for path in self.cert if os.path.isdir(path)]
        if not self.cert:
            raise UsageError("ReloadingConfig.from_files needs a cert")
        if directories and (self.key or self.ocsp):
            raise UsageError(f"{directories[0]} is a directory: keys and OCSP responses are found in it by their names")
        for name, given in (("key", self.key), ("ocsp", self.ocsp)):
            if given and len(given) != len(self.cert):
                raise UsageError(
                    f"{len(given)} of {name} for {len(self.cert)} of cert: one for each, in the same order"
                )
        if taken := {"credentials", "client_trust", "sessions"} & set(self.fields):
            raise UsageError(f"{', '.join(sorted(taken))}: these come from the files; give a function for another way")
        if self.client_ca:
            self.fields.setdefault("client_authentication", ClientAuthentication.REQUIRED)

    def load(self, *, everything: bool, forget_sessions: bool) -> Loaded:
        self._problems = []
        stamps: dict[str, Stamp] = {}
        known: dict[Pair, _Known] = {}
        for pair in self._pairs(stamps):
            found = self._pair(pair, everything=everything)
            if found is not None:
                known[pair] = found
                stamps |= found.stamps
            else:
                stamps |= {path: stamp_of(path) for path in pair.files}
        fields = self._sessions(stamps, forget=forget_sessions) | self._client_trust(stamps, everything=everything)
        parts = (*(one.credential for one in known.values()), *fields.values())
        if self._made is None or len(parts) != len(self._made[0]) or any(map(operator.is_not, parts, self._made[0])):
            credentials = tuple(one.credential for one in known.values())
            self._made = parts, ServerConfig(credentials=credentials, **(self.fields | fields))
        config = self._made[1]
        self._known, self._begun = known, True
        tickets = () if self.ticket_keys is None else (self.ticket_keys,)
        return Loaded(
            config=config,
            stamps=stamps,
            sources=tuple((one.credential, pair.files) for pair, one in known.items()),
            problems=tuple(self._problems),
            warnings=(
                *(text for one in known.values() for text in one.warnings),
                *exposed(secret=tickets, other=(*self.client_ca, *tickets)),
            ),
        )

    def stamps(self) -> Mapping[str, Stamp]:
        found: dict[str, Stamp] = {}
        try:
            pairs = self._listed(found)
        except CredentialError:
            pairs = tuple(self._known)
        paths = [path for pair in pairs for path in pair.files] + expanded(self.client_ca)
        if self.ticket_keys is not None:
            paths.append(self.ticket_keys)
        return found | {path: stamp_of(path) for path in paths}

    # ---- one after another -------------------------------------------------------------------------------------------

    @property
    def _provider(self) -> CryptoProvider:
        provider = self.fields.get("provider", PYCA)
        if not isinstance(provider, CryptoProvider):
            raise UsageError(f"provider is a CryptoProvider, not a {type(provider).__name__}")
        return provider

    def _failed(self, error: Exception) -> None:
        """Note that something could not be read; the first time that is the end."""
        if not self._begun:
            raise error
        self._problems.append(error)

    def _listed(self, stamps: dict[str, Stamp]) -> tuple[Pair, ...]:
        pairs: list[Pair] = []
        for position, cert in enumerate(self.cert):
            if not os.path.isdir(cert):
                key = self.key[position] if self.key else None
                pairs.append(Pair(cert=cert, key=key, ocsp=self.ocsp[position] if self.ocsp else None))
                continue
            stamps |= {path: stamp_of(path) for path in expanded((cert,)) if os.path.isdir(path)}
            pairs += pairs_in(cert)
        return tuple(pairs)

    def _pairs(self, stamps: dict[str, Stamp]) -> tuple[Pair, ...]:
        try:
            return self._listed(stamps)
        except CredentialError as error:
            self._failed(error)
            return tuple(self._known)

    def _pair(self, pair: Pair, *, everything: bool) -> _Known | None:
        before = self._known.get(pair)
        unchanged = before is not None and all(stamp_of(path) == stamp for path, stamp in before.stamps.items())
        if unchanged and not everything:
            return before
        try:
            credential, reading = load_pair(pair, self.password, self._provider.now)
        except UsageError as error:
            self._failed(error)
            return before
        return _Known(credential, reading.stamps, reading.warnings)

    def _client_trust(self, stamps: dict[str, Stamp], *, everything: bool) -> dict[str, Any]:
        if not self.client_ca:
            return {}
        now = {path: stamp_of(path) for path in expanded(self.client_ca)}
        stamps |= now
        before = self._trust
        if before is None or everything or before[1] != now:
            try:
                trust = load_trust(self.client_ca[0])
                for path in self.client_ca[1:]:
                    trust |= load_trust(path)
                self._trust = before = trust, now
            except UsageError as error:
                self._failed(CredentialError(error.reason, files=self.client_ca, fault="unreadable"))
        return {} if before is None else {"client_trust": before[0]}

    def _sessions(self, stamps: dict[str, Stamp], *, forget: bool) -> dict[str, Any]:
        path, before = self.ticket_keys, self._ring
        if path is None:
            return {}
        now = stamps[path] = stamp_of(path)
        if before is None or forget or before[1] != now:
            try:
                data = read_pem(path)
                if before is None or forget:
                    before = TicketKeys.from_keys(data, self._provider), now
                else:
                    before[0].import_keys(data)
                    before = before[0], now
                self._ring = before
            except UsageError as error:
                reason = error.reason if path in error.reason else f"{path}: {error.reason}"
                self._failed(CredentialError(reason, files=(path,)))
        return {} if before is None else {"sessions": before[0]}


def files_maker(
    cert: Paths,
    key: Paths | None,
    ocsp: Paths | None,
    client_ca: Paths | None,
    ticket_keys: FilePath | None,
    password: Password | None,
    fields: dict[str, Any],
) -> FilesMaker:
    """Return the maker of a server's files; a path or several of each."""
    return FilesMaker(
        cert=_paths(cert),
        key=_paths(key),
        ocsp=_paths(ocsp),
        client_ca=_paths(client_ca),
        ticket_keys=None if ticket_keys is None else os.fspath(ticket_keys),
        password=password,
        fields=fields,
    )


def _paths(paths: Paths | None) -> tuple[str, ...]:
    if paths is None:
        return ()
    return (os.fspath(paths),) if isinstance(paths, str | os.PathLike) else tuple([os.fspath(path) for path in paths])
