"""A request for a backend, once its head was checked and matched to an endpoint."""

import msgspec
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from nexus.domain.request import Endpoint
from nexus.proxy.client.access import AccessRules
from nexus.proxy.client.request_reader import WholeBody
from nexus.proxy.headers.from_client import Head
from nexus.wire.protocol import WireProtocol


class IncomingRequest(msgspec.Struct, frozen=True):
    """One request before its body is read."""

    message: RawRequestMessage
    body: StreamReader | WholeBody
    length: int | None
    """Bytes of the body; None when it is chunked, or there is none."""
    head: Head
    access: AccessRules
    """The rules that admitted it."""
    endpoint: Endpoint
    protocol: WireProtocol
    target: bytes
    """The path as backends expect it, and the query without keys of Nexus."""
    key_digest: bytes = b""
    """See :meth:`nexus.proxy.client.access.AccessRules.key_digest_of`."""
    remote: str = ""
    """The client's address."""
    method: bytes = b"POST"
    ids: tuple[str, ...] = ()
    """The ids in its path, of resources that a backend keeps."""
