"""The interface of everything that finds servers, plugins included."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec


class Discovered(msgspec.Struct, frozen=True):
    """A server that was found. It is probed before it gets requests, so a wrong kind does no harm."""

    name: str
    """Shown in headers, logs and metrics; the same server must keep its name."""
    url: str
    """``http://host:port`` or ``https://host``."""
    kind: str = "auto"
    """The name of its kind; ``auto`` to detect it."""
    host: str = ""
    """The machine's name as the server announces it; empty if only the URL is known."""
    priority: int | None = None
    """The backend's priority, lower is preferred; None: the default."""
    share: float = 1.0
    """Its share of the requests relative to equally suitable backends; more than 0."""
    is_stale: bool = False
    """Whether it was seen earlier and its discoverer cannot look now; it stays in the fleet, and the list of backends
    shows it as stale."""


class Discoverer(ABC):
    """Finds backends that are not configured. Plugins contribute discoverers through ``nexus_discoverers``."""

    name: ClassVar[str]
    """Unique; shown as the source of the servers that it finds."""
    needs_approval: ClassVar[bool] = False
    """Whether any machine on the network can make it find a server. The kind of such a server is detected, but it gets
    no requests until ``[discovery] trust`` or an administrator approves it."""

    is_certain: ClassVar[bool] = False
    """Whether a server that it no longer sees is certainly gone: it leaves the fleet without the grace period."""

    @abstractmethod
    def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        """Yield all servers that are seen now, at once and again after each change, or simply every few seconds.

        This is an async generator. A server that is missing from a yield leaves the fleet after the grace period unless
        it comes back before. A server at the URL of a configured backend is ignored. If the generator raises, Nexus
        logs that and calls ``watch`` again after a growing delay; if it returns, the servers it yielded last stay.
        Nexus closes it at shutdown, so ``finally`` and ``async with`` work as usual.
        """
