"""What keeping decisions costs: ``python tests/bench/bench_explaining.py``.

Time is that of a record beside the search that it is made in; memory is that of a thousand records, each made while the
fleet was another, so that nothing is shared that need not be.
"""

import tracemalloc
from collections.abc import Sequence
from random import Random
from time import perf_counter

from nexus.config.schema import RoutingConfig
from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.fleet.membership.registry import Registry
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import (
    MAX_RECORDS,
    ConsideredModel,
    DecisionRecord,
    RecentDecisions,
    Request,
    RoutingRules,
)
from nexus.routing.explain.build import as_explanation
from nexus.routing.intent import RoutingIntent
from nexus.routing.model_names.resolution import Resolution
from nexus.routing.ranking.scoring import Ranked
from nexus.routing.router import Router, Routing
from nexus.testing.builders import CHAT, make_backend, make_intent

MODELS = tuple(f"org/model-{number}:latest" for number in range(20))
REQUESTS = 20_000
ROUNDS = 5
OUTCOME = AttemptOutcome(backend="gpu-0", backend_id="gpu-0", model=MODELS[0], ending=Ending.FINISHED)


def main() -> None:
    for backends in (1, 10, 100):
        registry = fleet_of(backends)
        spent_us = min(recording_s(registry) for _ in range(ROUNDS)) / REQUESTS * 1e6
        print(f"recording    {spent_us:6.2f} us per request, {backends} backends")  # noqa: T201 - its output
    for backends in (10, 100):
        kept = memory_bytes(fleet_of(backends), MAX_RECORDS)
        print(f"kept         {kept / 1e6:6.1f} MB, {MAX_RECORDS} decisions, {backends} backends")  # noqa: T201 - as above
    print(f"reading      {rendering_s(fleet_of(100)) * 1e3:6.1f} ms, one decision, 100 backends")  # noqa: T201 - as above


def fleet_of(backends: int) -> Registry:
    """Return a registry of so many backends, each of which has all models."""
    registry = Registry()
    with registry.batch():
        for number in range(backends):
            registry.add(make_backend(f"gpu-{number}", models=MODELS, priority=number))
    return registry


def recording_s(registry: Registry) -> float:
    """Return what is done for records, and nothing else, for so many requests."""
    router, snapshot = build_router(RoutingConfig(), chance=Random(1)), registry.snapshot
    search = begin(router, MODELS[0])
    search.next(snapshot)
    considered = search.record.rounds[0].models[0]
    request, resolution, ranking, recent = search.request, considered.resolution, considered.ranking, RecentDecisions()
    intent = make_intent(backends=snapshot.backends, model=MODELS[0])
    began = perf_counter()
    for _ in range(REQUESTS):
        record_one(recent, request, router.rules, resolution, ranking, intent, snapshot.backends)
    return perf_counter() - began


def record_one(
    recent: RecentDecisions,
    request: Request,
    rules: RoutingRules,
    resolution: Resolution,
    ranking: Sequence[Ranked],
    intent: RoutingIntent,
    backends: tuple[Backend, ...],
) -> None:
    """Do what a search, its inquiry and its exchange do for a record, in their order."""
    record = DecisionRecord(request, rules, [])
    recent.add(record)
    searched = record.begin_round(backends)
    considered = ConsideredModel(resolution, ())
    searched.models.append(considered)
    considered.watch(intent)
    considered.ranking = ranking
    searched.decision = None
    record.outcome = None


def memory_bytes(registry: Registry, requests: int) -> int:
    """Return how much *requests* records keep alive, when the fleet changes before each."""
    router, recent = build_router(RoutingConfig(), chance=Random(1)), RecentDecisions()
    names = [backend.id for backend in registry.snapshot.backends]
    settled(router, recent, registry, MODELS[0])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(requests):
        registry.update(names[number % len(names)], last_check_at=float(number))
        settled(router, recent, registry, MODELS[number % len(MODELS)])
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept


def settled(router: Router, recent: RecentDecisions, registry: Registry, model: str) -> None:
    search = begin(router, model)
    recent.add(search.record)
    reserved = search.next(registry.snapshot)
    assert isinstance(reserved, Reserved)
    for hold in reserved.holds:
        hold.settle(OUTCOME)


def rendering_s(registry: Registry) -> float:
    """Return how long it takes to read one decision."""
    search = begin(build_router(RoutingConfig(), chance=Random(1)), MODELS[0])
    search.next(registry.snapshot)
    began = perf_counter()
    as_explanation(search.record)
    return perf_counter() - began


def begin(router: Router, model: str) -> Routing:
    return Routing(
        router,
        Request(
            id="r",
            endpoint=CHAT,
            requirements=Requirements(model=model),
            headers={},
            received_unix_s=1_777_777_777.0,
        ),
    )


if __name__ == "__main__":
    main()
