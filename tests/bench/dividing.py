"""Measures how evenly work is divided: ``python tests/bench/run.py load``.

The schedule gives requests of all sizes and forms, for two models, to simulated engines on a virtual clock: prompts of
20 to 8 000 tokens, answers of 5 to 1 000, seven of ten streamed. What counts is what the busiest engine got, in
requests and in tokens, relative to the mean; and what one of half the speed got, relative to the others.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from comparing import page
from comparing.part import part_options

sys.path.append(str(Path(__file__).parents[2]))  # tests.support is there

from tests.support.simulated_fleet import Engine, SimulatedFleet, mixed_jobs

SECTION: Final = "run.py load"
MODELS: Final = ("llama3", "qwen3")
SEEDS: Final = (1, 2, 3)
BEGIN: Final = 1000.0
MAX_BUSIEST: Final = 1.15
SLOW: Final = (0.4, 0.6)


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    figure: str
    promise: str
    is_broken: bool


def main(words: Sequence[str]) -> int:
    """Measure, print, and return the exit code."""
    options = part_options("load", __doc__, words)
    rows = [*_equal(), *_slow()]
    cells = [(row.what, row.figure, f"{row.promise}{', broken' if row.is_broken else ''}") for row in rows]
    conditions = f"- {options.date}: simulated engines of 8 slots; the worst of {len(SEEDS)} runs.\n\n"
    text = conditions + page.table(("What", "Measured", "Promise"), cells)
    print(text, flush=True)  # noqa: T201 - output
    if options.write_docs:
        page.replace(SECTION, text)
    return 1 if options.check and any(row.is_broken for row in rows) else 0


def _equal() -> Iterator[Row]:
    for number in (2, 4, 8):
        engines = [f"gpu-{n}" for n in range(number)]
        for what, clients, per_s, seconds in (
            ("one client", 1, None, 12_000.0),
            ("four clients for each", 4 * number, None, 900.0),
            ("arrivals at random, one per second for each", None, float(number), 900.0),
        ):
            runs = [_run(dict.fromkeys(engines, 1.0), clients, per_s, seconds, seed) for seed in SEEDS]
            requests = max(_busiest(fleet.requests, engines) for fleet in runs)
            tokens = max(_busiest(fleet.tokens, engines) for fleet in runs)
            figure = f"{requests:.2f} x in requests, {tokens:.2f} x in tokens"
            broken = max(requests, tokens) > MAX_BUSIEST
            yield Row(f"busiest of {number} equal engines, {what}", figure, f"<= {MAX_BUSIEST} x", broken)


def _slow() -> Iterator[Row]:
    for number in (2, 4):
        speeds = {"slow": 0.5} | {f"gpu-{n}": 1.0 for n in range(1, number)}
        parts = [_part_of_slow(_run(speeds, 4 * number, None, 900.0, seed)) for seed in SEEDS]
        figure = f"{min(parts):.2f} to {max(parts):.2f} of the tokens"
        broken = min(parts) < SLOW[0] or max(parts) > SLOW[1]
        yield Row(f"one of half the speed among {number}, four clients for each", figure, "0.4 to 0.6", broken)


def _run(
    speeds: Mapping[str, float], clients: int | None, per_s: float | None, seconds: float, seed: int
) -> SimulatedFleet:
    fleet = SimulatedFleet({name: Engine(speed=speed) for name, speed in speeds.items()}, seed=seed, models=MODELS)
    jobs = mixed_jobs(seed, models=MODELS)
    if clients is not None:
        fleet.closed_loop(jobs, clients=clients, until=BEGIN + seconds)
    elif per_s is not None:
        fleet.open_loop(jobs, per_s=per_s, until=BEGIN + seconds)
    fleet.run(BEGIN + seconds + 500.0)
    return fleet


def _busiest(counts: Mapping[str, int], engines: Sequence[str]) -> float:
    return max(counts.get(name, 0) for name in engines) / (sum(counts.values()) / len(engines))


def _part_of_slow(fleet: SimulatedFleet) -> float:
    others = [tokens for name, tokens in fleet.tokens.items() if name != "slow"]
    return fleet.tokens["slow"] / (sum(others) / len(others))
