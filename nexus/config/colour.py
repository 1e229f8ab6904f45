"""Whether text may be coloured."""

from collections.abc import Mapping


def wants_colour(environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether what is written to a stream may be coloured: https://no-color.org, and terminals without any colour."""
    return is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
