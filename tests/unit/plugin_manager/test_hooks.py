"""Each hook has a test with the hook's name in its own."""

import inspect
import sys
from contextlib import AbstractAsyncContextManager

import pytest
from structlog.testing import capture_logs

from nexus import hookspecs
from nexus.config.schema import PluginLoadingConfig
from nexus.errors import ConfigError, PluginError
from nexus.plugin_manager import PluginManager
from nexus.plugin_manager.observer import Observer, function_of


@pytest.fixture
def contributions(install):
    """Give a function that installs one plugin and returns what it contributes."""

    def contribute(code, **table):
        install("night", code)
        return PluginManager.load(PluginLoadingConfig(), {"night"}).configure({"night": table} if table else {})

    return contribute


def test_every_hook_has_a_test():
    hooks = [name for name, f in vars(hookspecs).items() if inspect.isfunction(f) and hasattr(f, "nexus_spec")]
    tests = " ".join(name for name in vars(sys.modules[__name__]) if name.startswith("test_"))

    assert len(hooks) == 11
    assert [hook for hook in hooks if hook not in tests] == []


def test_nexus_config_gives_the_type_of_the_table_and_of_the_policy_keys(contributions):
    code = """
        from typing import ClassVar

        class Keys(PolicyKeys, frozen=True):
            at_night: bool = True

        class Table(PluginConfig):
            policy_keys: ClassVar[type[PolicyKeys]] = Keys
            hour: int = 8

        @hookimpl
        def nexus_config():
            return Table
    """

    night = contributions(code, hour=3)

    assert night.config_of("night").hour == 3
    assert night.takes_table("night")
    assert [keys.__name__ for keys in night.policy_keys().values()] == ["Keys"]


OBJECTING = """
    class Table(PluginConfig):
        hour: int = 8

    @hookimpl
    def nexus_config():
        return Table

    @hookimpl
    def nexus_configured(config, store):
        if store == "broken":
            raise KeyError(store)
        if config.hour > 8:
            raise ConfigError(f"{store} is too small", **{extra})
"""


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"key": "hour", "hint": "sleep"}, "[plugins.night]: memory is too small - at `hour`; sleep"),
        ({}, "[plugins.night]: memory is too small"),
    ],
)
def test_nexus_configured_rejects_a_configuration_that_does_not_fit(contributions, extra, expected):
    with pytest.raises(ConfigError) as error:
        contributions(OBJECTING.replace("{extra}", repr(extra)), hour=9).check("memory")

    assert str(error.value) == f"nexus.toml: {expected}"


def test_any_other_hook_may_reject_a_configuration_too(contributions):
    code = """
        from nexus.api import ConfigError

        @hookimpl
        def nexus_reconcilers(config):
            raise ConfigError("there is no such file", key="file")
    """

    with pytest.raises(ConfigError) as error:
        contributions(code).reconcilers()

    assert str(error.value) == "nexus.toml: [plugins.night]: there is no such file - at `file`"


def test_nexus_configured_may_accept_and_is_named_when_it_fails(contributions):
    night = contributions(OBJECTING.replace("{extra}", "{}"))

    night.check("memory")

    with pytest.raises(PluginError, match=r"plugin 'night' .*: nexus_configured failed: KeyError"):
        night.check("broken")


def test_nexus_reconcilers_contributes_stages(contributions):
    code = """
        class Night(Reconciler):
            name = "no-cloud-at-night"
            priority = 250

            def reconcile(self, intent):
                pass

        @hookimpl
        def nexus_reconcilers(config):
            assert config is None
            return [Night()]
    """

    night = contributions(code)

    assert [(plugin.name, stage.name) for plugin, stage in night.reconcilers()] == [("night", "no-cloud-at-night")]
    assert night.stages_of("night") == ("no-cloud-at-night",)
    assert night.reconcilers()[0][1] is night.reconcilers()[0][1]


def test_nexus_discoverers_contributes_finders_of_backends(contributions):
    night = contributions("@hookimpl\ndef nexus_discoverers(config):\n    return ['finder']\n")

    assert [finder for _, finder in night.discoverers()] == ["finder"]


def test_nexus_backend_kinds_contributes_rows(contributions):
    code = """
        @hookimpl
        def nexus_backend_kinds(config):
            listing = ModelListing("/v1/models", lambda body: ())
            return [BackendKind(name="tgi", endpoints=frozenset(), health_path="/health", listing=listing)]
    """

    assert [kind.name for _, kind in contributions(code).backend_kinds()] == ["tgi"]


def test_nexus_stores_contributes_named_stores(contributions):
    night = contributions("@hookimpl\ndef nexus_stores(config):\n    return [('redis', dict)]\n")

    assert [(name, factory) for _, name, factory in night.stores()] == [("redis", dict)]


def test_nexus_services_get_the_store_and_give_context_managers(contributions):
    code = """
        from contextlib import asynccontextmanager

        @hookimpl
        def nexus_services(config, store):
            @asynccontextmanager
            async def refresh():
                yield store
            return [refresh()]
    """

    ((plugin, service),) = contributions(code).services("the store", print)

    assert plugin.name == "night"
    assert isinstance(service, AbstractAsyncContextManager)


async def test_a_plugin_s_state_is_one_for_all_its_hooks_and_outlives_reloads(install):
    code = """
        from contextlib import asynccontextmanager

        @hookimpl
        def nexus_reconcilers(config, state):
            state["seen"] = state.get("seen", 0) + 1
            return []

        @hookimpl
        def nexus_services(config, store, state):
            @asynccontextmanager
            async def hook():
                state["store"] = store
                yield
            return [hook()]
    """
    install("night", code)
    manager = PluginManager.load(PluginLoadingConfig(), {"night"})

    manager.configure({}).reconcilers()
    later = manager.configure({})
    later.reconcilers()
    ((plugin, service),) = later.services("the store", print)
    async with service:
        assert plugin.state == {"seen": 2, "store": "the store"}


def test_nexus_routes_contributes_pages_below_the_plugin_s_own_path(contributions):
    code = """
        @hookimpl
        def nexus_routes(config):
            page = lambda query: (200, "text/plain", b"night")
            return [AdminRoute("/", page), AdminRoute("/report", page)]
    """

    routes = [route for _, route in contributions(code).routes()]

    assert [route.path for route in routes] == ["/admin/night", "/admin/night/report"]
    assert routes[0].respond({}) == (200, "text/plain", b"night")


def test_nexus_commands_contributes_subcommands(contributions):
    code = """
        import click

        @click.command()
        def night_report():
            pass

        @hookimpl
        def nexus_commands(config):
            return [night_report]
    """

    assert [command.name for _, command in contributions(code).commands()] == ["night-report"]


def test_nexus_observers_gives_functions_of_outcomes(contributions):
    code = """
        seen = []

        @hookimpl
        def nexus_observers(state):
            return [seen.append, state.setdefault("seen", []).append]
    """
    subject = contributions(code)

    for observe in subject.exchange_observers():
        observe("an outcome")

    (hook,) = subject.plugins[0].hooks["nexus_observers"]
    assert (hook.plugin.seen, subject.plugins[0].state) == (["an outcome"], {"seen": ["an outcome"]})


def test_nexus_observers_may_give_none(contributions):
    assert contributions("@hookimpl\ndef nexus_observers():\n    return []\n").exchange_observers() == ()


def test_nexus_observers_must_give_functions(contributions):
    subject = contributions("@hookimpl\ndef nexus_observers():\n    return ['a word']\n")

    with pytest.raises(PluginError, match=r"'night'.*nexus_observers must give functions, not 'a word'"):
        subject.exchange_observers()


def test_nexus_observers_that_fail_are_contained(contributions):
    subject = contributions("@hookimpl\ndef nexus_observers():\n    return [lambda outcome: 1 / 0]\n")
    (observe,) = subject.exchange_observers()

    with capture_logs() as logs:
        observe("an outcome")

    assert [(entry["event"], entry["plugin"]) for entry in logs] == [("observer_failed", "night")]


OBSERVER = """
class Table(PluginConfig):
    hour: int = 8

seen = []

@hookimpl
def nexus_config():
    return Table

@hookimpl
def nexus_exchange_finished(config, outcome):
    seen.append((config.hour, outcome))
"""


def test_nexus_exchange_finished_observes_outcomes(install):
    module = install("night", OBSERVER)

    (observe,) = PluginManager.load(PluginLoadingConfig()).configure({"night": {"hour": 3}}).exchange_observers()
    observe("an outcome")

    assert sys.modules[module].seen == [(3, "an outcome")]


def test_nexus_exchange_finished_that_fails_is_logged_and_contained(contributions):
    (observe,) = contributions("@hookimpl\ndef nexus_exchange_finished(outcome):\n    1 / 0\n").exchange_observers()

    with capture_logs() as logs:
        observe("an outcome")

    assert [(entry["event"], entry["plugin"], entry["distribution"]) for entry in logs] == [
        ("observer_failed", "night", "nexus-proxy-night")
    ]


@pytest.mark.parametrize(
    "body", ["raise SystemExit", "raise GeneratorExit", "from asyncio import sleep\n    return sleep(0)"]
)
def test_nexus_exchange_finished_that_misbehaves_is_contained(contributions, body):
    subject = contributions(f"@hookimpl\ndef nexus_exchange_finished():\n    {body}\n")
    (observe,) = subject.exchange_observers()

    with capture_logs() as logs:
        observe("an outcome")
        observe("an outcome")

    assert [entry["event"] for entry in logs] == ["observer_failed"]
    assert subject.plugins[0].observing.failures_total == 2


def test_nexus_exchange_finished_that_is_slow_is_named(contributions):
    ticks = iter([0.0, 0.06, 0.06])
    plugin = contributions("@hookimpl\ndef nexus_exchange_finished():\n    pass\n").plugins[0]
    observe = Observer(plugin, function_of(plugin.hooks["nexus_exchange_finished"][0]), clock=ticks.__next__)

    with capture_logs() as logs:
        observe("an outcome")

    assert [(entry["event"], entry["plugin"], entry["took_ms"]) for entry in logs] == [("observer_slow", "night", 60.0)]
    assert (plugin.observing.slow_total, plugin.observing.failures_total) == (1, 0)


def test_nexus_exchange_finished_needs_no_argument(contributions):
    (observe,) = contributions("@hookimpl\ndef nexus_exchange_finished():\n    pass\n").exchange_observers()

    assert observe("an outcome") is None
