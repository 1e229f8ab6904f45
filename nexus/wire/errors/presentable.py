"""Makes text safe to show, wherever it came from."""

from typing import Final

LONGEST_MESSAGE: Final = 2048


def presentable(text: str) -> str:
    """Return *text* with control, direction and other invisible characters spelt out, and cut to a bearable length."""
    if len(text) > LONGEST_MESSAGE:
        text = text[: LONGEST_MESSAGE - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
