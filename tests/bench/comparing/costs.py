"""Loads on one proxy, and what they cost it."""

from time import sleep

from comparing.figures import Figure, Round
from comparing.loads import Generator, Load, Result, Times
from comparing.starting import Target

MAX_P99_MS = 5.0
"""Up to which a rate of requests counts as served in time."""
SEARCH_STEPS = 5
SEARCH_FROM = 0.2
"""Of the requests per second that a closed loop reaches: less is not looked for."""
OPEN_CONNECTIONS = 128


class Costs:
    """Puts loads on a proxy and counts what that cost it; also on the upstream itself, whose cost is not counted."""

    def __init__(self, target: Target, generator: Generator, settle_s: float) -> None:
        self._target = target
        self._generator = generator
        self._settle_s = settle_s
        self.requests = 0
        self.failed = 0

    def of(self, load: Load) -> tuple[Result, float | None]:
        """Return the result of *load* and the processor time in microseconds, what comes after the answers included."""
        before_s = self._target.cpu_s()
        result = self._generator.put(load, self._target.port, self._target.headers)
        sleep(self._settle_s)
        after_s = self._target.cpu_s()
        self.requests += result.requests + result.failed
        self.failed += result.failed
        return result, None if before_s is None or after_s is None else (after_s - before_s) * 1e6

    def per_request(self, load: Load, figure: Figure) -> Round:
        """Return the processor time of each request of *load* as *figure*."""
        result, cost_us = self.of(load)
        return {**each(figure, cost_us, result.requests), Figure.FAILED: result.failed}


def each(figure: Figure, cost_us: float | None, count: int) -> Round:
    """Return what each of *count* cost; nothing when there were none, or the cost is not known."""
    return {figure: cost_us / count} if cost_us is not None and count else {}


def quantiles(times: Times | None, p50: Figure, p99: Figure) -> Round:
    """Return the quantiles of *times* as two figures; nothing when nothing was answered."""
    return {} if times is None else {p50: times.p50, p99: times.p99}


def rate_in_time(costs: Costs, closed_rate: float, seconds: float) -> float:
    """Return at how many requests per second, arriving at random, 99 of 100 are answered within MAX_P99_MS.

    0 when a fifth of *closed_rate*, what a closed loop reaches, is too much.
    """
    low, high = 0.0, 1.0
    for step in range(SEARCH_STEPS):
        share = SEARCH_FROM if step == 0 else (low + high) / 2
        result, _ = costs.of(Load(connections=OPEN_CONNECTIONS, seconds=seconds, rate=closed_rate * share))
        if result.total is not None and result.total.p99 <= MAX_P99_MS and not result.failed:
            low = share
        elif step == 0:
            return 0.0
        else:
            high = share
    return low * closed_rate
