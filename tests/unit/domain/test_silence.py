"""When a backend's silence is remarkable, and when a request should move to another one."""

import pytest

from nexus.domain.backend import Breaker, Status
from nexus.domain.model_load import ModelLoad
from nexus.domain.silence import (
    LOADING_S,
    MIN_SILENCE_BESIDE_IDLE_S,
    MIN_SILENCE_S,
    TIMES_BESIDE_IDLE,
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


def test_a_silence_goes_on_when_its_oldest_request_has_moved():
    backend = asked(make_backend(), 2.0)
    figures = backend.load.model(MODEL)
    figures.move(NOW - 9.0, is_stream=True)
    figures.move(NOW - 5.0, is_stream=True)

    before = silent_s(backend, figures, NOW, is_stream=True)
    figures.alive_at = NOW - 8.0
    after = silent_s(backend, figures, NOW, is_stream=True)

    assert (before, after) == (pytest.approx(9.0), pytest.approx(2.0))


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
        (MIN_SILENCE_S - 0.1, {}),
    ],
    ids=["others take longer", "too short"],
)
def test_a_silence_that_has_another_explanation_is_not(age_s, rival):
    assert silent(asked(make_backend("hung"), age_s), answered(make_backend("well"), **rival)) == {}


@pytest.mark.parametrize(
    ("ages_s", "is_remarkable"),
    [((12.0,), True), ((5.0,), False), ((5.0, 5.0), True), ((2.9, 2.9), False)],
    ids=["long", "a single one is given longer", "several", "too short"],
)
def test_a_silence_is_remarkable_beside_an_idle_backend_that_has_answered_nothing_since(ages_s, is_remarkable):
    hung = asked(answered(make_backend("hung"), ago_s=20.0), *ages_s)

    assert ("hung" in silent(hung, make_backend("standby"))) is is_remarkable


@pytest.mark.parametrize(("age_s", "is_remarkable"), [(LOADING_S - 1.0, False), (LOADING_S + 1.0, True)])
def test_a_load_is_not_remarkable_while_no_other_has_answered_since(age_s, is_remarkable):
    loading, other = asked(make_backend("loading", kind="ollama"), age_s, age_s), answered(make_backend(), ago_s=62.0)
    other.load.model(MODEL).first_token.observe(0.2, NOW - 62.0)

    assert ("loading" in silent(loading, other)) is is_remarkable


def test_when_all_are_silent_none_is_remarkable():
    one, two = (asked(answered(make_backend(name), ago_s=50.0), 20.0, 20.0) for name in ("one", "two"))
    for backend in (one, two):
        answered(backend, ago_s=50.0)

    assert silent(one, two) == {}


def test_a_single_backend_is_never_remarkable():
    assert silent(asked(answered(make_backend(), ago_s=50.0), 40.0)) == {}


def test_the_longest_recent_answer_sets_the_patience():
    figures = answered(make_backend()).load.model(MODEL)
    for took_s in [1.0] * 8 + [9.0] + [1.0] * 8:
        figures.first_token.observe(took_s, NOW)

    # One answer of sixteen times the mean counts in full.
    assert patience_s([figures], NOW, is_stream=True) > 3.0 * USUAL_TIMES
    assert patience_s([figures], NOW, is_stream=False) is None
    assert patience_s([figures], NOW + 3600.0, is_stream=True) is None


def test_a_request_in_company_is_due_when_the_silence_is_remarkable():
    hung, well = asked(make_backend("hung"), 2.0, 2.0), answered(make_backend("well"))

    assert due_in(hung, well, age_s=2.0) == pytest.approx(MIN_SILENCE_S - 2.0)


def test_a_single_request_is_given_longer():
    hung, well = asked(make_backend("hung"), 2.0), answered(make_backend("well"))

    assert due_in(hung, well, age_s=2.0) == pytest.approx(TIMES_WHEN_ALONE * MIN_SILENCE_S - 2.0)


@pytest.mark.parametrize(
    ("limit", "max_tokens", "patience_s"),
    [(8, 200, 15.0), (200, 8, 3.0), (8, None, 3.0), (None, 200, 3.0), (8, 100_000, 38.4)],
    ids=["longer", "shorter", "no limit", "none before", "at most 64 times"],
)
def test_an_answer_that_may_be_longer_is_given_longer(limit, max_tokens, patience_s):
    hung, well = asked(make_backend("hung"), 2.0, 2.0, is_stream=False), answered(make_backend("well"), is_stream=False)
    well.load.model(MODEL).whole.observe(0.4, NOW, limit)
    rivals = offers(well)

    due_at = overdue_at(hung, MODEL, NOW - 2.0, rivals, NOW, is_stream=False, max_tokens=max_tokens)

    assert due_at == pytest.approx(NOW - 2.0 + patience_s)


def test_the_limit_of_a_stream_does_not_delay_its_first_token():
    figures = ModelLoad()
    figures.first_token.observe(10.0, NOW, 8)

    assert patience_s([figures], NOW, is_stream=True, max_tokens=200) == pytest.approx(10.0 * USUAL_TIMES)


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


def test_a_load_under_way_is_given_twice_the_time_that_it_took_before():
    hung = asked(answered(make_backend("hung", kind="ollama"), ago_s=20.0), 10.0, 10.0)
    hung.load.model(MODEL).load_s = 100.0
    hung.load.memory.begin(MODEL, NOW - 10.0)

    assert due_in(hung, answered(make_backend("well", kind="ollama")), age_s=10.0) == pytest.approx(190.0)


def test_a_loaded_model_needs_no_loading():
    hung = asked(answered(make_backend("hung", kind="ollama"), ago_s=20.0), 10.0, 10.0)

    assert due_in(hung, answered(make_backend("well", kind="ollama")), age_s=10.0) < 0


def test_nothing_is_due_when_there_is_no_other():
    assert due_in(asked(answered(make_backend("hung"), ago_s=20.0), 10.0, 10.0), age_s=10.0) is None


@pytest.mark.parametrize("took_s", [0.2, 5.0])
def test_a_request_beside_an_idle_backend_is_due_later(took_s):
    hung = asked(answered(make_backend("hung"), took_s, ago_s=20.0), 10.0)

    due_s = max(MIN_SILENCE_BESIDE_IDLE_S, TIMES_BESIDE_IDLE * took_s)
    assert due_in(hung, make_backend("idle"), age_s=10.0) == pytest.approx(due_s - 10.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.UNHEALTHY},
        {"model_breakers": {MODEL: Breaker.OPEN}},
        {"is_busy": True},
        {"cooling_models": frozenset({MODEL})},
    ],
    ids=["unhealthy", "failing", "busy", "cooling"],
)
def test_a_backend_in_trouble_is_no_idle_one(fields):
    hung = asked(answered(make_backend("hung"), ago_s=60.0), 50.0, 50.0)
    answered(hung, ago_s=60.0)

    assert due_in(hung, make_backend("other", **fields), age_s=50.0) is None


def test_a_backend_that_has_an_unanswered_request_itself_is_no_idle_one():
    hung = asked(answered(make_backend("hung"), ago_s=20.0), 12.0, 12.0)

    assert due_in(hung, asked(make_backend("other"), 1.0), age_s=12.0) is None


def test_a_rival_that_is_silent_itself_is_none():
    hung = asked(make_backend("hung"), 10.0, 10.0)
    other = asked(answered(make_backend("other"), ago_s=9.0), 8.0)

    assert due_in(hung, other, age_s=10.0) is None
