"""Did you mean ...? The closest of the known names, and names made safe to print."""

import difflib
from collections.abc import Iterable

LONGEST_SHOWN = 80


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of *known*, the empty string when none is close."""
    close = difflib.get_close_matches(name[:LONGEST_SHOWN], list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def shown(text: str) -> str:
    """Return *text* short and without characters that a terminal would obey."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:LONGEST_SHOWN])
    return safe if len(text) <= LONGEST_SHOWN else safe + "…"
