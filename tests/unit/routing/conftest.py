"""Builds routers, requests and stages."""

from random import Random

import pytest

from nexus.config.schema import RoutingConfig
from nexus.domain.naming import Naming
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.plugin_manager import Plugin
from nexus.routing.assembly import build_router
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision_record import Request
from nexus.routing.pipeline import Pipeline
from nexus.routing.policies import Policies
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, MODEL


class Stage(Reconciler):
    """A stage with the methods of a test."""

    name = "test"
    priority = 500

    def __init__(self, does=None, *, holds=None, **declared):
        self._does = does
        self._holds = holds
        for key, value in declared.items():
            setattr(self, key, value)

    def reconcile(self, intent):
        return self._does(intent) if self._does else None

    def reserve(self, intent, backend):
        return self._holds(intent, backend) if self._holds else None


@pytest.fixture
def stage():
    """Return the class of a stage: ``stage(does, name="privacy", priority=200, on_error="skip", holds=...)``."""
    return Stage


@pytest.fixture
def plugin():
    """Return a function that makes the plugin of a stage."""
    return lambda name="acme": Plugin(name, f"nexus-proxy-{name}", "1.0", {})


@pytest.fixture
def router(plugin):
    """Return a function that makes a router from configuration keys and further stages."""

    def make(*stages, observe=(), policies=None, chance=None, **config):
        if not stages and policies is None:
            return build_router(RoutingConfig(observe=observe, **config), chance=chance or Random(0))
        schedule = Schedule(config.pop("strategy", "smart"), chance=chance or Random(0))
        contributed = [(plugin(getattr(s, "name", "acme")), s) for s in stages]
        return Router(
            pipeline=Pipeline(in_order((Analyze(), schedule), contributed, observe=observe)),
            schedule=schedule,
            naming=Naming.of(config.pop("aliases", {}), loose_tags=config.pop("loose_tags", False)),
            fallbacks=config.pop("fallbacks", {}),
            policies=Policies(policies or ()),
        )

    return make


@pytest.fixture
def routing():
    """Return a function that begins to route one request: ``routing(router, model="llama3", needs_vision=True)``."""

    def begin(router, model=MODEL, *, endpoint=CHAT, headers=None, **requirements):
        return Routing(
            router,
            Request(
                id="r-1",
                endpoint=endpoint,
                requirements=Requirements(model=model, **requirements),
                headers=headers or {},
                received_unix_s=1_777_777_777.0,
            ),
        )

    return begin


@pytest.fixture
def settle():
    """Return a function that ends an attempt."""

    def settle_all(reserved, ending=Ending.FINISHED):
        outcome = AttemptOutcome(
            backend=reserved.backend.name, backend_id=reserved.backend.id, model=reserved.model, ending=ending
        )
        for hold in reserved.holds:
            hold.settle(outcome)

    return settle_all
