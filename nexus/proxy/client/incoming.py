"""The head of a request for a backend, once it was checked and matched to an endpoint."""

import msgspec
from aiohttp.http import RawRequestMessage

from nexus.domain.request import Endpoint
from nexus.proxy.client.access import AccessRules
from nexus.proxy.headers.from_client import Head
from nexus.wire.protocol import WireProtocol


class IncomingRequest(msgspec.Struct, frozen=True):
    """One request without its body; requests in a row that have the same head share it."""

    message: RawRequestMessage
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
