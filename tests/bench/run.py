"""Measures Nexus, beside those of its neighbours that are installed: ``python tests/bench/run.py [PART]``.

Without a part, it measures the proxy as a whole:

Nexus and, where they are installed, nginx and vllm-router stand before the same fake upstream and get the same loads,
in turn, each alone on one core. What disturbs the machine disturbs all of them: trust ratios before values. It needs
Linux and gcc; without them, it says so and ends well. Everything goes over loopback, and every load is bounded.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Final

from comparing import machine, micro, page, thresholds
from comparing.building import build
from comparing.comparison import FULL, QUICK, Extent, compare
from comparing.cores import Cores, choose
from comparing.proxies import installed, other

PARTS: Final = {"affinity": "affinity", "load": "dividing", "queue": "queueing"}
"""What is measured by itself, and in which module: ``run.py queue --help``."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in PARTS:
        code: int = import_module(PARTS[words[0]]).main(words[1:])
        return code
    options = _options(words)
    if sys.platform != "linux":
        say("skipped: the load and the measuring need Linux (epoll, /proc)")
        return 0
    cores = choose()
    load_average = machine.load_average()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        programs = build(Path(folder))
        if programs is None:
            say("skipped: the fake upstream and the load are written in C, and there is no gcc; install it")
            return 0
        proxies = [*installed(), *(other(*named) for named in options.also)]
        extent = QUICK if options.quick else FULL
        measured = compare(proxies, programs, cores, extent, Path(folder), say)
    report = page.Report(
        conditions=_conditions(options, cores, extent, load_average),
        measured=measured,
        verdicts=thresholds.judge(measured),
        micro="" if options.no_micro else micro.run_all(cores),
    )
    say(page.rendered(report))
    if options.write_docs:
        page.write(report)
    return 1 if options.check and any(verdict.is_broken for verdict in report.verdicts) else 0


def say(text: str) -> None:
    """Tell whoever runs this."""
    print(text, flush=True)  # noqa: T201 - output


def _conditions(options: argparse.Namespace, cores: Cores, extent: Extent, load_average: float) -> list[str]:
    pinned = (
        "The proxy alone on one core, upstream and load on another."
        if cores.are_apart
        else "On one core: proxy, upstream and load disturb each other."
    )
    return [
        f"{options.date}: {machine.machine()}; load average {load_average:.1f} before.",
        f"{machine.libraries()}.",
        f"{pinned} Medians of {extent.rounds} rounds of {extent.seconds:g} s per load.",
    ]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.epilog = f"Parts, each with options of its own: {', '.join(PARTS)}"
    parser.add_argument("--quick", action="store_true", help="less of everything: half a minute, and rough figures")
    parser.add_argument("--write-docs", action="store_true", help=f"put the results into {page.PAGE.name}")
    parser.add_argument("--date", type=date.fromisoformat, help="of this run, for --write-docs: YYYY-MM-DD")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a promise is broken by more than noise")
    parser.add_argument("--no-micro", action="store_true", help="leave out the single steps")
    parser.add_argument(
        "--also",
        action="append",
        type=_named,
        default=[],
        metavar="NAME=COMMAND",
        help="compare with another proxy too, such as an older Nexus: {port}, {upstream} (a URL) and {config} are "
        "filled in",
    )
    options = parser.parse_args(words)
    if options.write_docs and options.date is None:
        parser.error("--write-docs needs --date")
    options.date = options.date or "Undated"
    return options


def _named(text: str) -> tuple[str, str]:
    name, separator, command = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=COMMAND, got {text!r}")
    return name, command


if __name__ == "__main__":
    sys.exit(main())
