"""What the operator has configured for reaching one backend, and the path and headers that follow from it."""

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
    """What is sent to one backend and no other, and what its certificate must be."""

    key: str | None = None
    """Sent in the header of the backend's kind."""
    headers: Mapping[str, str] = {}
    """Sent with every request, in the place of a client's own of the same name."""
    query: Mapping[str, str] = {}
    """Added to every request, in the place of a client's own parameters of the same name."""
    secrets: tuple[str, ...] = ()
    """What of the headers and the query is secret."""
    path_is_complete: bool | None = None
    """Whether the ``/v1`` of a client's path is left out; None: when the base path names a version."""
    tls: ssl.SSLContext | None = None
    """None: the system's authorities are trusted."""
    proxy: Proxy | None = None
    """The proxy on the way; None: it is connected to directly."""
    is_from_file: bool = False
    """Whether the configuration file names the server: only then may it be at a link-local address, where clouds keep a
    machine's secrets."""

    def __repr__(self) -> str:
        # Most of it is secret.
        return "UpstreamSettings(***)"

    @property
    def replaces_credentials(self) -> bool:
        """Whether the backend has credentials of its own, so that those of a client do not go there."""
        return self.key is not None or bool(self.secrets)

    def headers_for(self, kind: BackendKind) -> dict[str, str]:
        """Return the headers of every request, the key of a backend of this *kind* among them."""
        if self.key is None:
            return dict(self.headers)
        value = f"Bearer {self.key}" if kind.key_header == "authorization" else self.key
        return {kind.key_header: value, **self.headers}

    def path_of(self, url: str) -> "PathMap":
        """Return how paths become those of the backend at *url*, which is normalised."""
        base = urlsplit(url).path.rstrip("/")
        is_complete = VERSION_SEGMENT.search(base) is not None
        return PathMap(base, is_complete if self.path_is_complete is None else self.path_is_complete, self.query)


DEFAULT_SETTINGS: Final = UpstreamSettings()
"""Of a backend that is not configured but discovered."""


class PathMap(msgspec.Struct, frozen=True):
    """Makes the target of a request to one backend from a path such as ``/v1/chat/completions``."""

    base: str = ""
    """Without a slash at its end."""
    leaves_out_v1: bool = False
    query: Mapping[str, str] = {}

    def of(self, target: str) -> str:
        """Return *target*, a path with or without a query, as the backend expects it."""
        if self.leaves_out_v1 and target.startswith(f"{_V1}/"):
            target = target.removeprefix(_V1)
        if not self.query:
            return self.base + target
        path, _, query = target.partition("?")
        kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in self.query]
        return f"{self.base}{path}?{'&'.join([*kept, urlencode(self.query)])}"
