"""A page that a plugin adds below ``/admin/<plugin>/``."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

AdminReply = tuple[int, str, bytes]
"""An HTTP status, a content type and a body."""


class AdminRoute(msgspec.Struct, frozen=True):
    """One GET page of a plugin; who may call it is checked before the plugin is asked."""

    path: str
    """Below ``/admin/<plugin>``, with a leading slash: ``/report``; ``/`` is the plugin's front page. What the plugin
    manager hands on is the whole path."""
    respond: Callable[[Mapping[str, str]], AdminReply | Awaitable[AdminReply]]
    """Makes the reply from the query's parameters; a plain function must be quick, a coroutine function may wait."""
