"""Measures routing with the stages of every installed plugin: ``python tests/bench/stages.py``.

Ten and a hundred backends of twenty models each, some of them failing, local and cloud; traffic policies with the keys
of each plugin; requests for all models in turn. One decision is everything from a request that was understood to a
backend whose slot is held, and its settlement. What counts is the processor's time, in the best of several rounds: what
disturbs the machine is not ours.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any, Final

import msgspec
import structlog
from bench_metrics import outcome_of
from comparing import machine, page

from nexus.config.schema import PluginLoadingConfig, RoutingConfig
from nexus.domain.backend import Backend, BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.plugin_manager import Contributions, PluginManager
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reserved
from nexus.routing.policies import CORE_KEYS
from nexus.routing.router import Router
from nexus.store.sqlite import SqliteStore
from nexus.testing.builders import CHAT, make_backend, make_fleet, make_intent

SECTION: Final = "stages.py"
ROUNDS: Final = 15
DECISIONS: Final = 1_000
BEGAN_UNIX_S: Final = datetime.now(UTC).timestamp()
"""A real instant: some stages keep books by the month."""
MODELS: Final = tuple(f"model-{number}" for number in range(20))
MOST_US: Final = {10: 100.0, 100: 1000.0}
"""By the number of backends, what 95 of 100 decisions may take."""
MOST_JUDGING_US: Final = 1000.0
MOST_RECORDING_US: Final = 10.0

TABLES: Final[dict[str, dict[str, Any]]] = {"budget": {"monthly_limit_usd": 1_000_000}, "privacy": {}, "quality": {}}
POLICIES: Final[tuple[dict[str, Any], ...]] = (
    {"model_pattern": "model-1", "privacy": "restricted"},
    {"model_pattern": "model-[2-5]", "min_tier": 3},
    {"model_pattern": "model-1?", "max_cost_per_request": 5, "min_tier": 2},
    {"model_pattern": "*", "max_cost_per_request": 50},
)


class Step(msgspec.Struct, frozen=True):
    """What was measured of one thing."""

    name: str
    typical_us: float
    """The median; of a stage, the mean."""
    p95_us: float | None = None
    most_us: float | None = None
    """What is promised of the latter."""

    @property
    def verdict(self) -> str:
        """Whether the promise was kept, in words."""
        if self.most_us is None or self.p95_us is None:
            return ""
        return f"at most {self.most_us:.0f}: {'kept' if self.p95_us <= self.most_us else 'broken'}"


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = _options(words)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    names, steps = asyncio.run(_measure())
    conditions = [
        f"{options.date or 'Undated'}: {machine.machine()}; load average {machine.load_average():.1f}.",
        f"Stages: {', '.join(names)}. The best of {ROUNDS} rounds of {DECISIONS} decisions.",
    ]
    say("\n".join(conditions))
    for step in steps:
        p95 = "" if step.p95_us is None else f"p95 {step.p95_us:6.1f} us   {step.verdict}"
        say(f"{step.name:36} {step.typical_us:6.1f} us   {p95}".rstrip())
    if options.write_docs:
        rows = ([step.name, f"{step.typical_us:.1f}", *_late_cells(step)] for step in steps)
        heads = ["Step", "median (of a stage: mean), µs", "p95, µs", "Promise"]
        page.replace(SECTION, "".join(f"- {line}\n" for line in conditions) + "\n" + page.table(heads, rows))
    return 1 if options.check and any(step.verdict.endswith("broken") for step in steps) else 0


def say(text: str) -> None:
    """Tell whoever runs this."""
    print(text, flush=True)  # noqa: T201 - output


def _late_cells(step: Step) -> list[str]:
    return [page.NOTHING, page.NOTHING] if step.p95_us is None else [f"{step.p95_us:.1f}", step.verdict]


async def _measure() -> tuple[list[str], list[Step]]:
    """Return the names of the stages, and what was measured."""
    names, steps = list[str](), list[Step]()
    for count, most_us in MOST_US.items():
        fleet = _fleet(count)
        async with _started() as contributions:
            router = _router(contributions)
            _teach(router, contributions, fleet)
            rounds = [_round(router, fleet) for _ in range(ROUNDS)]
            steps.append(_step(f"a decision, {count} backends", _best([times for times, _ in rounds]), most_us))
            names = [stage.place.name for stage in router.pipeline.stages]
            means_us = [min(times) for times in zip(*(means for _, means in rounds), strict=True)]
            steps += [Step(f"of it, stage {name}", mean) for name, mean in zip(names, means_us, strict=True)]
            if count == max(MOST_US) and "quality" in names:
                steps.append(_judging(router, fleet))
                steps.append(_recording(contributions, fleet))
    return names, steps


class _started:  # noqa: N801 - read as a phrase
    """The plugins that are installed, configured, with their services."""

    async def __aenter__(self) -> Contributions:
        self._running = AsyncExitStack()
        manager = PluginManager.load(PluginLoadingConfig())
        installed = {plugin.name for plugin in manager.plugins}
        contributions = manager.configure({name: table for name, table in TABLES.items() if name in installed})
        folder = self._running.enter_context(TemporaryDirectory(prefix="bench-"))
        store = SqliteStore(Path(folder) / "store.sqlite3")
        await store.open()
        self._running.push_async_callback(store.close)
        for _, service in contributions.services(store, lambda: None):
            await self._running.enter_async_context(service)
        return contributions

    async def __aexit__(self, *exc: object) -> None:
        await self._running.aclose()


def _router(contributions: Contributions) -> Router:
    keys = {field.name for type_ in contributions.policy_keys().values() for field in msgspec.structs.fields(type_)}
    policies = tuple({key: policy[key] for key in policy if key in {*keys, *CORE_KEYS}} for policy in POLICIES)
    return build_router(RoutingConfig(policies=policies), contributions, chance=Random(1))


def _fleet(count: int) -> FleetSnapshot:
    chance = Random(count)
    return make_fleet(*(_backend(number, chance) for number in range(count)))


def _backend(number: int, chance: Random) -> Backend:
    is_cloud = number % 3 == 2
    return make_backend(
        f"gpu-{number}",
        kind="openai" if is_cloud else "vllm",
        zone="cloud" if is_cloud else "local",
        models=MODELS,
        tier=1 + number % 5,
        priority=chance.randrange(100),
        load=BackendLoad(latency_ms=chance.randrange(1000)),
    )


def _teach(router: Router, contributions: Contributions, fleet: FleetSnapshot) -> None:
    """Let every stage see the fleet, and every observer what each model on each backend came to."""
    for model in MODELS:
        _decide(router, fleet, model)
    observers = contributions.exchange_observers()
    for number, backend in enumerate(fleet.backends):
        for model in MODELS:
            outcome = _outcome(backend, model, has_failed=number % 10 == 7)
            for _ in range(12):
                for observe in observers:
                    observe(outcome)


def _outcome(backend: Backend, model: str, *, has_failed: bool = False) -> Any:
    attempt = AttemptOutcome(
        backend=backend.name,
        backend_id=backend.id,
        model=model,
        ending=Ending.BACKEND_FAILED if has_failed else Ending.FINISHED,
        fault="stream_truncated" if has_failed else None,
        status=200,
        is_stream=True,
        first_byte_s=0.2,
    )
    return msgspec.structs.replace(outcome_of(backend.name, model), attempts=(attempt,))


def _round(router: Router, fleet: FleetSnapshot) -> tuple[list[float], list[float]]:
    """Return the seconds that each decision of a round took, and the microseconds of each stage on average."""
    durations = [stage.counters.durations for stage in router.pipeline.stages]
    before = [each.sum for each in durations]
    seconds = list[float]()
    for model in islice(cycle(MODELS), DECISIONS):
        began = thread_time()
        _decide(router, fleet, model)
        seconds.append(thread_time() - began)
    return seconds, [
        (each.sum - sum_before) / DECISIONS * 1e6 for each, sum_before in zip(durations, before, strict=True)
    ]


def _decide(router: Router, fleet: FleetSnapshot, model: str) -> None:
    asked = Requirements(model=model, prompt_tokens=800, max_tokens=200, is_stream=True)
    routing = router.begin(request_id="r", endpoint=CHAT, requirements=asked, headers={}, received_unix_s=BEGAN_UNIX_S)
    reserved = routing.next(fleet)
    assert isinstance(reserved, Reserved), reserved
    backend = reserved.backend
    outcome = AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=reserved.model, ending=Ending.FINISHED, status=200
    )
    for hold in reserved.holds:
        hold.settle(outcome)


def _judging(router: Router, fleet: FleetSnapshot) -> Step:
    """Return what it costs the quality stage alone to judge every model on every backend."""
    (quality,) = (stage.place.reconciler for stage in router.pipeline.stages if stage.place.name == "quality")
    asked = [make_intent(backends=fleet.backends, model=model) for model in MODELS]
    # One fleet for all, as in a running proxy.
    intents = [msgspec.structs.replace(intent, snapshot=fleet) for intent in asked]
    rounds = []
    for _ in range(ROUNDS):
        times = list[float]()
        for _ in range(DECISIONS // len(MODELS)):
            fresh = [intent.shadow() for intent in intents]
            began = thread_time()
            for intent in fresh:
                quality.reconcile(intent)
            times.append(thread_time() - began)
        rounds.append(times)
    return _step(f"quality of {len(MODELS)} models on {len(fleet.backends)} backends", _best(rounds), MOST_JUDGING_US)


def _recording(contributions: Contributions, fleet: FleetSnapshot) -> Step:
    """Return what it costs the quality plugin to take in an outcome."""
    observe = _observer_of(contributions, "quality")
    outcomes = [_outcome(backend, MODELS[0]) for backend in fleet.backends]
    rounds = []
    for _ in range(ROUNDS):
        times = list[float]()
        for outcome in islice(cycle(outcomes), DECISIONS):
            began = thread_time()
            observe(outcome)
            times.append(thread_time() - began)
        rounds.append(times)
    return _step("an outcome recorded for quality", _best(rounds), MOST_RECORDING_US)


def _observer_of(contributions: Contributions, plugin: str) -> Callable[[Any], None]:
    return next(observe for observe in contributions.exchange_observers() if observe.plugin.name == plugin)


def _step(name: str, seconds: list[float], most_us: float | None = None) -> Step:
    p50_s, p95_s = _percentiles(seconds)
    return Step(name, p50_s * 1e6, p95_s * 1e6, most_us)


def _best(rounds: list[list[float]]) -> list[float]:
    return min(rounds, key=lambda times: _percentiles(times)[1])


def _percentiles(values: list[float]) -> tuple[float, float]:
    hundredths = quantiles(values, n=100)
    return hundredths[49], hundredths[94]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-docs", action="store_true", help=f"put the results into {page.PAGE.name}")
    parser.add_argument("--date", type=date.fromisoformat, help="of this run, for --write-docs: YYYY-MM-DD")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a promise is broken")
    options = parser.parse_args(words)
    if options.write_docs and options.date is None:
        parser.error("--write-docs needs --date")
    return options


if __name__ == "__main__":
    sys.exit(main())
