"""What a cell is given: contexts of ours that are watched, servers to talk to, and ways to show that it is refused."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import pellucid
from pellucid.explain import CODES, Diagnosis, Recorder, diagnose
from pellucid.trace import HandshakeCompleted, Role
from tests.ecosystem.peers import AUTHORITY, CREDENTIAL, FILES, SHARED, STRANGER, stdlib_server_context

__all__ = ["Refusal", "Trial"]

T = TypeVar("T")


class Refusal:
    """What was raised in a `refuses` block, and what it is explained as."""

    error: BaseException
    diagnosis: Diagnosis


class Trial:
    """One run of one cell. What is entered with `enter` is left at its end, in reverse order.

    client(), server(): an `SSLContext` of ours of that side, watched. watch(): any other context of ours, also watched.
    ca_file, …: files. `peers` has the servers and proxies of others.
    """

    peers = SHARED
    authority = AUTHORITY

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._recorders: list[Recorder] = []
        self.refusals: list[Refusal] = []

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter *manager* until the end of the trial, and return what it gives."""
        return self._stack.enter_context(manager)

    def folder(self) -> Path:
        """Return a new folder, for the time of the trial."""
        return Path(self.enter(tempfile.TemporaryDirectory(prefix="pellucid-ecosystem-")))

    # ---- contexts --------------------------------------------------------------------------------------------------

    @property
    def ca_file(self) -> Path:
        """The root that issued the certificate of every server here, PEM."""
        return FILES.ca

    @property
    def certificate_file(self) -> Path:
        """The servers' chain, for localhost and nothing else: an address is a wrong name. PEM."""
        return FILES.chain

    @property
    def key_file(self) -> Path:
        return FILES.key

    @property
    def credential(self) -> pellucid.Credential:
        """Certificate and key of the servers here, for a ServerConfig of ours. Good for a client too."""
        return CREDENTIAL

    def client(self, **settings: object) -> pellucid.SSLContext:
        """Return a client's context that trusts the root of the servers here. settings: of ClientConfig."""
        settings.setdefault("trust", self.authority.trust)
        return self.watch(pellucid.SSLContext(pellucid.ClientConfig(**settings)))  # type: ignore[arg-type]

    def stranger(self, **settings: object) -> pellucid.SSLContext:
        """Return a client's context that trusts somebody else."""
        return self.client(trust=STRANGER.trust, **settings)

    def server(self, **settings: object) -> pellucid.SSLContext:
        """Return a server's context with the certificate for localhost. settings: of ServerConfig."""
        settings.setdefault("credentials", (self.credential,))
        return self.watch(pellucid.SSLContext(pellucid.ServerConfig(**settings)))  # type: ignore[arg-type]

    def asking_server(self, **settings: object) -> pellucid.SSLContext:
        """Return a server's context that refuses clients without a certificate of the root here."""
        return self.server(
            client_authentication=pellucid.ClientAuthentication.REQUIRED, client_trust=self.authority.trust, **settings
        )

    def watch(self, context: pellucid.SSLContext) -> pellucid.SSLContext:
        """Have the handshakes of *context* count as Pellucid's in this trial; return it."""
        context.on_handshake(self.seen)
        return context

    def seen(self, recorder: Recorder) -> None:
        """Take the record of a connection, for what is not made with a context."""
        self._recorders.append(recorder)

    # ---- what was seen ---------------------------------------------------------------------------------------------

    @property
    def handshakes(self) -> list[HandshakeCompleted]:
        """The handshakes that Pellucid completed in this trial, in the order of being told of."""
        return [event for recorder in list(self._recorders) for event in recorder.of(HandshakeCompleted)]

    @contextlib.contextmanager
    def refuses(
        self, *kinds: type[BaseException], code: str = "X509-WRONG-NAME", notes: bool = True, text: bool = True
    ) -> Iterator[Refusal]:
        """Expect one of *kinds*, the library's own error, that comes down to *code* and tells so.

        notes: whether the traceback that the user sees has the whole report. False where the library drops it: then
               that traceback must have the sentence that the record of the handshake gives as the reason.
        text:  False where it drops that too, and nothing but the record of the handshake tells.
        """
        assert code in CODES, code
        refusal = Refusal()
        before = len(self._recorders)
        try:
            yield refusal
        except kinds as error:
            refusal.error = error
        else:
            raise AssertionError(f"nothing was raised, not {' or '.join(kind.__name__ for kind in kinds)}")
        shown = "".join(traceback.format_exception(refusal.error))
        if notes and text:
            refusal.diagnosis = diagnose(refusal.error)
            assert f"error[{code}]" in shown, f"the traceback does not tell of {code}:\n{shown}"
        else:
            refused = [one for one in self._recorders[before:] if diagnose(one).code == code]
            assert refused, f"no handshake was refused for {code}"
            refusal.diagnosis = diagnose(refused[0])
            # What is looked for is what falls short: once a library keeps more, the cell says so.
            assert f"error[{code}]" not in shown, "the report does reach the user: leave notes=False out"
            if text:
                sentence = refusal.diagnosis.message.partition(": ")[2]  # without the alert's name
                assert sentence and sentence in shown, f"{sentence!r} is not in:\n{shown}"
        assert refusal.diagnosis.code == code, refusal.diagnosis
        self.refusals.append(refusal)

    def check(self, *, side: str, verifies: bool) -> None:
        """Raise AssertionError unless Pellucid completed a handshake on that side, and if it must, refused one."""
        role = Role.SERVER if side == "server" else Role.CLIENT
        done = [event.role for event in self.handshakes]
        assert role in done, f"no handshake of Pellucid's as {role.value} was completed, only {done}"
        assert self.refusals or not verifies, "verification was not shown to be alive: nothing was refused"

    # ---- the other side, by the standard library -------------------------------------------------------------------

    def stdlib_client(self, *alpn: str, certificate: bool = False) -> ssl.SSLContext:
        """Return OpenSSL's context for a client of the servers here. certificate: whether it has one to show."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if alpn:
            context.set_alpn_protocols(alpn)
        if certificate:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def stdlib_server(self, *alpn: str) -> ssl.SSLContext:
        """Return OpenSSL's context for a server with the certificate for localhost."""
        return stdlib_server_context(*alpn)
