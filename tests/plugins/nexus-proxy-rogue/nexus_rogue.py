"""Goes wrong in the way that its table asks for."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle
from typing import Any, Literal

from nexus.api import (
    AttemptOutcome,
    Backend,
    ExchangeOutcome,
    Hold,
    Measure,
    PluginConfig,
    Reconciler,
    Refusal,
    RoutingIntent,
    Sample,
    TokenUsage,
    hookimpl,
    tasks,
)


class RogueConfig(PluginConfig):
    """The ``[plugins.rogue]`` table."""

    does: str = "nothing"
    on_error: Literal["reject", "skip"] = "skip"


def raises(_: RoutingIntent) -> None:
    raise RuntimeError("the rogue was here")


def exits(_: RoutingIntent) -> None:
    raise SystemExit(1)


class UnshowableError(Exception):
    """Cannot even be told of."""

    def __str__(self) -> str:
        raise SystemExit("its text")


WHATEVER = cycle(
    [
        lambda: KeyboardInterrupt("its own"),
        lambda: SystemExit(0),
        GeneratorExit,
        asyncio.CancelledError,
        MemoryError,
        RecursionError,
        UnshowableError,
        lambda: BaseExceptionGroup("two at once", [SystemExit(3), KeyboardInterrupt()]),
    ]
)


def whatever(_: RoutingIntent) -> None:
    """Raise another one each time, of those that are hard to catch."""
    exc = next(WHATEVER)()
    raise exc


def returns(_: RoutingIntent) -> Any:
    return "done"


def blames(intent: RoutingIntent) -> None:
    """Take everybody out, in another's name."""
    for backend in intent:
        intent.exclude(backend, stage="privacy", reason="the rogue was here")


def mutates(intent: RoutingIntent) -> None:
    """Empty the fleet for everybody."""
    intent.snapshot.by_model.clear()  # type: ignore[attr-defined]


def blocks(_: RoutingIntent) -> None:
    time.sleep(0.06)


DOES: Mapping[str, Callable[[RoutingIntent], Any]] = {
    "raises": raises,
    "exits": exits,
    "whatever": whatever,
    "returns": returns,
    "blames": blames,
    "mutates": mutates,
    "blocks": blocks,
}


class Leaking(Hold):
    """Cannot be given back, and has words for the client that cannot be sent."""

    def settle(self, outcome: AttemptOutcome) -> None:
        raise SystemExit(f"{outcome.ending}, and still not given back")

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        return {"X-Nexus-Rogue": f"{usage}\r\nSet-Cookie: rogue=1"}


class Rogue(Reconciler):
    """Does what its table says."""

    name = "rogue"
    priority = 450

    def __init__(self, config: RogueConfig) -> None:
        self._does = config.does
        self._counted = 0
        self.on_error = config.on_error  # type: ignore[misc]

    def reconcile(self, intent: RoutingIntent) -> Any:
        return DOES[self._does](intent) if self._does in DOES else None

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        if self._does == "lies":
            return "a slot"  # type: ignore[return-value]
        return Leaking() if self._does == "leaks" else None

    def measures(self) -> Iterable[Measure]:
        name = "nexus_requests" if self._does == "misnames" else "nexus_rogue_owls"
        yield Measure(name=name, documentation="Owls.", type="counter", samples=(Sample(3),))
        if self._does == "counts":
            self._counted += 1
            labelled = [Sample(self._counted, {"model": f"m{number}"}) for number in range(1200)]
            samples = (*labelled, Sample(float("nan"), {"model": "bad"}), Sample(1, {"model": "m0"}))
            yield Measure(name="nexus_rogue_hoots", documentation="Hoots.", type="counter", samples=samples)


@hookimpl
def nexus_config() -> type[RogueConfig]:
    return RogueConfig


@hookimpl
def nexus_reconcilers(config: RogueConfig) -> list[Reconciler]:
    return [Rogue(config)]


@asynccontextmanager
async def on_the_loop() -> AsyncIterator[None]:
    """Put on the event loop, in each way there is, what would end it."""

    async def ends_the_process() -> None:
        raise SystemExit(0)

    async def interrupts() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    loop = asyncio.get_running_loop()
    tasks.start(ends_the_process(), name="rogue-exits")
    tasks.keep_running(interrupts, name="rogue-interrupts")
    loop.call_soon(exits, None)
    bare = loop.create_task(interrupts())
    yield
    bare.cancel()
    raise SystemExit(5)


@hookimpl
def nexus_services(config: RogueConfig) -> list[AbstractAsyncContextManager[None]]:
    return [on_the_loop()] if config.does == "ends" else []


@hookimpl
def nexus_exchange_finished(config: RogueConfig, outcome: ExchangeOutcome) -> None:
    if config.does == "unsettled":
        raise SystemExit(f"{outcome.ending}, and nobody shall know")
