"""Reads the memory and descriptors of a proxy's processes, and the gauges on its pages."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Final

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from enduring.servers import KEYS

MIB: Final = 1024 * 1024
EVERY_S: Final = 2.0
TIMES: Final = 10
"""How often the pages are read: each time by a new connection, that any worker may get."""
SETTLE_S: Final = 60.0
ZERO: Final = (
    "nexus_requests_in_flight",
    "nexus_pending_requests",
    "nexus_backend_tokens_in_flight",
    "nexus_queue_depth",
    "nexus_queue_requests",
    "nexus_queue_body_bytes",
    "nexus_backend_oldest_unanswered_seconds",
    "nexus_budget_reserved_usd",
    "nexus_upstream_connections",
)
"""Gauges that are zero in a proxy without clients, whether the page shows one worker or all."""


class Reading(msgspec.Struct, frozen=True):
    """The resident memory of one process at a time."""

    at_s: float
    rss_bytes: int


class Memory:
    """Reads the resident memory of a process and its children, until it is cancelled."""

    def __init__(self, parent: int) -> None:
        self.readings: dict[int, list[Reading]] = {}
        self._parent = parent

    async def read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for pid in (self._parent, *children_of(self._parent)):
                if rss_bytes := rss_of(pid):
                    self.readings.setdefault(pid, []).append(Reading(loop.time(), rss_bytes))
            await asyncio.sleep(EVERY_S)


class Growth(msgspec.Struct, frozen=True):
    """How the memory of one process changed in the second half of a run: histories are full by then."""

    first_mib: float
    """At the end of the first half."""
    last_mib: float
    mib_per_minute: float


def growth(readings: list[Reading], began: float, ended: float) -> Growth | None:
    """Return the line of least squares through the second half; None if the process did not live that long."""
    half = (ended - began) / 2
    late = [reading for reading in readings if began + half <= reading.at_s <= ended]
    if len(late) < 6 or late[0].at_s - began - half > 3 * EVERY_S:
        return None
    middle_s, middle = fmean(r.at_s for r in late), fmean(r.rss_bytes for r in late)
    spread = sum((r.at_s - middle_s) ** 2 for r in late)
    slope = sum((r.at_s - middle_s) * (r.rss_bytes - middle) for r in late) / spread
    edge = max(1, len(late) // 20)
    first = median(r.rss_bytes for r in late[:edge])
    last = median(r.rss_bytes for r in late[-edge:])
    return Growth(first / MIB, last / MIB, slope * 60 / MIB)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, and that run."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return sorted(found)


def rss_of(pid: int) -> int:
    """Return the bytes; 0 if the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(parent: int) -> tuple[int, int]:
    """Return the descriptors of the parent, and the most that one of its children has."""
    counts = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (parent, *children_of(parent))]  # noqa: PTH208 - a count
    return counts[0], max(counts[1:], default=0)


async def held(url: str) -> Mapping[str, float]:
    """Return what the pages say is not zero, read several times, each by a connection of its own."""
    found: dict[str, float] = {}
    headers = {"Authorization": f"Bearer {KEYS[0]}", "Connection": "close"}
    for _ in range(TIMES):
        async with aiohttp.ClientSession(headers=headers) as session:
            found |= _gauges(await _text(session, f"{url}/metrics"))
        async with aiohttp.ClientSession(headers=headers) as session:
            stats = msgspec.json.decode(await _text(session, f"{url}/v1/stats"))
            found |= {f"/v1/stats pending of {row['name']}": row["pending"] for row in stats["backends"]}
            found["/v1/stats queue depth"] = stats["queue"]["depth"]
        async with aiohttp.ClientSession(headers=headers) as session:
            # Here each worker shows what it knows of itself and of the others.
            rows = msgspec.json.decode(await _text(session, f"{url}/admin/backends"))["backends"]
            found |= {f"/admin/backends pending of {row['name']}": row["pending_requests"] for row in rows}
        if any(found.values()):
            break
    return {name: value for name, value in found.items() if value}


def _gauges(page: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            if sample.name in ZERO:
                found[f"{sample.name}{{{labels}}}"] = sample.value
            if sample.name == "nexus_client_connections":
                # One is that on which the page is read.
                found[sample.name] = max(0.0, sample.value - 1)
    return found


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        answer.raise_for_status()
        return await answer.text()


async def settled(url: str) -> Mapping[str, float]:
    """Wait until nothing is held; return what still is after a minute."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_S
    while (still := await held(url)) and loop.time() < deadline:  # noqa: ASYNC110 - of another process
        await asyncio.sleep(1.0)
    return still
