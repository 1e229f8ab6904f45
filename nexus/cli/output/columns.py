"""Aligns rows of text in columns, which fit the terminal or, for a pipe, are never cut."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

GAP: Final = "  "
MIN_WIDTH: Final = 12
"""The width to which a column is cut before other columns are omitted."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What is cut or omitted when the rows are wider than the terminal; columns are counted from 0."""

    cut: tuple[int, ...] = ()
    """Columns that may be cut; spare room goes to the first one first."""
    leave_out: tuple[int, ...] = ()
    """Columns that may be omitted, the least important one first."""
    least: Mapping[int, int] = {}
    """The width to which a column is cut, where it is not :data:`MIN_WIDTH`."""


WHOLE: Final = Layout()


def in_columns(
    rows: Sequence[Sequence[str]], *, indent: str = "", layout: Layout = WHOLE, width: int | None = None
) -> str:
    """Return *rows* with each column as wide as its longest text; the rows may differ in length.

    :param width: the width of the terminal; None to cut and omit nothing. Where the rows do not fit, columns that are
        empty below the heading, the first row, are omitted before anything is cut.
    """
    safe = [[_printable(text) for text in row] for row in rows]
    natural = [max(_width(row[i]) for row in safe if i < len(row)) for i in range(max(map(len, safe), default=0))]
    room = None if width is None else width - len(indent)
    widths = dict(enumerate(natural)) if room is None else fitting(natural, layout, room, empty=_empty(layout, safe))
    lines = (GAP.join(_padded(row[i], most) for i, most in widths.items() if i < len(row)).rstrip() for row in safe)
    return "\n".join(f"{indent}{line if room is None else _cut(line, room)}".rstrip() for line in lines)


def fitting(natural: Sequence[int], layout: Layout, room: int, *, empty: Iterable[int] = ()) -> Mapping[int, int]:
    """Return the columns to show and their widths, which together take at most *room* where possible."""
    shown = dict(enumerate(natural))
    for i in empty:
        if _total(shown) <= room:
            break
        del shown[i]
    cut_to = {i: layout.least.get(i, MIN_WIDTH) for i in layout.cut}
    least = {i: min(width, cut_to.get(i, width)) for i, width in shown.items()}
    for i in layout.leave_out:
        if _total(least) <= room:
            break
        least.pop(i, None)
    spare = room - _total(least)
    for i in layout.cut:
        if i in least and spare > 0:
            more = min(spare, shown[i] - least[i])
            least[i] += more
            spare -= more
    return least


def _empty(layout: Layout, rows: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Return the columns that the layout may cut or omit and that are empty, the least important one first."""
    below = rows[1:]
    optional = dict.fromkeys((*layout.leave_out, *reversed(layout.cut)))
    return tuple(i for i in optional if below and not any(row[i] for row in below if i < len(row)))


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _printable(text: str) -> str:
    """Return *text* with control characters escaped: an error may hold anything that a backend has sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_width_of, text))


def _width_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _padded(text: str, width: int) -> str:
    text = _cut(text, width)
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    """Return *text* cut to *width*, with an ellipsis at the end."""
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"[:width]
