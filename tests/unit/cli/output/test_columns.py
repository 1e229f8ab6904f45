"""Columns are never cut in a pipe, and fit the width of a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from nexus.cli.output.columns import Layout, in_columns

HEADING = ("NAME", "TIER", "URL", "LAST ERROR")
ROW = ("gpu-1", "1", "http://gpu-1.example.org:8000", "connection refused by the server at the other end")
LAYOUT = Layout(cut=(3, 2, 0), leave_out=(1, 2))

printable = st.characters(codec="ascii", exclude_categories=["C"])
texts = st.text(printable, max_size=60)
rows = st.lists(st.tuples(texts, texts, texts, texts), max_size=5)


@given(rows)
def test_without_a_width_nothing_is_cut(rows):
    shown = in_columns(rows, layout=LAYOUT)

    lines = shown.split("\n") if rows else []
    assert all(text.strip() in line for row, line in zip(rows, lines, strict=True) for text in row)


@given(rows, st.integers(1, 200))
def test_no_line_is_wider_than_the_terminal(rows, width):
    assert all(len(line) <= width for line in in_columns(rows, layout=LAYOUT, width=width).split("\n"))


def test_rows_that_fit_are_not_cut():
    assert in_columns([HEADING, ROW], layout=LAYOUT, width=120) == in_columns([HEADING, ROW])


def test_a_long_text_is_cut_with_an_ellipsis():
    heading, row = in_columns([HEADING, ROW], layout=LAYOUT, width=60).split("\n")

    assert heading.split("  ")[0] == "NAME"
    assert row.startswith("gpu-1  1     ")
    assert row.endswith("…")
    assert len(row) <= 60


def test_the_least_important_column_is_omitted_first():
    (narrow, _), (narrowest, _) = (
        in_columns([HEADING, ROW], layout=LAYOUT, width=width).split("\n") for width in (36, 20)
    )

    assert narrow.split() == ["NAME", "URL", "LAST", "ERROR"]
    assert narrowest.split() == ["NAME", "LAST", "ERROR"]


def test_an_empty_column_is_omitted_before_any_other():
    heading, row = in_columns([HEADING, (*ROW[:3], "")], layout=LAYOUT, width=44).split("\n")

    assert heading.split() == ["NAME", "TIER", "URL"]
    assert row.split() == ["gpu-1", "1", "http://gpu-1.example.org:8000"]


def test_a_heading_without_rows_keeps_its_columns():
    assert in_columns([HEADING], layout=LAYOUT, width=44).split() == ["NAME", "TIER", "URL", "LAST", "ERROR"]


def test_wide_characters_take_two_cells():
    first, second = in_columns([("模型", "a"), ("model", "b")], width=80).split("\n")

    assert (first, second) == ("模型   a", "model  b")


def test_control_characters_are_escaped_in_columns():
    assert in_columns([("\x1b[31mred\x1b[0m\n", "a")]) == r"\x1b[31mred\x1b[0m\n  a"
