"""Whole routers around the stages of a test: aliases, fallbacks, policies, slots and retries, without any network."""

from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, Final

from nexus.config.schema import PolicyKeys
from nexus.domain.naming import Naming
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Endpoint, Requirements
from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Decision, Reject, Reserved, Saturated
from nexus.routing.pipeline import Pipeline
from nexus.routing.policies import decode_policies
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, MODEL

__all__ = ["Decision", "Reject", "Reserved", "Router", "Routing", "Saturated", "begin", "give_back", "make_router"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def make_router(  # noqa: PLR0913 - each part of a router, every one with a default
    *stages: Reconciler,
    policies: Iterable[Mapping[str, Any]] = (),
    policy_keys: Mapping[str, type[PolicyKeys]] = _NOTHING,
    aliases: Mapping[str, str | tuple[str, ...]] = _NOTHING,
    fallbacks: Mapping[str, tuple[str, ...]] = _NOTHING,
    priorities: Mapping[str, int] = _NOTHING,
    observe: Iterable[str] = (),
    strategy: str = "smart",
) -> Router:
    """Return a router whose pipeline has the built-in stages and *stages*; chance is the same each time.

    :param policies: tables of ``[[routing.policies]]``.
    :param policy_keys: by plugin, the type of the keys that it adds to them.
    """
    schedule = Schedule(strategy, chance=Random(0))  # noqa: S311 - chance that a test can repeat
    contributed = [(Plugin(stage.name, f"nexus-proxy-{stage.name}", "0.1", {}), stage) for stage in stages]
    places = in_order((Analyze(), schedule), contributed, priorities=priorities, observe=observe)
    return Router(
        pipeline=Pipeline(places),
        schedule=schedule,
        naming=Naming.of(aliases),
        fallbacks=fallbacks,
        policies=decode_policies(tuple(policies), policy_keys),
    )


def begin(
    router: Router,
    model: str = MODEL,
    *,
    headers: Mapping[str, str] = _NOTHING,
    requirements: Requirements | None = None,
    endpoint: Endpoint = CHAT,
) -> Routing:
    """Begin the search of one request: ``begin(router).next(fleet)`` is the decision, and asked again, the retry."""
    return router.begin(
        request_id="test",
        endpoint=endpoint,
        requirements=requirements or Requirements(model=model),
        headers=headers,
        received_unix_s=1_777_636_800.0,
    )


def give_back(reserved: Reserved, ending: Ending = Ending.FINISHED) -> None:
    """Settle what is held for an attempt, as ended by *ending*."""
    outcome = AttemptOutcome(
        backend=reserved.backend.name, backend_id=reserved.backend.id, model=reserved.model, ending=ending
    )
    for hold in reserved.holds:
        hold.settle(outcome)
