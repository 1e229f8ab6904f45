"""The exact texts of errors about plugins."""

import pytest

import nexus
from nexus.config.schema import PluginLoadingConfig
from nexus.errors import ConfigError, PluginError
from nexus.plugin_manager import PluginManager

STAGELESS = """
@hookimpl
def nexus_reconcilers(config):
    return []
"""

BUDGET = """
class BudgetConfig(PluginConfig):
    monthly_limit_usd: float = 0.0

@hookimpl
def nexus_config():
    return BudgetConfig
"""


def load(*, tables=(), files=(), **loading):
    return PluginManager.load(PluginLoadingConfig(**loading), tables, files=files)


def message(error) -> str:
    return str(error.value)


def test_two_plugins_with_the_same_name_are_refused(install):
    install("privacy", STAGELESS, distribution="A", version="1.4.0")
    install("privacy", STAGELESS, distribution="B", version="0.2")

    with pytest.raises(PluginError) as error:
        load()

    expected = "two plugins are named 'privacy': 'privacy' (A 1.4.0) and 'privacy' (B 0.2); uninstall one"
    assert expected == message(error)


def test_two_plugins_with_the_same_name_may_both_be_disabled(install):
    install("privacy", STAGELESS, distribution="A")
    install("privacy", STAGELESS, distribution="B")

    assert load(disabled=("privacy",)).plugins == ()


def test_a_misspelt_hook_is_refused_with_a_suggestion(install):
    install("night", "@hookimpl\ndef nexus_reconciler(config):\n    return []\n")

    with pytest.raises(PluginError) as error:
        load()

    expected = "plugin 'night' implements an unknown hook 'nexus_reconciler'; did you mean 'nexus_reconcilers'?"
    assert expected == message(error)


def test_an_unknown_hook_argument_keeps_the_text_of_pluggy_and_lists_the_arguments(install):
    install("night", "@hookimpl\ndef nexus_services(config, storage):\n    return []\n")

    with pytest.raises(PluginError) as error:
        load()

    first, *_, last = message(error).splitlines()
    assert first == "Plugin 'night' for hook 'nexus_services'"
    assert "storage" in message(error)
    assert last == "the arguments there are: config, store, state, wake"


def test_a_plugin_for_a_later_nexus_is_refused_before_it_is_imported(install):
    install("night", "raise RuntimeError('imported')", requires="nexus-proxy>=99.6")

    with pytest.raises(PluginError) as error:
        load()

    expected = f"plugin 'night' (nexus-proxy-night 0.3) needs nexus-proxy>=99.6; this is {nexus.__version__}"
    assert expected == message(error)


def test_a_requirement_of_an_extra_does_not_count(install):
    install("night", STAGELESS, requires="nexus-proxy>=99.6; extra == 'test'")

    assert [p.name for p in load().plugins] == ["night"]


def test_a_required_plugin_that_is_missing_is_named_with_the_command_that_installs_it():
    with pytest.raises(ConfigError) as error:
        load(required=("privacy>=1.4",))

    assert message(error) == (
        "plugin 'privacy' is required by [plugin_loading] in nexus.toml but is not installed;"
        " pip install nexus-proxy-privacy"
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("bugdet", "did you mean 'budget'?"), ("nightshift", "install the package that has it")]
)
def test_no_package_is_suggested_for_an_unknown_required_plugin(install, name, hint):
    install("budget", BUDGET)

    with pytest.raises(ConfigError) as error:
        load(required=(name,))

    assert message(error).endswith(f"but is not installed; {hint}")


def test_a_missing_required_plugin_is_named_even_if_it_has_a_table():
    with pytest.raises(ConfigError, match=r"'privacy' is required .* is not installed"):
        PluginManager.load(PluginLoadingConfig(required=("privacy",)), {"privacy"})


@pytest.mark.parametrize(
    ("loading", "expected"),
    [
        ({"disabled": ("privacy",)}, "is disabled"),
        ({"autoload": False}, "is not loaded, as autoload is false; add a [plugins.privacy] table"),
        ({"required": ("privacy>=1.4",)}, "pip install 'nexus-proxy-privacy>=1.4'"),
    ],
)
def test_a_required_plugin_must_be_loaded_in_a_matching_version(install, loading, expected):
    install("privacy", STAGELESS, version="1.3")

    with pytest.raises(ConfigError, match=r"is required by \[plugin_loading\] in nexus.toml but") as error:
        load(**{"required": ("privacy",), **loading})

    assert expected in message(error)


def test_a_required_plugin_that_is_loaded_is_no_error(install):
    install("privacy", STAGELESS, version="1.4.1")

    assert [p.name for p in load(required=("privacy>=1.4",)).plugins] == ["privacy"]


def test_an_invalid_requirement_is_refused():
    with pytest.raises(ConfigError, match=r"required\[0\]: 'privacy>>1' is not a plugin's name"):
        load(required=("privacy>>1",))


def test_a_table_without_a_plugin_is_refused_with_a_suggestion(install):
    install("budget", BUDGET)

    with pytest.raises(ConfigError) as error:
        load(tables=("bugdet",))

    assert message(error) == "nexus.toml: [plugins.bugdet] belongs to no installed plugin; did you mean 'budget'?"


def test_a_table_of_a_plugin_of_this_project_says_what_to_install():
    with pytest.raises(ConfigError) as error:
        load(tables=("budget",))

    assert message(error) == (
        "nexus.toml: [plugins.budget] belongs to no installed plugin; pip install nexus-proxy-budget"
    )


def test_an_import_error_names_plugin_and_distribution(install):
    install("night", "import no_such_module")

    with pytest.raises(PluginError) as error:
        load()

    expected = "plugin 'night' (nexus-proxy-night 0.3) cannot be imported: ModuleNotFoundError: No module named"
    assert message(error).startswith(expected)


def test_a_value_of_the_wrong_type_names_file_table_and_key(install):
    install("budget", BUDGET)
    manager = load()

    with pytest.raises(ConfigError) as error:
        manager.configure({"budget": {"monthly_limit_usd": "ten"}})

    expected = "nexus.toml: [plugins.budget]: expected `float`, got `str` - at `monthly_limit_usd`"
    assert expected == message(error)


def test_an_unknown_key_is_refused_with_a_suggestion(install):
    install("budget", BUDGET)
    manager = load()

    with pytest.raises(ConfigError) as error:
        manager.configure({"budget": {"monthly_limit": 10.0}})

    assert message(error) == (
        "nexus.toml: [plugins.budget]: unknown key - at `monthly_limit`; did you mean 'monthly_limit_usd'?"
    )


def test_a_table_for_a_plugin_that_takes_none_is_refused(install):
    install("night", STAGELESS)

    with pytest.raises(ConfigError, match="takes no configuration"):
        load().configure({"night": {"first_hour": 8}})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def nexus_reconcilers(config):\n    return []\n", "without @hookimpl"),
        ("x = 1", "implements no hook"),
        ("@hookimpl\nasync def nexus_reconcilers(config):\n    return []\n", "plain function"),
        ("@hookimpl(wrapper=True)\ndef nexus_reconcilers(config):\n    return (yield)\n", "wraps nexus_reconcilers"),
    ],
)
def test_a_hook_that_would_never_work_is_refused_at_start(install, code, expected):
    install("night", code)

    with pytest.raises(PluginError, match="night") as error:
        load()

    assert expected in message(error)


def ask_for_everything(manager):
    contributions = manager.configure({})
    contributions.reconcilers()
    contributions.backend_kinds()
    contributions.stores()
    contributions.services(None, print)
    contributions.routes()
    contributions.commands()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def nexus_reconcilers(config):\n    raise ValueError('no')", "nexus_reconcilers failed: ValueError: no"),
        ("def nexus_reconcilers(config):\n    return 3", "nexus_reconcilers must give a list, not int"),
        ("def nexus_backend_kinds(config):\n    return [3]", "nexus_backend_kinds must give nexus.api.BackendKind"),
        ("def nexus_stores(config):\n    return ['redis']", "nexus_stores must give (name, function)"),
        ("def nexus_services(config, store):\n    return [3]", "nexus_services must give an async context manager"),
        ("def nexus_routes(config):\n    return [AdminRoute('report', print)]", "nexus_routes must give"),
        ("def nexus_commands(config):\n    return [print]", "nexus_commands must give click.Command"),
        ("def nexus_config():\n    return dict", "nexus_config must give a subclass of nexus.api.PluginConfig"),
    ],
)
def test_a_hook_that_fails_or_returns_the_wrong_type_is_named(install, code, expected):
    install("night", f"@hookimpl\n{code}\n")
    manager = load()

    with pytest.raises(PluginError) as error:
        ask_for_everything(manager)

    assert message(error).startswith("plugin 'night' (nexus-proxy-night 0.3): ")
    assert expected in message(error)


def test_two_plugins_that_provide_the_same_name_are_refused(install):
    code = "@hookimpl\ndef nexus_stores(config):\n    return [('redis', dict)]\n"
    install("a", code)
    install("b", code)

    with pytest.raises(PluginError) as error:
        load().configure({}).stores()

    assert message(error) == "plugins 'a' and 'b' both provide a store named 'redis'; disable one of them"


def test_a_plugin_that_ends_the_process_when_it_is_imported_is_named(install):
    install("night", "raise SystemExit(3)")

    with pytest.raises(
        PluginError, match=r"plugin 'night' \(nexus-proxy-night 0.3\) cannot be imported: SystemExit: 3"
    ):
        PluginManager.load(PluginLoadingConfig())


def test_a_hook_that_ends_the_process_is_named(install):
    install("night", "@hookimpl\ndef nexus_config():\n    raise SystemExit(3)\n")

    with pytest.raises(PluginError, match="nexus_config failed: SystemExit: 3"):
        PluginManager.load(PluginLoadingConfig()).configure({})


def test_a_plugin_cannot_replace_a_page_of_nexus(install):
    install(
        "overview", "@hookimpl\ndef nexus_routes():\n    return [AdminRoute('/', lambda _: (200, 'text/plain', b''))]\n"
    )

    with pytest.raises(PluginError, match=r"cannot have pages: /admin/overview is Nexus's own"):
        PluginManager.load(PluginLoadingConfig()).configure({}).routes()


def test_a_name_that_is_no_key_of_a_table_is_refused(install):
    install("no cloud", "", distribution="nexus-proxy-night")

    with pytest.raises(PluginError, match=r"plugin 'no cloud' .*: a name is up to 64 letters"):
        PluginManager.load(PluginLoadingConfig())


DEEP = """
from typing import Literal

import msgspec

from nexus.api import PluginConfig, hookimpl


class Row(msgspec.Struct, forbid_unknown_fields=True):
    least: int = 0
    most: int = 1

    def __post_init__(self):
        if self.least > self.most:
            raise ValueError("more than `most`")


class Tagged(msgspec.Struct, frozen=True, tag_field="kind", tag="plain"):
    size: int = 0


class Config(PluginConfig):
    mode: Literal["fast", "safe"] = "safe"
    rows: tuple[Row, ...] = ()
    by_name: dict[str, Row] = {}
    listed: list[Row] = []
    pair: tuple[int, str] = (0, "")
    tagged: Tagged = Tagged()

    def __post_init__(self):
        if self.by_name and self.listed:
            raise ValueError("`by_name` or `listed`, not both")


@hookimpl
def nexus_config():
    return Config
"""


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            {"mode": "faster"},
            "[plugins.deep]: expected 'fast' or 'safe', got 'faster' - at `mode`; did you mean 'fast'?",
        ),
        ({"rows": [{}, {"least": 2}]}, "[plugins.deep]: more than `most` - at `rows[1]`"),
        ({"listed": [{"least": "x"}]}, "plugins.deep.listed[0]: expected `int`, got `str` - at `least`"),
        ({"by_name": {"a": {"lest": 2}}}, "[plugins.deep.by_name.a]: unknown key - at `lest`; did you mean 'least'?"),
        ({"pair": [1, 2]}, "[plugins.deep]: expected `str`, got `int` - at `pair[1]`"),
        ({"by_name": {"a": {}}, "listed": [{}]}, "[plugins.deep]: `by_name` or `listed`, not both"),
        ({"tagged": {"kind": "plain", "size": "x"}}, "[plugins.deep.tagged]: expected `int`, got `str` - at `size`"),
    ],
)
def test_a_fault_deep_in_a_table_is_found_by_its_key(install, table, expected):
    install("deep", DEEP)

    with pytest.raises(ConfigError) as error:
        load().configure({"deep": table})

    assert message(error) == f"nexus.toml: {expected}"
