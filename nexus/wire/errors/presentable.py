"""Makes text from any source safe to show."""

from typing import Final

MAX_MESSAGE_CHARACTERS: Final = 2048


def presentable(text: str) -> str:
    """Return *text* with control, direction and other invisible characters escaped, and truncated."""
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
