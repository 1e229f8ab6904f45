"""Names and values as an error text quotes them: short, and harmless to a terminal."""

MAX_SHOWN = 80
MAX_PATH = 4096
"""Linux's limit, in bytes."""


def shown(text: str, max_length: int = MAX_SHOWN) -> str:
    """Return at most *max_length* characters of *text*, with control characters escaped."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:max_length])
    return safe if len(text) <= max_length else safe + "…"


def shown_path(path: str) -> str:
    """Return the whole *path* of a file, which would be useless if it were cut."""
    return shown(path, MAX_PATH)
