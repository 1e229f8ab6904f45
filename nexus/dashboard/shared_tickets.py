"""Tickets that any worker admits, because a browser's next connection may reach another one."""

from collections.abc import Callable
from typing import Final

import msgspec

from nexus.dashboard.tickets import IsAdmitted, Tickets
from nexus.proxy.client.access import AccessRules
from nexus.proxy.dispatch.pages import AdminCheck
from nexus.workers.peers import Peers

ISSUED: Final = "dashboard.ticket"
REDEEMED: Final = "dashboard.redeemed"


class Issued(msgspec.Struct, frozen=True, array_like=True):
    """A ticket that another worker has issued."""

    ticket: str
    authorization: bytes
    api_key: bytes


class SharedTickets(Tickets):
    """Each worker knows all tickets within a millisecond, and forgets those that are used.

    :param rules: returns the access rules in force.
    """

    def __init__(self, peers: Peers, rules: Callable[[], AccessRules]) -> None:
        super().__init__()
        self._peers = peers
        self._rules = rules
        peers.on(ISSUED, Issued, self._take)
        peers.on(REDEEMED, str, self._forget)

    def issue(self, is_admitted: IsAdmitted) -> str:
        ticket = super().issue(is_admitted)
        if isinstance(is_admitted, AdminCheck):
            self._peers.tell(ISSUED, Issued(ticket, is_admitted.authorization, is_admitted.api_key))
        return ticket

    def redeem(self, ticket: str) -> IsAdmitted | None:
        is_admitted = super().redeem(ticket)
        if is_admitted is not None:
            self._peers.tell(REDEEMED, ticket)
        return is_admitted

    def _take(self, issued: Issued) -> None:
        self.accept(issued.ticket, AdminCheck(self._rules, issued.authorization, issued.api_key))

    def _forget(self, ticket: str) -> None:
        super().redeem(ticket)
