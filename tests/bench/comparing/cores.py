"""Assigns the cores: the proxy has one for itself, the upstream and the load share another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec


class Cores(msgspec.Struct, frozen=True):
    """The cores of the measured proxy, and of all others."""

    proxy: frozenset[int]
    others: frozenset[int]

    @property
    def are_apart(self) -> bool:
        return self.proxy != self.others


def choose() -> Cores:
    """Give the proxy the first core that we may use and the others the second; with only one, nobody is pinned."""
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) == 1:
        return Cores(proxy=frozenset(ours), others=frozenset(ours))
    return Cores(proxy=frozenset(ours[:1]), others=frozenset(ours[1:2]))


@contextmanager
def starting_on(cores: frozenset[int]) -> Iterator[None]:
    """Let what is started meanwhile run on *cores*.

    A child has its parent's affinity from its first instruction on, and so have all threads that it starts.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
