"""Lets each backend read one long prompt at a time, and prefers backends whose cache has room."""

from collections import Counter
from collections.abc import Mapping
from time import monotonic

from nexus.api import (
    AttemptOutcome,
    Backend,
    Hold,
    Priority,
    Reconciler,
    Refusal,
    RoutingIntent,
    TokenUsage,
    hookimpl,
)

LONG_TOKENS = 8_000
FULL = 0.9


class LongPrompts(Reconciler):
    """Has a long prompt wait while another one is read, and weighs backends with a full cache."""

    name = "long-prompts"
    priority = Priority.QUALITY + 50
    on_error = "skip"

    def __init__(self) -> None:
        self._reading: Counter[str] = Counter()

    def reconcile(self, intent: RoutingIntent) -> None:
        now = monotonic()
        for backend in intent:
            report = backend.load.told
            if report is not None and (report.kv_usage or 0.0) > FULL:
                # An old report counts less and less.
                factor = 1.0 - 0.5 * report.weight(now)
                intent.weigh(backend, factor, stage=self.name, reason=f"its cache is {report.kv_usage:.0%} full")

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        refusal = self.would_refuse(intent, backend)
        if refusal is not None or intent.requirements.prompt_tokens < LONG_TOKENS:
            return refusal
        return Reading(self._reading, backend.name)

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        if intent.requirements.prompt_tokens < LONG_TOKENS or not self._reading[backend.name]:
            return None
        # No slot becomes free when the prompt has been read, so the request asks again.
        return Refusal("it is reading another long prompt", is_saturation=True, retry_in_s=0.5)

    def describe(self, intent: RoutingIntent) -> Mapping[str, str]:
        return {backend.name: f"{self._reading[backend.name]} long prompts are being read" for backend in intent}


class Reading(Hold):
    """A long prompt, until its answer begins or the attempt ends."""

    def __init__(self, reading: Counter[str], backend: str) -> None:
        self._reading: Counter[str] | None = reading
        self._backend = backend
        reading[backend] += 1

    def begin_answer(self, usage: TokenUsage | None) -> None:
        del usage
        self._give_back()

    def settle(self, outcome: AttemptOutcome) -> None:
        del outcome
        self._give_back()

    def _give_back(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading[self._backend] -= 1


@hookimpl
def nexus_reconcilers() -> list[Reconciler]:
    return [LongPrompts()]
