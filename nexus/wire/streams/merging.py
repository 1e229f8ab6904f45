"""Merges the deltas of a streamed answer, member by member."""

from collections.abc import Mapping
from typing import Any, Final

_REPEATED: Final = frozenset({"id", "index", "name", "object", "role", "type"})
"""Texts that a later delta repeats instead of continuing."""

MAX_PARTS: Final = 4096
"""Indexed objects in one list; the search among more of them would take too long."""


class Text(list[str]):
    """A text in pieces, which are joined once: each addition to a string would copy it."""


def merge(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Merge the delta *part* into *whole*: texts are appended, objects merged, lists extended.

    Objects in a list that have an ``index`` are merged with the one of the same index.
    """
    for name, value in part.items():
        before = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and name not in _REPEATED:
            if isinstance(before, Text):
                before.append(value)
            else:
                whole[name] = Text([value])
        elif isinstance(value, dict):
            inner = whole[name] = before if isinstance(before, dict) else {}
            merge(inner, value)
        elif isinstance(value, list):
            items = whole[name] = before if type(before) is list else []  # a text is no list of parts
            _merge_items(items, value)
        elif before is None or name not in _REPEATED or not before:
            whole[name] = value


def _merge_items(items: list[Any], parts: list[Any]) -> None:
    for part in parts:
        if not isinstance(part, dict):
            items.append(part)
            continue
        index = part.get("index")
        item = None if index is None else next((item for item in items if _has_index(item, index)), None)
        if item is None:
            if index is not None and len(items) >= MAX_PARTS:
                continue
            item = {}
            items.append(item)
        merge(item, part)


def _has_index(item: Any, index: Any) -> bool:
    return isinstance(item, dict) and item.get("index") == index


def joined(value: Any) -> Any:
    """Return *value* with every text in one piece."""
    if isinstance(value, Text):
        return "".join(value)
    if isinstance(value, dict):
        return {name: joined(inner) for name, inner in value.items()}
    return [joined(inner) for inner in value] if isinstance(value, list) else value
