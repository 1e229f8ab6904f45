"""A plugin that uses all that there is, for type checkers alone: what it may rely on has these types, strictly."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, assert_type

import click

from nexus.api import (
    Add,
    AdminReply,
    AdminRoute,
    AttemptOutcome,
    Backend,
    BackendKind,
    ConfigError,
    Discovered,
    Discoverer,
    Ending,
    ExchangeOutcome,
    Hold,
    Measure,
    ModelFacts,
    ModelListing,
    PluginConfig,
    PolicyKeys,
    Priority,
    Put,
    Reconciler,
    Refusal,
    RoutingIntent,
    Sample,
    Store,
    StoreConfig,
    TokenUsage,
    Verdict,
    Zone,
    hookimpl,
)


class Keys(PolicyKeys, frozen=True):
    """What it adds to traffic policies."""

    max_tokens: int | None = None


class Config(PluginConfig):
    """Its table."""

    policy_keys: ClassVar[type[PolicyKeys]] = Keys

    limit: int = 10


class Tokens(Hold):
    """Holds tokens for an answer."""

    def __init__(self, spent: dict[str, int], backend: Backend) -> None:
        self._spent = spent
        self._backend = backend

    def settle(self, outcome: AttemptOutcome) -> None:
        assert_type(outcome.ending, Ending)
        if outcome.usage is not None:
            self._spent[self._backend.name] = outcome.usage.total_tokens

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        return {} if usage is None else {"X-Nexus-Tokens": str(usage.total_tokens)}

    def listener(self) -> Callable[[str], None] | None:
        return None


class Stage(Reconciler):
    """Does all that a stage can do."""

    name = "stage"
    priority = Priority.QUALITY + 1
    on_error = "skip"

    def __init__(self, config: Config, state: dict[str, Any]) -> None:
        self._config = config
        self._spent: dict[str, int] = state.setdefault("spent", {})

    def reconcile(self, intent: RoutingIntent) -> None:
        for backend, model in intent.offers():
            assert_type(backend, Backend)
            assert_type(intent.zone_of(backend), Zone)
            assert_type(intent.tier_of(backend), int)
            if backend.facts(model) is None:
                intent.exclude(backend, stage=self.name, reason="unknown", action="list it", context={"model": model})
            elif intent.received_at.hour < self._config.limit:
                intent.avoid(backend, stage=self.name, reason="early")
            else:
                intent.weigh(backend, 0.5, stage=self.name, reason="late")
        verdicts: list[Verdict] = intent.excluded
        assert_type(intent.candidates, set[str])
        assert_type(intent.requirements.is_stream, bool)
        del verdicts

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | Refusal | None:
        return self.would_refuse(intent, backend) or Tokens(self._spent, backend)

    def would_refuse(self, intent: RoutingIntent, backend: Backend) -> Refusal | None:
        del intent
        return Refusal("spent", is_saturation=True) if backend.name in self._spent else None

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        return {"policies": len(intent.policies_of("stage"))}

    def measures(self) -> Iterable[Measure]:
        samples = tuple(Sample(tokens, {"backend": name}) for name, tokens in self._spent.items())
        yield Measure(name="nexus_stage_tokens", documentation="Tokens spent.", type="counter", samples=samples)


class Finder(Discoverer):
    """Finds one server."""

    name = "finder"

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        yield (Discovered("gpu-1", "http://gpu-1:8000"),)


def nothing_listed(body: bytes) -> tuple[ModelFacts, ...]:
    """Read no models."""
    del body
    return ()


@hookimpl
def nexus_config() -> type[Config]:
    return Config


@hookimpl
def nexus_reconcilers(config: Config, state: dict[str, Any]) -> list[Reconciler]:
    return [Stage(config, state)]


@hookimpl
def nexus_discoverers() -> list[Discoverer]:
    return [Finder()]


@hookimpl
def nexus_backend_kinds() -> list[BackendKind]:
    listing = ModelListing("/models", nothing_listed)
    return [BackendKind(name="mine", endpoints=frozenset({"openai.chat"}), health_path="/models", listing=listing)]


@hookimpl
def nexus_services(
    config: Config, store: Store, state: dict[str, Any], wake: Callable[[], None]
) -> list[AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def service() -> AsyncIterator[None]:
        await store.apply((Put("stage/limit", str(config.limit).encode()), Add("stage/starts", 1)))
        assert_type(await store.get("stage/limit"), bytes | None)
        wake()
        yield
        state.clear()

    return [service()]


@hookimpl
def nexus_stores() -> list[tuple[str, Callable[[StoreConfig], Store]]]:
    return []


@hookimpl
def nexus_configured(config: Config, store: Store) -> None:
    if config.limit and not store.survives_restart:
        raise ConfigError("a restart would forget it", key="limit", hint="leave it out")


@hookimpl
def nexus_routes(state: dict[str, Any]) -> list[AdminRoute]:
    def page(asked: Mapping[str, str]) -> AdminReply:
        return 200, "text/plain", f"{len(state)} {len(asked)}".encode()

    return [AdminRoute("/", page)]


@hookimpl
def nexus_commands(config: Config) -> list[click.Command]:
    return [click.Command("limit", callback=lambda: click.echo(str(config.limit)))]


@hookimpl
def nexus_observers(config: Config) -> list[Callable[[ExchangeOutcome], None]]:
    return [nexus_exchange_finished] if config.limit else []


@hookimpl
def nexus_exchange_finished(outcome: ExchangeOutcome) -> None:
    assert_type(outcome.backend, str | None)
