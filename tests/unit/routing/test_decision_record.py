"""Recent decisions: the last thousand, each with all rounds and without large objects."""

import gc
import tracemalloc
from types import FunctionType, ModuleType

import msgspec
import pytest

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Requirements
from nexus.fleet.membership.registry import Registry
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.decision_record import MAX_RECORDS_WITH_FACTS, RecentDecisions, Request
from nexus.routing.intent import RoutingIntent
from nexus.routing.pipeline import Pipeline
from nexus.routing.router import Router, Routing
from nexus.routing.stage.runner import Stage
from nexus.testing.builders import CHAT, make_backend, make_fleet


def test_the_oldest_is_forgotten_for_the_newest(router, routing):
    recent, subject = RecentDecisions(limit=3), router()
    searches = [routing(subject) for _ in range(5)]

    for search in searches:
        recent.add(search.record)

    assert list(recent) == [search.record for search in reversed(searches[2:])]
    assert len(recent) == 3


def test_facts_are_kept_of_fewer_than_decisions_are(router, routing):
    recent, subject, fleet = RecentDecisions(), router(), make_fleet(make_backend())
    searches = [routing(subject, headers={"x-nexus-explain": "1"}) for _ in range(MAX_RECORDS_WITH_FACTS + 2)]
    for search in searches:
        recent.add_with_facts(search.record)
        search.next(fleet)

    kept = [record.rounds[0].models[0].facts is not None for record in recent]

    assert kept == [True] * MAX_RECORDS_WITH_FACTS + [False] * 2


def test_the_newest_of_an_id_is_found(router, routing):
    recent, subject = RecentDecisions(), router()
    first, second = routing(subject), routing(subject)
    recent.add(first.record)
    recent.add(second.record)

    assert recent.find("r-1") is second.record
    assert recent.find("r-2") is None


@pytest.mark.parametrize(
    ("headers", "wants"),
    [
        ({}, False),
        ({"x-nexus-explain": "1"}, True),
        ({"x-nexus-explain": " True "}, True),
        ({"x-nexus-explain": "0"}, False),
        ({"x-nexus-strict": "1"}, False),
    ],
)
def test_a_header_asks_for_an_explanation(headers, wants):
    assert Request("r", CHAT, Requirements(model="m"), headers, 0.0).wants_explanation is wants


def test_a_request_that_waits_has_one_round(router, routing, settle):
    backend = make_backend(max_in_flight=1)
    fleet, subject = make_fleet(backend), router()
    holder = routing(subject).next(fleet)
    search = routing(subject)

    for _ in range(4):
        search.next(fleet)
    settle(holder)
    search.next(fleet)

    (only,) = search.record.rounds
    assert isinstance(only.decision, Reserved)
    assert only.tries == 5
    assert search.record.last_reserved is only.decision


def test_the_last_word_of_a_search_is_found(router, routing):
    fleet = make_fleet(make_backend(max_in_flight=0))
    full, empty = routing(router()), routing(router(), "unknown")

    full.next(fleet)
    empty.next(fleet)

    assert isinstance(full.record.rounds[-1].decision, Saturated)
    assert (full.record.last_reserved, full.record.last_reject) == (None, None)
    assert isinstance(empty.record.last_reject, Reject)


def test_a_record_leads_to_nothing_large(router, routing, stage, settle):
    subject = router(stage(name="privacy"), fallbacks={"llama3": ("qwen3",)})
    search = routing(subject)
    fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("gpu-2", models=["qwen3"]))
    settle(search.next(fleet))

    reached = {type(one) for one in reachable(search.record)}

    assert Backend in reached
    assert reached.isdisjoint({FleetSnapshot, RoutingIntent, Router, Routing, Pipeline, Stage, type(stage())})


def test_a_decision_of_a_large_fleet_that_changes_all_the_time_takes_little(router, routing, settle):
    models = [f"model-{number}" for number in range(20)]
    registry, subject, recent = Registry(), router(), RecentDecisions()
    with registry.batch():
        for number in range(100):
            registry.add(make_backend(f"gpu-{number}", models=models, priority=number))

    def decide(number):
        registry.update(f"gpu-{number}", last_check_at=float(number))
        search = routing(subject, models[number % 20])
        recent.add(search.record)
        settle(search.next(registry.snapshot))

    decide(0)
    tracemalloc.start()
    for number in range(1, 41):
        decide(number)
    taken_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    # Each search saw another fleet; with a whole snapshot it would be twice as much.
    assert taken_bytes / 40 < 32_000


def reachable(root):
    """Return every object of Nexus that *root* keeps alive."""
    seen, todo = {}, [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen[id(one)] = one
        if isinstance(one, msgspec.Struct):
            todo += [getattr(one, field) for field in one.__struct_fields__]
        else:
            todo += gc.get_referents(one)
    return seen.values()
