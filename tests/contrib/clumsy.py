"""A plugin that fails and dawdles wherever it is asked, so that what is counted of that can be seen."""

import asyncio
import time

from nexus.api import Discovered, Discoverer, Measure, Reconciler, Sample, hookimpl

TOO_LONG_S = 0.06


class Broken(Reconciler):
    """Fails, and may."""

    name = "clumsy-broken"
    priority = 900
    on_error = "skip"

    def reconcile(self, intent):
        raise RuntimeError("clumsy")

    def measures(self):
        samples = Sample(1, {"backend": "gpu-1"}), Sample(float("nan"), {"backend": "gpu-2"})
        yield Measure(name="nexus_clumsy_falls", documentation="Falls.", type="counter", samples=samples)


class Slow(Reconciler):
    """Only observes, by the configuration, and keeps everybody waiting for it."""

    name = "clumsy-slow"
    priority = 901
    on_error = "skip"

    def reconcile(self, intent):
        time.sleep(TOO_LONG_S)
        for backend in intent:
            intent.avoid(backend, stage=self.name, reason="It is only seen, never done")


class Gullible(Discoverer):
    """Believes in a server that is not there."""

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
