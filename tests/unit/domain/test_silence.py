"""When a backend's silence is remarkable, and when a request should rather be answered by another."""

import pytest

from nexus.domain.backend import Breaker
from nexus.domain.silence import (
    LEAST_S,
    LOADING_S,
    TIMES_WHEN_ALONE,
    USUAL_TIMES,
    oldest_unanswered_s,
    overdue_at,
    patience_s,
    remarkably_silent,
    silent_s,
)
from nexus.testing.builders import MODEL, make_backend

NOW = 1000.0


def asked(backend, *ages_s, model=MODEL, is_stream=True):
    """Let requests wait at *backend*, the oldest first."""
    for age_s in ages_s:
        backend.load.model(model).pace(is_stream=is_stream).waiting[object()] = NOW - age_s
    return backend


def answered(backend, took_s=0.2, *, ago_s=0.1, model=MODEL, is_stream=True):
    figures = backend.load.model(model)
    figures.pace(is_stream=is_stream).observe(took_s, NOW - ago_s)
    figures.progressed_at = figures.alive_at = NOW - ago_s
    return backend


def offers(*backends):
    return [(backend, MODEL) for backend in backends]


def silent(*backends):
    return remarkably_silent(offers(*backends), NOW, is_stream=True)


def due_in(backend, *rivals, age_s):
    at = overdue_at(backend, MODEL, NOW - age_s, offers(*rivals), NOW, is_stream=True)
    return None if at is None else at - NOW


def test_a_backend_where_nothing_waits_is_not_silent():
    backend = answered(make_backend(), ago_s=500.0)

    assert silent_s(backend, backend.load.model(MODEL), NOW, is_stream=True) == 0.0


def test_silence_counts_from_the_last_sign_of_life():
    backend = asked(make_backend(), 20.0, 5.0)
    backend.load.model(MODEL).alive_at = NOW - 8.0

    assert silent_s(backend, backend.load.model(MODEL), NOW, is_stream=True) == pytest.approx(8.0)
    assert oldest_unanswered_s(backend, NOW) == pytest.approx(20.0)


@pytest.mark.parametrize(("slots", "silence_s"), [(None, 20.0), (4, 1.0)])
def test_models_that_share_few_slots_wait_for_each_other(slots, silence_s):
    backend = asked(make_backend(slots=slots), 20.0)
    backend.load.model("other").alive_at = NOW - 1.0

    assert silent_s(backend, backend.load.model(MODEL), NOW, is_stream=True) == pytest.approx(silence_s)


def test_a_backend_that_does_not_answer_while_another_does_is_remarkable():
    assert silent(asked(make_backend("hung"), 12.0), answered(make_backend("well"))) == {"hung": pytest.approx(12.0)}


@pytest.mark.parametrize(
    ("age_s", "rival"),
    [
        (12.0, {"took_s": 30.0}),
        (12.0, {"ago_s": 13.0}),
        (LEAST_S - 0.1, {}),
    ],
    ids=["others take longer", "none has answered since", "too short"],
)
def test_a_silence_that_has_another_explanation_is_not(age_s, rival):
    assert silent(asked(make_backend("hung"), age_s), answered(make_backend("well"), **rival)) == {}


def test_a_backend_without_company_is_never_remarkable():
    assert silent(asked(answered(make_backend(), ago_s=50.0), 40.0)) == {}


def test_the_longest_answer_lately_sets_the_patience_and_not_the_mean():
    figures = answered(make_backend()).load.model(MODEL)
    for took_s in [1.0] * 8 + [9.0] + [1.0] * 8:
        figures.first_token.observe(took_s, NOW)

    # One answer of sixteen times the mean counts in full.
    assert patience_s([figures], NOW, is_stream=True) > 3.0 * USUAL_TIMES
    assert patience_s([figures], NOW, is_stream=False) is None
    assert patience_s([figures], NOW + 3600.0, is_stream=True) is None


def test_a_request_in_company_is_due_when_the_silence_is_remarkable():
    hung, well = asked(make_backend("hung"), 2.0, 2.0), answered(make_backend("well"))

    assert due_in(hung, well, age_s=2.0) == pytest.approx(LEAST_S - 2.0)


def test_a_single_request_is_given_longer():
    hung, well = asked(make_backend("hung"), 2.0), answered(make_backend("well"))

    assert due_in(hung, well, age_s=2.0) == pytest.approx(TIMES_WHEN_ALONE * LEAST_S - 2.0)


def test_the_request_that_tries_a_failing_backend_is_due_soon():
    hung = asked(make_backend("hung", model_breakers={MODEL: Breaker.HALF_OPEN}), 2.0)

    assert due_in(hung, answered(make_backend("well"), took_s=1.5), age_s=2.0) == pytest.approx(-0.5)


@pytest.mark.parametrize(("tries", "due_s"), [(0, 1.0), (3, 8.0), (20, 64.0)])
def test_a_failing_backend_is_given_longer_with_each_try(tries, due_s):
    hung = asked(make_backend("hung", model_breakers={MODEL: Breaker.HALF_OPEN}), 0.5)
    hung.load.model(MODEL).tries = tries

    assert due_in(hung, answered(make_backend("well")), age_s=0.5) == pytest.approx(due_s - 0.5)


def test_a_request_for_a_model_that_is_being_loaded_is_given_a_minute():
    hung = asked(make_backend("hung", kind="ollama"), 10.0, 10.0)

    assert due_in(hung, answered(make_backend("well", kind="ollama")), age_s=10.0) == pytest.approx(LOADING_S - 10.0)


def test_a_loaded_model_needs_no_loading():
    hung = asked(answered(make_backend("hung", kind="ollama"), ago_s=20.0), 10.0, 10.0)

    assert due_in(hung, answered(make_backend("well", kind="ollama")), age_s=10.0) < 0


@pytest.mark.parametrize("rival", [{"ago_s": 11.0}, None], ids=["it has answered nothing since", "there is none"])
def test_nothing_is_due_when_no_other_would_answer(rival):
    hung = asked(answered(make_backend("hung"), ago_s=20.0), 10.0, 10.0)
    rivals = [] if rival is None else [answered(make_backend("other"), **rival)]

    assert due_in(hung, *rivals, age_s=10.0) is None


def test_a_rival_that_is_silent_itself_is_none():
    hung = asked(make_backend("hung"), 10.0, 10.0)
    other = asked(answered(make_backend("other"), ago_s=9.0), 8.0)

    assert due_in(hung, other, age_s=10.0) is None
