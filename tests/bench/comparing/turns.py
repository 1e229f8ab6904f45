"""What one setting of Nexus costs: two processes that differ in it alone, side by side, in short turns."""

from collections.abc import Callable
from statistics import median
from typing import Final, TypeVar

from comparing.costs import Costs
from comparing.figures import Figure, Round
from comparing.loads import Generator, Load, Result
from comparing.starting import Started

TURNS: Final = 5
TURN: Final = 0.25
"""Of the seconds of a round: some two thousand requests, of which the slowest hundredth makes a p99."""
CONNECTIONS: Final = 32

T = TypeVar("T")


def access_lines(logged: Started, unlogged: Started, generator: Generator, seconds: float) -> Round:
    """Ask both one request at a time, and compare each turn with the other's next to it."""

    def one_at_a_time(target: Started) -> Result:
        return generator.put(Load(connections=1, seconds=seconds * TURN), target.port)

    pairs = [
        (with_lines.total, without.total)
        for with_lines, without in _in_turn(one_at_a_time, logged, unlogged)
        if with_lines.total is not None and without.total is not None
    ]
    return {
        Figure.P99_UNLOGGED: median(without.p99 for _, without in pairs),
        Figure.P50_OVER_UNLOGGED: median(with_lines.p50 / without.p50 for with_lines, without in pairs),
        Figure.P99_OVER_UNLOGGED: median(with_lines.p99 / without.p99 for with_lines, without in pairs),
    }


def plugins(with_plugins: Started, without: Started, generator: Generator, seconds: float) -> Round:
    """Put a load on both, and compare what a request costs them."""

    def cost_us(target: Started) -> float:
        costs = Costs(target, generator, settle_s=0.1)
        return costs.per_request(Load(connections=CONNECTIONS, seconds=seconds * TURN), Figure.CPU_PER_REQUEST)[
            Figure.CPU_PER_REQUEST
        ]

    return {Figure.ADDED_BY_PLUGINS: median(one - other for one, other in _in_turn(cost_us, with_plugins, without))}


def _in_turn(measure: Callable[[Started], T], first: Started, second: Started) -> list[tuple[T, T]]:
    return [_pair(measure, first, second, is_first_first=number % 2 == 0) for number in range(TURNS)]


def _pair(measure: Callable[[Started], T], first: Started, second: Started, *, is_first_first: bool) -> tuple[T, T]:
    # Neither is always the first.
    if is_first_first:
        return measure(first), measure(second)
    after = measure(second)
    return measure(first), after
