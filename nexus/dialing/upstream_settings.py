"""The settings by which one backend is reached, and the paths and headers of its requests."""

import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_plus, urlencode, urlsplit

import msgspec

from nexus.config.rules.urls import VERSION_SEGMENT
from nexus.dialing.tunnel import Proxy
from nexus.domain.kinds import BackendKind

_V1: Final = "/v1"


class UpstreamSettings(msgspec.Struct, frozen=True):
    """Sent to one backend only."""

    key: str | None = None
    """Sent in the header that the backend's kind uses."""
    headers: Mapping[str, str] = {}
    """Sent with every request; they replace the client's headers of the same names."""
    query: Mapping[str, str] = {}
    """Added to every request; they replace the client's parameters of the same names."""
    secrets: tuple[str, ...] = ()
    """The secrets in the headers and the query."""
    path_is_complete: bool | None = None
    """Whether the ``/v1`` of a client's path is removed; None: if the base path contains a version."""
    tls: ssl.SSLContext | None = None
    """None: trust the system's authorities."""
    proxy: Proxy | None = None
    """None: connect directly."""
    is_from_file: bool = False
    """Whether the backend is in the configuration file; only then may it be at a metadata address."""

    def __repr__(self) -> str:
        # Most fields are secret.
        return "UpstreamSettings(***)"

    @property
    def replaces_credentials(self) -> bool:
        """Whether the backend has configured credentials, so that the client's are not sent to it."""
        return self.key is not None or bool(self.secrets)

    def headers_for(self, kind: BackendKind) -> dict[str, str]:
        """Return the headers of every request, including the key in the header of *kind*."""
        if self.key is None:
            return dict(self.headers)
        value = f"Bearer {self.key}" if kind.key_header == "authorization" else self.key
        return {kind.key_header: value, **self.headers}

    def path_of(self, url: str) -> "PathMap":
        """Return the mapping of paths for the backend at *url*, which is normalised."""
        base = urlsplit(url).path.rstrip("/")
        is_complete = VERSION_SEGMENT.search(base) is not None
        return PathMap(base, is_complete if self.path_is_complete is None else self.path_is_complete, self.query)


DEFAULT_SETTINGS: Final = UpstreamSettings()
"""The settings of a backend that has none, such as a discovered one."""


class PathMap(msgspec.Struct, frozen=True):
    """Maps a path such as ``/v1/chat/completions`` to the request target of one backend."""

    base: str = ""
    """Without a trailing slash."""
    leaves_out_v1: bool = False
    query: Mapping[str, str] = {}

    def of(self, target: str) -> str:
        """Return the backend's target for *target*, a path with or without a query."""
        if self.leaves_out_v1 and target.startswith(f"{_V1}/"):
            target = target.removeprefix(_V1)
        if not self.query:
            return self.base + target
        path, _, query = target.partition("?")
        kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in self.query]
        return f"{self.base}{path}?{'&'.join([*kept, urlencode(self.query)])}"
