"""Pages that Nexus answers itself, its own and those that plugins add below ``/admin/<plugin>/``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

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
    is_anthropic: bool = False
    """Whether the client speaks Anthropic's protocol: some paths are shared by two."""
    is_known: bool = True
    """Whether the client has shown a key, or needs none; false only where the path itself asks for none."""


class PageRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One path that Nexus answers itself; one that ends in ``/`` stands for all paths below it."""

    path: str
    respond: Callable[[PageRequest], Page | Awaitable[Page]]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    access: Access = "client"
