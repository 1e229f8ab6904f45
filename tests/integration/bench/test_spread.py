"""The interval that decides whether a promise is broken."""

from math import comb

import pytest
from comparing.spread import MAX_CHANCE, spread_of
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


@given(VALUES)
def test_a_spread_holds_its_median_and_is_made_of_values(values):
    spread = spread_of(values)

    assert spread.low <= spread.middle <= spread.high
    assert {spread.low, spread.high} <= set(values)


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(values, chance):
    shuffled = chance.sample(values, len(values))

    assert spread_of(shuffled) == spread_of(values)


@pytest.mark.parametrize("count", [5, 7, 8, 10, 11, 20, 59])
def test_an_end_is_beyond_the_true_median_as_rarely_as_promised_and_the_next_value_is_not(count):
    cut = int(spread_of(range(count)).low)

    def chance_that_the_median_is_below(position):
        return sum(comb(count, fewer) for fewer in range(position + 1)) / 2**count

    assert chance_that_the_median_is_below(cut) <= MAX_CHANCE
    assert cut == (count - 1) // 2 or chance_that_the_median_is_below(cut + 1) > MAX_CHANCE


def test_five_rounds_reach_from_the_lowest_to_the_highest():
    spread = spread_of([5.0, 1.0, 4.0, 2.0, 3.0])

    assert (spread.low, spread.middle, spread.high) == (1.0, 3.0, 5.0)


def test_one_round_has_no_spread():
    spread = spread_of([7.0])

    assert (spread.low, spread.middle, spread.high) == (7.0, 7.0, 7.0)
