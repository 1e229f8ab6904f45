"""What is known of a request before its body, once it was let in."""

import msgspec
from aiohttp.http import RawRequestMessage

from nexus.domain.request import Endpoint
from nexus.proxy.exchange.context import Settings
from nexus.proxy.headers.from_client import Head
from nexus.wire.protocol import WireProtocol


class Admission(msgspec.Struct, frozen=True):
    """A request that was let in, as far as its head says; it holds for any request with the same one."""

    message: RawRequestMessage
    settings: Settings
    """By which it was let in."""
    head: Head
    endpoint: Endpoint
    protocol: WireProtocol
    target: bytes
    """The path as backends know it, and the query without a key of ours."""
    key_digest: bytes = b""
    """See :meth:`nexus.proxy.client.access.Door.client_of`."""
    method: bytes = b"POST"
    ids: tuple[str, ...] = ()
    """What the path names that a backend keeps."""
