"""Requests go to the addresses of a backend in turn, except those to which connections fail."""

from collections import Counter

from nexus.proxy.upstream.rotation import AddressRotation


def test_the_addresses_take_turns():
    rotation = AddressRotation()

    assert Counter(rotation.next((b"a", b"b", b"c")) for _ in range(9)) == {b"a": 3, b"b": 3, b"c": 3}


def test_an_address_that_was_not_reached_is_skipped():
    rotation = AddressRotation()
    rotation.reached(b"a", b"b")
    rotation.reached(b"b", b"b")

    assert {rotation.next((b"a", b"b")) for _ in range(4)} == {b"b"}


def test_no_address_is_chosen_while_all_are_skipped():
    rotation = AddressRotation()
    rotation.reached(b"a", b"c")

    assert rotation.next((b"a",)) is None
