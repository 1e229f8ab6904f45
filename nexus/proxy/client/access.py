"""Checks a head before the body is read: HTTP version, framing, Host, web origin, key, number of hops."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, RawRequestMessage

from nexus.domain.priorities import RequestPriority
from nexus.domain.routes import Access
from nexus.errors import RequestError
from nexus.proxy.client import cors
from nexus.proxy.client.key_filter import KeyFilter, digest_of
from nexus.proxy.headers.from_client import MAX_HOPS, Head

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

AUTHORITY: Final = re.compile(r"\Ahttps?://([^/?#]*)", re.IGNORECASE)
"""The part before the path in a target of absolute form."""
_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?\Z")

_VERSIONS: Final[frozenset[HttpVersion]] = frozenset({HttpVersion10, HttpVersion11})
SHOWN_DIGITS: Final = 8
"""Of the SHA-256 digest of a key without a name, which operators can compare with that of the key."""
_MAX_TARGET: Final = 8190
_MAX_REMEMBERED_HOSTS: Final = 64


class KeyOwner(NamedTuple):
    """What a key stands for."""

    id: str
    """Unique among clients."""
    label: str
    """What operators are shown; never the key."""
    max_priority: RequestPriority = "high"


_NO_OWNERS: Final[Mapping[bytes, KeyOwner]] = MappingProxyType({})


class AccessRules:
    """The operator's rules of access.

    :param accepts_key: tells in constant time whether a key is one of ``api_keys``; None: clients need no key.
    :param accepts_admin_key: the same for ``admin_keys``; None: *accepts_key* applies.
    :param hosts: the names that a Host header may have, in lower case; None: any. IP addresses are always accepted.
    :param origins: the web origins whose pages may use the API.
    :param owners: what each key of ``api_keys`` stands for, by its digest; see :func:`~.key_filter.digest_of`.
    """

    def __init__(
        self,
        *,
        accepts_key: Callable[[bytes], bool] | None,
        accepts_admin_key: Callable[[bytes], bool] | None = None,
        hosts: frozenset[str] | None,
        origins: frozenset[bytes],
        owners: Mapping[bytes, KeyOwner] = _NO_OWNERS,
    ) -> None:
        self._accepts: dict[Access, Callable[[bytes], bool] | None] = {
            "client": accepts_key,
            "admin": accepts_admin_key or accepts_key,
            "open": None,
        }
        self._accepts_admin_key = accepts_admin_key
        checks = [check for check in (accepts_key, accepts_admin_key) if check is not None]
        self._has_keys = bool(checks)
        self.key_filter = KeyFilter(*checks)
        self._hosts = hosts
        self._origins = origins
        self._owners = owners
        self._good_hosts: set[bytes] = set()

    def check(self, message: RawRequestMessage, head: Head, access: Access = "client") -> None:
        """Raise RequestError unless the request is admitted.

        :param access: which keys give access.
        """
        self._check_framing(message, head)
        if head.host not in self._good_hosts:
            self._check_host(message, head.host)
        if head.origin or head.fetch_site:
            self._check_origin(message, head)
        accepts_key = self._accepts[access]
        if accepts_key is not None and not cors.is_preflight(message, head) and not _has_key(head, accepts_key):
            raise RequestError(
                "invalid_api_key",
                "a valid key is needed, as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if head.hops >= MAX_HOPS:
            raise RequestError("loop_detected", "the request has passed too many proxies; do they point at each other?")

    def has_key(self, head: Head, access: Access = "client") -> bool:
        """Whether the request has a key for *access*, or none is needed."""
        accepts_key = self._accepts[access]
        return accepts_key is None or _has_key(head, accepts_key)

    def key_digest_of(self, head: Head) -> bytes:
        """Return a digest that tells clients apart by their keys; empty without keys."""
        if not self._has_keys:
            return b""
        keys = [_bearer(head) or head.authorization, head.api_key]
        accepts_key = self._accepts["client"]
        if accepts_key is not None:
            # Other keys do not identify a client: many send the placeholder of their library.
            keys = [key for key in keys if accepts_key(key)][:1]
        return digest_of(b"\n".join(keys)) if any(keys) else b""

    def client_of(self, key_digest: bytes, remote: str) -> KeyOwner:
        """Return the client of a request with this :meth:`key_digest_of`, from the address *remote*.

        Without ``api_keys`` it is the address: a client can send another placeholder for a key each time.
        """
        if not key_digest or self._accepts["client"] is None:
            return KeyOwner(remote, remote)
        owner = self._owners.get(key_digest)
        return owner or KeyOwner(key_digest.hex(), f"key {key_digest.hex()[:SHOWN_DIGITS]}")

    def sees_all(self, head: Head) -> bool:
        """Whether the request may see what belongs to other clients: with an administrator's key, or without any keys.

        A key of ``api_keys`` is one client's, and not enough even where it gives access to the admin pages.
        """
        accepts_key = self._accepts_admin_key
        return not self._has_keys or (accepts_key is not None and _has_key(head, accepts_key))

    def cors_lines(self, origin: bytes) -> bytes:
        """Return the lines that let a page of *origin* read the reply; none unless the origin is allowed."""
        return cors.reply_lines(origin) if origin in self._origins else b""

    def _check_framing(self, message: RawRequestMessage, head: Head) -> None:
        version = message.version
        if version not in _VERSIONS:
            raise RequestError("http_version", "speak HTTP/1.1", close=True)
        if not message.path.startswith("/"):
            self._check_absolute_form(message, head)
        if len(message.path) > _MAX_TARGET:
            raise RequestError("uri_too_long", f"the request target may have {_MAX_TARGET} bytes", close=True)
        if not head.is_chunked:
            return
        codings = message.headers.getall("Transfer-Encoding", [])
        if version == HttpVersion10:
            raise RequestError("bad_request", "HTTP/1.0 has no Transfer-Encoding", close=True)
        if [c.strip().lower() for c in codings] != ["chunked"]:
            raise RequestError("transfer_coding", "the only transfer coding understood is chunked", close=True)

    def _check_absolute_form(self, message: RawRequestMessage, head: Head) -> None:
        if message.path == "*" and message.method == "OPTIONS":
            return
        authority = AUTHORITY.match(message.path)
        # Scheme and host are case-insensitive (RFC 9110, 4.2.3).
        if authority is None or authority[1].encode().lower() != head.host.lower():
            raise RequestError("bad_request", "send the request target as a path", close=True)

    def _check_host(self, message: RawRequestMessage, host: bytes) -> None:
        match = _HOST.match(host)
        if match is None or (match[3] and not 0 < int(match[3]) < 65536):
            if not host and message.version == HttpVersion10 and "Host" not in message.headers:
                return
            raise RequestError("bad_request", "the Host header is missing or malformed", close=True)
        name = (match[1] or match[2]).decode().lower()
        # A final dot does not change a complete domain name (RFC 1034, 3.1).
        if self._hosts is not None and name.removesuffix(".") not in self._hosts and not _is_address(name):
            raise RequestError(
                "misdirected_request",
                "this Host name is not served here; add it to server.allowed_hosts if it should be",
                close=True,
            )
        if len(self._good_hosts) < _MAX_REMEMBERED_HOSTS:
            self._good_hosts.add(host)

    def _check_origin(self, message: RawRequestMessage, head: Head) -> None:
        if head.origin:
            if head.origin in self._origins or (head.host and head.origin.partition(b"://")[2] == head.host):
                return
        elif head.fetch_site != b"cross-site" or _follows_link(message):
            return
        raise RequestError(
            "cross_origin", "requests from other web origins are refused; server.allowed_origins lists those allowed"
        )


def _is_address(name: str) -> bool:
    """Whether *name* is an IP address, which DNS rebinding cannot use.

    ``0.0.0.0`` and ``::`` do not count: a web page uses them to reach servers on the browser's own machine.
    """
    try:
        return not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _follows_link(message: RawRequestMessage) -> bool:
    """Whether a browser follows a link: the linking page cannot read the reply, and a GET changes nothing."""
    return message.method == "GET" and message.headers.get("Sec-Fetch-Mode") == "navigate"


def _has_key(head: Head, accepts_key: Callable[[bytes], bool]) -> bool:
    # Both are always compared, so that the time does not tell which one was wrong.
    return accepts_key(_bearer(head)) | accepts_key(head.api_key)


def _bearer(head: Head) -> bytes:
    scheme, _, token = head.authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
