"""Builds routers around the stages of a test, without a network."""

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
from nexus.routing.decision_record import Request
from nexus.routing.pipeline import Pipeline
from nexus.routing.policies import decode_policies
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, MODEL

__all__ = ["Decision", "Reject", "Reserved", "Router", "Routing", "Saturated", "begin", "give_back", "make_router"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def make_router(  # noqa: PLR0913 - the parts of a router, all with defaults
    *stages: Reconciler,
    policies: Iterable[Mapping[str, Any]] = (),
    policy_keys: Mapping[str, type[PolicyKeys]] = _NOTHING,
    aliases: Mapping[str, str | tuple[str, ...]] = _NOTHING,
    fallbacks: Mapping[str, tuple[str, ...]] = _NOTHING,
    priorities: Mapping[str, int] = _NOTHING,
    observe: Iterable[str] = (),
    strategy: str = "smart",
) -> Router:
    """Return a router with the built-in stages and *stages*, and a fixed random seed.

    :param policies: tables of ``[[routing.policies]]``.
    :param policy_keys: the type of each plugin's policy keys, by plugin.
    """
    schedule = Schedule(strategy, chance=Random(0))  # noqa: S311 - reproducible
    contributed = [(Plugin(stage.name, f"nexus-proxy-{stage.name}", "0.1", {}), stage) for stage in stages]
    places = in_order((Analyze(), schedule), contributed, priorities=priorities, observe=observe)
    decoded = decode_policies(tuple(policies), policy_keys)
    return Router(
        pipeline=Pipeline(places, policies=[policy.keys for policy in decoded.every]),
        schedule=schedule,
        naming=Naming.of(aliases),
        fallbacks=fallbacks,
        policies=decoded,
    )


def begin(
    router: Router,
    model: str = MODEL,
    *,
    headers: Mapping[str, str] = _NOTHING,
    requirements: Requirements | None = None,
    endpoint: Endpoint = CHAT,
) -> Routing:
    """Begin to route a request: each ``begin(router).next(fleet)`` is one decision, the second one a retry."""
    return Routing(
        router,
        Request(
            id="test",
            endpoint=endpoint,
            requirements=requirements or Requirements(model=model),
            headers=headers,
            received_unix_s=1_777_636_800.0,
        ),
    )


def give_back(reserved: Reserved, ending: Ending = Ending.FINISHED) -> None:
    """Settle the holds of an attempt that ended with *ending*."""
    outcome = AttemptOutcome(
        backend=reserved.backend.name, backend_id=reserved.backend.id, model=reserved.model, ending=ending
    )
    for hold in reserved.holds:
        hold.settle(outcome)
