"""What a server accepts, and whose order counts: found by offering everything, then without what it picked, and so on.

Each round is one handshake, so that what is called accepted was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pellucid.config import DEFAULT_KEY_SHARES
from pellucid.crypto.groups import KEMS_ALONE
from pellucid.crypto.provider import Group
from pellucid.inspection.facts import AlpnFacts, Compressed, CompressionFacts, GroupFacts, Offered, RetryFacts
from pellucid.inspection.probing import Answer, Prober, refusal, with_groups
from pellucid.inspection.reading import cookie_size
from pellucid.integrations.certificate_compression import installed
from pellucid.registry import group_name, scheme_name, suite_name
from pellucid.trace import CertificateDecompressed

__all__ = ["GroupFindings", "alpn", "compression", "groups", "retries", "schemes", "suites"]

T = TypeVar("T")
Ask = Callable[[Sequence[T]], Answer]
Pick = Callable[[Answer], "T | None"]


@dataclass(slots=True)
class _Found(Generic[T]):
    accepted: list[T] = field(default_factory=list)
    refused: list[T] = field(default_factory=list)
    unknown: list[T] = field(default_factory=list)
    ending: str | None = None


def _eliminate(candidates: Sequence[T], ask: Ask[T], pick: Pick[T], first: Answer | None = None) -> _Found[T]:
    """Offer *candidates*, then what is left without what was picked, until the server takes nothing of it.

    first: the answer to the first of these offers, if it was made already.
    """
    found = _Found[T]()
    left = list(candidates)
    while left:
        answer = ask(tuple(left)) if first is None else first
        first = None
        if answer.negotiated is None:
            found.ending = refusal(answer.error)
            (found.unknown if found.ending is None else found.refused).extend(left)
            break
        chosen = pick(answer)
        if chosen is None or chosen not in left:
            found.ending = "ignored"
            found.refused.extend(left)
            break
        found.accepted.append(chosen)
        left.remove(chosen)
    return found


def _whose_order(candidates: Sequence[T], accepted: Sequence[T], ask: Ask[T], pick: Pick[T]) -> str | None:
    """Return whose preference counts, by offering what is accepted the other way round."""
    if len(accepted) < 2:
        return None
    ours = sorted(accepted, key=candidates.index)
    answer = ask(tuple(reversed(ours)))
    chosen = pick(answer)
    if chosen is None:
        return None
    if chosen == accepted[0]:
        return "server"
    return "client" if list(accepted) == ours and chosen == ours[-1] else "mixed"


def _offered(found: _Found[int], name: Callable[[int], str], preference: str | None) -> Offered:
    return Offered(
        accepted=tuple(map(name, found.accepted)),
        refused=tuple(map(name, found.refused)),
        unknown=tuple(map(name, found.unknown)),
        preference=preference,
        ending=found.ending,
    )


# ---- suites and signature schemes ------------------------------------------------------------------------------------


def suites(prober: Prober) -> Offered:
    """Return the cipher suites the server accepts."""
    codes = tuple(suite.code for suite in prober.provider.suites)

    def ask(left: Sequence[int]) -> Answer:
        return prober.retried("which cipher suites?", suites=tuple(left))

    def pick(answer: Answer) -> int | None:
        return None if answer.negotiated is None else answer.negotiated.cipher_suite

    found = _eliminate(codes, ask, pick)
    return _offered(found, suite_name, _whose_order(codes, found.accepted, ask, pick))


def schemes(prober: Prober) -> Offered:
    """Return the signature schemes that the server signs with; its certificates may be signed with any."""
    codes = tuple(verifier.code for verifier in prober.provider.verifiers if verifier.handshake)
    any_scheme = tuple(verifier.code for verifier in prober.provider.verifiers)

    def ask(left: Sequence[int]) -> Answer:
        return prober.retried(
            "which signature schemes?", signature_schemes=tuple(left), signature_algorithms_cert=any_scheme
        )

    def pick(answer: Answer) -> int | None:
        return None if answer.negotiated is None else answer.negotiated.signature_scheme

    found = _eliminate(codes, ask, pick)
    return _offered(found, scheme_name, _whose_order(codes, found.accepted, ask, pick))


# ---- groups, HelloRetryRequest ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupFindings:
    """offered: as facts have it; details of those accepted; codes: the same, and of what is not accepted."""

    offered: Offered
    details: tuple[GroupFacts, ...]
    accepted: tuple[int, ...]
    refused: tuple[int, ...]


def groups(prober: Prober, executor: Executor) -> GroupFindings:
    """Return the groups the server accepts. All shares are sent, so that no choice costs a round trip."""
    usual = tuple(group.code for group in prober.provider.groups)
    alone = tuple(group.code for group in KEMS_ALONE if group.code not in usual)
    provider = with_groups(prober.provider, *(group for group in KEMS_ALONE if group.code in alone))

    def ask(left: Sequence[int]) -> Answer:
        codes = tuple(left)
        return prober.retried("which groups?", provider=provider, groups=codes, key_shares=codes)

    def pick(answer: Answer) -> int | None:
        return None if answer.negotiated is None else answer.negotiated.group

    apart = executor.submit(_eliminate, alone, ask, pick)  # from the others, for their shares are large
    found = _eliminate(usual, ask, pick)
    if not found.accepted:
        # A ClientHello of several packets is more than some middleboxes take: one group at a time.
        found = _one_by_one(usual, ask, pick)
    preference = _whose_order(usual, found.accepted, ask, pick)
    kems = apart.result()
    found.accepted += kems.accepted
    found.refused += kems.refused
    found.unknown += kems.unknown
    by_code = {group.code: group for group in provider.groups}
    return GroupFindings(
        offered=_offered(found, group_name, preference),
        details=tuple(_details(by_code[code]) for code in found.accepted),
        accepted=tuple(found.accepted),
        refused=tuple(code for code in found.refused if code in usual),
    )


def _one_by_one(candidates: Iterable[int], ask: Ask[int], pick: Pick[int]) -> _Found[int]:
    found = _Found[int]()
    for code in candidates:
        one = _eliminate((code,), ask, pick)
        found.accepted += one.accepted
        found.refused += one.refused
        found.unknown += one.unknown
        found.ending = one.ending or found.ending
    return found


def _details(group: Group) -> GroupFacts:
    return GroupFacts(name=group.name, bits=group.bits, post_quantum=group.post_quantum)


def retries(prober: Prober, first: Answer, known: GroupFindings, executor: Executor) -> RetryFacts:
    """Return how the server asks for a share that was not sent, for each group that it accepts."""
    provider = with_groups(prober.provider, *(group for group in KEMS_ALONE if group.code in known.accepted))
    decoy = known.refused[:1]  # a share that the server cannot use: what a client with other habits sends

    def ask(code: int) -> Answer:
        return prober.retried(
            f"a retry for {group_name(code)}?",
            watched=True,
            provider=provider,
            groups=(*decoy, code),
            key_shares=decoy,
        )

    asks_for, fails_for, unknown, cookies = [], [], [], []
    for code, answer in zip(known.accepted, executor.map(ask, known.accepted), strict=True):
        name = group_name(code)
        size = cookie_size(answer)
        if size:
            cookies.append(size)
        if answer.negotiated is not None and answer.negotiated.group == code:
            asks_for.append(name)
        elif answer.negotiated is None and refusal(answer.error) is None:
            unknown.append(name)
        else:
            fails_for.append(name)
    sent_one = bool(set(DEFAULT_KEY_SHARES) & set(known.accepted))
    first_cookie = cookie_size(first)
    if first_cookie:
        cookies.append(first_cookie)
    return RetryFacts(
        asks_for=tuple(asks_for),
        fails_for=tuple(fails_for),
        unknown=tuple(unknown),
        cookie=bool(cookies),
        cookie_size=max(cookies, default=0),
        always=first_cookie is not None and sent_one,
    )


# ---- application protocols, certificate compression ------------------------------------------------------------------


def alpn(prober: Prober, first: Answer) -> AlpnFacts:
    """Return the application protocols that the server takes. first: the answer to a client that offered all."""
    names = prober.target.alpn

    def ask(left: Sequence[str]) -> Answer:
        return prober.retried("which application protocols?", alpn=tuple(left))

    found = _eliminate(names, ask, _alpn_of, first)
    ending = found.ending
    if ending is None:  # all are taken, or none is to be tried
        ending = _eliminate((_UNKNOWN_PROTOCOL,), ask, _alpn_of).ending
    return AlpnFacts(offered=names, accepted=tuple(found.accepted), unknown=ending)


def _alpn_of(answer: Answer) -> str | None:
    return None if answer.negotiated is None else answer.negotiated.alpn


def compression(prober: Prober, first: Answer) -> CompressionFacts:
    """Return the algorithms that the server compresses certificates with. first: as for `alpn`."""
    algorithms = {algorithm.code: algorithm for algorithm in installed()}
    sizes: dict[int, tuple[int, int]] = {}

    def ask(left: Sequence[int]) -> Answer:
        return prober.retried(
            "certificate compression?",
            watched=True,
            certificate_compression=tuple(algorithms[code] for code in left),
        )

    def pick(answer: Answer) -> int | None:
        used = None if answer.recorder is None else answer.recorder.first(CertificateDecompressed)
        if used is None:
            return None
        sizes[used.algorithm] = (used.compressed_size, used.size)
        return used.algorithm

    found = _eliminate(tuple(algorithms), ask, pick, first)
    return CompressionFacts(
        tried=tuple(algorithm.name for algorithm in algorithms.values()),
        accepted=tuple(Compressed(algorithm=algorithms[code].name, size=sizes[code][0]) for code in found.accepted),
        size=max((size for _, size in sizes.values()), default=None),
    )


_UNKNOWN_PROTOCOL: Final = "pellucid-unknown"
