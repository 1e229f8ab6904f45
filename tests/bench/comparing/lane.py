"""What a lane is: one kind of work, put on every proxy in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from comparing.cores import Cores
from comparing.figures import Figure, Round
from comparing.loads import Generator
from comparing.proxies import Proxy
from comparing.starting import Started, Target, Upstream


class Extent(msgspec.Struct, frozen=True):
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each load."""
    settle_s: float
    """After each, for what happens behind the answers."""
    wait_s: float
    """After clients that stalled."""


FULL: Final = Extent(rounds=5, seconds=1.5, settle_s=0.3, wait_s=60.0)
QUICK: Final = Extent(rounds=2, seconds=0.5, settle_s=0.1, wait_s=15.0)


class Bench(msgspec.Struct, frozen=True):
    """What measuring a lane needs."""

    generator: Generator
    cores: Cores
    extent: Extent
    upstreams: tuple[int, int]
    proxies: Sequence[Proxy]
    targets: Sequence[Started]
    """The same, running: those of them that a lane has for itself are started by it."""


Rounds = Mapping[str, Round]
"""By the name of the proxy."""


class Lane(msgspec.Struct, frozen=True):
    """One kind of work."""

    name: str
    text: str
    """What it is, as the page says it."""
    measure: Callable[[Bench, int], Rounds]
    """Measures all proxies in one round, whose number is given."""
    figures: tuple[Figure, ...]
    is_once: bool = False
    """Whether the first round is the only one."""
    is_of_nexus: bool = False
    """Whether no neighbour takes part."""
    is_quick: bool = False
    """Whether a quick run has it."""


def each_target(measure: Callable[[Bench, Target], Round], *, with_upstream: bool) -> Callable[[Bench, int], Rounds]:
    def measure_all(bench: Bench, number: int) -> Rounds:
        targets: list[Target] = [*bench.targets]
        if with_upstream:
            targets.append(Upstream(bench.upstreams[0]))
        return {target.name: measure(bench, target) for target in rotated(targets, number)}

    return measure_all


def rotated(targets: Sequence[Target], by: int) -> list[Target]:
    # None is always the first, or always after the same one.
    start = by % len(targets)
    return [*targets[start:], *targets[:start]]
