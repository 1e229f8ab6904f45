"""Did you mean ...? The closest of the known names, and names made safe to print."""

from collections.abc import Iterable

from nexus import errors

LONGEST_SHOWN = 80
MAX_PATH = 4096
"""Linux's limit, in bytes."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of *known*, the empty string when none is close."""
    return errors.did_you_mean(name[:LONGEST_SHOWN], known).removeprefix("; ")


def shown(text: str, most: int = LONGEST_SHOWN) -> str:
    """Return at most *most* characters of *text*, without those that a terminal would obey."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:most])
    return safe if len(text) <= most else safe + "…"


def shown_path(path: str) -> str:
    """Return the *path* of a file whole, as far as a system takes one: half of it leads nowhere."""
    return shown(path, MAX_PATH)
