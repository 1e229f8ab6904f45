"""What a proxy keeps in memory: at rest, for idle streams, after loads, and after clients that stop reading."""

from collections.abc import Sequence
from contextlib import ExitStack
from socket import socket
from statistics import linear_regression
from time import monotonic, sleep
from typing import Final

from comparing.asking import is_held, open_stream, stall
from comparing.costs import Costs
from comparing.figures import Figure, Round
from comparing.lane import Bench
from comparing.loads import Generator, Load
from comparing.programs import KIB
from comparing.proxies import Proxy
from comparing.starting import Started, started

HELD_STREAMS: Final = 1_000
HELD_STEPS: Final = 5
SETTLE_S: Final = 0.5
"""For what happens behind the answers: log lines written, connections closed."""
STALLED_CLIENTS: Final = 200
STALLED_INPUTS: Final = 640
"""Of 16 KiB each: answers of 10 MB."""
STALL_S: Final = 3.0
MAX_STALLED_KIB: Final = 6 * 1024 * KIB
"""At which no further client stalls: the machine has other uses for its memory."""
ENOUGH_KIB: Final = 100 * KIB
PAUSE_S: Final = 1.0


def of(proxy: Proxy, bench: Bench) -> Round:
    """Return what a new process of *proxy* keeps at rest, for idle streams and after loads."""
    with started(proxy, bench.upstreams, bench.cores) as fresh:
        return {**_idle(fresh), **_after_loads(fresh, bench.generator, bench.extent.seconds)}


def after_stalls(targets: Sequence[Started], wait_s: float) -> dict[str, Round]:
    """Let clients ask each proxy for long answers, read nothing and leave; look at once and again later.

    :param wait_s: for how long to look for less; all proxies have that time at once.
    """
    rounds: dict[str, Round] = {target.name: _stalled(target) for target in targets}
    lowest_kib = {target.name: target.program.rss_kib() for target in targets}
    deadline = monotonic() + wait_s
    while monotonic() < deadline and max(lowest_kib.values()) > ENOUGH_KIB:
        sleep(PAUSE_S)
        for target in targets:
            lowest_kib[target.name] = min(lowest_kib[target.name], target.program.rss_kib())
    return {name: {**found, Figure.RSS_LATER: lowest_kib[name] / KIB} for name, found in rounds.items()}


def _idle(target: Started) -> Round:
    """Look at a proxy that has answered once, then hold streams through it that say nothing."""
    sleep(SETTLE_S)
    at_rest_kib = target.program.rss_kib()
    counts = [HELD_STREAMS * step // HELD_STEPS for step in range(1, HELD_STEPS + 1)]
    sizes_kib: list[float] = []
    held: list[socket] = []
    with ExitStack() as streams:
        for count in counts:
            held += _open_streams(target, count - len(held), streams)
            sizes_kib.append(target.program.rss_kib())
        sleep(SETTLE_S)
        held = [stream for stream in held if is_held(stream)]
    slope_kib, _ = linear_regression(counts, sizes_kib)
    return {
        Figure.START_UP: target.start_up_ms,
        Figure.RSS_AT_REST: at_rest_kib / KIB,
        Figure.RSS_HELD: sizes_kib[-1] / KIB,
        Figure.RSS_PER_STREAM: slope_kib,
        Figure.LOST_STREAMS: HELD_STREAMS - len(held),
    }


def _after_loads(target: Started, generator: Generator, seconds: float) -> Round:
    """Put short and long requests on a proxy, then look again."""
    costs = Costs(target, generator, settle_s=0.0)
    costs.of(Load(connections=32, seconds=seconds))
    costs.of(Load(connections=32, seconds=seconds, events=64))
    costs.of(Load(connections=4, seconds=seconds, kind="image"))
    costs.of(Load(connections=4, seconds=seconds, kind="embeddings"))
    sleep(SETTLE_S)
    return {Figure.RSS_AFTER_LOAD: target.program.rss_kib() / KIB, Figure.FAILED: costs.failed}


def _stalled(target: Started) -> Round:
    with ExitStack() as clients:
        for _ in range(STALLED_CLIENTS):
            if target.program.rss_kib() > MAX_STALLED_KIB:
                break
            clients.enter_context(stall(target.port, target.headers, STALLED_INPUTS))
        sleep(STALL_S)
        stalled_kib = target.program.rss_kib()
    sleep(SETTLE_S)
    return {Figure.RSS_STALLED: stalled_kib / KIB, Figure.RSS_AFTER_STALL: target.program.rss_kib() / KIB}


def _open_streams(target: Started, count: int, streams: ExitStack) -> list[socket]:
    opened = []
    for _ in range(count):
        try:
            opened.append(streams.enter_context(open_stream(target.port, target.headers)))
        except OSError:
            # It is missing among those that are held in the end.
            continue
    return opened
