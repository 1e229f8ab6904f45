"""How many processes serve clients, as several pages show it."""

from typing import Final

import msgspec


class Workers(msgspec.Struct, frozen=True):
    """How many processes serve clients."""

    wanted: int
    """As ``server.workers`` says."""
    ready: int
    """Those that accept connections now."""


class AnsweredWorkers(Workers, frozen=True):
    """How many processes serve clients, and which of them a page shows."""

    answered: int
    """Those whose figures the page shows, its own among them."""
    silent: tuple[str, ...]
    """The numbers of those that did not answer in time; only what they have counted before is on the page."""


ALONE: Final = Workers(1, 1)
ONLY: Final = AnsweredWorkers(1, 1, 1, ())
