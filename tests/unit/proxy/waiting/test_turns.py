"""The client with the fewest tokens is next, and nothing of clients that have left piles up."""

from types import SimpleNamespace

from nexus.proxy.waiting.crowd import Crowd
from nexus.proxy.waiting.turns import MAX_ABSENT, Turns


class Client(SimpleNamespace):
    __hash__ = object.__hash__


def order(turns):
    return [client.name for client in turns.in_turn()]


def test_clients_take_turns_by_what_they_have_used():
    turns = Turns()
    one, two = Client(name="one"), Client(name="two")
    turns.join(one)
    turns.join(two)
    before = order(turns)

    turns.charge(one, 100)
    between = order(turns)
    turns.charge(two, 300)

    assert (before, between, order(turns)) == (["one", "two"], ["two", "one"], ["one", "two"])


def test_a_search_that_is_given_up_loses_no_client():
    turns = Turns()
    for name in "abc":
        turns.join(Client(name=name))

    search = turns.in_turn()
    next(search)
    search.close()

    assert order(turns) == ["a", "b", "c"]


def test_clients_that_come_and_go_leave_nothing_behind():
    turns = Turns()
    turns.join(Client(name="stays"))

    for number in range(5 * MAX_ABSENT):
        client = Client(name=str(number))
        turns.join(client)
        if number % 2:
            turns.charge(client, 10_000_000)
        turns.leave(client)

    assert len(turns._heap) + len(turns._new) <= 2 * len(turns) + 64
    assert len(turns._debts) <= MAX_ABSENT
    assert order(turns) == ["stays"]


def test_the_client_with_the_most_requests_is_known():
    crowd = Crowd()
    for client, counts in (("a", (1, 2, 3)), ("b", (1, 2, 3, 4, 3, 2))):
        before = 0
        for after in counts:
            crowd.change(client, before, after)
            before = after

    assert (crowd.most, crowd.biggest(), list(crowd.largest())) == (3, "a", ["a", "b"])
    for before in (3, 2, 1):
        crowd.change("a", before, before - 1)
    assert (crowd.most, crowd.biggest()) == (2, "b")
    for before in (2, 1):
        crowd.change("b", before, before - 1)
    assert (crowd.most, list(crowd.largest())) == (0, [])
