"""Reads the text of a variable or an option as the type of its key."""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from nexus.config.faults import KeyPath
from nexus.config.quoting import shown
from nexus.config.schema import ApiKeyConfig, Config
from nexus.config.sources.decoding import bare, is_section, unknown_key

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def type_at(path: tuple[str, ...]) -> Any:
    """Return the type of the key at *path*; raise :class:`~nexus.config.faults.Fault` when there is none."""
    type_: Any = Config
    for depth, part in enumerate(path, start=1):
        type_ = bare(type_)
        if get_origin(type_) is dict:
            type_ = get_args(type_)[1]
        elif is_section(type_):
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(type_)}
            if part not in fields:
                raise unknown_key(path[:depth], fields)
            type_ = fields[part]
        elif type_ is not Any:
            raise unknown_key(path[:depth], {})
    return type_


def all_keys(type_: type[msgspec.Struct] = Config, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every key outside of arrays and tables of free names, with its type."""
    found: dict[tuple[str, ...], Any] = {}
    for field in msgspec.structs.fields(type_):
        wanted = bare(field.type)
        path = (*at, field.encode_name)
        if is_section(wanted):
            found |= all_keys(wanted, path)
        else:
            found[path] = field.type
    return found


def path_of(dotted: str) -> tuple[str, ...]:
    """Return the parts of a dotted key, which may be quoted; raise ValueError when it is invalid."""
    table = tomllib.loads(f"{dotted} = 0") if "\n" not in dotted else {}
    parts: KeyPath = ()
    node: Any = table
    while isinstance(node, dict) and len(node) == 1:
        key, node = next(iter(node.items()))
        parts = (*parts, key)
    if node != 0:
        raise ValueError("expected one dotted key, such as server.port")
    return tuple(str(part) for part in parts)


def read(text: str, type_: Any) -> Any:
    """Return *text* as a value for a key of *type_*; raise ValueError that says what was expected."""
    if any("\ud800" <= c <= "\udfff" for c in text):  # Python's escapes for bytes that are not UTF-8
        raise ValueError("expected text in UTF-8")
    wanted = bare(type_)
    if is_section(wanted):
        raise ValueError("is a table; set one of its keys")
    if reader := _READERS.get(wanted):
        return reader(text.strip())
    if Literal["auto"] in get_args(wanted):
        return "auto" if text.strip().lower() == "auto" else _int(text.strip())
    if get_origin(wanted) is Literal:
        return text.strip().lower()
    if wanted in (tuple[str, ...], tuple[str | ApiKeyConfig, ...]):
        return _words(text)
    if wanted == (str | tuple[str, ...]):
        return _words(text) if "," in text or text.lstrip().startswith("[") else text.strip()
    return _toml_value(text)


def _bool(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"expected `bool`, true or false, got '{shown(text)}'")
    return text.lower() in _TRUE


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected `int`, got '{shown(text)}'") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected `float`, got '{shown(text)}'") from None


def _any(text: str) -> Any:
    """Return *text* as a TOML value if possible, because the type of a plugin's key is not known yet."""
    try:
        return _toml_value(text)
    except ValueError:
        return text


def _words(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        value = _toml_value(text)
        return value if isinstance(value, list) else [text]
    return [word.strip() for word in text.split(",") if word.strip()]


def _toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text.strip()}\n")
    except (ValueError, RecursionError):
        table = {}
    if table.keys() != {"value"}:
        # The error does not quote the text, because a table of backends may hold a secret.
        raise ValueError('expected a TOML value, such as {name = "text"} or [1, 2]')
    return table["value"]


_READERS: Final[Mapping[Any, Callable[[str], Any]]] = {bool: _bool, int: _int, float: _float, str: str, Any: _any}
