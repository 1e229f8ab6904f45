"""Verdicts, holds and failures of a stage under test."""

from collections.abc import Callable
from typing import Any, Never

from nexus.domain.outcome import AttemptOutcome
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Hold
from nexus.testing.builders import make_intent

Reconcile = Callable[[RoutingIntent], Any]


def judging(*words: Any, **more: Any) -> Reconcile:
    """Return a ``reconcile`` of the stage ``rogue`` that calls a method of the intent for the first candidate."""

    def judge(intent: RoutingIntent) -> None:
        method, *arguments = words
        getattr(intent, method)(next(iter(intent)), *arguments, **{"stage": "rogue", "reason": "for the test", **more})

    return judge


def raising(exc: BaseException) -> Callable[[Any], Never]:
    def fail(_: Any) -> Never:
        raise exc

    return fail


async def deferred() -> None:
    """Return a coroutine, as an async method would."""


def new_intent() -> RoutingIntent:
    return make_intent(
        backends={"gpu-1": "local", "openai": "cloud"},
        headers={"x-nexus-strict": "true"},
        policy={"privacy": "restricted"},
    )


def verdicts_on(intent: RoutingIntent) -> tuple[Any, ...]:
    return intent.candidates, intent.excluded, intent.avoided, intent.weights, intent.observed


class Held(Hold):
    """Counts how often it is settled, then calls what the test gives."""

    def __init__(self, then: Callable[[AttemptOutcome], Any] = lambda _: None) -> None:
        self.settled = 0
        self._then = then

    def settle(self, outcome: AttemptOutcome) -> Any:
        self.settled += 1
        return self._then(outcome)
