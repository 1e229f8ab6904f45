"""Reads JSON from untrusted servers: an unexpected value is unknown, an unusable document raises ValueError."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

MAX_COUNT: Final = 2**53


def json_object(body: bytes) -> Mapping[str, Any]:
    """Decode *body*. :raises ValueError: it is not a JSON object."""
    try:
        decoded = msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if not isinstance(decoded, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - the server is at fault, not the caller
    return decoded


def named_rows(body: bytes, table: str, *keys: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the rows of the list *table* with their names, which are under one of *keys*.

    A row without a name is skipped; null counts as an empty list, because some servers send it.

    :raises ValueError: there is no such list, or none of its rows has a name.
    """
    rows = json_object(body).get(table, ...)
    if rows is not None and not isinstance(rows, list):
        raise ValueError(f"expected a list '{table}'")
    named = [(name, row) for row in rows or () if isinstance(row, dict) and (name := first_text(row, *keys))]
    if rows and not named:
        raise ValueError(f"no row of '{table}' has a name")
    return iter(named)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return *value* if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def ordered_texts(value: Any) -> tuple[str, ...]:
    """Return the strings of a list in order; empty if it is not a list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def texts(value: Any) -> frozenset[str]:
    """Return the strings of a list; empty if it is not a list."""
    return frozenset(ordered_texts(value))


def first_text(row: Mapping[str, Any], *keys: str) -> str | None:
    """Return the first value of *keys* that is a string and not empty."""
    return next((value for key in keys if isinstance(value := row.get(key), str) and value), None)


def first_count(row: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first value of *keys* that :func:`count` accepts."""
    return next((value for key in keys if (value := count(row.get(key)))), None)


def count(value: Any) -> int | None:
    """Return *value* as an integer if it is a number from 1 to ``MAX_COUNT``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 1 <= value <= MAX_COUNT else None


def flag(value: Any) -> bool | None:
    """Return *value* if it is true or false."""
    return value if isinstance(value, bool) else None


def unix_seconds(value: Any) -> int:
    """Return a time given as a number or in ISO 8601; 0 if it is neither."""
    if not isinstance(value, str):
        return count(value) or 0
    try:
        return max(0, int(datetime.fromisoformat(value).timestamp()))
    except (ValueError, OverflowError, OSError):
        return 0
