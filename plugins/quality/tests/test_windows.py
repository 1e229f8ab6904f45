"""A rolling window tells what a list of all samples would, in memory that does not grow."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_quality.windows import RollingWindow

BUCKETS = 5


def test_an_empty_window_holds_nothing():
    window = RollingWindow(BUCKETS)

    assert (window.count, window.total) == (0, 0)


@pytest.mark.parametrize(("tick", "held"), [(104, (1, 7)), (105, (0, 0)), (10_000, (0, 0))])
def test_a_sample_is_held_for_as_many_ticks_as_there_are_buckets(tick, held):
    window = RollingWindow(BUCKETS)
    window.add(7, 100)

    window.move_to(tick)

    assert (window.count, window.total) == held


def test_time_that_runs_backwards_stands_still():
    window = RollingWindow(BUCKETS)
    window.add(1, 100)

    window.add(2, 97)
    window.move_to(99)

    assert (window.count, window.total) == (2, 3)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 86_400_000)), max_size=60), st.integers(0, 7))
def test_it_tells_what_a_list_would(steps, pause):
    window, samples, tick = RollingWindow(BUCKETS), [], 1_000
    for passed, sample in steps:
        tick += passed
        window.add(sample, tick)
        samples.append((tick, sample))
    tick += pause

    window.move_to(tick)

    young = [sample for at, sample in samples if at > tick - BUCKETS]
    assert (window.count, window.total) == (len(young), sum(young))


def test_its_memory_does_not_grow_with_the_samples():
    window = RollingWindow(BUCKETS)
    before = size_of(window)

    for number in range(5_000):
        window.add(86_400_000, number // 10)

    assert size_of(window) == before


def size_of(window):
    return sys.getsizeof(window._counts) + sys.getsizeof(window._totals)
