"""Replaces special characters in the names that labels hold, which older dashboards expect."""

import re
from functools import lru_cache
from typing import Final

from nexus.observability.metrics.families import Family, Row

NAME_LABELS: Final = frozenset({"agent_id", "backend", "from_model", "model", "to_model"})
"""Labels whose values are names of backends and models; all others have fixed words."""

_ODD: Final = re.compile(r"[^A-Za-z0-9_]")


@lru_cache(maxsize=4096)
def sanitized(value: str) -> str:
    """Return *value* as ``[a-zA-Z_][a-zA-Z0-9_]*``; different names can become one."""
    plain = _ODD.sub("_", value)
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


def with_sanitized_labels(family: Family) -> Family:
    """Return *family* with its names sanitised and series that become one added up: Prometheus refuses duplicates."""
    is_name = [label in NAME_LABELS for label in family.labels]
    if not any(is_name):
        return family
    merged: dict[tuple[str, ...], Row] = {}
    for values, counted in family.rows:
        names = tuple(sanitized(value) if it else value for value, it in zip(values, is_name, strict=True))
        before = merged.get(names)
        # The rows of a family are all numbers or all histograms.
        merged[names] = (names, counted if before is None else before[1] + counted)  # type: ignore[operator]
    return Family(family.name, family.kind, family.documentation, family.labels, list(merged.values()))
