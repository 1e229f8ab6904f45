"""Shares: how much of the work each of several backends gets that could all do it."""

from collections.abc import Sequence
from math import log

from nexus.domain.backend import Backend

Offer = tuple[Backend, str]
"""A candidate, and the name under which it would be asked."""


def differ(offers: Sequence[Offer]) -> bool:
    """Whether the candidates have different shares."""
    first = offers[0][0].share if offers else 1.0
    for backend, _ in offers:  # noqa: SIM110 - a generator would cost more than the comparisons
        if backend.share != first:
            return True
    return False


def counted_in_flight(offers: Sequence[Offer]) -> list[float]:
    """Return how many requests in flight each candidate counts as having, where shares differ.

    Candidates of one priority are compared. One that has no more than its share of all that these have, and of the
    new one, counts as having the mean: of the shares 3 and 1, the first is as idle with two requests as the other with
    none, so that turns divide single requests as well. Of any other, the requests are divided by its share.
    """
    groups: dict[int, _Group] = {}
    for backend, _ in offers:
        groups.setdefault(backend.priority, _Group()).add(backend)
    return [groups[backend.priority].counted(backend) for backend, _ in offers]


class _Group:
    """Candidates of one priority."""

    __slots__ = ("_in_flight", "_members", "_share")

    def __init__(self) -> None:
        self._members = 0
        self._in_flight = 0
        self._share = 0.0

    def add(self, backend: Backend) -> None:
        self._members += 1
        self._in_flight += backend.load.in_flight
        self._share += backend.share

    def counted(self, backend: Backend) -> float:
        in_flight, part = backend.load.in_flight, backend.share / self._share
        if in_flight <= (self._in_flight + 1) * part:
            return self._in_flight / self._members
        return in_flight / (part * self._members)


def drawn_tie(share: float, drawn: float) -> float:
    """Return what tells equals apart by chance, the lowest first: each is the first as often as its share says.

    The times at which independent events of these rates happen first have this property.

    :param drawn: at random, from 0 to below 1.
    """
    return -log(1.0 - drawn) / share
