"""Equal backends get requests in proportion to their shares: one at a time and many at once, with every strategy."""

from collections import Counter, deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.ranking.scoring import relative_to_shares
from nexus.testing.builders import make_backend, make_intent

REQUESTS = 400
SHARES = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0]), min_size=2, max_size=4)
DIVIDING = ("smart", "round_robin", "least_loaded", "random", "priority_only")
BY_CHANCE = 0.1
"""How far chance may deviate from a share of all requests: at least four standard deviations."""
IN_TURN = 0.04
BY_SLOTS = 0.06
"""Requests in flight are whole numbers: with 16 of them, a share of 0.04 is none or one."""


def served(strategy, shares, *, at_once, seed=1, requests=REQUESTS, **fields):
    """Return how many requests each backend got, with *at_once* in flight at all times; the oldest ends first."""
    backends = [make_backend(f"gpu-{n}", share=share, **fields) for n, share in enumerate(shares)]
    schedule, under_way, counts = Schedule(strategy, chance=Random(seed)), deque(), Counter()
    for _ in range(requests):
        if len(under_way) == at_once:
            under_way.popleft().settle(None)
        intent = make_intent(backends=backends)
        chosen = next(r.backend for r in schedule.rank(intent) if r.backend.load.in_flight < r.backend.max_in_flight)
        under_way.append(schedule.reserve(intent, chosen))
        counts[chosen.name] += 1
    return [counts[backend.name] for backend in backends]


@pytest.mark.parametrize("strategy", DIVIDING)
@settings(max_examples=15, deadline=None)
@given(shares=SHARES, at_once=st.sampled_from([1, 2, 3, 8, 40]), seed=st.integers(0, 99))
def test_requests_are_divided_in_proportion_to_shares(strategy, shares, at_once, seed):
    counts = served(strategy, shares, at_once=at_once, seed=seed)

    tolerance = IN_TURN if strategy in {"smart", "round_robin"} else BY_CHANCE
    assert [count / REQUESTS for count in counts] == pytest.approx([s / sum(shares) for s in shares], abs=tolerance)


@settings(max_examples=15, deadline=None)
@given(shares=SHARES, at_once=st.sampled_from([1, 4, 16]))
def test_where_slots_are_known_too(shares, at_once):
    counts = served("smart", shares, at_once=at_once, slots=4)

    assert [count / REQUESTS for count in counts] == pytest.approx([s / sum(shares) for s in shares], abs=BY_SLOTS)


@pytest.mark.parametrize("strategy", DIVIDING)
def test_a_share_of_almost_nothing_is_hardly_ever_asked_but_when_it_is_alone(strategy):
    counts = served(strategy, [1.0, 1.0, 0.01], at_once=6, requests=2000)

    assert 0 < counts[2] < 60
    assert counts[0] == pytest.approx(counts[1], rel=0.25)
    assert served(strategy, [0.01], at_once=6) == [REQUESTS]


def test_one_at_its_limit_leaves_its_share_to_others():
    counts = served("smart", [1.0, 1.0], at_once=8, max_in_flight=8)
    assert counts == pytest.approx([REQUESTS / 2] * 2, abs=REQUESTS * IN_TURN)

    backends = [make_backend("big", share=100.0, max_in_flight=1, in_flight=1), make_backend("small", share=1.0)]
    intent = make_intent(backends=backends)
    best = Schedule("smart", chance=Random(1)).rank(intent)[0]

    assert best.backend.name == "small"


@given(
    loads=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    shares=st.lists(st.floats(0.001, 65_535), min_size=5, max_size=5),
)
def test_there_is_always_one_that_has_no_more_than_its_share(loads, shares):
    offers = [(make_backend(f"gpu-{n}", share=shares[n]), "llama3") for n in range(len(loads))]

    relative = relative_to_shares(offers, loads)

    assert min(relative) == pytest.approx(sum(loads) / len(loads))
