"""A ticket that one worker has issued admits one viewer at any worker."""

import pytest

from nexus.dashboard.shared_tickets import SharedTickets
from nexus.proxy.client.access import AccessRules
from nexus.proxy.dispatch.pages import AdminCheck


class Party:
    """Passes on what each of its members tells and asks."""

    def __init__(self):
        self.members = []

    def member(self):
        self.members.append(Member(self))
        return self.members[-1]


class Member:
    def __init__(self, party):
        self._party, self._receivers = party, {}

    def on(self, topic, _type, receive):
        self._receivers[topic] = receive

    answers = on

    async def ask(self, topic, payload, *, timeout_s):
        del timeout_s
        for other in self._party.members:
            if other is not self:
                await other._receivers[topic](payload)

    def tell(self, topic, payload):
        for other in self._party.members:
            if other is not self:
                other._receivers[topic](payload)


KEYS = {b"secret"}


@pytest.fixture
def workers():
    party = Party()
    rules = AccessRules(accepts_key=None, accepts_admin_key=KEYS.__contains__, hosts=None, origins=frozenset())
    return [SharedTickets(party.member(), lambda: rules) for _ in range(3)], lambda: rules


async def issued(tickets, is_admitted):
    ticket = tickets.issue(is_admitted)
    await tickets.share(ticket, is_admitted)
    return ticket


async def test_any_worker_admits_a_viewer_once(workers):
    tickets, rules = workers
    ticket = await issued(tickets[0], AdminCheck(rules, b"Bearer secret", b""))

    assert tickets[2].redeem(ticket) is not None
    assert [each.redeem(ticket) for each in tickets] == [None, None, None]


async def test_a_ticket_of_a_key_that_is_no_longer_valid_is_refused_everywhere(workers):
    tickets, rules = workers
    ticket = await issued(tickets[0], AdminCheck(rules, b"", b"old"))

    assert [each.redeem(ticket) for each in tickets] == [None, None, None]
