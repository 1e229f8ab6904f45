"""A request whose head was read, checked and matched to an endpoint."""

import msgspec
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from nexus.domain.request import Endpoint
from nexus.proxy.client.access import AccessRules
from nexus.proxy.headers.from_client import Head
from nexus.wire.protocol import WireProtocol


class IncomingRequest(msgspec.Struct, frozen=True):
    """One request for a model, or for what a backend keeps, before its body is read."""

    message: RawRequestMessage
    body: StreamReader
    length: int | None
    """Bytes of the body; None when it is chunked, or there is none."""
    head: Head
    access: AccessRules
    """The rules by which it was admitted."""
    endpoint: Endpoint
    protocol: WireProtocol
    target: bytes
    """The path as backends know it, and the query without a key of Nexus."""
    key_digest: bytes = b""
    """See :meth:`nexus.proxy.client.access.AccessRules.client_of`."""
    method: bytes = b"POST"
    ids: tuple[str, ...] = ()
    """The ids in its path: of what a backend keeps."""
