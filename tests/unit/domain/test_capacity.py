"""How many requests a backend works on at once, from the first source that knows."""

import pytest

from nexus.domain.backend_load import SATURATION_GOOD_S, BackendLoad
from nexus.domain.capacity import Capacity, capacity_now, capacity_of
from nexus.domain.engine_report import EngineReport
from nexus.domain.model import ModelFacts
from nexus.testing.builders import MODEL, make_backend

NOW = 1000.0


def told(at=NOW, **report):
    load = BackendLoad()
    load.tell(EngineReport(at=at, due_at=at + 2.0, **report))
    return load


def known(*, now=NOW, **fields):
    capacity = capacity_of(make_backend(**fields), MODEL, now)
    return capacity.requests, capacity.source, capacity.held_from


LIMITED_MODEL = (ModelFacts(name=MODEL, max_in_flight=3),)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (None, "none known", None)),
        ({"slots": 4}, (4, "usual for its kind", None)),
        ({"slots": 4, "slots_are_reported": True}, (4, "reported by the server", 6)),
        ({"slots": 100, "slots_are_reported": True, "max_in_flight": 512}, (100, "reported by the server", 150)),
        ({"slots": 8, "slots_are_reported": True, "is_limited": True, "max_in_flight": 2}, (2, "configured", None)),
        ({"is_limited": True, "max_in_flight": 9}, (9, "configured", None)),
        ({"is_limited": True, "max_in_flight": 9, "models": LIMITED_MODEL}, (3, "configured", 3)),
        ({"slots": 4, "slots_are_reported": True, "models": LIMITED_MODEL}, (3, "configured", 3)),
    ],
)
def test_the_most_certain_source_counts(fields, expected):
    assert known(**fields) == expected


def test_what_a_server_runs_while_others_wait_is_all_that_it_can_run():
    assert known(load=told(running=40, waiting=3)) == (40, "reported by the server", 50)
    assert known(load=told(running=40, waiting=0)) == (None, "none known", None)


def test_requests_are_held_back_for_that_only_while_the_report_is_fresh():
    load = told(running=40, waiting=3)

    assert known(load=load, now=NOW + 3.0) == (40, "reported by the server", None)
    assert known(load=load, now=NOW + SATURATION_GOOD_S + 1.0) == (None, "none known", None)


def test_more_that_run_later_show_that_it_can_run_more():
    load = told(running=40, waiting=3)
    load.tell(EngineReport(at=NOW + 2.0, due_at=NOW + 4.0, running=60, waiting=0))

    assert known(load=load, now=NOW + 2.0) == (60, "reported by the server", None)


def test_what_was_learned_comes_before_what_is_usual():
    backend = make_backend(slots=4)
    backend.load.model(MODEL).learned.limit = 9.0

    assert capacity_of(backend, MODEL, NOW).source == "learned"
    assert capacity_now(backend, NOW)[0] == MODEL


def test_a_capacity_in_words():
    assert capacity_of(make_backend(slots=4), MODEL, NOW).in_words() == "works on 4 at once (usual for its kind)"
    assert capacity_of(make_backend(), MODEL, NOW).in_words() == "how many it works on at once is not known"


def test_a_learned_capacity_is_about_that():
    assert Capacity(9.43, "learned").in_words() == "works on about 9 at once (learned)"
