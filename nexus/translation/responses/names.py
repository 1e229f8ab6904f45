"""Names of tools that are in a namespace, as the single names that other dialects have."""

import zlib
from typing import Final

MAX_NAME: Final = 64
"""Of the name of a function, in most APIs."""
_SEPARATOR: Final = "__"
_DEFAULT: Final = "functions"
"""The namespace of tools that are called with and without it, by Codex too."""


def namespace_of(namespace: str | None) -> str:
    """Return the *namespace* without which a call is not understood; empty if there is none."""
    return "" if not namespace or namespace == _DEFAULT else namespace


def single_name(namespace: str | None, name: str) -> str:
    """Return one name for the tool; always the same, so that calls in the history agree with the tools."""
    if not (namespace := namespace_of(namespace)):
        return name
    full = f"{namespace}{'' if namespace.endswith(_SEPARATOR) else _SEPARATOR}{name}"
    if len(full) <= MAX_NAME:
        return full
    mark = f"_{zlib.crc32(full.encode()):08x}"
    return full[: MAX_NAME - len(mark)] + mark
