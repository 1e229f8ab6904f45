"""How long backends are expected to take: compared with others for the same model, form and size only."""

import pytest

from nexus.domain.request import Requirements
from nexus.routing.ranking.candidates import VALID_S, Candidates
from nexus.routing.ranking.latency import Latencies, expected_doublings, latency_points
from nexus.testing.builders import MODEL, make_backend

NOW = 1000.0


def offer(name, *measured, is_stream=True):
    """Return a backend with measurements, each the tokens, the seconds, and how often."""
    backend = make_backend(name)
    pace = backend.load.model(MODEL).pace(is_stream=is_stream)
    for tokens, seconds, times in measured:
        for _ in range(times):
            pace.observe(seconds, NOW, tokens=tokens)
    return backend, MODEL


def expected(*offers, tokens=0, latencies=None, now=NOW):
    wanted = Requirements(model=MODEL, is_stream=True, prompt_tokens=tokens)
    return (latencies or Latencies()).expected(Candidates(offers), MODEL, now, wanted)


def test_a_backend_that_got_the_long_prompts_is_no_slower():
    long, short = offer("a", (10_000, 5.0, 16)), offer("b", (50, 0.1, 16))

    first, second = expected(long, short, tokens=50)

    assert first == second


def test_one_that_is_slower_for_requests_of_the_same_size_is_expected_to_be():
    fast, slow = offer("a", (50, 0.1, 16), (10_000, 5.0, 16)), offer("b", (50, 0.4, 16), (10_000, 5.0, 16))

    short, long = expected(fast, slow, tokens=50), expected(fast, slow, tokens=10_000)

    assert short[1] - short[0] == pytest.approx(2.0, rel=0.15)
    assert long[1] - long[0] < 0.3


def test_where_it_has_no_measurement_of_the_size_its_deviation_at_other_sizes_counts():
    fast, slow = offer("a", (50, 0.1, 16), (10_000, 5.0, 16)), offer("b", (50, 0.2, 16))

    first, second = expected(fast, slow, tokens=10_000)

    assert second - first == pytest.approx(0.5, rel=0.2)
    assert first == pytest.approx(12.0, abs=0.4)


def test_within_a_class_latency_is_scaled_by_the_tokens():
    (first, second) = expected(offer("a", (1100, 1.1, 16)), offer("b", (4000, 4.0, 16)), tokens=2000)

    assert second - first == pytest.approx(0.0, abs=0.2)


def test_nothing_is_expected_before_the_first_measurement():
    assert expected(offer("a"), offer("b")) is None


def test_what_was_computed_is_used_again_for_a_moment():
    latencies, (a, b) = Latencies(), (offer("a", (0, 0.1, 16)), offer("b", (0, 0.1, 16)))
    before = expected(a, b, latencies=latencies)
    for _ in range(16):
        b[0].load.model(MODEL).first_token.observe(3.0, NOW)

    assert expected(a, b, latencies=latencies, now=NOW + 0.9 * VALID_S) == before
    assert expected(a, b, latencies=latencies, now=NOW + VALID_S)[1] > before[1]


def test_silence_counts_at_once():
    latencies, (a, b) = Latencies(), (offer("a", (0, 0.1, 16)), offer("b", (0, 0.1, 16)))
    expected(a, b, latencies=latencies)
    b[0].load.model(MODEL).first_token.waiting[object()] = NOW - 8.0

    first, second = expected(a, b, latencies=latencies)

    assert (round(2.0**first), round(2.0**second)) == (100, 8000)


def test_whole_answers_are_compared_by_the_length_of_prompt_and_answer():
    quick, slow = offer("a", (16 * 10, 0.5, 16), is_stream=False), offer("b", (16 * 1000, 50.0, 16), is_stream=False)
    wanted = Requirements(model=MODEL, is_stream=False, max_tokens=10)

    first, second = Latencies().expected(Candidates([quick, slow]), MODEL, NOW, wanted)

    assert first == second


def test_the_points_fall_with_each_doubling_beyond_four_times():
    assert [latency_points(doublings, 7.0) for doublings in (7.0, 9.0, 10.0, 13.0, 20.0)] == [100, 100, 75, 0, 0]


def test_without_a_size_the_smallest_class_is_compared():
    assert expected_doublings([offer("a", (0, 0.1, 1)), offer("b")], NOW, is_stream=True) == pytest.approx(
        [6.64] * 2, abs=0.01
    )
