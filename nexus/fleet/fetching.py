"""The HTTP client for probes and discovery: bounded, without redirects, cookies or foreign credentials."""

import asyncio
import math
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from nexus.dialing.age import MAX_AGE_S
from nexus.dialing.connector import DialingConnector, connecting_to
from nexus.dialing.dial import Address, address_of
from nexus.dialing.metadata import MetadataAddressError
from nexus.dialing.names import NameLookupError
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.error_codes import UpstreamFault
from nexus.errors import NexusError, RequestError, UpstreamError

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_IDLE_S: Final = 3.0
"""Shorter than the 5 s after which most engines close idle connections."""


class Target(msgspec.Struct, frozen=True):
    """A server to send requests to, with its credentials."""

    url: str
    """Normalised, with no trailing slash."""
    headers: Mapping[str, str] = {}
    settings: UpstreamSettings = DEFAULT_SETTINGS

    @property
    def address(self) -> Address:
        """The address that the server listens on."""
        return address_of(self.url, self.settings)

    def at(self, path: str) -> URL:
        """Return the URL of *path*, which may have a query."""
        parts = urlsplit(self.url)
        return URL(f"{parts.scheme}://{parts.netloc}{self.settings.path_of(self.url).of(path)}", encoded=True)


class FetchResponse(msgspec.Struct, frozen=True):
    """A complete response, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class FetchError(NexusError):
    """There is no usable response; the text says why in one line."""


class FetchTimeout(FetchError):
    """The response did not arrive in time."""


class FetchRefused(FetchError):
    """The connection was refused: nothing listens there."""


class FetchShortage(FetchError):
    """The request was not sent: this process has no file descriptor left for a connection."""


class Fetcher:
    """The client; an async context manager."""

    def __init__(self, *, timeout_s: float, max_age_s: float = MAX_AGE_S) -> None:
        """:param max_age_s: the maximum age of a connection that is reused."""
        self.timeout_s = timeout_s
        self.max_age_s = max_age_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=DialingConnector(
                connect_timeout_s=self.timeout_s, keepalive_s=_IDLE_S, max_age_s=lambda: self.max_age_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None),
            headers={"User-Agent": "nexus-proxy", "Accept": "application/json, */*"},
            skip_auto_headers={"Accept-Encoding"},
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self, target: Target, path: str, *, timeout_s: float | None = None, max_bytes: int = MAX_ANSWER_BYTES
    ) -> FetchResponse:
        """Send a GET request. :raises FetchError: no response in time, or one that is too long.

        :param timeout_s: None: that of the client.
        """
        return await self._fetch("GET", target, path, None, timeout_s, max_bytes)

    async def post(self, target: Target, path: str, body: bytes) -> FetchResponse:
        """Send a POST request with JSON. :raises FetchError: no response in time, or one that is too long."""
        return await self._fetch("POST", target, path, body)

    async def _fetch(  # noqa: PLR0913 - a request and its bounds
        self,
        method: str,
        target: Target,
        path: str,
        body: bytes | None,
        timeout_s: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> FetchResponse:
        if self._session is None:
            raise RuntimeError("a Fetcher is used inside its context")
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        headers = {**target.headers, "Content-Type": "application/json"} if body is not None else target.headers
        try:
            with connecting_to(target.address):
                async with (
                    asyncio.timeout(timeout_s),
                    self._session.request(
                        method,
                        target.at(path),
                        data=body,
                        headers=headers,
                        # Only keeps connections with different settings apart; the connector uses the target's own.
                        ssl=target.settings.tls or True,
                        allow_redirects=False,
                    ) as response,
                ):
                    return FetchResponse(response.status, response.headers, await _bounded_body(response, max_bytes))
        except TimeoutError:
            raise _timeout(timeout_s) from None
        except UpstreamError as exc:
            if exc.fault is UpstreamFault.CONNECT_TIMEOUT:
                raise _timeout(self.timeout_s) from None
            # Behind a proxy, the text of the error itself says which of the two refused.
            names_hop = target.settings.proxy is not None and exc.fault is UpstreamFault.REFUSED
            raise _failure(exc if names_hop else exc.__cause__ or exc) from exc
        except RequestError as exc:
            raise FetchShortage(describe_failure(exc)) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _failure(exc) from exc


def _timeout(after_s: float) -> FetchTimeout:
    return FetchTimeout(f"request timeout after {math.ceil(after_s)}s")


def _failure(exc: BaseException) -> FetchError:
    is_refused = isinstance(getattr(exc, "os_error", exc), ConnectionRefusedError)
    return (FetchRefused if is_refused else FetchError)(describe_failure(exc))


async def _bounded_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"invalid response: longer than {max_bytes // 2**20} MiB")
    return bytes(body)


def describe_failure(exc: BaseException) -> str:
    """Return in one line why there was no response, without any bytes from the server."""
    match exc:
        case MetadataAddressError():
            return f"connection refused: {exc}"
        case NameLookupError():
            return f"DNS resolution failed: {_reason(exc)}"
        case ssl.SSLCertVerificationError():
            return f"TLS certificate error: {exc.verify_message or type(exc).__name__}"
        case ssl.SSLError():
            return f"TLS error: {_reason(exc)}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "connection failed: closed before the answer was complete"
        case aiohttp.ClientResponseError():
            return "invalid response: not HTTP"
        case OSError():
            return f"connection failed: {_reason(exc)}"
        case NexusError():
            return f"connection failed: {exc}"
        case _:
            return f"connection failed: {type(exc).__name__}"


def _reason(exc: OSError) -> str:
    return exc.strerror or type(exc).__name__
