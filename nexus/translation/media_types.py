"""Recognises the type of an image or a PDF by its first bytes, and names a file by its type."""

from collections.abc import Mapping
from typing import Final

_BEGINNINGS: Final[Mapping[str, str]] = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": "application/pdf",
}
"""Types by the beginning of their base64."""


def media_type_of(data: str) -> str:
    """Return the type of *data*, which is in base64; empty if it is unknown."""
    return next((type_ for beginning, type_ in _BEGINNINGS.items() if data.startswith(beginning)), "")


def file_name(name: str, media_type: str) -> str:
    """Return *name* with an extension: OpenAI's API refuses files without, and other dialects have a title."""
    if "." in name:
        return name
    return f"{name or 'file'}{'.pdf' if media_type == _PDF else ''}"


_PDF: Final = "application/pdf"
