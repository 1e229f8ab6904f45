"""Calls one observer of a plugin with every outcome, and contains its failures."""

import inspect
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

import pluggy
import structlog

from nexus.containment import is_interrupt
from nexus.domain.outcome import ExchangeOutcome
from nexus.errors import PluginError
from nexus.observability.logging.repeats import Repeats
from nexus.plugin_manager.plugin import Plugin

log = structlog.get_logger("nexus.plugins")

SLOW_S: Final = 0.05
"""A slower call delays every other request. It cannot be interrupted, so it is logged."""


class Observer:
    """A function of an outcome that never raises, and that costs less than a call through pluggy."""

    __slots__ = ("_clock", "_observe", "_repeats", "plugin")

    def __init__(
        self,
        plugin: Plugin,
        observe: Callable[[ExchangeOutcome], object],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.plugin = plugin
        self._observe = observe
        self._clock = clock
        self._repeats = Repeats()

    def __call__(self, outcome: ExchangeOutcome) -> None:
        began = self._clock()
        try:
            returned = self._observe(outcome)
            if returned is not None and inspect.iscoroutine(returned):
                returned.close()
                raise PluginError("it is async, but must be a plain function")  # noqa: TRY301 - one way to fail
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            # The failure of an observer must not affect the client.
            self.plugin.observing.failures_total += 1
            self._log(log.error, "observer_failed", exc_info=exc)
            return
        took_s = self._clock() - began
        if took_s > SLOW_S:
            self.plugin.observing.slow_total += 1
            self._log(log.warning, "observer_slow", took_ms=round(took_s * 1000, 1))

    def _log(self, write: Callable[..., object], event: str, **facts: object) -> None:
        if (unsaid := self._repeats.unsaid(event, self._clock())) is not None:
            plugin = self.plugin
            write(event, plugin=plugin.name, distribution=plugin.distribution, unsaid_before=unsaid, **facts)


def function_of(implementation: pluggy.HookImpl, **offered: Any) -> Callable[[ExchangeOutcome], object]:
    """Return *implementation* of ``nexus_exchange_finished`` as a function of the outcome.

    :param offered: the other arguments that it may take.
    """
    call = partial(
        implementation.function, **{name: offered[name] for name in implementation.argnames if name in offered}
    )
    if "outcome" not in implementation.argnames:
        return lambda _: call()
    return lambda outcome: call(outcome=outcome)
