"""Each request is checked, and goes to what serves it."""

import re

from nexus.proxy.dispatch.handler import new_request_id


def test_no_two_request_ids_are_the_same():
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_a_request_id_can_stand_in_any_header():
    assert re.fullmatch(r"req-[0-9a-f]{32}", new_request_id())


def test_a_request_id_says_nothing_of_the_next():
    ids = [new_request_id().removeprefix("req-") for _ in range(100)]

    assert all(len({id_[at] for id_ in ids}) > 3 for at in range(32))
