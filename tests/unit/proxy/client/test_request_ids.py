"""Every request has a name of its own."""

import re

from nexus.proxy.client.request_ids import id_lines, new_request_id


def test_no_two_are_the_same():
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_they_can_stand_in_any_header():
    assert re.fullmatch(r"req-[0-9a-f]{32}", new_request_id())


def test_one_says_nothing_of_the_next():
    ids = [new_request_id().removeprefix("req-") for _ in range(100)]

    assert all(len({id_[at] for id_ in ids}) > 3 for at in range(32))


def test_an_answer_names_its_request_once():
    assert id_lines("req-1", "") == b"X-Request-Id: req-1\r\n"


def test_a_clients_own_id_comes_back_to_it_beside_ours():
    assert id_lines("req-1", "mine") == b"X-Request-Id: mine\r\nX-Nexus-Request-Id: req-1\r\n"
