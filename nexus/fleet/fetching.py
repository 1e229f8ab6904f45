"""Small questions to backends over HTTP: short, bounded, without redirects, cookies or another's credentials."""

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
from nexus.errors import NexusError, RequestError, UpstreamError, UpstreamFault

LARGEST_ANSWER_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_IDLE_S: Final = 3.0
"""Most engines close idle connections after 5 s."""


class Target(msgspec.Struct, frozen=True):
    """Which server to ask, and with which credentials."""

    url: str
    """Normalised, without a trailing slash."""
    headers: Mapping[str, str] = {}
    settings: UpstreamSettings = DEFAULT_SETTINGS

    @property
    def address(self) -> Address:
        """Where the server listens."""
        return address_of(self.url, self.settings)

    def at(self, path: str) -> URL:
        """Return the URL at which the server answers to *path*, which may have a query."""
        parts = urlsplit(self.url)
        return URL(f"{parts.scheme}://{parts.netloc}{self.settings.path_of(self.url).of(path)}", encoded=True)


class Answer(msgspec.Struct, frozen=True):
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class FetchError(NexusError):
    """No answer, or none that may be read; the text says why in one line."""


class FetchTimeout(FetchError):
    """No answer in time."""


class FetchRefused(FetchError):
    """Nothing listens there: the connection was refused."""


class FetchShortage(FetchError):
    """The question could not be asked: this process has no file descriptor left for a connection."""


class Fetcher:
    """The HTTP client of the control plane; an async context manager."""

    def __init__(self, *, timeout_s: float, max_age_s: float = MAX_AGE_S) -> None:
        """:param max_age_s: how old a connection may become that is used for several questions."""
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

    async def get(self, target: Target, path: str) -> Answer:
        """Ask with GET. :raises FetchError: when there is no answer in time, or one that is too long."""
        return await self._fetch("GET", target, path, None)

    async def post(self, target: Target, path: str, body: bytes) -> Answer:
        """Ask with a POST of JSON. :raises FetchError: when there is no answer in time, or one that is too long."""
        return await self._fetch("POST", target, path, body)

    async def _fetch(self, method: str, target: Target, path: str, body: bytes | None) -> Answer:
        if self._session is None:
            raise RuntimeError("a Fetcher is used inside its context")
        headers = {**target.headers, "Content-Type": "application/json"} if body is not None else target.headers
        try:
            with connecting_to(target.address):
                async with (
                    asyncio.timeout(self.timeout_s),
                    self._session.request(
                        method,
                        target.at(path),
                        data=body,
                        headers=headers,
                        # For the connector it tells kept connections apart; a new one is made as the target says.
                        ssl=target.settings.tls or True,
                        allow_redirects=False,
                    ) as response,
                ):
                    return Answer(response.status, response.headers, await _bounded_body(response))
        except TimeoutError:
            raise self._too_late() from None
        except UpstreamError as exc:
            if exc.fault is UpstreamFault.CONNECT_TIMEOUT:
                raise self._too_late() from None
            # With a proxy on the way, the text says which of the two was not reached.
            is_told = target.settings.proxy is not None and exc.fault is UpstreamFault.REFUSED
            raise _failure(exc if is_told else exc.__cause__ or exc) from exc
        except RequestError as exc:
            raise FetchShortage(describe_failure(exc)) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _failure(exc) from exc

    def _too_late(self) -> FetchTimeout:
        return FetchTimeout(f"request timeout after {math.ceil(self.timeout_s)}s")


def _failure(exc: BaseException) -> FetchError:
    is_refused = isinstance(getattr(exc, "os_error", exc), ConnectionRefusedError)
    return (FetchRefused if is_refused else FetchError)(describe_failure(exc))


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            raise FetchError(f"invalid response: longer than {LARGEST_ANSWER_BYTES // 2**20} MiB")
    return bytes(body)


def describe_failure(exc: BaseException) -> str:
    """Say in one line why there was no answer, without any byte that came from the other side."""
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
