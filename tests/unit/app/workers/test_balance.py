"""Workers far above their share close connections, those near it none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.app.workers.balance import connections_to_close


@pytest.mark.parametrize(
    ("requests", "closed"),
    [
        ({}, {}),
        ({1: 500.0}, {}),
        ({1: 8.0, 2: 0.0}, {}),
        ({1: 110.0, 2: 90.0}, {}),
        ({1: 300.0, 2: 100.0}, {1: 50}),
        ({1: 40.0, 2: 0.0, 3: 0.0, 4: 0.0}, {1: 15}),
    ],
)
def test_only_a_worker_far_above_the_mean_closes_connections(requests, closed):
    assert connections_to_close(requests) == closed


@given(st.dictionaries(st.integers(1, 16), st.floats(0, 1e6), max_size=16))
def test_no_worker_closes_so_many_that_it_falls_below_the_mean(requests):
    mean = sum(requests.values()) / max(len(requests), 1)

    for worker, count in connections_to_close(requests).items():
        assert 1 <= count <= requests[worker] - mean
