"""Requests go to each address of a backend in turn, past those at which no connection can be made."""

from collections import Counter

from nexus.proxy.upstream.rotation import AddressRotation


def test_each_address_has_its_turn():
    rotation = AddressRotation()

    assert Counter(rotation.next((b"a", b"b", b"c")) for _ in range(9)) == {b"a": 3, b"b": 3, b"c": 3}


def test_one_that_was_not_reached_is_passed_over():
    rotation = AddressRotation()
    rotation.reached(b"a", b"b")
    rotation.reached(b"b", b"b")

    assert {rotation.next((b"a", b"b")) for _ in range(4)} == {b"b"}


def test_there_is_none_when_none_was_reached():
    rotation = AddressRotation()
    rotation.reached(b"a", b"c")

    assert rotation.next((b"a",)) is None
