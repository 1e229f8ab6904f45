"""Measures proxies in rounds, lane by lane, each in turn, so that a busy machine is busy for all of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from comparing.building import Programs
from comparing.cores import Cores
from comparing.figures import ADDED_UP, Figure, Measured, Round
from comparing.lane import Bench, Extent, Lane
from comparing.loads import Generator
from comparing.proxies import NEXUS, Proxy
from comparing.starting import NotStartedError, Started, started, started_upstream

DIRECT: Final = "no proxy"
ADDED: Final = {Figure.ADDED_P50: Figure.P50, Figure.ADDED_P99: Figure.P99}


def compare(
    lanes: Sequence[Lane],
    proxies: Sequence[Proxy],
    programs: Programs,
    cores: Cores,
    extent: Extent,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Measured]:
    """Measure *proxies* in *lanes*, Nexus first among them, and the upstream itself; tell *say* how far it is."""
    with ExitStack() as running:
        first, second = (
            running.enter_context(started_upstream(programs.upstream, cores, folder / f"upstream-{number}.log"))
            for number in (1, 2)
        )
        is_nexus_alone = all(lane.is_of_nexus for lane in lanes)
        targets = {} if is_nexus_alone else _started(proxies, first, cores, running, say)
        bench = Bench(
            generator=Generator(programs.load, cores),
            cores=cores,
            extent=extent,
            upstreams=(first, second),
            proxies=[proxy for proxy in proxies if proxy.name in targets or (is_nexus_alone and proxy.name == NEXUS)],
            targets=list(targets.values()),
        )
        rounds = _measure(lanes, bench, say)
    versions = {proxy.name: proxy.version for proxy in proxies}
    return {name: Measured(name, versions.get(name, ""), of_all) for name, of_all in rounds.items()}


def _started(
    proxies: Sequence[Proxy], upstream: int, cores: Cores, running: ExitStack, say: Callable[[str], None]
) -> dict[str, Started]:
    """Start all of *proxies*; only Nexus has to be among those that answer."""
    targets = {}
    for proxy in proxies:
        try:
            targets[proxy.name] = running.enter_context(started(proxy, (upstream,), cores))
        except NotStartedError as error:
            if proxy.name == NEXUS:
                raise
            say(f"{proxy.name}: skipped, because it did not answer: {str(error).strip().rpartition(chr(10))[2]}")
    return targets


def _measure(lanes: Sequence[Lane], bench: Bench, say: Callable[[str], None]) -> dict[str, list[Round]]:
    names = (*(proxy.name for proxy in bench.proxies), DIRECT)
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(bench.extent.rounds):
        now: dict[str, dict[Figure, float]] = {name: {} for name in names}
        for lane in lanes:
            if number > 0 and lane.is_once:
                continue
            say(f"round {number + 1} of {bench.extent.rounds}: {lane.name}")
            for name, found in lane.measure(bench, number).items():
                _add(found, now[name])
        for name, found_in_round in now.items():
            rounds[name].append(found_in_round | _added(found_in_round, now[DIRECT]))
    return rounds


def _add(found: Round, to: dict[Figure, float]) -> None:
    for figure, value in found.items():
        to[figure] = to.get(figure, 0) + value if figure in ADDED_UP else value


def _added(found: Round, direct: Round) -> dict[Figure, float]:
    """Return what a proxy adds to the times of the upstream itself in the same round."""
    if found is direct:
        return {}
    return {added: found[of] - direct[of] for added, of in ADDED.items() if of in found and of in direct}
