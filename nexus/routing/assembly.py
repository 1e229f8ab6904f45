"""Builds the router from the configuration and the plugins."""

from collections.abc import Mapping
from random import Random

from nexus.config.schema import RoutingConfig
from nexus.domain.naming import Naming
from nexus.plugin_manager import Contributions
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.residency import Residency
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.pipeline import Pipeline
from nexus.routing.policies import decode_policies
from nexus.routing.router import Router
from nexus.routing.stage.order import in_order


def build_router(
    config: RoutingConfig,
    contributions: Contributions | None = None,
    *,
    file: str = "nexus.toml",
    chance: Random | None = None,
    translations: Mapping[str, tuple[str, ...]] | None = None,
) -> Router:
    """Return a router that shares no state with any other.

    :param contributions: the stages and policy keys of plugins; None for the built-in stages alone.
    :param file: the name of the configuration file, for error texts.
    :param chance: chooses between equal backends.
    :param translations: by the name of an endpoint, those to which its requests can be translated, best first.
    :raises ConfigError: the configuration is invalid; the text names the key.
    :raises PluginError: a plugin is at fault; the text names it.
    """
    schedule = Schedule(config.strategy, config.weights, chance)
    places = in_order(
        (Analyze(), Residency(), schedule),
        contributions.reconcilers() if contributions else (),
        priorities=config.priorities,
        observe=config.observe,
        file=file,
    )
    keys = contributions.policy_keys() if contributions else {}
    policies = decode_policies(config.policies, keys, file=file)
    return Router(
        pipeline=Pipeline(places, policies=[policy.keys for policy in policies.every]),
        schedule=schedule,
        naming=Naming.of(config.aliases, loose_tags=config.loose_tags),
        fallbacks=config.fallbacks,
        default_model=config.default_model,
        policies=policies,
        translations=translations,
    )
