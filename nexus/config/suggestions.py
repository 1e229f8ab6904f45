"""Did you mean ...? The closest of the known names, and names made safe to print."""

from collections.abc import Iterable

from nexus import errors

LONGEST_SHOWN = 80


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of *known*, the empty string when none is close."""
    return errors.did_you_mean(name[:LONGEST_SHOWN], known).removeprefix("; ")


def shown(text: str) -> str:
    """Return *text* short and without characters that a terminal would obey."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:LONGEST_SHOWN])
    return safe if len(text) <= LONGEST_SHOWN else safe + "…"
