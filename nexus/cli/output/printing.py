"""Prints tables that fit the terminal, and JSON for programs."""

import shutil
import sys
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from nexus.cli.output.columns import WHOLE, Layout, in_columns

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(document: Any) -> None:
    click.echo(msgspec.json.encode(document).decode())


def table(rows: Sequence[Sequence[str]], *, indent: str = "", layout: Layout = WHOLE) -> str:
    """Return *rows* in columns that fit the terminal; nothing is cut when standard output is no terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return in_columns(rows, indent=indent, layout=layout, width=width)
