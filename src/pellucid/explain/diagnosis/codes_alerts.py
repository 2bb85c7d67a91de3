"""The codes of alerts that the peer sent, where nothing better is known than what the alert says."""

from __future__ import annotations

from typing import Final

from pellucid.explain.diagnosis.code import Code, code
from pellucid.registry import AlertDescription as A
from pellucid.registry import alert_name

__all__ = ["ALERTS", "alert_code"]

_LOG: Final = "look at the peer's log: it gave up, and knows why"
_TRUST: Final = "have the client trust our CA: install its root certificate there, or use a CA that it has already"
_CHAIN: Final = "send the whole chain: the leaf first, then the intermediates above it"
_OURS: Final = "our end may be the one that is wrong: attach a record (--pcapng FILE, or -vv) and tell us"

_MEANINGS: Final[tuple[tuple[int, str, str, tuple[str, ...]], ...]] = (
    (
        A.UNEXPECTED_MESSAGE,
        "the peer got a message that it did not expect",
        "It says that what we sent came at the wrong moment, or is nothing that it knows.",
        (_LOG, _OURS),
    ),
    (
        A.BAD_RECORD_MAC,
        "the peer could not open a record of ours",
        """A record of ours was changed on the way, or the two ends do not have the same keys. If it happens in one
        network only, something there changes data.""",
        ("try from another network", _LOG, _OURS),
    ),
    (A.RECORD_OVERFLOW, "a record of ours was too long for the peer", "It allows less than we sent.", (_LOG, _OURS)),
    (
        A.HANDSHAKE_FAILURE,
        "the peer finds no common ground, and does not say where",
        """handshake_failure is all that a server says when no cipher suite, no group or no signature scheme fits;
        when it has no certificate at all for the name; when it is too old for TLS 1.3 and does not say so; and,
        with some, when it wants a client certificate. What we offered was not narrowed by hand, so the reason is
        more likely at the server.""",
        (
            "look at the server's log: only it knows what did not fit",
            "check that the server has a certificate for this name",
            "find out what it accepts: pellucid inspect HOST, or openssl s_client -connect HOST:443",
        ),
    ),
    (
        A.BAD_CERTIFICATE,
        "the peer finds our certificate wrong",
        "A client that says so did not like the server's certificate: mostly its name, its form or its signature.",
        ("check that our certificate is for the name that the client asks for", _CHAIN, _LOG),
    ),
    (
        A.UNSUPPORTED_CERTIFICATE,
        "the peer cannot use our kind of certificate",
        "The key is of a kind, or the certificate for a purpose, that the peer does not take.",
        ("use a certificate with a P-256 or RSA key, for serverAuth", _LOG),
    ),
    (
        A.CERTIFICATE_REVOKED,
        "the peer says that our certificate was withdrawn",
        "It has an answer of our CA, in a list or by OCSP, that our certificate does not hold any more.",
        ("have a new certificate issued, for a new key", _LOG),
    ),
    (
        A.CERTIFICATE_EXPIRED,
        "our certificate is not valid at the peer's time",
        "It has expired, or is not valid yet; or the peer's clock is wrong.",
        ("renew our certificate, and load it", "check the peer's clock"),
    ),
    (
        A.CERTIFICATE_UNKNOWN,
        "the peer refuses our certificate, without a reason",
        """The alert for everything that has none of its own. Browsers send it after a user has seen the warning
        page, for an unknown CA too.""",
        (_TRUST, "check our certificate's name and dates", _LOG),
    ),
    (
        A.ILLEGAL_PARAMETER,
        "the peer says that a value of ours may not stand there",
        "It says that a message of ours holds a value that contradicts another, or none that is allowed.",
        (_LOG, _OURS),
    ),
    (
        A.UNKNOWN_CA,
        "the client does not trust our CA",
        """The client followed our certificate upwards and came to no root that it trusts: our CA is a private one
        that was not installed there, or we do not send an intermediate.""",
        (_TRUST, _CHAIN),
    ),
    (
        A.ACCESS_DENIED,
        "the peer does not let us in",
        "Who we are is not in doubt; we may not come in.",
        ("have our name added to those that the peer lets in", _LOG),
    ),
    (A.DECODE_ERROR, "the peer could not read a message of ours", "It says that it is not well-formed.", (_LOG, _OURS)),
    (
        A.DECRYPT_ERROR,
        "the peer finds a signature, Finished or binder of ours wrong",
        """The two ends did not see the same handshake, a pre-shared key is not the same at both, or our private key
        does not belong to our certificate.""",
        ("check that keys, pre-shared keys and certificates belong together at both ends", _LOG, _OURS),
    ),
    (
        A.INSUFFICIENT_SECURITY,
        "the peer demands something stronger than was offered",
        "What is common to both is too weak for the peer's policy.",
        ("offer more: take back what narrows --suites, --groups, --sigalgs", _LOG),
    ),
    (
        A.INTERNAL_ERROR,
        "something failed at the peer, not in the connection",
        (
            "The peer has a problem of its own: no memory, a key that it cannot read, a service that it cannot "
            "reach, a bug."
        ),
        (_LOG, "try again later"),
    ),
    (
        A.INAPPROPRIATE_FALLBACK,
        "the peer says that we fell back to an older version",
        "TLS 1.3 has no such fallback: a box on the way rewrites the ClientHello, or the peer is confused.",
        ("try from another network", _LOG),
    ),
    (
        A.USER_CANCELED,
        "somebody at the peer's end stopped it",
        "The handshake was stopped there, by a person or a limit.",
        ("try again", _LOG),
    ),
    (
        A.MISSING_EXTENSION,
        "the peer misses an extension in what we sent",
        (
            "It cannot go on without one: often because what is offered was narrowed too far, or a PSK alone was "
            "offered."
        ),
        ("take back what narrows the offer", _LOG, _OURS),
    ),
    (
        A.UNSUPPORTED_EXTENSION,
        "the peer got an answer from us to a question that it did not ask",
        "It says that a message of ours has an extension that it did not offer.",
        (_LOG, _OURS),
    ),
    (
        A.BAD_CERTIFICATE_STATUS_RESPONSE,
        "the peer does not take our OCSP response",
        "What we staple to our certificate is out of date, of another certificate, or missing where it is demanded.",
        ("fetch the OCSP response again, and load it", _LOG),
    ),
    (
        A.UNKNOWN_PSK_IDENTITY,
        "the peer does not know our pre-shared key's name",
        "No key at the peer has the identity that we sent.",
        ("check the identity at both ends: --psk-identity", _LOG),
    ),
    (A.GENERAL_ERROR, "the peer gave up, and does not say why", "It is the alert for everything else.", (_LOG,)),
    (
        A.ECH_REQUIRED,
        "the peer demands encrypted ClientHello",
        "It could not decrypt the ClientHello that was encrypted for it, and does not go on without.",
        ("fetch the server's ECH configuration anew (DNS HTTPS record)", _LOG),
    ),
)  # fmt: skip


def alert_code(description: int) -> str:
    """Return the code of an alert that was received and tells no more than its name."""
    name = "TLS-ALERT-" + alert_name(description).upper().replace("_", "-")
    return name if name in _NAMES else "TLS-ALERT-OTHER"


def _alert(description: int, title: str, meaning: str, remedy: tuple[str, ...]) -> Code:
    name = alert_name(description)
    return code(
        "TLS-ALERT-" + name.upper().replace("_", "-"),
        title,
        f"The peer ended the connection with the alert {name} (RFC 9846 §6.2).\n\n{meaning}",
        example=f"the peer sent the alert {name}",
        remedy=remedy,
    )


ALERTS: Final[tuple[Code, ...]] = (
    *(_alert(*one) for one in _MEANINGS),
    code(
        "TLS-ALERT-OTHER",
        "the peer gave up with an alert that has no name here",
        """The peer ended the connection with an alert whose number is in no table here: of an extension that is not
        known, or made up.""",
        example="the peer sent the alert 0xfe",
        remedy=(_LOG,),
    ),
)
_NAMES: Final = frozenset(one.code for one in ALERTS)
