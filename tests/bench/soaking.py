"""Runs two workers for minutes under mixed faults: ``python tests/bench/run.py soak``.

Five simulated servers stall, drip, cut, refuse, fail, load slowly and restart; clients of three protocols stream, leave
in the middle, read slowly and send large bodies. One worker is killed, and the configuration is reloaded once. When the
clients have gone, nothing may be held, memory must not have grown, and the log has one line for each request.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from comparing import machine, page
from comparing.part import part_options

sys.path.append(str(Path(__file__).parents[2]))  # tests.support is there

from enduring.judging import defects, wrongly_logged
from enduring.servers import LIMIT, Fleet, play_faults, restart, running_fleet
from enduring.traffic import Traffic
from enduring.watching import Growth, Memory, children_of, growth, open_files, settled

from tests.support.process import NexusProcess, run_nexus

SECTION: Final = "run.py soak"
MINUTES: Final = 15.0
MAX_MINUTES: Final = 120.0
MIN_JUDGED_MINUTES: Final = 5.0
"""In a shorter run, memory still settles: its growth is shown, and not judged."""
MAX_MIB_PER_MINUTE: Final = 1.0
MAX_GROWTH: Final = 1.1
START_S: Final = 60.0
FILES_WITHIN_S: Final = 20.0
KILLED_AFTER: Final = 0.12
RELOADED_AFTER: Final = 0.22
"""Shares of the run. Growth is judged in its second half: by then, workers remember as many requests and decisions as
they ever do."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    figure: str
    promise: str = page.NOTHING
    is_broken: bool = False
    details: Sequence[str] = ()
    """What broke it, printed only."""


class Run(msgspec.Struct):
    """What happened."""

    traffic: Traffic
    began: float = 0.0
    ended: float = 0.0
    killed_at: float = 0.0
    faults: int = 0
    restarts: int = 0
    cpu_share: float = 0.0
    """Of one core, all processes of the proxy together."""
    files: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    """At the start and at the end: of the parent, and the most of a worker."""
    most_at_once: int = 0
    """Of twice as many requests as the narrow backend has slots, after the run."""
    held: Mapping[str, float] = {}
    growths: Mapping[str, Growth | None] = {}


def main(words: Sequence[str]) -> int:
    """Measure, print, and return the exit code."""
    options = part_options("soak", __doc__, words, _further)
    if sys.platform != "linux":
        print("skipped: memory and descriptors are read from /proc", flush=True)  # noqa: T201 - output
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, running_fleet() as fleet:
        with run_nexus(
            Path(folder), fleet.config, environ=fleet.environ, start_s=START_S, own_interpreter=True
        ) as nexus:
            nexus.wait_for_log("started", 3, within_s=START_S)
            run = asyncio.run(_soak(nexus, fleet, options.minutes * 60))
        rows = _rows(run, nexus, options.minutes)
        if options.keep_log:
            options.keep_log.write_text(nexus.log_text())
    conditions = [
        f"{options.date}: {machine.machine()}; {options.minutes:g} minutes, 2 workers, 5 backends.",
        f"Sent: {', '.join(f'{number} {kind}' for kind, number in run.traffic.kinds.most_common())}.",
        f"Faults set: {run.faults}; one server restarted {run.restarts} times, one worker killed, one reload.",
    ]
    cells = [(row.what, row.figure, f"{row.promise}{', broken' if row.is_broken else ''}") for row in rows]
    text = "".join(f"- {line}\n" for line in conditions) + "\n" + page.table(("What", "Measured", "Promise"), cells)
    details = "".join(f"{row.what}: {detail}\n" for row in rows for detail in row.details[:20])
    print(text + details, flush=True)  # noqa: T201 - output
    if options.write_docs:
        page.replace(SECTION, text)
    return 1 if options.check and any(row.is_broken for row in rows) else 0


def _further(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=_minutes, default=MINUTES, metavar="N", help=f"default: {MINUTES:g}")
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="write the log of the proxy there")


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most {MAX_MINUTES:g}, got {text}")
    return minutes


async def _soak(nexus: NexusProcess, fleet: Fleet, seconds: float) -> Run:
    loop = asyncio.get_running_loop()
    parent = nexus.process.pid
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        restarting = tasks.create_task(restart(fleet, over))
        await _until_probed(nexus)
        files, cpu_s = open_files(parent), _cpu_s(parent)
        memory = Memory(parent)
        reading = tasks.create_task(memory.read())
        began = loop.time()
        run = Run(Traffic(nexus.url, began + seconds), began)
        faults = tasks.create_task(play_faults(fleet, began + seconds - 3))
        disturbing = tasks.create_task(_disturb(nexus, run, seconds))
        await run.traffic.run()
        run.ended = loop.time()
        run.cpu_share = (_cpu_s(parent) - cpu_s) / seconds
        reading.cancel()
        run.faults = await faults
        await disturbing
        filled = time.monotonic()
        await run.traffic.fill_narrow()
        run.most_at_once = fleet.most_at_once(filled)
        run.held = await settled(nexus.url)
        run.files = (files, await _files_at_rest(parent, files))
        over.set()
        run.restarts = await restarting
    workers = [pid for pid in memory.readings if pid != parent]
    names = {parent: "the parent", **{pid: f"worker {number}" for number, pid in enumerate(workers, 1)}}
    run.growths = {name: growth(memory.readings[pid], run.began, run.ended) for pid, name in names.items()}
    return run


async def _until_probed(nexus: NexusProcess) -> None:
    """Wait until all servers are known, and their first requests are over."""
    await asyncio.to_thread(nexus.wait_for_log, "backend_models_changed", 5, within_s=START_S)
    await asyncio.sleep(3.0)


async def _disturb(nexus: NexusProcess, run: Run, seconds: float) -> None:
    """Kill a worker, and later reload."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(seconds * KILLED_AFTER)
    run.killed_at = loop.time()
    os.kill(children_of(nexus.process.pid)[0], signal.SIGKILL)
    await asyncio.sleep(seconds * (RELOADED_AFTER - KILLED_AFTER))
    changed = nexus.config_file.read_text().replace(
        "ttft_penalty_threshold_ms = 1000", "ttft_penalty_threshold_ms = 900"
    )
    nexus.config_file.write_text(changed)
    nexus.send(signal.SIGHUP)


async def _files_at_rest(parent: int, before: tuple[int, int]) -> tuple[int, int]:
    """Wait until no process has more descriptors than at the start; return what they have."""
    deadline = time.monotonic() + FILES_WITHIN_S
    files = open_files(parent)
    while (files[0] > before[0] or files[1] > before[1]) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        files = open_files(parent)
    return files


def _cpu_s(parent: int) -> float:
    """Return the processor time of a process and of its children, with those that have ended."""
    ticks = 0
    for pid in (parent, *children_of(parent)):
        # The fields after the name in parentheses; user and system time, and with cutime and cstime of ended children.
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _rows(run: Run, nexus: NexusProcess, minutes: float) -> list[Row]:
    lines = nexus.log_lines()
    wrong, lost = wrongly_logged(run.traffic.sent, lines, run.killed_at)
    bad = defects(nexus.log_text(), lines)
    statuses = Counter(str(each.status or each.failure) for each in run.traffic.sent.values())
    reloads = sum(line["event"] == "config_reloaded" for line in lines)
    killed = sum(line["event"] == "worker_ended" for line in lines)
    held = [f"{name} = {value:g}" for name, value in run.held.items()]
    before, after = run.files
    count, pages = len(run.traffic.sent), run.traffic.pages
    return [
        Row("requests", f"{count}, {count / minutes / 60:.0f} per second"),
        Row("their status", ", ".join(f"{status}: {number}" for status, number in statuses.most_common())),
        Row("pages read; messages of the feed", f"{pages[200]}; {pages[101]}; failed: {pages[0]}"),
        Row("processor time of the proxy", f"{run.cpu_share:.0%} of a core"),
        Row("worker that ended; processes that reloaded", f"{killed}; {reloads}", "1; 3", (killed, reloads) != (1, 3)),
        Row("gauges that are not zero at the end", str(len(held)), "0", bool(held), held),
        Row(
            f"slots that can be taken at the end, of {LIMIT}",
            str(run.most_at_once),
            str(LIMIT),
            run.most_at_once != LIMIT,
        ),
        Row(
            "open files, parent and worker",
            f"{before[0]} and {before[1]} at the start, {after[0]} and {after[1]} at the end",
            "no more than at the start",
            after[0] > before[0] or after[1] > before[1],
        ),
        Row(
            "requests without exactly one access line",
            f"{len(wrong)}; lost by the kill: {lost}",
            "0",
            bool(wrong),
            wrong,
        ),
        Row("defects in the log", str(len(bad)), "0", bool(bad), bad),
        *(_growth_row(name, found, minutes) for name, found in run.growths.items() if found is not None),
    ]


def _growth_row(name: str, found: Growth, minutes: float) -> Row:
    is_judged = minutes >= MIN_JUDGED_MINUTES
    grew = found.last_mib / found.first_mib
    return Row(
        f"memory of {name}, second half",
        f"{found.first_mib:.1f} to {found.last_mib:.1f} MiB, {grew:.2f} x, {found.mib_per_minute:+.2f} MiB per minute",
        f"< {MAX_MIB_PER_MINUTE:g} MiB per minute, <= {MAX_GROWTH:g} x" if is_judged else page.NOTHING,
        is_judged and (found.mib_per_minute >= MAX_MIB_PER_MINUTE or grew > MAX_GROWTH),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
