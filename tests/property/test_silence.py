"""Silence never makes a backend more attractive, and a backend at work is never silent."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.request import Requirements
from nexus.domain.silence import overdue_at, remarkably_silent, silent_s
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.ranking.candidates import Candidates
from nexus.routing.ranking.latency import Latencies
from nexus.routing.ranking.strategies import STRATEGIES
from nexus.testing.builders import MODEL, make_backend, make_intent

NOW = 10_000.0
AGES = st.floats(0.0, 600.0)
PACES = st.none() | st.tuples(st.floats(0.001, 300.0), AGES)


@st.composite
def fleets(draw, size=3):
    """Backends, some with measurements, some with waiting requests, and some with signs of life."""
    found = []
    for number in range(size):
        slots = draw(st.sampled_from([None, 4]))
        backend = make_backend(f"gpu-{number}", slots=slots, in_flight=draw(st.integers(0, 8)))
        figures = backend.load.model(MODEL)
        for is_stream in (True, False):
            pace = figures.pace(is_stream=is_stream)
            if (measured := draw(PACES)) is not None:
                pace.observe(measured[0], NOW - measured[1])
                figures.progressed_at = figures.alive_at = max(figures.alive_at, NOW - measured[1])
            for age in sorted(draw(st.lists(AGES, max_size=3)), reverse=True):
                pace.waiting[object()] = NOW - age
        found.append(backend)
    return found


def offers(backends):
    return [(backend, MODEL) for backend in backends]


def score(strategy, backends, is_stream):
    schedule = Schedule(strategy, chance=Random(1), clock=lambda: NOW)
    intent = make_intent(backends=backends, requirements=Requirements(model=MODEL, is_stream=is_stream))
    schedule.reconcile(intent)
    return {ranked.backend.name: ranked.score for ranked in schedule.rank(intent)}


@given(fleets(), st.booleans(), AGES, st.sampled_from(sorted(STRATEGIES)))
def test_silence_never_makes_a_backend_more_attractive(backends, is_stream, older_s, strategy):
    first = backends[0]
    before = score(strategy, backends, is_stream)

    waiting = first.load.model(MODEL).pace(is_stream=is_stream).waiting
    later = dict(waiting)
    waiting.clear()
    oldest = min(later.values(), default=NOW)
    waiting.update({object(): oldest - older_s} | later)
    after = score(strategy, backends, is_stream)

    assert after[first.name] <= before[first.name] + 1e-9


@given(fleets(), st.booleans())
def test_a_backend_that_makes_progress_is_never_silent(backends, is_stream):
    for backend in backends:
        backend.load.model(MODEL).alive_at = NOW

    assert remarkably_silent(offers(backends), NOW, is_stream=is_stream) == {}
    for backend in backends:
        assert silent_s(backend, backend.load.model(MODEL), NOW, is_stream=is_stream) == 0.0
        rivals = offers([other for other in backends if other is not backend])
        due_at = overdue_at(backend, MODEL, NOW - 600.0, rivals, NOW, is_stream=is_stream)
        assert due_at is None or due_at > NOW


@given(fleets(), st.booleans())
def test_never_all_backends_are_remarkable(backends, is_stream):
    silent = remarkably_silent(offers(backends), NOW, is_stream=is_stream)

    assert len(silent) < len(backends)


@given(fleets(), st.booleans())
def test_a_silent_backend_is_expected_to_take_no_less_than_its_silence(backends, is_stream):
    doublings = Latencies().expected(
        Candidates(offers(backends)), MODEL, NOW, Requirements(model=MODEL, is_stream=is_stream)
    )

    for at, backend in enumerate(backends):
        silence_s = silent_s(backend, backend.load.model(MODEL), NOW, is_stream=is_stream)
        if doublings is not None:
            assert 2.0 ** doublings[at] >= silence_s * 1000 * 0.999


@given(fleets(size=1), AGES, st.booleans())
def test_a_sole_backend_keeps_its_requests(backends, age_s, is_stream):
    (sole,) = backends

    assert overdue_at(sole, MODEL, NOW - age_s, [], NOW, is_stream=is_stream) is None
    assert remarkably_silent(offers(backends), NOW, is_stream=is_stream) == {}
