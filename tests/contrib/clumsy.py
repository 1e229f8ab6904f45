"""A plugin that fails and is slow in every hook, so that all metrics of plugins have values."""

import asyncio
import time

from nexus.api import Discovered, Discoverer, Measure, Reconciler, Sample, hookimpl

TOO_LONG_S = 0.06


class Broken(Reconciler):
    """Fails, and is skipped."""

    name = "clumsy-broken"
    priority = 900
    on_error = "skip"

    def reconcile(self, intent):
        raise RuntimeError("clumsy")

    def measures(self):
        samples = Sample(1, {"backend": "gpu-1"}), Sample(float("nan"), {"backend": "gpu-2"})
        yield Measure(name="nexus_clumsy_falls", documentation="Falls.", type="counter", samples=samples)


class Slow(Reconciler):
    """Only observes, by configuration, and is slow."""

    name = "clumsy-slow"
    priority = 901
    on_error = "skip"

    def reconcile(self, intent):
        time.sleep(TOO_LONG_S)
        for backend in intent:
            intent.avoid(backend, stage=self.name, reason="It is only seen, never done")


class Gullible(Discoverer):
    """Finds a server that does not exist."""

    name = "clumsy"
    needs_approval = True

    async def watch(self):
        yield (Discovered("desk", "http://127.0.0.1:9"),)
        await asyncio.Event().wait()


@hookimpl
def nexus_discoverers():
    return [Gullible()]


@hookimpl
def nexus_reconcilers():
    return [Broken(), Slow()]


@hookimpl
def nexus_exchange_finished(outcome):
    time.sleep(TOO_LONG_S)
    raise RuntimeError("clumsy")
