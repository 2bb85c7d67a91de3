"""Names that a root of ours is trusted for: constraints that we impose, beside those in certificates. Values alone."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from pellucid.errors import UsageError
from pellucid.verify.names import normalize_server_name, shown

__all__ = ["NameLimits", "name_limits"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NameLimits:
    """Sets of names; a certificate is within them if all its DNS names and addresses are in one set.

    alternatives: each is (domains in A-labels, networks). None: nothing is within them.
    """

    alternatives: tuple[tuple[tuple[str, ...], tuple[Network, ...]], ...] = ()

    def allow(self, names: tuple[x509.GeneralName, ...]) -> bool:
        """Return whether a certificate with *names* is within them, and has one. Other kinds of names do not count."""
        counted = [name for name in names if isinstance(name, (x509.DNSName, x509.IPAddress))]
        return bool(counted) and any(
            all(_within(name, domains, networks) for name in counted) for domains, networks in self.alternatives
        )

    def __or__(self, other: NameLimits) -> NameLimits:
        """Return those that have what either has."""
        return NameLimits(tuple(dict.fromkeys(self.alternatives + other.alternatives)))

    def __and__(self, other: NameLimits) -> NameLimits:
        """Return those that have what both have."""
        return NameLimits(
            tuple(
                (_narrower(ours, theirs), _shared(nets, others))
                for ours, nets in self.alternatives
                for theirs, others in other.alternatives
            )
        )

    def __str__(self) -> str:
        sets = [", ".join((*domains, *map(str, networks))) or "nobody" for domains, networks in self.alternatives]
        return "; or ".join(sets) or "nobody"

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for them."""
        return hashlib.sha256(repr(self).encode()).digest()


def name_limits(names: Iterable[str]) -> NameLimits:
    """Return the limits to *names*: domains with all below them, addresses, networks. Raises UsageError."""
    domains: set[str] = set()
    networks: set[Network] = set()
    for name in names:
        network = _network(name)
        if network is None:
            domains.add(_domain(name))
        else:
            networks.add(network)
    if not domains and not networks:
        raise UsageError("a root is limited to at least one domain, address or network")
    return NameLimits(((tuple(sorted(domains)), tuple(sorted(networks, key=_order))),))


def _network(name: str) -> Network | None:
    try:
        return ipaddress.ip_network(name)
    except ValueError as error:
        if "/" in name:
            raise UsageError(f"{shown(name)} is no network: {error}") from error
        return None


def _domain(name: str) -> str:
    if name.startswith(("*", ".")):
        raise UsageError(f"{shown(name)}: write the domain alone; all names below it are meant too")
    return normalize_server_name(name)


def _within(name: x509.DNSName | x509.IPAddress, domains: tuple[str, ...], networks: tuple[Network, ...]) -> bool:
    if isinstance(name, x509.DNSName):
        host = name.value.lower().removeprefix("*.")
        return any(host == domain or host.endswith(f".{domain}") for domain in domains)
    address = name.value
    if isinstance(address, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return False  # of name constraints, not of a name
    return any(address in network for network in networks if network.version == address.version)


def _narrower(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    both = {
        longer
        for one in ours
        for other in theirs
        for longer, shorter in (sorted((one, other), key=len, reverse=True),)
        if longer == shorter or longer.endswith(f".{shorter}")
    }
    return tuple(sorted(both))


def _shared(ours: tuple[Network, ...], theirs: tuple[Network, ...]) -> tuple[Network, ...]:
    both: set[Network] = set()
    for one in ours:
        for other in theirs:
            if one.version == other.version and one.overlaps(other):
                both.add(one if one.prefixlen >= other.prefixlen else other)
    return tuple(sorted(both, key=_order))


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
