"""Pages that Nexus serves itself, its own and those of plugins below ``/admin/<plugin>/``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

AdminReply = tuple[int, str, bytes]
"""An HTTP status, a content type and a body."""


Access = Literal["client", "admin", "open"]
"""The key that a path requires, if keys are configured: a client's, an administrator's, or none."""


class AdminRoute(msgspec.Struct, frozen=True):
    """One GET page of a plugin; access is checked before the plugin is called."""

    path: str
    """Below ``/admin/<plugin>``, with a leading slash: ``/report``; ``/`` is the plugin's front page. The plugin
    manager prepends the rest of the path."""
    respond: Callable[[Mapping[str, str]], AdminReply | Awaitable[AdminReply]]
    """Returns the reply to the query's parameters; a plain function must be quick, a coroutine function may wait."""


class Page(msgspec.Struct, frozen=True):
    """A complete response of Nexus itself."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a request that a page may use."""

    method: str
    path: str
    """Without the query."""
    query: str = ""
    accept: str = ""
    body: bytes = b""
    content_type: bytes = b""
    origin: bytes = b""
    fetch_site: bytes = b""
    """``Sec-Fetch-Site``, by which browsers tell which site's page sends the request."""
    hints: Mapping[str, str] = {}
    """The ``X-Nexus-*`` headers, which are addressed to stages; lower case."""
    request_id: str = ""
    is_anthropic: bool = False
    """Whether the client uses Anthropic's protocol, which shares some paths with OpenAI's."""
    is_known: bool = True
    """Whether the client has presented a valid key, or needs none; false only on paths that require none."""
    is_admin: bool = True
    """The same for an administrator's key."""
    is_still_admin: Callable[[], bool] = lambda: True
    """Returns ``is_admin`` under the configuration in force when it is called, for use after the request."""
    sees_all: bool = True
    """Whether the client may see data of other clients."""
    key_digest: bytes = b""
    """Of the key that the client has presented; see ``sees_all``."""
    client_request_id: str = ""
    """The client's own, empty when it sent none."""


class SocketRoute(msgspec.Struct, frozen=True):
    """One path that opens a WebSocket; browsers cannot send a key with it, so the route itself checks access."""

    path: str
    admit: Callable[[PageRequest], Callable[[Any], Awaitable[None]]]
    """Raises RequestError when this client has no access; else returns the function that serves the socket."""


class PageRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One path that Nexus serves itself; one that ends in ``/`` stands for all paths below it."""

    path: str
    respond: Callable[[PageRequest], Page | Awaitable[Page]]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    narrower: Callable[[str], frozenset[str]] | None = None
    """Returns the methods of one path below it; None: all of :attr:`methods`."""
    access: Access = "client"
    takes_requests: bool = False
    """Whether its body is a request to a model, which may be as long and is counted as one while it is read."""

    def methods_at(self, path: str) -> frozenset[str]:
        """Return the methods of *path*, which belongs to this route."""
        return self.methods if self.narrower is None else self.narrower(path)
