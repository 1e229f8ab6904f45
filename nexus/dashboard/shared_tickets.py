"""Tickets that any worker admits, because a browser's next connection may reach another one."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from nexus.dashboard.tickets import IsAdmitted, Tickets
from nexus.proxy.client.access import AccessRules
from nexus.proxy.dispatch.pages import AdminCheck
from nexus.workers.channel import ChannelError
from nexus.workers.peers import Peers

ISSUED: Final = "dashboard.ticket"
REDEEMED: Final = "dashboard.redeemed"
KNOWN_WITHIN_S: Final = 1.0
"""How long the browser waits for its ticket until all workers know it; a worker that hangs serves no feed anyway."""


class Issued(msgspec.Struct, frozen=True, array_like=True):
    """A ticket that another worker has issued."""

    ticket: str
    authorization: bytes
    api_key: bytes


class SharedTickets(Tickets):
    """Each worker knows a ticket before the browser does, and forgets those that are used.

    :param rules: returns the access rules in force.
    """

    def __init__(self, peers: Peers, rules: Callable[[], AccessRules]) -> None:
        super().__init__()
        self._peers = peers
        self._rules = rules
        peers.answers(ISSUED, Issued, self._take)
        peers.on(REDEEMED, str, self._forget)

    async def share(self, ticket: str, is_admitted: IsAdmitted) -> None:
        if isinstance(is_admitted, AdminCheck):
            issued = Issued(ticket, is_admitted.authorization, is_admitted.api_key)
            with suppress(ChannelError):
                await self._peers.ask(ISSUED, issued, timeout_s=KNOWN_WITHIN_S)

    def redeem(self, ticket: str) -> IsAdmitted | None:
        is_admitted = super().redeem(ticket)
        if is_admitted is not None:
            self._peers.tell(REDEEMED, ticket)
        return is_admitted

    async def _take(self, issued: Issued) -> None:
        self.accept(issued.ticket, AdminCheck(self._rules, issued.authorization, issued.api_key))

    def _forget(self, ticket: str) -> None:
        super().redeem(ticket)
