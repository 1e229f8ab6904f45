"""The options that all parts of the benchmark have."""

import argparse
from collections.abc import Callable, Sequence
from datetime import date

from comparing import page


def part_options(
    name: str,
    description: str | None,
    words: Sequence[str],
    further: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> argparse.Namespace:
    """Return the options of one part, with the date as text.

    :param further: adds the options that only this part has.
    """
    parser = argparse.ArgumentParser(
        prog=f"run.py {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    further(parser)
    parser.add_argument("--write-docs", action="store_true", help=f"put the results into {page.PAGE.name}")
    parser.add_argument("--date", type=date.fromisoformat, help="of this run, for --write-docs: YYYY-MM-DD")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a promise is broken")
    options = parser.parse_args(words)
    if options.write_docs and options.date is None:
        parser.error("--write-docs needs --date")
    options.date = options.date or "Undated"
    return options
