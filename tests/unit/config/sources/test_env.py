"""``NEXUS_*`` variables are typed and named in errors; unknown ones give a warning."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.loading import load
from nexus.config.schema import Config
from nexus.config.sources import env, texts
from nexus.errors import ConfigError


@pytest.mark.parametrize(
    ("env", "key", "value"),
    [
        ({"NEXUS_PORT": "81"}, "server.port", 81),
        ({"NEXUS_HOST": "localhost"}, "server.host", "localhost"),
        ({"NEXUS_LOG_LEVEL": "DEBUG"}, "logging.level", "debug"),
        ({"NEXUS_LOG_FORMAT": "json"}, "logging.format", "json"),
        ({"NEXUS_DISCOVERY": "True"}, "discovery.enabled", True),
        ({"NEXUS_HEALTH_CHECK": "off"}, "health_check.enabled", False),
        ({"NEXUS_ROUTING_STRATEGY": "random"}, "routing.strategy", "random"),
        ({"NEXUS_ROUTING_MAX_RETRIES": "0"}, "routing.max_retries", 0),
        ({"NEXUS_DISABLE_PLUGINS": "tier, quality"}, "plugin_loading.disabled", ("tier", "quality")),
        ({"NEXUS_SERVER__ALLOWED_HOSTS": '["a", "b"]'}, "server.allowed_hosts", ("a", "b")),
        ({"NEXUS_SERVER__LAME_DUCK_SECONDS": "0"}, "server.lame_duck_seconds", 0.0),
        ({"NEXUS_LOGGING__COMPONENT_LEVELS__ROUTING": "debug"}, "logging.component_levels", {"routing": "debug"}),
        ({"NEXUS_ROUTING__ALIASES": '{gpt-4 = "llama3"}'}, "routing.aliases", {"gpt-4": "llama3"}),
        ({"NEXUS_ROUTING__ALIASES__GPT": "a,b"}, "routing.aliases", {"gpt": ("a", "b")}),
        ({"NEXUS_ROUTING__PRIORITIES__NIGHT": "350"}, "routing.priorities", {"night": 350}),
        ({"NEXUS_PLUGINS__BUDGET__MONTHLY_LIMIT_USD": "12.5"}, "plugins.budget", {"monthly_limit_usd": 12.5}),
        ({"NEXUS_PLUGINS__BUDGET__CURRENCY": "dollar"}, "plugins.budget", {"currency": "dollar"}),
    ],
)
def test_a_variable_is_read_as_the_type_of_its_key(loaded, env, key, value):
    node = loaded(env=env).config

    for part in key.split("."):
        node = node[part] if isinstance(node, dict) else getattr(node, part)

    assert node == value


def test_single_weights_can_be_set(loaded):
    env = {"NEXUS_ROUTING__WEIGHTS__LOAD": "50", "NEXUS_ROUTING__WEIGHTS__LATENCY": "0"}

    weights = loaded(env=env).config.routing.weights

    assert (weights.priority, weights.load, weights.latency) == (50, 50, 0)


def test_a_whole_fleet_fits_into_a_variable(loaded):
    result = loaded(env={"NEXUS_BACKENDS": '[{name = "a", url = "http://a/v1"}]'})

    assert [(b.name, b.url) for b in result.config.backends] == [("a", "http://a")]


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"NEXUS_PORT": "abc"}, "NEXUS_PORT: [server]: expected `int`, got 'abc' - at `port`"),
        ({"NEXUS_SERVER__PORT": "0"}, "NEXUS_SERVER__PORT: [server]: expected `int` >= 1 - at `port`"),
        (
            {"NEXUS_DISCOVERY": "maybe"},
            "NEXUS_DISCOVERY: [discovery]: expected `bool`, true or false, got 'maybe' - at `enabled`",
        ),
        (
            {"NEXUS_PORT": "1", "NEXUS_SERVER__PORT": "1"},
            "NEXUS_PORT and NEXUS_SERVER__PORT both set server.port; keep one of them",
        ),
        (
            {"NEXUS_ROUTING__WEIGHTS__LOAD": "10"},
            (
                "NEXUS_ROUTING__WEIGHTS__LOAD: [routing]: priority, load and latency must sum to 100, and sum to 80"
                " - at `weights`"
            ),
        ),
        (
            {"NEXUS_ROUTING__ALIASES": "gpt-4: llama3"},
            (
                "NEXUS_ROUTING__ALIASES: [routing]: expected a TOML value,"
                ' such as {name = "text"} or [1, 2] - at `aliases`'
            ),
        ),
        ({"NEXUS_HOST": "a\udcff"}, "NEXUS_HOST: [server]: expected text in UTF-8 - at `host`"),
    ],
)
def test_a_wrong_variable_is_named(loaded, env, text):
    with pytest.raises(ConfigError) as refused:
        loaded(env=env)

    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "NEXUS_PROT",
            "NEXUS_PROT: sets no key of the configuration, and is ignored; did you mean 'NEXUS_PORT'?",
        ),
        (
            "NEXUS_SERVER__PROT",
            "NEXUS_SERVER__PROT: sets no key of the configuration, and is ignored; did you mean 'NEXUS_SERVER__PORT'?",
        ),
        (
            "NEXUS_SERVER",
            "NEXUS_SERVER: is a whole table, and ignored; set one of its keys, as NEXUS_SERVER__KEY",
        ),
        ("NEXUS_XQZZY__", "NEXUS_XQZZY__: sets no key of the configuration, and is ignored"),
        ("NEXUS_HTTP_PORT", "NEXUS_HTTP_PORT: sets no key of the configuration, and is ignored"),
    ],
)
def test_an_unknown_variable_is_ignored_with_a_warning(loaded, name, text):
    result = loaded(env={name: "1"})

    assert (result.explicitly_set, [warning[: len(text)] for warning in result.warnings]) == (frozenset(), [text])


@given(st.dictionaries(st.from_regex(r"NEXUS_[A-Z0-9_]{1,20}", fullmatch=True), st.text(max_size=5), max_size=3))
def test_a_variable_that_is_no_key_never_keeps_nexus_from_starting(names):
    known = {f"NEXUS_{'__'.join(path).upper()}" for path in texts.all_keys()} | env.SHORT_NAMES.keys()
    free = {name: text for name, text in names.items() if name not in known and "__" not in name}

    result = load(None, environ={"NEXUS_CONFIG": os.devnull, **free}, overrides={})

    assert result.config == Config()


def test_an_empty_variable_counts_as_not_set(loaded):
    assert loaded("[server]\nport = 81", env={"NEXUS_PORT": "", "NEXUS_NONSENSE": " "}).config.server.port == 81


def test_variables_that_kubernetes_sets_are_ignored(loaded):
    env = {
        "NEXUS_SERVICE_HOST": "10.0.0.1",
        "NEXUS_SERVICE_PORT": "8000",
        "NEXUS_SERVICE_PORT_HTTP": "8000",
        "NEXUS_PORT": "tcp://10.0.0.1:8000",
        "NEXUS_PROXY_SERVICE_HOST": "fd00::1",
        "NEXUS_PROXY_SERVICE_PORT": "80",
        "NEXUS_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "NEXUS_PORT_8000_TCP_PROTO": "tcp",
        "NEXUS_PROXY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "NEXUS_PROXY_PORT": "tcp://10.0.0.1:8000",
    }

    result = loaded(env=env)

    assert (result.explicitly_set, result.warnings) == (frozenset(), ())


def test_only_variables_of_kubernetes_are_ignored(loaded):
    result = loaded(env={"NEXUS_HOST": "tcp://10.0.0.1"}, insecure=True)

    assert result.config.server.host == "tcp://10.0.0.1"


def test_a_variable_that_holds_a_secret_is_no_unknown_key(loaded):
    backend = '[[backends]]\nname = "a"\nurl = "http://a"\napi_key_env = "NEXUS_A"'
    toml = '[server]\napi_keys = ["env:NEXUS_API_KEY"]\n' + backend

    result = loaded(toml, env={"NEXUS_API_KEY": "sesame", "NEXUS_A": "open"})

    assert result.backend_keys["a"].reveal() == "open"
    assert result.warnings == ()
