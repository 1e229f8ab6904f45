"""Which plugins are loaded, and in which order."""

import pytest

from nexus.config.faults import Origin
from nexus.config.provenance import Provenance
from nexus.config.schema import PluginLoadingConfig
from nexus.errors import PluginError
from nexus.plugin_manager import PluginManager

CODE = """
class Table(PluginConfig):
    hour: int = 8

@hookimpl
def nexus_config():
    return Table
"""


def names(manager: PluginManager) -> list[str]:
    return [plugin.name for plugin in manager.plugins]


def test_plugins_are_sorted_by_name(install):
    for name in ("tier", "acme", "privacy"):
        install(name, CODE)

    assert names(PluginManager.load(PluginLoadingConfig())) == ["acme", "privacy", "tier"]


def test_without_autoload_only_plugins_with_a_table_are_loaded(install):
    install("privacy", CODE)
    install("tier", CODE)

    manager = PluginManager.load(PluginLoadingConfig(autoload=False), {"tier"})

    assert names(manager) == ["tier"]
    assert [candidate.name for candidate in manager.not_loaded] == ["privacy"]


def test_a_disabled_plugin_is_not_even_imported(install):
    install("quality", "raise RuntimeError('imported')")

    manager = PluginManager.load(PluginLoadingConfig(disabled=("quality",)), {"quality"})

    assert names(manager) == []
    assert [c.label for c in manager.not_loaded] == ["'quality' (nexus-proxy-quality 0.3)"]


def test_disabling_an_unknown_plugin_gives_a_warning_with_a_suggestion(install):
    install("quality", CODE)
    loading = PluginLoadingConfig(disabled=("qualty",))

    said = PluginManager.load(loading).misnamed(loading, Provenance(Origin("nexus.toml"), {}))

    assert said == (
        "nexus.toml: [plugin_loading]: disabled names 'qualty', which is no installed plugin; did you mean 'quality'?",
    )


def test_a_file_is_a_plugin_named_after_it(tmp_path):
    file = tmp_path / "night_shift.py"
    file.write_text("from nexus.api import *\n" + CODE)

    manager = PluginManager.load(PluginLoadingConfig(autoload=False), {"night_shift"}, files=[file])
    contributions = manager.configure({"night_shift": {"hour": 3}})

    assert [(p.name, p.distribution, p.version) for p in manager.plugins] == [("night_shift", str(file), "")]
    assert contributions.config_of("night_shift").hour == 3


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(PluginError, match="there is no such file"):
        PluginManager.load(PluginLoadingConfig(), files=[tmp_path / "night.py"])


def test_a_file_that_fails_leaves_nothing_behind(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")

    with pytest.raises(PluginError, match=r"'broken' .* cannot be imported: ZeroDivisionError"):
        PluginManager.load(PluginLoadingConfig(), files=[file])

    file.write_text("from nexus.api import *\n" + CODE)
    assert names(PluginManager.load(PluginLoadingConfig(), files=[file])) == ["broken"]


def test_a_second_configuration_does_not_change_the_first(install):
    install("night", CODE)
    manager = PluginManager.load(PluginLoadingConfig())
    first = manager.configure({"night": {"hour": 3}})

    second = manager.configure({"night": {"hour": 4}})

    assert (first.config_of("night").hour, second.config_of("night").hour) == (3, 4)


def test_without_a_table_a_plugin_gets_its_defaults(install):
    install("night", CODE)

    assert PluginManager.load(PluginLoadingConfig()).configure({}).config_of("night").hour == 8
