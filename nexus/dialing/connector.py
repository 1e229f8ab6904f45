"""An aiohttp connector that dials like the proxy does, with the same names, certificates and limits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

from nexus.dialing import names
from nexus.dialing.age import expiry
from nexus.dialing.dial import Address, dial

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

_address: ContextVar[Address] = ContextVar("address")


@contextmanager
def connecting_to(address: Address) -> Iterator[None]:
    """Make requests within connect to *address*, which has settings that their URL lacks."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


class DialingConnector(aiohttp.BaseConnector):
    """Opens the connections of a session within :func:`connecting_to`; aiohttp keeps them apart by URL and TLS."""

    def __init__(self, *, connect_timeout_s: float, keepalive_s: float, max_age_s: Callable[[], float]) -> None:
        """:param max_age_s: called for each connection, because a reload may change it."""
        super().__init__(limit=0, keepalive_timeout=keepalive_s)
        self._connect_timeout_s: Final = connect_timeout_s
        self._max_age_s = max_age_s

    async def _create_connection(
        self,
        req: "ClientRequest",  # noqa: ARG002 - aiohttp's signature
        traces: list["Trace"],  # noqa: ARG002 - the same
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109 - the same
    ) -> ResponseHandler:
        address = _address.get()
        connection = await dial(address, partial(_AgingConnection, self._loop), timeout_s=self._connect_timeout_s)
        if names.is_name(address.next_hop[0]):
            connection.name = address.next_hop
        connection.expires_at = expiry(self._max_age_s())
        return connection


class _AgingConnection(ResponseHandler):
    """Closes after a response if it is too old, or if the server's name has other addresses by now."""

    expires_at = inf
    name: names.Place | None = None

    @property
    def should_close(self) -> bool:
        return super().should_close or monotonic() >= self.expires_at or self._has_moved

    @property
    def _has_moved(self) -> bool:
        if self.name is None or self.transport is None or (known := names.in_use(self.name)) is None:
            return False
        place = self.transport.get_extra_info("peername")
        return bool(place) and names.packed(place[0]) not in known.hosts
