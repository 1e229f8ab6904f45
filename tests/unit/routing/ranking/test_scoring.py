"""With how many requests a backend counts as busy, and what that is worth."""

import pytest

from nexus.domain.backend_load import BackendLoad
from nexus.domain.engine_report import EngineReport
from nexus.domain.model import ModelFacts
from nexus.domain.shared_load import Elsewhere
from nexus.routing.ranking.candidates import Candidates
from nexus.routing.ranking.scoring import busy_requests, load_of, load_points
from nexus.testing.builders import MODEL, make_backend

NOW = 1000.0


def busy(*loads):
    offers = [(make_backend(f"gpu-{n}", load=load), MODEL) for n, load in enumerate(loads)]
    return [round(requests, 3) for requests in busy_requests(offers, NOW)]


def load(*requests, told=None):
    """Return the load of requests, each with so many tokens of its prompt and of its answer."""
    counters = BackendLoad()
    for prompt_tokens, answer_tokens in requests:
        counters.acquire(prompt_tokens, answer_tokens)
    if told is not None:
        counters.tell(EngineReport(at=NOW, due_at=NOW + 5.0, **told))
    return counters


def test_requests_of_equal_size_count_as_one_each():
    assert busy(load((100, 10), (100, 10)), load((100, 10)), load()) == [2, 1, 0]


def test_a_long_request_counts_more_than_a_short_one_and_the_sum_is_the_number_of_requests():
    first, second = busy(load((30_000, 500)), load((100, 10)))

    assert first > 1.45
    assert second < 0.55
    assert first + second == pytest.approx(2)


def test_a_token_of_an_answer_counts_like_sixteen_of_a_prompt():
    first, second = busy(load((1600, 0)), load((0, 100)))

    assert first == second == 1


def test_a_prompt_that_was_read_counts_no_more():
    reading, answering = load((32_000, 100)), load((32_000, 100))
    answering.finish_prompt(32_000)

    first, second = busy(reading, answering)

    assert first > 1.4
    assert second < 0.6


def test_a_sole_backend_is_busy_with_its_requests():
    assert busy(load((30_000, 500), (1, 1))) == [2]


def test_requests_of_other_clients_count_as_far_as_they_are_reported():
    others = load((100, 10), told={"own_requests": 1, "running": 4, "waiting": 2})
    own_only = load((100, 10), told={"own_requests": 1, "running": 1, "waiting": 0})

    assert busy(others, own_only) == [6, 1]


def test_a_report_that_is_overdue_counts_less_and_less():
    offers = [(make_backend(load=load(told={"running": 10})), MODEL)]

    figures = [round(busy_requests(offers, NOW + age_s)[0], 1) for age_s in (0, 5, 7, 11, 60)]

    assert figures == [10.0, 10.0, 3.7, 0.5, 0.0]


@pytest.mark.parametrize("fields", [{}, {"slots": 16}, {"load": load(told={"running": 12, "waiting": 5})}])
def test_a_limit_for_the_model_is_the_capacity_for_it(fields):
    limited = make_backend("a", models=[ModelFacts(name=MODEL, max_in_flight=4)], max_in_flight=1024, **fields)

    _, capacities = load_of(Candidates([(limited, MODEL), (make_backend("b", max_in_flight=4), MODEL)]), NOW)

    assert capacities[0] == 4
    assert load_points(limited, 4, capacities[0]) == 10


@pytest.mark.parametrize(("slots", "expected"), [(None, [100, 90, 80, 0, 0]), (2, [100, 55, 10, 0, 0])])
def test_points_fall_with_the_part_of_the_limit_or_of_the_slots_in_use(slots, expected):
    backend = make_backend(max_in_flight=10, slots=slots)

    assert [load_points(backend, requests, slots) for requests in (0, 1, 2, 10, 99)] == expected


def test_requests_of_other_workers_count_as_own_ones():
    there = load()
    there.see_elsewhere(Elsewhere(2, 200, 100))

    assert busy(load((100, 50), (100, 50)), there) == [2.0, 2.0]
