"""Requests go to each address of a backend in turn, past those at which no connection can be made."""

from collections import Counter

from nexus.proxy.upstream.rotation import Spread


def test_each_address_has_its_turn():
    spread = Spread()

    assert Counter(spread.next((b"a", b"b", b"c")) for _ in range(9)) == {b"a": 3, b"b": 3, b"c": 3}


def test_one_that_was_not_reached_is_passed_over():
    spread = Spread()
    spread.reached(b"a", b"b")
    spread.reached(b"b", b"b")

    assert {spread.next((b"a", b"b")) for _ in range(4)} == {b"b"}


def test_there_is_none_when_none_was_reached():
    spread = Spread()
    spread.reached(b"a", b"c")

    assert spread.next((b"a",)) is None
