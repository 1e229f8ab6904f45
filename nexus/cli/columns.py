"""Rows of text in columns, for people and for ``grep``: never cut, never wrapped."""

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return *rows* with each column as wide as its longest text; the rows may differ in length."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows), default=0))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)
