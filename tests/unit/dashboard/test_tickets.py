"""A ticket admits one viewer, once, for half a minute."""

from nexus.dashboard.tickets import LIFETIME_S, MAX_TICKETS, Tickets
from tests.support.fakes import FakeClock


def always():
    return True


def test_a_ticket_is_good_once():
    tickets = Tickets()
    ticket = tickets.issue(always)

    assert [tickets.redeem(ticket), tickets.redeem(ticket)] == [always, None]


def test_a_ticket_that_was_never_issued_is_invalid():
    assert not Tickets().redeem("")


def test_a_ticket_expires():
    clock = FakeClock(100.0)
    tickets = Tickets(clock)
    ticket = tickets.issue(always)

    clock.now += LIFETIME_S

    assert not tickets.redeem(ticket)


def test_unused_tickets_are_forgotten():
    clock = FakeClock(100.0)
    tickets = Tickets(clock)
    first = tickets.issue(always)
    for _ in range(MAX_TICKETS):
        tickets.issue(always)

    assert not tickets.redeem(first)
    assert len(tickets._issued) == MAX_TICKETS
    clock.now += LIFETIME_S
    tickets.issue(always)
    assert len(tickets._issued) == 1


def test_a_ticket_is_invalid_once_its_key_is_revoked():
    tickets = Tickets()

    assert tickets.redeem(tickets.issue(lambda: False)) is None
