"""A histogram counts each value once, in the first bucket that holds it."""

import pytest

from nexus.observability.metrics.histogram import Histogram, TracedHistogram


@pytest.mark.parametrize(("value", "counts"), [(0.0, [1, 0, 0]), (1.0, [1, 0, 0]), (1.1, [0, 1, 0]), (2.1, [0, 0, 1])])
@pytest.mark.parametrize(
    ("kind", "put"),
    [
        (Histogram, lambda it, value: it.observe(value)),
        (TracedHistogram, lambda it, value: it.trace(("id", value, 0.0))),
    ],
)
def test_an_upper_bound_is_part_of_its_bucket(kind, put, value, counts):
    histogram = kind((1.0, 2.0))

    put(histogram, value)

    assert (histogram.counts, histogram.sum) == (counts, value)


def test_two_are_added_up():
    one, other = Histogram((1.0,)), TracedHistogram((1.0,))
    one.observe(0.5)
    other.trace(("id", 2.0, 0.0))

    both = one + other

    assert (both.counts, both.sum, one.counts) == ([1, 1], 2.5, [1, 0])
