"""Measures routing with the stages of every installed plugin: ``python tests/bench/stages.py``.

Two to a hundred backends of twenty models each, some of them failing, local and cloud; traffic policies with the keys
of each plugin; requests for all models in turn, of which no two are alike. The fleet changes as often as probes change
it: each publishes a new snapshot. One decision is everything from a request that was understood to a backend whose slot
is held, and its settlement; under load, three requests at each backend are in flight meanwhile. What counts is the
processor's time, in the best of several rounds: what disturbs the machine is not ours.
"""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from statistics import fmean, quantiles
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any, Final

import msgspec
import structlog
from bench_metrics import outcome_of
from comparing import machine, page

from nexus.config.schema import PluginLoadingConfig, RoutingConfig
from nexus.domain.backend import Backend
from nexus.domain.backend_load import BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.fleet.membership.registry import Registry
from nexus.plugin_manager import Contributions, PluginManager
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.policies import CORE_KEYS
from nexus.routing.router import Router, Routing
from nexus.store.sqlite import SqliteStore
from nexus.testing.builders import CHAT, make_backend, make_intent

SECTION: Final = "stages.py"
ROUNDS: Final = 15
DECISIONS: Final = 1_000
BEGAN_UNIX_S: Final = datetime.now(UTC).timestamp()
"""A real instant: some stages keep books by the month."""
MODELS: Final = tuple(f"model-{number}" for number in range(20))
DECISIONS_PER_PROBE: Final = 300
"""Each backend is probed twice a minute and gets, say, ten requests a second: so many of the fleet for each probe."""
CONVERSATIONS: Final = 1_000
IN_FLIGHT: Final = 3
"""Requests at each backend, on average, where the fleet is under load."""
MAX_US: Final = {2: None, 10: 100.0, 20: None, 100: 1000.0}
"""By the number of backends, what 95 of 100 decisions may take; None: nothing is promised."""
MAX_JUDGING_US: Final = 1000.0
MAX_RECORDING_US: Final = 10.0

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
    mean_us: float
    p95_us: float | None = None
    max_us: float | None = None
    """What is promised of the latter."""

    @property
    def verdict(self) -> str:
        """Whether the promise was kept, in words."""
        if self.max_us is None or self.p95_us is None:
            return ""
        return f"at most {self.max_us:.0f}: {'kept' if self.p95_us <= self.max_us else 'broken'}"


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
        say(f"{step.name:36} {step.mean_us:6.1f} us   {p95}".rstrip())
    if options.write_docs:
        rows = ([step.name, f"{step.mean_us:.1f}", *_late_cells(step)] for step in steps)
        heads = ["Step", "mean, µs", "p95, µs", "Promise"]
        page.replace(SECTION, "".join(f"- {line}\n" for line in conditions) + "\n" + page.table(heads, rows))
    return 1 if options.check and any(step.verdict.endswith("broken") for step in steps) else 0


def say(text: str) -> None:
    """Print what is found."""
    print(text, flush=True)  # noqa: T201 - output


def decision_us(backends: int, rounds: int, *, has_blocks: bool = False) -> float:
    """Return what a decision costs with that many backends, in the best of *rounds*.

    :param has_blocks: whether prompts are long enough for the affinity stage to look them up.
    """

    async def measure() -> float:
        async with _started() as contributions:
            fleet = _Fleet(backends)
            router = _router(contributions)
            _teach(router, contributions, fleet)
            return min(fmean(_round(router, fleet, has_blocks=has_blocks)[0]) for _ in range(rounds)) * 1e6

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return asyncio.run(measure())


def _late_cells(step: Step) -> list[str]:
    return [page.NOTHING, page.NOTHING] if step.p95_us is None else [f"{step.p95_us:.1f}", step.verdict or page.NOTHING]


async def _measure() -> tuple[list[str], list[Step]]:
    """Return the names of the stages, and what was measured."""
    names, steps = list[str](), list[Step]()
    for backends, max_us in MAX_US.items():
        fleet = _Fleet(backends)
        async with _started() as contributions:
            router = _router(contributions)
            _teach(router, contributions, fleet)
            rounds = [_round(router, fleet) for _ in range(ROUNDS)]
            steps.append(_step(f"a decision, {backends} backends", _best([times for times, _ in rounds]), max_us))
            names = [stage.place.name for stage in router.pipeline.stages]
            means_us = [min(times) for times in zip(*(means for _, means in rounds), strict=True)]
            steps += [Step(f"of it, stage {name}", mean) for name, mean in zip(names, means_us, strict=True)]
            if backends == max(MAX_US):
                times = _best([_round(router, fleet, in_flight=IN_FLIGHT * backends)[0] for _ in range(ROUNDS)])
                steps.append(_step(f"a decision under load, {backends} backends", times))
            if backends == max(MAX_US) and "quality" in names:
                times = _best([_round(router, fleet, has_blocks=True)[0] for _ in range(ROUNDS)])
                steps.append(_step(f"a decision with a long prompt, {backends} backends", times))
                steps.append(_judging(router, fleet.snapshot))
                steps.append(_recording(contributions, fleet.snapshot))
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


class _Fleet:
    """Backends whose probes find nothing new, and publish that."""

    def __init__(self, backends: int) -> None:
        chance = Random(backends)
        self._registry = Registry()
        with self._registry.batch():
            for number in range(backends):
                self._registry.add(_backend(number, chance))
        self._probed = zip(cycle(backend.id for backend in self.snapshot.backends), count(1), strict=False)

    @property
    def snapshot(self) -> FleetSnapshot:
        return self._registry.snapshot

    def probe(self) -> None:
        """Publish that the next backend was probed."""
        backend_id, second = next(self._probed)
        self._registry.update(backend_id, last_check_at=BEGAN_UNIX_S + second)


def _backend(number: int, chance: Random) -> Backend:
    is_cloud = number % 3 == 2
    return make_backend(
        f"gpu-{number}",
        kind="openai" if is_cloud else "vllm",
        zone="cloud" if is_cloud else "local",
        models=[ModelFacts(name=model, context_length=32_768, tools=True) for model in MODELS],
        tier=5 - number % 5,
        priority=chance.randrange(100),
        load=BackendLoad(latency_ms=chance.randrange(1000)),
    )


def _teach(router: Router, contributions: Contributions, fleet: _Fleet) -> None:
    """Let every stage see the fleet, and every observer what each model on each backend came to."""
    for asked in islice(_requests(), len(MODELS)):
        _settle(_decide(router, fleet.snapshot, asked))
    observers = contributions.exchange_observers()
    for number, backend in enumerate(fleet.snapshot.backends):
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


def _round(
    router: Router, fleet: _Fleet, *, has_blocks: bool = False, in_flight: int = 0
) -> tuple[list[float], list[float]]:
    """Return the seconds that each decision of a round took, and the microseconds of each stage on average.

    :param in_flight: how many requests hold a slot while others are decided.
    """
    unsettled = deque[Reserved]()
    durations = [stage.counters.durations for stage in router.pipeline.stages]
    before = [each.sum for each in durations]
    seconds = list[float]()
    for number, asked in enumerate(islice(_requests(has_blocks=has_blocks), DECISIONS)):
        if number % DECISIONS_PER_PROBE == 0:
            fleet.probe()
        began = thread_time()
        unsettled.append(_decide(router, fleet.snapshot, asked))
        if len(unsettled) > in_flight:
            _settle(unsettled.popleft())
        seconds.append(thread_time() - began)
    for reserved in unsettled:
        _settle(reserved)
    return seconds, [
        (each.sum - sum_before) / DECISIONS * 1e6 for each, sum_before in zip(durations, before, strict=True)
    ]


def _requests(*, has_blocks: bool = False) -> Iterator[Requirements]:
    """Yield requests for all models in turn, of different sizes and with different needs.

    :param has_blocks: whether each goes on with one of many conversations.
    """
    chance = Random()
    for model in cycle(MODELS):
        yield Requirements(
            model=model,
            prompt_tokens=chance.randrange(20, 8_000),
            max_tokens=chance.choice((None, chance.randrange(16, 2_000))),
            is_stream=chance.random() < 0.8,
            needs_tools=chance.random() < 0.3,
            prompt_blocks=_blocks(chance) if has_blocks else (),
        )


def _blocks(chance: Random) -> tuple[int, ...]:
    conversation, length = chance.randrange(CONVERSATIONS), chance.randrange(1, 32)
    return tuple([hash((conversation, number)) for number in range(length)])


_IDS: Final = map("req-{}".format, count())
"""Stages count a request once, however often a backend is searched for it."""


def _decide(router: Router, fleet: FleetSnapshot, asked: Requirements) -> Reserved:
    id_ = next(_IDS)
    routing = Routing(
        router, Request(id=id_, endpoint=CHAT, requirements=asked, headers={}, received_unix_s=BEGAN_UNIX_S)
    )
    reserved = routing.next(fleet)
    assert isinstance(reserved, Reserved), reserved
    return reserved


def _settle(reserved: Reserved) -> None:
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
    return _step(f"quality of {len(MODELS)} models on {len(fleet.backends)} backends", _best(rounds), MAX_JUDGING_US)


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
    return _step("an outcome recorded for quality", _best(rounds), MAX_RECORDING_US)


def _observer_of(contributions: Contributions, plugin: str) -> Callable[[Any], None]:
    return next(observe for observe in contributions.exchange_observers() if observe.plugin.name == plugin)


def _step(name: str, seconds: list[float], max_us: float | None = None) -> Step:
    return Step(name, fmean(seconds) * 1e6, _p95(seconds) * 1e6, max_us)


def _best(rounds: list[list[float]]) -> list[float]:
    return min(rounds, key=_p95)


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[18]


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
    machine.start_on_huge_pages()
    sys.exit(main())
