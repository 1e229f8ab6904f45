"""Encodes pages as JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from nexus.domain.routes import Page

NEVER_STALE: Final[Mapping[str, str]] = MappingProxyType({"Cache-Control": "no-store"})
"""Pages show the present, so no cache may keep them."""


def json_page(value: Any, *, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Page:
    """Return a page whose body is *value*, made of Structs and built-in types, with further *headers*."""
    all_headers = {**NEVER_STALE, **headers} if headers else NEVER_STALE
    return Page(status, "application/json", msgspec.json.encode(value), all_headers)


def with_headers(page: Page, headers: Mapping[str, str]) -> Page:
    """Return *page* with further *headers*."""
    return msgspec.structs.replace(page, headers={**page.headers, **headers})


def instant(unix_s: float | None) -> datetime | None:
    """Return *unix_s* to the second, in UTC."""
    return None if unix_s is None else datetime.fromtimestamp(int(unix_s), UTC)
