"""Measures Nexus, beside those of its neighbours that are installed: ``python tests/bench/run.py [PART]``.

Without a part, it measures the proxy as a whole:

Nexus and its neighbours stand before the same fake upstream and get the same loads, lane by lane, in turn, each alone
on one core. What disturbs the machine disturbs all of them: trust ratios before values. It needs Linux and gcc; without
them, it says so and ends well. All traffic stays on loopback, and every load is bounded.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec
from comparing import machine, micro, neighbours, page, thresholds
from comparing.building import build
from comparing.comparison import compare
from comparing.cores import Cores, choose
from comparing.installing import CACHE
from comparing.lane import FULL, QUICK, Extent
from comparing.lanes import LANES
from comparing.neighbours import NAMES_IN_PROMISES, NEIGHBOURS
from comparing.proxies import nexus, other

QUICK_LANES: Final = tuple(name for name, lane in LANES.items() if lane.is_quick)
PARTS: Final = {"affinity": "affinity", "load": "dividing", "queue": "queueing", "soak": "soaking"}
"""What is measured by itself, and in which module: ``run.py queue --help``."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in PARTS:
        code: int = import_module(PARTS[words[0]]).main(words[1:])
        return code
    options = options_of(words)
    if options.install:
        neighbours.install(options.neighbours, say)
    if sys.platform != "linux":
        say("skipped: the load and the measuring need Linux (epoll, /proc)")
        return 0
    cores = choose()
    load_average = machine.load_average()
    lanes = [lane for name, lane in LANES.items() if name in options.lane]
    extent = QUICK if options.quick else FULL
    extent = msgspec.structs.replace(extent, rounds=options.rounds or extent.rounds)
    proxies = [nexus(), *neighbours.chosen(options.neighbours, say), *(other(*named) for named in options.also)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        programs = build(Path(folder))
        if programs is None:
            say("skipped: the fake upstream and the load are written in C, and there is no gcc; install it")
            return 0
        measured = compare(lanes, proxies, programs, cores, extent, Path(folder), say)
    report = page.Report(
        conditions=_conditions(options, cores, extent, load_average),
        lanes=lanes,
        proxies=[proxy for proxy in proxies if proxy.name in measured],
        measured=measured,
        verdicts=thresholds.judge(measured),
        micro=micro.run_all(cores) if options.micro else "",
    )
    say(page.rendered(report))
    if options.write_docs:
        page.write(report)
    return 1 if options.check and any(limit.is_broken for limit, _ in report.verdicts) else 0


def say(text: str) -> None:
    """Print what is found."""
    print(text, flush=True)  # noqa: T201 - output


def _conditions(options: argparse.Namespace, cores: Cores, extent: Extent, load_average: float) -> list[str]:
    pinned = (
        "The proxy alone on one core, upstream and load on another."
        if cores.are_apart
        else "On one core: proxy, upstream and load disturb each other."
    )
    disturbance = machine.disturbance(load_average)
    return [
        f"{options.date}: {machine.machine()}; load average {load_average:.1f} before.",
        f"{machine.libraries()}.",
        f"{pinned} Medians of {extent.rounds} rounds of {extent.seconds:g} s per load, with the range of the ratio.",
        *([disturbance] if disturbance else []),
    ]


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, with defaults that depend on each other filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.epilog = f"Parts, each with options of its own: {', '.join(PARTS)}"
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer rounds, shorter loads, some lanes")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each lane is measured")
    parser.add_argument(
        "--lane",
        action="append",
        choices=LANES,
        metavar="NAME",
        help=f"measure this lane only; may be given several times: {', '.join(LANES)}. Default: all; with --quick, "
        f"{', '.join(QUICK_LANES)}",
    )
    parser.add_argument(
        "--neighbours",
        type=_names,
        metavar="NAME,...",
        help=f"compare with these, or all, or none: {', '.join(NEIGHBOURS)}. Those that are not installed are skipped. "
        f"Default: all; with --quick or --lane, {' and '.join(NAMES_IN_PROMISES)}",
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="first install neighbours that are missing: with apt-get (as root), and from PyPI and npm into "
        f"{CACHE}; minutes and gigabytes",
    )
    parser.add_argument("--write-docs", action="store_true", help=f"put the results into {page.PAGE.name}")
    parser.add_argument("--date", type=date.fromisoformat, help="of this run, for --write-docs: YYYY-MM-DD")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a promise is broken by more than noise")
    parser.add_argument("--no-micro", dest="micro", action="store_false", help="leave out the single steps")
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
    if options.write_docs and (options.lane or options.quick):
        parser.error("--write-docs needs all lanes")
    options.date = options.date or "Undated"
    if options.neighbours is None:
        options.neighbours = NAMES_IN_PROMISES if options.quick or options.lane else tuple(NEIGHBOURS)
    options.micro = options.micro and not options.lane and not options.quick
    options.lane = options.lane or (QUICK_LANES if options.quick else tuple(LANES))
    return options


def _names(text: str) -> tuple[str, ...]:
    names = {"all": tuple(NEIGHBOURS), "none": ()}.get(text, tuple(text.split(",")))
    for name in names:
        if name not in NEIGHBOURS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NEIGHBOURS)}")
    return names


def _named(text: str) -> tuple[str, str]:
    name, separator, command = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=COMMAND, got {text!r}")
    return name, command


if __name__ == "__main__":
    machine.start_on_huge_pages()
    sys.exit(main())
