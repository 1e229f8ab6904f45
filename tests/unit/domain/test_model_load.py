import pytest

from nexus.domain.model_load import (
    FAILURE_HALF_LIFE_S,
    HALF_LIFE_S,
    MAX_WEIGHT,
    LearnedCapacity,
    ModelLoad,
    Pace,
    RequestSize,
)
from nexus.domain.request import Requirements, TokenUsage


def measured(*seconds, now=100.0):
    pace = Pace()
    for second in seconds:
        pace.observe(second, now)
    return pace


def test_the_mean_of_equal_measurements_is_each_of_them():
    assert measured(0.2, 0.2, 0.2).mean_ms() == 200


def test_one_slow_answer_among_many_hardly_moves_the_mean():
    assert measured(*[0.1] * 16, 60.0).mean_ms() < 120


def test_a_lasting_change_moves_the_mean():
    assert measured(*[0.1] * 16, *[1.0] * 40).mean_ms() > 800


def test_a_measurement_counts_half_as_much_after_its_half_life():
    pace = measured(0.5, 0.5)

    assert pace.aged(100.0 + HALF_LIFE_S)[0] == pytest.approx(1.0)


def test_the_weight_of_measurements_is_bounded():
    assert measured(*[0.1] * 1000).weight == pytest.approx(MAX_WEIGHT)


def test_an_answer_in_no_time_is_one():
    assert measured(0.0).mean_ms() == 1


def test_failures_fade():
    figures = ModelLoad()

    figures.fail(10.0)
    figures.fail(10.0)

    assert figures.recent_failures(10.0) == 2
    assert figures.recent_failures(10.0 + FAILURE_HALF_LIFE_S) == pytest.approx(1.0)
    assert figures.recent_failures(10.0 + 2 * FAILURE_HALF_LIFE_S) == 0


class TestRequestSize:
    def test_an_unknown_model_answers_with_a_fixed_guess_but_no_more_than_the_request_accepts(self):
        size = RequestSize()

        assert size.expected(Requirements(model="m", prompt_tokens=100), is_chat=True) == (100, 256)
        assert size.expected(Requirements(model="m", max_tokens=20, answers=3), is_chat=True) == (0, 60)
        assert size.expected(Requirements(model="m", prompt_tokens=100), is_chat=False) == (100, 0)

    def test_the_estimate_of_a_prompt_is_corrected_by_what_backends_count(self):
        size, wanted = RequestSize(), Requirements(model="m", prompt_tokens=1000)
        for _ in range(100):
            size.learn(wanted, TokenUsage(2000, 50), has_prompt=True, has_answer=True)

        assert size.expected(wanted, is_chat=True) == (pytest.approx(2000, rel=0.02), 50)

    def test_a_few_short_prompts_with_a_long_template_say_little(self):
        size = RequestSize()
        for _ in range(5):
            size.learn(Requirements(model="m", prompt_tokens=2), TokenUsage(30, 5), has_prompt=True, has_answer=True)

        assert size.ratio < 1.6

    def test_images_do_not_spoil_the_ratio(self):
        size = RequestSize()
        seen = Requirements(model="m", prompt_tokens=50, needs_vision=True)

        size.learn(seen, TokenUsage(9000, 5), has_prompt=True, has_answer=True)

        assert size.ratio == 1.0

    def test_the_mean_length_of_an_answer_follows_the_last_ones(self):
        size, wanted = RequestSize(), Requirements(model="m", answers=2)
        for tokens in [1000] * 50 + [100] * 200:
            size.learn(wanted, TokenUsage(10, tokens), has_prompt=True, has_answer=True)

        assert size.answer_tokens == pytest.approx(50, rel=0.02)


class TestLearnedCapacity:
    @staticmethod
    def learn(engine_slots, in_flight, *, times=200, learned=None, floor=4):
        """Observe an engine whose requests wait in turn beyond its slots, with so many in flight."""
        learned = learned or LearnedCapacity()
        for n in range(times):
            there = in_flight(n) if callable(in_flight) else in_flight
            waits = max(0, there - engine_slots)
            learned.observe(0.1 * (1 + 3 * waits / engine_slots), 100, there, floor)
        return learned

    def test_nothing_is_learned_while_the_first_token_comes_soon(self):
        assert self.learn(64, lambda n: 1 + n % 60).limit is None

    def test_the_limit_is_about_where_requests_begin_to_wait(self):
        learned = self.learn(16, lambda n: 1 + n % 60, times=3000)

        assert 12 <= learned.limit <= 40

    def test_it_grows_again_when_there_is_more_room(self):
        learned = self.learn(8, lambda n: 1 + n % 30, times=1000)
        before = learned.limit
        self.learn(64, lambda n: 1 + n % 60, times=1000, learned=learned)

        assert learned.limit is None or learned.limit > 2 * before

    def test_slow_answers_beyond_the_limit_do_not_lower_it(self):
        learned = self.learn(16, lambda n: 1 + n % 60, times=1000)
        before = learned.limit
        self.learn(16, 200, times=300, learned=learned)

        assert learned.limit == before

    def test_it_never_falls_below_the_floor(self):
        learned = self.learn(1, lambda n: 1 + n % 12, times=2000, floor=6)

        assert learned.limit is None or learned.limit >= 6

    def test_a_long_prompt_is_no_sign_of_a_limit(self):
        learned = LearnedCapacity()
        for n in range(400):
            tokens = 100 if n % 2 else 50_000
            learned.observe(tokens / 5000, tokens, 20, 4)

        assert learned.limit is None
