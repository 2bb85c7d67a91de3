"""From the shared secret to traffic secrets, telling the observer each step (RFC 9846 §7.1). Both sides alike."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from pellucid.handshake.core import Context
from pellucid.schedule import EarlySecret, HandshakeSecret, MainSecret, TrafficSecret, empty_hash
from pellucid.trace import Secret, SharedSecretComputed
from pellucid.value import positional_value


@positional_value
class HandshakeSecrets:
    """What hangs on the handshake secret, and the stage itself."""

    stage: HandshakeSecret
    client: TrafficSecret
    server: TrafficSecret


@positional_value
class ApplicationSecrets:
    """What hangs on the main secret once the server's Finished is in the transcript."""

    stage: MainSecret
    client: TrafficSecret
    server: TrafficSecret
    exporter: bytes = field(repr=False)


@positional_value
class EarlySecrets:
    """What hangs on the early secret once the ClientHello is known."""

    client: TrafficSecret
    exporter: bytes = field(repr=False)


def tell_binder_key(context: Context[Any], early: EarlySecret, label: bytes) -> None:
    """Tell the observer of the key that the PSK in use was proved with (§7.1). Call only under a trace."""
    context.derived(
        "binder_key",
        early.binder_key(label),
        parent="early_secret",
        label=label.decode("ascii"),
        context=empty_hash(early.suite),
    )


def tell_early_secret(context: Context[Any], early: EarlySecret) -> None:
    """Tell the observer of the first stage. Call only under a trace."""
    context.derived("early_secret", early.value, parent=None, method="HKDF-Extract")


def early_secrets(context: Context[Any], early: EarlySecret, client_hello: bytes) -> EarlySecrets:
    """Derive what early data is protected with (§7.1). client_hello: the whole message, header included."""
    transcript_hash = early.suite.new_hash(client_hello).digest()
    client = early.client_early_traffic_secret(transcript_hash)
    exporter = early.early_exporter_secret(transcript_hash)
    if context.trace is not None:
        for name, value, label, keylog in (
            ("client_early_traffic_secret", client.value, "c e traffic", "CLIENT_EARLY_TRAFFIC_SECRET"),
            ("early_exporter_secret", exporter, "e exp master", "EARLY_EXPORTER_SECRET"),
        ):
            context.derived(
                name,
                value,
                parent="early_secret",
                label=label,
                context=transcript_hash,
                messages="ClientHello",
                keylog=keylog,
            )
    return EarlySecrets(client, exporter)


def resumption_secret(context: Context[Any], secrets: ApplicationSecrets) -> bytes:
    """Derive what tickets' PSKs come from (§4.7.1). The transcript must end with the client's Finished."""
    transcript_hash = context.transcript.digest()
    secret = secrets.stage.resumption_secret(transcript_hash)
    if context.trace is not None:
        context.derived(
            "resumption_secret",
            secret,
            parent="main_secret",
            label="res master",
            context=transcript_hash,
            messages="ClientHello…client Finished",
        )
    return secret


def handshake_secrets(context: Context[Any], early: EarlySecret, shared_secret: bytes) -> HandshakeSecrets:
    """Derive the handshake traffic secrets. The transcript must end with ServerHello.

    early: of the PSK in use, or of none.   shared_secret: Hash.length zeros where no keys are exchanged (psk_ke).
    """
    transcript_hash = context.transcript.digest()
    suite = early.suite
    stage = early.handshake(shared_secret)
    client, server = stage.traffic_secrets(transcript_hash)
    if context.trace is not None:
        nothing = empty_hash(suite)
        hellos = "ClientHello…ServerHello"
        tell_early_secret(context, early)
        context.derived("derived (early)", early.derived(), parent="early_secret", label="derived", context=nothing)
        context.derived("handshake_secret", stage.value, parent="derived (early)", method="HKDF-Extract")
        context.derived(
            "client_handshake_traffic_secret",
            client.value,
            parent="handshake_secret",
            label="c hs traffic",
            context=transcript_hash,
            messages=hellos,
            keylog="CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        )
        context.derived(
            "server_handshake_traffic_secret",
            server.value,
            parent="handshake_secret",
            label="s hs traffic",
            context=transcript_hash,
            messages=hellos,
            keylog="SERVER_HANDSHAKE_TRAFFIC_SECRET",
        )
    return HandshakeSecrets(stage, client, server)


def application_secrets(context: Context[Any], secrets: HandshakeSecrets) -> ApplicationSecrets:
    """Derive the application traffic secrets. The transcript must end with the server's Finished."""
    transcript_hash = context.transcript.digest()
    main = secrets.stage.main()
    client, server, exporter = main.secrets(transcript_hash)
    if context.trace is not None:
        context.derived(
            "derived (handshake)",
            secrets.stage.derived(),
            parent="handshake_secret",
            label="derived",
            context=empty_hash(main.suite),
        )
        context.derived("main_secret", main.value, parent="derived (handshake)", method="HKDF-Extract")
        for name, value, label, keylog in (
            ("client_application_traffic_secret_0", client.value, "c ap traffic", "CLIENT_TRAFFIC_SECRET_0"),
            ("server_application_traffic_secret_0", server.value, "s ap traffic", "SERVER_TRAFFIC_SECRET_0"),
            ("exporter_secret", exporter, "exp master", "EXPORTER_SECRET"),
        ):
            context.derived(
                name,
                value,
                parent="main_secret",
                label=label,
                context=transcript_hash,
                messages="ClientHello…server Finished",
                keylog=keylog,
            )
    return ApplicationSecrets(main, client, server, exporter)


def tell_shared_secret(
    context: Context[Any], group: int, local_public: bytes, peer_public: bytes, secret: bytes
) -> None:
    """Tell the observer of the key exchange's result."""
    if context.trace is not None:
        context.trace(
            SharedSecretComputed(group=group, local_public=local_public, peer_public=peer_public, secret=Secret(secret))
        )
