"""Every request has a name of its own."""

import re

from nexus.proxy.request_ids import new_request_id


def test_no_two_are_the_same():
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_they_can_stand_in_any_header():
    assert re.fullmatch(r"req-[0-9a-f]{12}-[0-9a-f]+", new_request_id())
