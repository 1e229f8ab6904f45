"""One round with one proxy: what loads cost it, and what idle streams do."""

from contextlib import ExitStack
from socket import socket
from statistics import linear_regression
from time import sleep
from typing import Final

from comparing.asking import is_held, open_stream
from comparing.figures import Figure, Round
from comparing.loads import Generator, Load, Result
from comparing.programs import KIB
from comparing.proxies import NEXUS
from comparing.starting import Started

CONNECTIONS: Final = 32
EVENTS: Final = 64
PACED_STREAMS: Final = 500
PACED_GAP_US: Final = 20_000
"""50 events a second: a quick model."""
PACED_SPREAD_MS: Final = 1_000
HELD_STREAMS: Final = 1_000
HELD_STEPS: Final = 5
SETTLE_S: Final = 0.5
"""For what happens behind the answers: log lines written, connections closed."""

ACCESS_LINE: Final = b'"event":"exchange_finished"'


def measure_loads(target: Started, generator: Generator, seconds: float) -> Round:
    """Put each load on a proxy that has answered before."""
    target.program.log.write_bytes(b"")
    cost = _Costs(target, generator)
    one, _ = cost.of(Load(connections=1, seconds=seconds))
    many, many_us = cost.of(Load(connections=CONNECTIONS, seconds=seconds))
    stream, _ = cost.of(Load(connections=1, seconds=seconds, events=EVENTS))
    streams, streams_us = cost.of(Load(connections=CONNECTIONS, seconds=seconds, events=EVENTS))
    paced, paced_us = cost.of(paced_load(seconds))
    return {
        **_waits(one, stream),
        **_delays(paced),
        Figure.CPU_PER_REQUEST: many_us / max(many.requests, 1),
        Figure.REQUESTS_PER_S: many.requests / many.seconds,
        Figure.CPU_PER_EVENT: streams_us / max(streams.events, 1),
        Figure.EVENTS_PER_S: streams.events / streams.seconds,
        Figure.CPU_PER_PACED_EVENT: paced_us / max(paced.events, 1),
        Figure.RSS_AFTER_LOAD: target.program.rss_kib() / KIB,
        Figure.FAILED: cost.failed,
        **_access_lines(target, cost.requests),
    }


def measure_direct(port: int, generator: Generator, seconds: float) -> Round:
    """Ask the upstream itself: what the proxies add to."""
    one = generator.put(Load(connections=1, seconds=seconds), port)
    stream = generator.put(Load(connections=1, seconds=seconds, events=EVENTS), port)
    paced = generator.put(paced_load(seconds), port)
    return {**_waits(one, stream), **_delays(paced), Figure.FAILED: one.failed + stream.failed + paced.failed}


def measure_idle(target: Started) -> Round:
    """Look at a proxy that has answered once, then hold streams through it that say nothing."""
    sleep(SETTLE_S)
    at_rest_kib = target.program.rss_kib()
    counts = [HELD_STREAMS * step // HELD_STEPS for step in range(1, HELD_STEPS + 1)]
    sizes_kib: list[float] = []
    held: list[socket] = []
    with ExitStack() as streams:
        for count in counts:
            held += _open_streams(target.port, count - len(held), streams)
            sizes_kib.append(target.program.rss_kib())
        sleep(SETTLE_S)
        held = [stream for stream in held if is_held(stream)]
    slope_kib, _ = linear_regression(counts, sizes_kib)
    return {
        Figure.START_UP: target.start_up_ms,
        Figure.RSS_AT_REST: at_rest_kib / KIB,
        Figure.RSS_HELD: sizes_kib[-1] / KIB,
        Figure.RSS_PER_STREAM: slope_kib,
        Figure.LOST_STREAMS: HELD_STREAMS - len(held),
    }


class _Costs:
    """Puts loads on a proxy and counts what that cost it."""

    def __init__(self, target: Started, generator: Generator) -> None:
        self._target = target
        self._generator = generator
        self.requests = 0
        self.failed = 0

    def of(self, load: Load) -> tuple[Result, float]:
        """Return the result of *load* and the processor time in microseconds, what comes after the answers included."""
        before_s = self._target.program.cpu_s()
        result = self._generator.put(load, self._target.port)
        sleep(SETTLE_S)
        self.requests += result.requests + result.failed
        self.failed += result.failed
        return result, (self._target.program.cpu_s() - before_s) * 1e6


def paced_load(seconds: float) -> Load:
    """Return streams at the speed of a model; twice as long, because each takes more than a second."""
    return Load(
        connections=PACED_STREAMS,
        seconds=2 * seconds,
        events=EVENTS,
        gap_us=PACED_GAP_US,
        spread_ms=PACED_SPREAD_MS,
    )


def _waits(one: Result, stream: Result) -> Round:
    figures: Round = {}
    if one.total is not None:
        figures = {Figure.P50: one.total.p50, Figure.P99: one.total.p99}
    if stream.first_event is not None:
        first = stream.first_event
        figures = {**figures, Figure.FIRST_EVENT_P50: first.p50, Figure.FIRST_EVENT_P99: first.p99}
    return figures


def _delays(paced: Result) -> Round:
    if paced.event_delay is None:
        return {}
    return {Figure.DELAY_P50: paced.event_delay.p50, Figure.DELAY_P99: paced.event_delay.p99}


def _access_lines(target: Started, requests: int) -> Round:
    """Count the lines of the access log: a proxy that drops them is quicker than it should be."""
    if target.proxy.name != NEXUS:
        return {}
    with target.program.log.open("rb") as log:
        lines = sum(ACCESS_LINE in line for line in log)
    return {Figure.ACCESS_LINES: lines / max(requests, 1)}


def _open_streams(port: int, count: int, streams: ExitStack) -> list[socket]:
    opened = []
    for _ in range(count):
        try:
            opened.append(streams.enter_context(open_stream(port)))
        except OSError:
            # It is missing among those that are held in the end.
            continue
    return opened
