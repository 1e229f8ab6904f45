"""The values of labels: exact names as they are, or with every odd character replaced, as older dashboards expect."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from nexus.observability.metrics.families import Family, Row

NAME_LABELS: Final = frozenset({"agent_id", "backend", "from_model", "model", "to_model"})
"""Labels whose values are names of backends and models; all others have words of ours."""

_ODD: Final = re.compile(r"[^A-Za-z0-9_]")


@lru_cache(maxsize=4096)
def sanitized(value: str) -> str:
    """Return *value* as ``[a-zA-Z_][a-zA-Z0-9_]*``; different names can become one."""
    plain = _ODD.sub("_", value)
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


def sanitized_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return *labels* with the names among their values sanitised."""
    return {label: sanitized(value) if label in NAME_LABELS else value for label, value in labels.items()}


def with_sanitized_labels(family: Family) -> Family:
    """Return *family* with its names sanitised, and added up what then has the same: a page with one series twice would
    be refused as a whole.
    """
    if NAME_LABELS.isdisjoint(family.labels):
        return family
    merged: dict[tuple[str, ...], Row] = {}
    for values, counted in family.rows:
        names = tuple(sanitized_labels(dict(zip(family.labels, values, strict=True))).values())
        before = merged.get(names)
        # Within one family, all are numbers or all are histograms.
        merged[names] = (names, counted if before is None else before[1] + counted)  # type: ignore[operator]
    return Family(family.name, family.kind, family.documentation, family.labels, list(merged.values()))
