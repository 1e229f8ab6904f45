"""Decodes a table into its type, or raises a fault that names the exact key."""

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from nexus.config.faults import OF_THE_TABLE, Fault, KeyPath
from nexus.config.quoting import shown
from nexus.errors import did_you_mean

T = TypeVar("T")

HINTS: Final[Mapping[KeyPath, str]] = {
    ("server", "log_level"): "use `level` of [logging]",
    ("backends", "kind"): "use `type`",
}
"""Keys that operators may try, without positions in arrays, and what to use instead."""

STAGE_PLUGINS: Final = ("affinity", "budget", "fleet", "lifecycle", "privacy", "quality", "tier")


def decoded(table: Mapping[str, Any], type_: type[T], at: KeyPath = ()) -> T:
    """Return *table* as *type_*, strictly; raise :class:`Fault` with the exact path below *at*."""
    try:
        return msgspec.convert(table, type_)
    except (ValueError, OverflowError, RecursionError) as exc:
        # msgspec does not always name the key, and makes no suggestions.
        raise next(_faults(table, type_, at), _fault_of(exc, (*at, OF_THE_TABLE))) from exc


def bare(type_: Any) -> Any:
    """Return *type_* without constraints, and without None for unset."""
    if get_origin(type_) is Annotated:
        return bare(get_args(type_)[0])
    if get_origin(type_) in {Union, types.UnionType}:
        some = [arg for arg in get_args(type_) if arg is not type(None)]
        return bare(some[0]) if len(some) == 1 else type_
    return type_


def is_section(type_: Any) -> bool:
    """Whether *type_*, already bare, is a table of the schema."""
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def unknown_key(path: KeyPath, known: Mapping[str, Any]) -> Fault:
    """Return the fault of an unknown key, with the closest of *known* or what to use instead."""
    name = str(path[-1])
    if name in STAGE_PLUGINS and path[:-1] in {(), ("routing",)}:
        hint = f"stages are plugins: use [plugins.{name}] and pip install nexus-proxy-{name}"
    else:
        named = tuple(step for step in path if isinstance(step, str))
        hint = HINTS.get(named) or did_you_mean(name, known, before="")
    return Fault(path, "unknown table" if len(path) == 1 else "unknown key", hint)


def _faults(value: Any, type_: Any, path: KeyPath) -> Iterator[Fault]:
    wanted = bare(type_)
    if is_section(wanted):
        yield from _struct_faults(value, wanted, path)
    elif get_origin(wanted) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _faults(item, get_args(wanted)[1], (*path, key))
    elif get_origin(wanted) is tuple and isinstance(value, list) and get_args(wanted)[1:] == (...,):
        for index, item in enumerate(value):
            yield from _faults(item, get_args(wanted)[0], (*path, index))
    elif get_origin(wanted) is tuple and isinstance(value, dict):
        yield _single_table(wanted, path)
    elif get_origin(wanted) is tuple and isinstance(value, str):
        # The value is not repeated: it may be a secret.
        yield Fault(path, "expected `array`, got `str`", 'put it in brackets: ["..."]')
    else:
        yield from _leaf_faults(value, type_, path)


def _struct_faults(value: Any, type_: type[msgspec.Struct], path: KeyPath) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path, f"expected a table, got {_toml_type(value)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    for key, item in value.items():
        if key not in fields and key != type_.__struct_config__.tag_field:
            yield unknown_key((*path, key), fields) if path or _is_of_tables(item) else _stray_key(key, fields)
    for name, field in fields.items():
        if name in value:
            yield from _faults(value[name], field.type, (*path, name))
        elif field.required:
            yield Fault((*path, name), "required, and missing")


def _is_of_tables(item: Any) -> bool:
    return isinstance(item, dict) or (isinstance(item, list) and any(isinstance(part, dict) for part in item))


def _stray_key(key: str, fields: Mapping[str, msgspec.structs.FieldInfo]) -> Fault:
    """Return the fault of a key before the first table."""
    tables = {name: bare(field.type) for name, field in fields.items()}
    homes = [f"[{name}]" for name, type_ in tables.items() if is_section(type_) and key in type_.__struct_fields__]
    hint = f"it belongs below {' or '.join(homes)}" if homes else did_you_mean(key, fields, before="")
    return Fault((key,), "unknown key", hint)


def _single_table(wanted: Any, path: KeyPath) -> Fault:
    """Return the fault of a table in place of an array of tables."""
    item = bare(get_args(wanted)[0])
    is_of_tables = is_section(item) or get_origin(item) is dict
    hint = f"write [[{'.'.join(str(part) for part in path)}]]" if is_of_tables else ""
    return Fault(path, "expected `array`, got `table`", hint)


def _leaf_faults(value: Any, type_: Any, path: KeyPath) -> Iterator[Fault]:
    try:
        msgspec.convert(value, type_)
    except (ValueError, OverflowError, RecursionError) as exc:
        wanted = bare(type_)
        if get_origin(wanted) is Literal and isinstance(value, str):
            choices = get_args(wanted)
            expected = " or ".join(f"'{choice}'" for choice in choices)
            yield Fault(path, f"expected {expected}, got '{shown(value)}'", did_you_mean(value, choices, before=""))
        else:
            yield _fault_of(exc, path)


def _fault_of(exc: Exception, path: KeyPath) -> Fault:
    """Return msgspec's error about the value at *path*, or about a part of it, as a fault."""
    text, _, inside = str(exc).partition(" - at `")
    found = _STEP.findall(inside) if inside.startswith("$") else ()
    steps = tuple(int(index) if index else key for key, index in found)
    whole = path[:-1] if path[-1:] == (OF_THE_TABLE,) else path
    return Fault((*whole, *steps) if steps else path, _reworded(text))


_STEP: Final = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")


def _reworded(text: str) -> str:
    """Return msgspec's *text* in the terms of TOML, where there is no null, and in the style of our errors."""
    text = text.replace("`object`", "`table`").replace(" | null`", "`")
    return text[:1].lower() + text[1:]


def _toml_type(value: Any) -> str:
    return f"`{'array' if isinstance(value, list) else type(value).__name__}`"
