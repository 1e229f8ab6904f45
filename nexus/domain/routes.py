"""Pages that Nexus answers itself, its own and those that plugins add below ``/admin/<plugin>/``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

AdminReply = tuple[int, str, bytes]
"""An HTTP status, a content type and a body."""


Access = Literal["client", "admin", "open"]
"""Whose key a path asks for, where keys are configured: a client's, an administrator's, nobody's."""


class AdminRoute(msgspec.Struct, frozen=True):
    """One GET page of a plugin; who may call it is checked before the plugin is asked."""

    path: str
    """Below ``/admin/<plugin>``, with a leading slash: ``/report``; ``/`` is the plugin's front page. What the plugin
    manager hands on is the whole path."""
    respond: Callable[[Mapping[str, str]], AdminReply | Awaitable[AdminReply]]
    """Makes the reply from the query's parameters; a plain function must be quick, a coroutine function may wait."""


class Page(msgspec.Struct, frozen=True):
    """A whole answer of ours: status, content type, body and further headers."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a page may know of the request for it."""

    method: str
    path: str
    """Without the query."""
    query: str = ""
    accept: str = ""
    body: bytes = b""
    content_type: bytes = b""
    origin: bytes = b""
    fetch_site: bytes = b""
    """``Sec-Fetch-Site``, by which browsers say whose page asks."""
    hints: Mapping[str, str] = {}
    """The ``X-Nexus-*`` headers by which clients speak to stages, lower case."""
    request_id: str = ""
    is_anthropic: bool = False
    """Whether the client speaks Anthropic's protocol: some paths are shared by two."""
    is_known: bool = True
    """Whether the client has shown a key, or needs none; false only where the path itself asks for none."""
    is_admin: bool = True
    """The same for an administrator's."""
    is_still_admin: Callable[[], bool] = lambda: True
    """Whether the same would be said by the configuration that is in force when it is called, for what outlasts the
    request."""
    sees_all: bool = True
    """Whether it may be shown what belongs to other clients."""
    key_digest: bytes = b""
    """Of the key that the client has shown; see ``sees_all``."""
    client_request_id: str = ""
    """The client's own, empty when it sent none."""


class SocketRoute(msgspec.Struct, frozen=True):
    """One path that begins a WebSocket; no key can be sent with one by a browser, so it is for the route to admit."""

    path: str
    admit: Callable[[PageRequest], Callable[[Any], Awaitable[None]]]
    """Raises RequestError when this client may not look on; else returns what serves the socket, until it is over."""


class PageRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One path that Nexus answers itself; one that ends in ``/`` stands for all paths below it."""

    path: str
    respond: Callable[[PageRequest], Page | Awaitable[Page]]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    narrower: Callable[[str], frozenset[str]] | None = None
    """Returns the methods of one path below it; None: all of :attr:`methods`."""
    access: Access = "client"
    takes_requests: bool = False
    """Whether its body is that of a request to a model: then it may be as long, and counts as one while it is read."""

    def methods_at(self, path: str) -> frozenset[str]:
        """Return the methods of *path*, which is this route's."""
        return self.methods if self.narrower is None else self.narrower(path)
