"""What a connection of a client needs around it: what all of them share, what answers, and what writes to it."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiohttp.http import RawRequestMessage

from nexus.errors import RequestError
from nexus.proxy.client.descriptors import Descriptors
from nexus.proxy.client.known_head import Payload
from nexus.proxy.write_batch import Outbox

if TYPE_CHECKING:
    from nexus.proxy.client.connection import ClientConnection


class Pausable(Protocol):
    """Writes to a client, and pauses while it does not take any more."""

    @property
    def is_chunked(self) -> bool:
        """Whether it sends chunks."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Desk(Protocol):
    """Answers requests."""

    async def __call__(self, client: "ClientConnection", message: RawRequestMessage, payload: Payload, /) -> bool:
        """Write the answer to one request; return whether another may follow on the connection."""

    def malformed(self, client: "ClientConnection", exc: RequestError, *, is_head: bool) -> bytes:
        """Return the answer to bytes that are no request; without a body where *is_head*."""


class Reception(Protocol):
    """What all connections have in common."""

    loop: asyncio.AbstractEventLoop
    desk: Desk
    connections: "set[ClientConnection]"
    """Those that are open; each adds and removes itself."""
    headers_s: float
    """How long a head may take to come."""
    keepalive_s: float
    """How long a connection may stay open without a request."""
    write_stall_s: float
    """How long a client may take nothing of what was written for it."""
    outbox: Outbox | None
    """Where answers wait for those of the same turn."""
    descriptors: Descriptors | None
    """None: there is no limit to them."""
    is_draining: bool
    """Whether connections end with the next answer, so that clients send what follows elsewhere."""
    grace_s: float | None
    """How long an idle connection stays open once nothing is accepted any more; None before that."""
