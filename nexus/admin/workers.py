"""How many processes serve clients, as several pages show it."""

from typing import Final

import msgspec


class Workers(msgspec.Struct, frozen=True):
    """How many processes serve clients."""

    wanted: int
    """As ``server.workers`` says."""
    ready: int
    """Those that accept connections now."""


ALONE: Final = Workers(1, 1)
