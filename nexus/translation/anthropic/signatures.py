"""Marks what Anthropic's API has signed or encrypted, so that it comes back to that API and goes to no other.

A client of another dialect may carry it through the conversation, and one of Anthropic's what others made. The API
itself makes base64, which has no dots.
"""

from typing import Final

_MARK: Final = "anthropic."


def marked(made: str) -> str:
    """Return what clients of other dialects get for a signature, or encrypted thoughts, of Anthropic's API."""
    return _MARK + made


def own(carried: str) -> str | None:
    """Return what Anthropic's API made; None if *carried* is not :func:`marked`."""
    return carried.removeprefix(_MARK) if carried.startswith(_MARK) else None


def is_foreign(signature: str) -> bool:
    """Whether a dialect other than this one has marked *signature*."""
    return "." in signature and not signature.startswith(_MARK)
