"""A third-party plugin is found, named, configured, and changes routing, without a line of Nexus changing."""

from importlib import import_module

import pytest

from nexus.config.schema import PluginLoadingConfig, RoutingConfig
from nexus.domain.request import Requirements
from nexus.errors import ConfigError
from nexus.plugin_manager import PluginManager
from nexus.routing.assembly import build_router
from nexus.routing.decision_record import Request
from nexus.routing.router import Routing
from nexus.testing.builders import CHAT, make_backend, make_fleet
from nexus.testing.imports import assert_only_uses_api

THREE_AT_NIGHT = 1_777_604_400.0  # 2026-05-01T03:00Z
NOON = 1_777_636_800.0

FLEET = make_fleet(make_backend("gpu-1", priority=100), make_backend("openai", zone="cloud", priority=0))


def chosen(contributions, at):
    router = build_router(RoutingConfig(), contributions)
    wanted = Requirements(model="llama3")
    asked = Request(id="r", endpoint=CHAT, requirements=wanted, headers={}, received_unix_s=at)
    return Routing(router, asked).next(FLEET)


def test_it_imports_nothing_of_nexus_but_the_api(night):
    assert_only_uses_api(import_module("nexus_night"))


def test_it_is_found_and_named(night):
    manager = PluginManager.load(PluginLoadingConfig(required=("night>=0.2",)))
    contributions = manager.configure({})

    plugin = next(p for p in manager.plugins if p.name == "night")

    assert (plugin.distribution, plugin.version) == ("nexus-proxy-night", "0.2.1")
    assert contributions.stages_of("night") == ("no-cloud-at-night",)


def test_it_changes_who_is_asked(night):
    contributions = PluginManager.load(PluginLoadingConfig()).configure({})

    assert chosen(contributions, NOON).backend.name == "openai"
    assert chosen(contributions, THREE_AT_NIGHT).backend.name == "gpu-1"


def test_its_table_changes_when(night):
    contributions = PluginManager.load(PluginLoadingConfig(), {"night"}).configure({"night": {"first_hour": 2}})

    assert chosen(contributions, THREE_AT_NIGHT).backend.name == "openai"


def test_its_table_is_checked(night):
    manager = PluginManager.load(PluginLoadingConfig(), {"night"})

    with pytest.raises(ConfigError, match=r"\[plugins.night\]: expected `int`, got `str` - at `first_hour`"):
        manager.configure({"night": {"first_hour": "eight"}})


def test_it_stands_between_privacy_and_budget(night):
    router = build_router(RoutingConfig(), PluginManager.load(PluginLoadingConfig()).configure({}))

    places = [stage.place for stage in router.pipeline.stages]

    assert [(p.priority, p.name, p.plugin) for p in places if p.plugin == "night"] == [
        (250, "no-cloud-at-night", "night")
    ]


def test_cloud_backends_rest_at_night(night, intent):
    module = import_module("nexus_night")
    at_three = intent(received_at="2026-05-01T03:00", backends={"gpu-1": "local", "openai": "cloud"})

    module.NoCloudAtNight(module.NightConfig()).reconcile(at_three)

    assert at_three.candidates == {"gpu-1"}


def test_a_process_that_has_it_on_its_path_finds_it(python):
    code = "from nexus.plugin_manager import find_plugins; print(*[c.label for c in find_plugins()])"

    assert "'night' (nexus-proxy-night 0.2.1)" in python(code)


def test_the_file_alone_works_too_without_being_packaged(request):
    file = request.path.parent / "nexus-proxy-night" / "nexus_night.py"
    contributions = PluginManager.load(PluginLoadingConfig(), files=[file]).configure({})

    assert chosen(contributions, THREE_AT_NIGHT).backend.name == "gpu-1"
