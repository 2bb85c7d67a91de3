"""record_size_limit (RFC 8449): how large the protected records of this handshake's keys may be, in each direction.

It is negotiated anew by every handshake, and says nothing of early data, which is sent before it is.
"""

from __future__ import annotations

from pellucid.config import ClientConfig, ServerConfig
from pellucid.errors import IllegalParameter
from pellucid.handshake.actions import LimitRecords
from pellucid.handshake.core import Context
from pellucid.limits import MAX_INNER_PLAINTEXT
from pellucid.messages import extensions as x
from pellucid.messages.extensions import Extensions


def server_limits(context: Context[ServerConfig], hello: Extensions) -> LimitRecords | None:
    """Return the limits that EncryptedExtensions agrees to, from itself on; None if the client named none.

    A value above 2^14+1 may be meant for a version or extension not known here, and is as good as none (RFC 8449 §4).
    """
    peer = hello.get(x.RECORD_SIZE_LIMIT)
    if peer is None:
        return None
    ours = context.config.record_size_limit
    limits = LimitRecords(min(peer, MAX_INNER_PLAINTEXT), MAX_INNER_PLAINTEXT if ours is None else ours)
    if context.trace is not None:
        _tell(context, limits, "the client named its own")
    return limits


def client_limits(context: Context[ClientConfig], answer: Extensions) -> LimitRecords | None:
    """Return the limits that the server agreed to in EncryptedExtensions; None if it did not, or was not asked.

    Raises IllegalParameter for a limit above 2^14+1, which nobody asked for (RFC 8449 §4).
    """
    ours, peer = context.config.record_size_limit, answer.get(x.RECORD_SIZE_LIMIT)
    if ours is None:
        return None
    if peer is None:
        if context.trace is not None:
            context.chose("record_size_limit", "none", "the server does not answer it", (str(ours),))
        return None
    if peer > MAX_INNER_PLAINTEXT:
        raise IllegalParameter(f"record_size_limit is {peer}, at most {MAX_INNER_PLAINTEXT}", rfc="8449 §4")
    limits = LimitRecords(peer, ours)
    if context.trace is not None:
        _tell(context, limits, "the server answered with its own")
    return limits


def _tell(context: Context[ClientConfig] | Context[ServerConfig], limits: LimitRecords, reason: str) -> None:
    sent, received = limits
    context.chose(
        "record_size_limit", f"{sent} bytes sent, {received} received", reason, (str(received),), (str(sent),)
    )
