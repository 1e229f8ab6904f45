"""Replaces special characters in the names that labels hold, which older dashboards expect."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from nexus.observability.metrics.families import Family, Row

NAME_LABELS: Final = frozenset({"agent_id", "backend", "from_model", "model", "to_model"})
"""Labels whose values are names of backends and models; all others have fixed words."""

_ODD: Final = re.compile(r"[^A-Za-z0-9_]")


@lru_cache(maxsize=4096)
def sanitized(value: str) -> str:
    """Return *value* as ``[a-zA-Z_][a-zA-Z0-9_]*``; different names can become one."""
    plain = _ODD.sub("_", value)
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


class SanitizedLabels:
    """Sanitises the names in one family, and adds up series that become one: Prometheus refuses duplicates."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._is_name = [label in NAME_LABELS for label in family.labels]
        self._merged: dict[tuple[str, ...], Row] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add some rows of the family."""
        merged = self._merged
        for values, counted in rows:
            names = tuple(sanitized(value) if it else value for value, it in zip(values, self._is_name, strict=True))
            before = merged.get(names)
            # The rows of a family are all numbers or all histograms.
            merged[names] = (names, counted if before is None else before[1] + counted)  # type: ignore[operator]

    def family(self) -> Family:
        """Return the family with the rows that were added."""
        return msgspec.structs.replace(self._family, rows=self._merged.values())
