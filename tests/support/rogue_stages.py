"""What a plugin's stage may do in a test, from a plain verdict to every kind of failure."""

from nexus.routing.stage.api import Hold
from nexus.testing.builders import make_intent


def judging(*words, **more):
    """Return a ``reconcile`` of the stage ``rogue`` that calls a method of the intent for the first candidate."""

    def judge(intent):
        method, *arguments = words
        getattr(intent, method)(next(iter(intent)), *arguments, **{"stage": "rogue", "reason": "for the test", **more})

    return judge


def raising(exc):
    def fail(_):
        raise exc

    return fail


async def deferred():
    """Return a coroutine, as an async method would."""


def new_intent():
    return make_intent(
        backends={"gpu-1": "local", "openai": "cloud"},
        headers={"x-nexus-strict": "true"},
        policy={"privacy": "restricted"},
    )


def verdicts_on(intent):
    return intent.candidates, intent.excluded, intent.avoided, intent.weights, intent.observed


class Held(Hold):
    """Counts how often it is settled, then calls what the test gives."""

    def __init__(self, then=lambda _: None):
        self.settled = 0
        self._then = then

    def settle(self, outcome):
        self.settled += 1
        return self._then(outcome)
