"""A whole answer of the admin side, before it is written to anybody."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from nexus.domain.routes import Page

NEVER_STALE: Final[Mapping[str, str]] = MappingProxyType({"Cache-Control": "no-store"})
"""What every page says: it is true now only. That it is what its type claims, the proxy says of all it answers."""


def json_page(value: Any, *, status: int = 200) -> Page:
    """Return *value*, of Structs and built-in types, as a page of JSON."""
    return Page(status, "application/json", msgspec.json.encode(value), NEVER_STALE)
