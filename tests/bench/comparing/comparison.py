"""Measures proxies in rounds, each in turn in each round, so that a busy machine is busy for all of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from comparing.access_lines import measure_access_lines
from comparing.building import Programs
from comparing.cores import Cores
from comparing.figures import Measured, Round
from comparing.loads import Generator
from comparing.measuring import measure_direct, measure_idle, measure_loads
from comparing.proxies import NEXUS, Proxy, nexus_without_access_lines
from comparing.starting import Started, started, started_upstream

DIRECT: Final = "no proxy"


class Extent(msgspec.Struct, frozen=True):
    """How much is measured."""

    rounds: int
    seconds: float


FULL: Final = Extent(rounds=5, seconds=2.0)
QUICK: Final = Extent(rounds=2, seconds=0.7)


def compare(
    proxies: Sequence[Proxy], programs: Programs, cores: Cores, extent: Extent, folder: Path, say: Callable[[str], None]
) -> dict[str, Measured]:
    """Measure *proxies* in rounds, Nexus first among them, and the upstream itself; tell *say* how far it is."""
    generator = Generator(programs.load, cores)
    rounds: dict[str, list[Round]] = {name: [] for name in (*(proxy.name for proxy in proxies), DIRECT)}
    with ExitStack() as running:
        ports = [
            running.enter_context(started_upstream(programs.upstream, cores, folder / f"upstream-{number}.log"))
            for number in (1, 2)
        ]
        targets = [running.enter_context(started(proxy, tuple(ports[:1]), cores)) for proxy in proxies]
        # Both as fresh as each other: the one that all loads are put on is not.
        logged, unlogged = (
            running.enter_context(started(proxy, tuple(ports[:1]), cores))
            for proxy in (proxies[0], nexus_without_access_lines())
        )
        for number in range(extent.rounds):
            say(f"round {number + 1} of {extent.rounds} ...")
            # Nobody is always the first, or always after the same one.
            for target in _rotated(targets, number):
                with started(target.proxy, tuple(ports), cores) as fresh:
                    idle = measure_idle(fresh)
                found = {**idle, **measure_loads(target, generator, extent.seconds)}
                if target.proxy.name == NEXUS:
                    found |= measure_access_lines(logged, unlogged, generator, extent.seconds)
                rounds[target.proxy.name].append(found)
            rounds[DIRECT].append(measure_direct(ports[0], generator, extent.seconds))
    versions = {proxy.name: proxy.version for proxy in proxies}
    return {name: Measured(name, versions.get(name, ""), of_all) for name, of_all in rounds.items()}


def _rotated(items: Sequence[Started], by: int) -> list[Started]:
    start = by % len(items)
    return [*items[start:], *items[:start]]
