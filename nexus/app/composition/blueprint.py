"""Builds everything that a configuration describes without starting it, and so finds everything that can be wrong.

``check`` builds a blueprint and discards it; a start builds one and runs it; a reload builds one and, if that succeeds,
replaces the old one.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from nexus.app.composition import tracing
from nexus.app.composition.guards import guarded_factory, guarded_kind
from nexus.app.composition.own_address import own_address_warnings
from nexus.app.process.file_limit import file_limit, too_few_files
from nexus.config.faults import Fault
from nexus.config.loading import LoadedConfig, check_kinds
from nexus.config.quoting import shown_path
from nexus.config.rules.checks import is_loopback
from nexus.config.schema import Config, StoreConfig
from nexus.dialing.certificates import expired_authorities, expired_certificate
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.kinds import BackendKind
from nexus.domain.outcome import ExchangeOutcome
from nexus.errors import PluginError
from nexus.fleet.kinds import KINDS
from nexus.fleet.plan import FleetPlan, plan_fleet
from nexus.plugin_manager import Contributions, PluginManager
from nexus.proxy.client.access import LOOPBACK_NAMES, SHOWN_DIGITS, AccessRules, KeyOwner
from nexus.routing.assembly import build_router
from nexus.routing.router import Router
from nexus.routing.stage.order import Place
from nexus.store.kinds import BUILT_IN_STORES
from nexus.store.store import Store
from nexus.translation.dialects import translations


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """One validated configuration, and what was built from it."""

    loaded: LoadedConfig
    plugins: PluginManager
    contributions: Contributions
    router: Router
    fleet: FleetPlan
    access_rules: AccessRules
    upstream_settings: Mapping[str, UpstreamSettings]
    """By backend name."""
    open_store: Callable[[StoreConfig], Store]
    observers: tuple[Callable[[ExchangeOutcome], None], ...]
    warnings: tuple[str, ...] = ()
    """Warnings for the operator, besides those from loading the configuration."""

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def places(self) -> tuple[Place, ...]:
        """The stages in order, and why each has its place."""
        return tuple(stage.place for stage in self.router.pipeline.stages)

    @property
    def file(self) -> str:
        """The name of the configuration file, for messages."""
        return file_name(self.loaded)


def file_name(loaded: LoadedConfig) -> str:
    """Return the name of the file of *loaded*, for messages."""
    return str(loaded.source) if loaded.source is not None else "configuration"


def load_plugins(loaded: LoadedConfig, plugin_files: tuple[Path, ...] = ()) -> PluginManager:
    """Import the plugins that *loaded* enables.

    :raises ConfigError: a plugin is not installed.
    :raises PluginError: a plugin is at fault.
    """
    config = loaded.config
    return PluginManager.load(config.plugin_loading, config.plugins, files=plugin_files, provenance=loaded.provenance)


def build_blueprint(loaded: LoadedConfig, plugins: PluginManager) -> Blueprint:
    """Build everything that *loaded* describes, without effect on anything that runs.

    :raises ConfigError: the configuration is wrong.
    :raises PluginError: a plugin is at fault.
    """
    config, file = loaded.config, file_name(loaded)
    tracing.check(loaded)
    contributions = plugins.configure(config.plugins, error=loaded.error)
    kinds = _kinds(contributions)
    check_kinds(loaded, (*KINDS, *(kind.name for kind in kinds)))
    translation = config.translation
    router = build_router(
        config.routing,
        contributions,
        file=file,
        translations=translations(translation.disabled_pairs) if translation.enabled else None,
    )
    try:
        fleet = plan_fleet(
            config.backends,
            kinds=kinds,
            secrets=loaded.backend_keys,
            credentials=loaded.credentials,
            health_check=config.health_check,
            discovery=config.discovery,
            connection_age_s=config.timeouts.upstream_max_age_seconds,
        )
        open_store = _store(config.store, contributions)
    except Fault as fault:
        raise loaded.error(fault) from fault
    contributions.check(open_store(config.store))
    contributions.routes()
    return Blueprint(
        loaded=loaded,
        plugins=plugins,
        contributions=contributions,
        router=router,
        fleet=fleet,
        access_rules=_access_rules(loaded),
        upstream_settings={member.config.name: member.settings for member in fleet.members.values()},
        open_store=open_store,
        observers=contributions.exchange_observers(),
        warnings=(
            # Without a configured port, the start may choose another one, and warns then.
            *(own_address_warnings(config, config.server.port) if loaded.is_set("server.port") else ()),
            *plugins.misnamed(config.plugin_loading, loaded.provenance),
            *_expired_certificates(loaded, datetime.now(UTC)),
            *too_few_files(loaded.config, file_limit()),
        ),
    )


def _expired_certificates(loaded: LoadedConfig, now: datetime) -> Iterator[str]:
    for backend in loaded.config.backends:
        for key, look in (("tls_ca_file", expired_authorities), ("tls_cert_file", expired_certificate)):
            file = getattr(backend, key)
            problem = look(file, now) if file is not None else None
            if problem is not None:
                yield f"backend '{backend.name}': {key} {shown_path(file)} {problem}"


def _kinds(contributions: Contributions) -> tuple[BackendKind, ...]:
    added = contributions.backend_kinds()
    for plugin, kind in added:
        if kind.name in KINDS:
            raise PluginError(f"plugin {plugin.label} adds a backend kind '{kind.name}', which is built in")
    return tuple(guarded_kind(plugin, kind) for plugin, kind in added)


def _store(config: StoreConfig, contributions: Contributions) -> Callable[[StoreConfig], Store]:
    added = {name: guarded_factory(plugin, name, factory) for plugin, name, factory in contributions.stores()}
    known = {**added, **BUILT_IN_STORES}
    if config.kind not in known:
        raise Fault(("store", "kind"), f"no store is named '{config.kind}'", f"known are {', '.join(sorted(known))}")
    return known[config.kind]


def _access_rules(loaded: LoadedConfig) -> AccessRules:
    server, keys, admin_keys = loaded.config.server, loaded.server_keys, loaded.admin_keys
    return AccessRules(
        accepts_key=(lambda key: keys.accepts(key) | admin_keys.accepts(key)) if len(keys) else None,
        accepts_admin_key=admin_keys.accepts if len(admin_keys) else None,
        hosts=_hosts(server.host, server.allowed_hosts, has_keys=bool(len(keys))),
        origins=frozenset(origin.encode() for origin in server.allowed_origins),
        owners={
            digest: KeyOwner(digest.hex(), entry.name or f"key {digest.hex()[:SHOWN_DIGITS]}", entry.max_priority)
            for digest, entry in loaded.named_keys.items()
        },
    )


def _hosts(host: str, allowed: tuple[str, ...], *, has_keys: bool) -> frozenset[str] | None:
    """Return the names that a Host header may have besides addresses; None: any name.

    The check defends against DNS rebinding. A rebound page cannot send a key, so where keys are required and other
    machines may use names that we cannot know, any name is accepted.
    """
    if "*" in allowed or (has_keys and not is_loopback(host)):
        return None
    bound = host.strip("[]").removesuffix(".").lower()
    # On loopback, the machine's own name is refused: other machines can make it resolve to 127.0.0.1.
    own = frozenset[str]() if is_loopback(host) else own_names(socket.gethostname())
    return LOOPBACK_NAMES | own | {bound} | frozenset(name.strip("[]").removesuffix(".").lower() for name in allowed)


def own_names(hostname: str) -> frozenset[str]:
    """Return the names by which other machines on the network reach *hostname*."""
    name = hostname.strip(".").lower()
    short = name.partition(".")[0]
    return frozenset({name, short, f"{short}.local"}) if short else frozenset()
