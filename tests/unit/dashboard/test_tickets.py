"""A ticket lets one viewer in, once, and not for long."""

from nexus.dashboard.tickets import LIFETIME_S, MOST_TICKETS, Tickets


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_ticket_is_good_once():
    tickets = Tickets()
    ticket = tickets.issue()

    assert [tickets.redeem(ticket), tickets.redeem(ticket)] == [True, False]


def test_a_ticket_that_was_never_issued_is_worth_nothing():
    assert not Tickets().redeem("")


def test_a_ticket_expires():
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.issue()

    clock.now += LIFETIME_S

    assert not tickets.redeem(ticket)


def test_tickets_that_nobody_uses_are_forgotten():
    clock = Clock()
    tickets = Tickets(clock)
    first = tickets.issue()
    for _ in range(MOST_TICKETS):
        tickets.issue()

    assert not tickets.redeem(first)
    assert len(tickets._expires_at) == MOST_TICKETS
    clock.now += LIFETIME_S
    tickets.issue()
    assert len(tickets._expires_at) == 1
