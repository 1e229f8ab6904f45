"""What its access line adds to a request: the same Nexus with and without, side by side, in short turns."""

from statistics import median
from typing import Final

from comparing.figures import Figure, Round
from comparing.loads import Generator, Load, Times
from comparing.starting import Started

TURNS: Final = 5
TURN: Final = 0.25
"""Of the seconds of a round: some two thousand requests, of which the slowest hundredth makes a p99."""


def measure_access_lines(logged: Started, unlogged: Started, generator: Generator, seconds: float) -> Round:
    """Ask both in turn, one request at a time, and compare each turn with the other's next to it."""
    pairs = [_pair(logged, unlogged, generator, seconds * TURN, number) for number in range(TURNS)]
    return {
        Figure.P99_UNLOGGED: median(without.p99 for _, without in pairs),
        Figure.P50_OVER_UNLOGGED: median(with_lines.p50 / without.p50 for with_lines, without in pairs),
        Figure.P99_OVER_UNLOGGED: median(with_lines.p99 / without.p99 for with_lines, without in pairs),
    }


def _pair(logged: Started, unlogged: Started, generator: Generator, seconds: float, number: int) -> tuple[Times, Times]:
    # Neither is always the first.
    order = (logged, unlogged) if number % 2 == 0 else (unlogged, logged)
    took = {target.port: _times(target, generator, seconds) for target in order}
    return took[logged.port], took[unlogged.port]


def _times(target: Started, generator: Generator, seconds: float) -> Times:
    total = generator.put(Load(connections=1, seconds=seconds), target.port).total
    assert total is not None, f"{target.proxy.name} has answered nothing"
    return total
