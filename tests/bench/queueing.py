"""Measures the queue: ``python tests/bench/run.py queue``.

The steps are measured with ten thousand requests in the queue; what counts is the processor's time, in the best of
several rounds. Service is simulated in virtual time with the queue's own order: 32 slots on four backends, answers that
take from a quarter to four times what is usual, and a burst of three times what they can do, or a client that floods.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from statistics import quantiles
from time import thread_time
from typing import Final, Protocol

import msgspec
from comparing import machine, page
from comparing.part import part_options

from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.proxy.waiting.fair_queue import FairQueue, Search, Waiter
from nexus.proxy.waiting.request_queue import RequestQueue

SECTION: Final = "run.py queue"
WAITING: Final = 10_000
ROUNDS: Final = 7
STEPS: Final = 2_000
MAX_STEP_US: Final = 20.0
MIN_SERVED: Final = 0.95
MAX_FLOODED: Final = 1.5

BACKENDS: Final = tuple(f"gpu-{number}" for number in range(4))
SLOTS: Final = 8
"""Of each backend."""
TOKENS_PER_S: Final = 100.0
"""Of each slot."""
MEAN_TOKENS: Final = 200
CAPACITY_PER_S: Final = len(BACKENDS) * SLOTS * TOKENS_PER_S / MEAN_TOKENS
BURST_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""How long each request waits at most."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    figure: str
    promise: str = page.NOTHING
    is_broken: bool = False


def main(words: Sequence[str]) -> int:
    """Measure, print, and return the exit code."""
    options = part_options("queue", __doc__, words)
    conditions = [
        f"{options.date}: {machine.machine()}.",
        f"{ROUNDS} rounds of {STEPS} steps with {WAITING} requests in the queue; the best round counts.",
        f"Simulated: {len(BACKENDS)} backends of {SLOTS} slots, {CAPACITY_PER_S:g} requests per second in all.",
        f"A request waits for at most {PATIENCE_S:g} s.",
    ]
    rows = [*_steps(), _whole_wait(), _burst(), *_flood()]
    heads = ("What", "Measured", "Promise")
    cells = [(row.what, row.figure, f"{row.promise}{', broken' if row.is_broken else ''}") for row in rows]
    text = "".join(f"- {line}\n" for line in conditions) + "\n" + page.table(heads, cells)
    print(text, flush=True)  # noqa: T201 - output
    if options.write_docs:
        page.replace(SECTION, text)
    return 1 if options.check and any(row.is_broken for row in rows) else 0


# single steps


def _steps() -> Iterator[Row]:
    for clients in (1, 100, WAITING):
        for backends in (1, 4):
            best = min(_round(clients, backends) for _ in range(ROUNDS))
            what = f"enqueue and dequeue, {_counted(clients, 'client')}, each waits for {_counted(backends, 'backend')}"
            yield Row(what, f"{best:.1f} us", f"< {MAX_STEP_US:g} us", best >= MAX_STEP_US)
    best = min(_cancelling() for _ in range(ROUNDS))
    yield Row("enqueue and leave, 100 clients", f"{best:.1f} us", f"< {MAX_STEP_US:g} us", best >= MAX_STEP_US)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _filled(clients: int, backends: frozenset[str], chance: Random) -> FairQueue[Waiter]:
    queue: FairQueue[Waiter] = FairQueue()
    for number in range(WAITING):
        claim = Claim(client=f"client-{number % clients}", rank=number % 3, tokens=chance.randint(1, 4000), model="m")
        queue.push(Waiter(claim, 0.0), backends)
    return queue


def _round(clients: int, backends: int) -> float:
    """Return the microseconds of one request that begins to wait and one that is given a slot."""
    chance = Random(1)
    names = [f"gpu-{number}" for number in range(backends)]
    wanted = frozenset(names)
    queue = _filled(clients, wanted, chance)
    claims = [
        Claim(client=f"client-{chance.randrange(clients)}", rank=chance.randrange(3), tokens=1000, model="m")
        for _ in range(STEPS)
    ]
    began = thread_time()
    for number, claim in enumerate(claims):
        queue.push(Waiter(claim, 0.0), wanted)
        backend = names[number % backends]
        served = next(queue.in_turn(backend, Search()))
        queue.charge(served, backend)
        queue.remove(served)
    return (thread_time() - began) / STEPS * 1e6


def _cancelling() -> float:
    chance = Random(1)
    wanted = frozenset(BACKENDS)
    queue = _filled(100, wanted, chance)
    claims = [Claim(client=f"client-{chance.randrange(100)}", tokens=1000, model="m") for _ in range(STEPS)]
    began = thread_time()
    for claim in claims:
        waiter = Waiter(claim, 0.0)
        queue.push(waiter, wanted)
        queue.remove(waiter)
    return (thread_time() - began) / STEPS * 1e6


def _whole_wait() -> Row:
    """Measure a wait as an exchange has it, with its task, its timeout and the hand-over."""
    best = min(asyncio.run(_waits()) for _ in range(3))
    return Row("a whole wait: task, timeout and hand-over included, 100 clients", f"{best:.0f} us")


async def _waits() -> float:
    queue: RequestQueue[str] = RequestQueue(max_size=2 * WAITING, max_wait_s=60.0)
    gpu = Unmet(frozenset({"gpu"}))
    free = 0

    def take() -> Given[str] | Unmet:
        nonlocal free
        if not free:
            return gpu
        free -= 1
        return Given("slot", "gpu")

    def wait(number: int) -> "asyncio.Task[str]":
        claim = Claim(client=f"client-{number % 100}", tokens=1000, model="m")
        waiting = queue.wait(claim, gpu, take, give_back=lambda _: None, left_s=600.0)
        return asyncio.create_task(waiting)  # noqa: TID251 - awaited below

    tasks = [wait(number) for number in range(WAITING)]
    await asyncio.sleep(0)
    began = thread_time()
    for number in range(STEPS):
        tasks.append(wait(number))
        await asyncio.sleep(0)
        free += 1
        queue.slot_freed("gpu")
    spent_s = thread_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return spent_s / STEPS * 1e6


# service, simulated in virtual time


class Arrival(msgspec.Struct, frozen=True):
    """One request."""

    at: float
    client: str
    tokens: int


class Line(Protocol):
    """An order in which requests wait."""

    def add(self, arrival: Arrival) -> None: ...

    def take(self, backend: str, now: float) -> Arrival | None: ...


class FairLine:
    """The order of the queue."""

    def __init__(self) -> None:
        self._queue: FairQueue[Waiter] = FairQueue()
        self._arrivals: dict[Waiter, Arrival] = {}

    def add(self, arrival: Arrival) -> None:
        waiter = Waiter(Claim(client=arrival.client, tokens=arrival.tokens), arrival.at)
        self._arrivals[waiter] = arrival
        self._queue.push(waiter, frozenset(BACKENDS))

    def take(self, backend: str, now: float) -> Arrival | None:
        search: Search[Waiter] = Search()
        for waiter in self._queue.in_turn(backend, search):
            arrival = self._arrivals.pop(waiter)
            is_late = now - arrival.at > PATIENCE_S
            if not is_late:
                self._queue.charge(waiter, backend)
            self._queue.remove(waiter)
            return self.take(backend, now) if is_late else arrival
        return None


class ByArrival:
    """For comparison: the order of arrival."""

    def __init__(self) -> None:
        self._arrivals: list[tuple[float, int, Arrival]] = []
        self._number = count()

    def add(self, arrival: Arrival) -> None:
        heappush(self._arrivals, (arrival.at, next(self._number), arrival))

    def take(self, backend: str, now: float) -> Arrival | None:
        del backend
        while self._arrivals:
            arrival = heappop(self._arrivals)[2]
            if now - arrival.at <= PATIENCE_S:
                return arrival
        return None


def _simulate(arrivals: Sequence[Arrival], line: Line) -> dict[str, list[float]]:
    """Return the waits of the requests that were served, by client."""
    waits: dict[str, list[float]] = {arrival.client: [] for arrival in arrivals}
    free = [backend for backend in BACKENDS for _ in range(SLOTS)]
    number = count()
    # Ends of answers come before arrivals at the same time.
    events: list[tuple[float, int, str, Arrival | None]] = []
    for arrival in arrivals:
        heappush(events, (arrival.at, WAITING + next(number), "", arrival))

    def begin(backend: str, arrival: Arrival, now: float) -> None:
        waits[arrival.client].append(now - arrival.at)
        heappush(events, (now + arrival.tokens / TOKENS_PER_S, next(number), backend, None))

    while events:
        now, _, backend, new = heappop(events)
        if new is None:
            following = line.take(backend, now)
            if following is None:
                free.append(backend)
            else:
                begin(backend, following, now)
        elif free:
            begin(free.pop(), new, now)
        else:
            line.add(new)
    return waits


def _arrivals(client: str, per_s: float, seconds: float, chance: Random, begins_at: float = 0.0) -> Iterator[Arrival]:
    at = begins_at
    while (at := at + chance.expovariate(per_s)) < begins_at + seconds:
        yield Arrival(at, client, _tokens(chance))


def _tokens(chance: Random) -> int:
    """Return the length of an answer, from a quarter to four times of what is usual."""
    return int(MEAN_TOKENS * 4 ** chance.uniform(-1, 1) / MEAN_FACTOR)


MEAN_FACTOR: Final = 15 / (4 * 2 * 1.3862943611198906)
"""The mean of 4 to the power of an even distribution from -1 to 1."""


def _burst() -> Row:
    """Let sixteen clients send three times the capacity for ten seconds, with half of it before and after."""
    chance = Random(2)
    arrivals: list[Arrival] = []
    for number in range(16):
        client = f"client-{number}"
        arrivals += _arrivals(client, CAPACITY_PER_S / 2 / 16, 5.0, chance)
        arrivals += _arrivals(client, CAPACITY_PER_S * 3 / 16, BURST_S, chance, 5.0)
        arrivals += _arrivals(client, CAPACITY_PER_S / 2 / 16, 60.0, chance, 5.0 + BURST_S)
    waits = _simulate(arrivals, FairLine())
    served = sum(map(len, waits.values())) / len(arrivals)
    return Row(
        f"served of a burst of 3 x the capacity for {BURST_S:g} s",
        f"{served:.1%}, waits of at most {max(map(max, waits.values())):.1f} s",
        f">= {MIN_SERVED:.0%}",
        served < MIN_SERVED,
    )


def _flood() -> Iterator[Row]:
    for what, make in (("fair", FairLine), ("by arrival", ByArrival)):
        usual, flooded = _p95_s(make, 1.0), _p95_s(make, 20.0)
        ratio = flooded / usual
        promise = f"<= {MAX_FLOODED:g} x" if make is FairLine else page.NOTHING
        is_broken = make is FairLine and ratio > MAX_FLOODED
        figure = f"{flooded:.2f} s instead of {usual:.2f} s, {ratio:.2f} x"
        yield Row(f"p95 wait of the others when one client of eight floods, {what}", figure, promise, is_broken)


def _p95_s(make: "Callable[[], Line]", flood: float) -> float:
    """Return the p95 wait of seven clients that together need the capacity, beside one that sends *flood* times as much
    as one of them.
    """
    chance = Random(3)
    each_per_s = CAPACITY_PER_S / 7 * 0.95
    arrivals = [
        arrival for number in range(7) for arrival in _arrivals(f"client-{number}", each_per_s, 120.0, Random(number))
    ]
    arrivals += _arrivals("flood", each_per_s * flood, 120.0, chance)
    waits = _simulate(sorted(arrivals, key=lambda arrival: arrival.at), make())
    others = [wait for client, each in waits.items() if client != "flood" for wait in each]
    return quantiles(others, n=20)[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
