"""One round of one proxy in each lane that puts loads on it."""

from typing import Final

from comparing.costs import Costs, each, quantiles, rate_in_time
from comparing.figures import Figure, Round
from comparing.lane import Bench
from comparing.loads import Load
from comparing.proxies import NEXUS
from comparing.starting import Started, Target

CONNECTIONS: Final = 32
EVENTS: Final = 64
LARGE_CONNECTIONS: Final = 4
PACED_STREAMS: Final = 500
PACED_GAP_US: Final = 20_000
"""50 events a second: a quick model."""
PACED_SPREAD_MS: Final = 1_000
MIN_SEARCH_S: Final = 0.5
"""Of each step: some hundred requests at least, for a p99."""
ACCESS_LINE: Final = b'"event":"exchange_finished"'


def paced(bench: Bench, target: Target) -> Round:
    costs = Costs(target, bench.generator, bench.extent.settle_s)
    load = Load(
        connections=PACED_STREAMS,
        seconds=2 * bench.extent.seconds,
        events=EVENTS,
        gap_us=PACED_GAP_US,
        spread_ms=PACED_SPREAD_MS,
    )
    paced, cost_us = costs.of(load)
    return {
        **each(Figure.CPU_PER_PACED_EVENT, cost_us, paced.events),
        **quantiles(paced.event_delay, Figure.DELAY_P50, Figure.DELAY_P99),
        Figure.FAILED: costs.failed,
    }


def short(bench: Bench, target: Target) -> Round:
    if isinstance(target, Started):
        target.program.log.write_bytes(b"")
    costs = Costs(target, bench.generator, bench.extent.settle_s)
    one, _ = costs.of(Load(connections=1, seconds=bench.extent.seconds))
    many, many_us = costs.of(Load(connections=CONNECTIONS, seconds=bench.extent.seconds))
    found = {
        **quantiles(one.total, Figure.P50, Figure.P99),
        **each(Figure.CPU_PER_REQUEST, many_us, many.requests),
        Figure.REQUESTS_PER_S: many.requests / many.seconds,
    }
    if isinstance(target, Started):
        found[Figure.RATE_IN_TIME] = rate_in_time(
            costs, many.requests / many.seconds, max(bench.extent.seconds / 2, MIN_SEARCH_S)
        )
        found |= _access_lines(target, costs.requests)
    return {**found, Figure.FAILED: costs.failed}


def _access_lines(target: Started, requests: int) -> Round:
    """Count the lines of the access log: a proxy that drops them is quicker than it should be."""
    if target.name != NEXUS:
        return {}
    with target.program.log.open("rb") as log:
        lines = sum(ACCESS_LINE in line for line in log)
    return {Figure.ACCESS_LINES: lines / max(requests, 1)}


def burst(bench: Bench, target: Target) -> Round:
    costs = Costs(target, bench.generator, bench.extent.settle_s)
    one, _ = costs.of(Load(connections=1, seconds=bench.extent.seconds, events=EVENTS))
    many, cost_us = costs.of(Load(connections=CONNECTIONS, seconds=bench.extent.seconds, events=EVENTS))
    return {
        **quantiles(one.first_event, Figure.FIRST_EVENT_P50, Figure.FIRST_EVENT_P99),
        **each(Figure.CPU_PER_EVENT, cost_us, many.events),
        Figure.EVENTS_PER_S: many.events / many.seconds,
        Figure.FAILED: costs.failed,
    }


def agent(bench: Bench, target: Target) -> Round:
    load = Load(connections=LARGE_CONNECTIONS, seconds=bench.extent.seconds, kind="agent", events=EVENTS)
    return Costs(target, bench.generator, bench.extent.settle_s).per_request(load, Figure.CPU_PER_AGENT_REQUEST)


def images(bench: Bench, target: Target) -> Round:
    load = Load(connections=LARGE_CONNECTIONS, seconds=bench.extent.seconds, kind="image")
    return Costs(target, bench.generator, bench.extent.settle_s).per_request(load, Figure.CPU_PER_IMAGE)


def embeddings(bench: Bench, target: Target) -> Round:
    load = Load(connections=LARGE_CONNECTIONS, seconds=bench.extent.seconds, kind="embeddings")
    return Costs(target, bench.generator, bench.extent.settle_s).per_request(load, Figure.CPU_PER_EMBEDDINGS)
