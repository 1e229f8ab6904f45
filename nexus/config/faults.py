"""A fault of the configuration, and its error text with source and line."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from nexus.config.quoting import shown

KeyPath = tuple[str | int, ...]
"""Such as ``("backends", 0, "url")``."""


OF_THE_TABLE: Final = ""
"""Ends the path of a fault that concerns several keys of a table."""


class Fault(Exception):
    """Something is wrong with one key; the loader turns it into a ``ConfigError`` with its source.

    :param hint: what to do about it, or the empty string.
    """

    def __init__(self, path: KeyPath, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem
        self.hint = hint


class Origin(msgspec.Struct, frozen=True):
    """The source of a value: a file with its text, a variable, or the command line."""

    label: str
    toml: str | None = None


def described(fault: Fault, origin: Origin) -> str:
    """Return one line of text: source, table, what was expected, key, line if known, and hint."""
    line = _line_of(fault.path, origin.toml) if origin.toml is not None else None
    table, key = _split(fault.path)
    parts = [
        f"{origin.label}: ",
        f"{table_name(table)}: " if table else "",
        fault.problem,
        f" - at `{key}`" if key else "",
        f" (line {line})" if line is not None else "",
        f"; {fault.hint}" if fault.hint else "",
    ]
    return "".join(parts)


def table_name(path: KeyPath) -> str:
    """Return ``[routing.weights]``, or ``backends[1].models`` where the path has an index."""
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{shown(part)}"
    name = name.removeprefix(".")
    return name if any(isinstance(part, int) for part in path) else f"[{name}]"


def _split(path: KeyPath) -> tuple[KeyPath, str]:
    """Return the path of the table, and the key in it, with an index if the path ends in one."""
    if len(path) > 1 and isinstance(path[-1], int):
        return path[:-2], f"{shown(str(path[-2]))}[{path[-1]}]"
    return path[:-1], shown(str(path[-1])) if path else ""


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _line_of(path: KeyPath, toml: str) -> int | None:
    """Return the line that sets *path*, or else the line that opens the innermost table around it."""
    best: tuple[int, int] | None = None
    for number, found in _paths(toml):
        is_prefix = found == path[: len(found)]
        # An array of tables, or a table without a header line, begins at its first key.
        is_within = bool(path) and found[: len(path)] == path
        depth = min(len(found), len(path))
        if (is_prefix or is_within) and (best is None or depth > best[0]):
            best = depth, number
    return best[1] if best else None


def _paths(toml: str) -> Iterator[tuple[int, KeyPath]]:
    """Yield each line that opens a table or sets a key. Not a TOML parser, but good enough to find a line."""
    table: KeyPath = ()
    sizes: dict[KeyPath, int] = {}
    for number, line in enumerate(toml.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _indexed(_parts(header[2]), sizes)
            if header[1] == "[[":
                sizes[table] = sizes.get(table, 0) + 1
                table = (*table, sizes[table] - 1)
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_parts(key[1]))


def _indexed(parts: KeyPath, sizes: dict[KeyPath, int]) -> KeyPath:
    """Return *parts* with the current index behind each array of tables."""
    path: KeyPath = ()
    for position, part in enumerate(parts):
        path = (*path, part)
        if path in sizes and position < len(parts) - 1:
            path = (*path, sizes[path] - 1)
    return path


def _parts(dotted: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
