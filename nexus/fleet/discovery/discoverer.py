"""What a finder of backends is: it says, again and again, what it sees."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec


class Discovered(msgspec.Struct, frozen=True):
    """A server that was seen. It is probed before it gets any request, so a wrong kind does no harm."""

    name: str
    """What headers, logs and metrics show; the same server keeps its name."""
    url: str
    """``http://host:port`` or ``https://host``."""
    kind: str = "auto"
    """The name of its kind; ``auto`` to find out by asking it."""
    host: str = ""
    """The name of the machine, as the server announces it; empty where only the URL is known."""
    priority: int | None = None
    """The backend's priority, lower is preferred; None: the usual one."""
    share: float = 1.0
    """How much of the work it gets, in proportion to others that could do it as well; more than 0."""
    is_stale: bool = False
    """Whether it is known from an earlier look, because its discoverer cannot look now; it stays in the fleet, and the
    list of backends says so."""


class Discoverer(ABC):
    """Finds backends that nobody configured. Plugins contribute them through ``nexus_discoverers``."""

    name: ClassVar[str]
    """Unique; shown as the source of what it found."""
    needs_approval: ClassVar[bool] = False
    """Whether anybody on the network can make it find a server. Such a server is asked what it is, but gets no request
    before ``[discovery] trust`` or an administrator approves it."""

    is_certain: ClassVar[bool] = False
    """Whether a server that it sees no more is meant to be gone: it leaves the fleet at once, without the grace period.
    """

    @abstractmethod
    def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        """Yield all that is seen now, at once, and then again whenever that changes, or simply every few seconds.

        An async generator. What is missing from one yield on is taken out of the fleet after the grace period, and
        keeps its place if it comes back before. What has the URL of a configured backend is passed over. When it
        raises, that is logged and ``watch`` is called anew, a little later each time; when it ends, what was yielded
        last stays. At the end of Nexus it is closed: ``finally`` and ``async with`` work as usual.
        """
