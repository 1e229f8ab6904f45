"""Limits of the queue hold for all workers, and each has a part of its own."""

from hypothesis import given
from hypothesis import strategies as st

from nexus.proxy.waiting.sharing import Depth, Sharing


def test_one_process_has_all_of_a_limit():
    sharing = Sharing()

    assert (sharing.part_of(7), sharing.max_requests(7), sharing.max_body_bytes(7)) == (7, 7, 7)


@given(limit=st.integers(0, 1000), processes=st.integers(1, 128))
def test_the_parts_add_up_to_the_limit_and_differ_by_one_at_most(limit, processes):
    parts = [Sharing(processes, index).part_of(limit) for index in range(1, processes + 1)]

    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


@given(
    limit=st.integers(0, 20),
    processes=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80),
)
def test_no_more_wait_than_the_bound_and_no_process_is_locked_out(limit, processes, steps):
    every = [Sharing(processes, index) for index in range(1, processes + 1)]
    waiting = [0] * processes
    for process, arrives in steps:
        at = process % processes
        sharing = every[at]
        sharing.elsewhere = Depth(sum(waiting) - waiting[at])
        has_room = waiting[at] < sharing.max_requests(limit)
        if waiting[at] < sharing.part_of(limit) or sum(waiting) < limit:
            assert has_room
        waiting[at] += has_room if arrives else -(waiting[at] > 0)

        assert sum(waiting) <= max(limit, 2 * limit - min(each.part_of(limit) for each in every))
        assert processes > 1 or sum(waiting) <= limit
