"""Keys without effect give a warning with the key that would enable them."""

import pytest

from nexus.config.rules.unused import unused
from nexus.config.schema import Config
from nexus.errors import ConfigError

GPU = '[[backends]]\nname = "gpu-1"\nurl = "http://gpu-1:8000"\n'
SECURE = GPU.replace("http:", "https:")


@pytest.mark.parametrize(
    ("toml", "env", "source"),
    [
        (
            "[store]\npath = 'x.db'",
            {},
            "nexus.toml: [store]: a path without a kind stores nothing - at `path` (line 2)",
        ),
        ("", {"NEXUS_STORE__PATH": "x.db"}, "NEXUS_STORE__PATH: [store]: a path without a kind stores nothing"),
    ],
)
def test_a_path_without_a_kind_of_store_is_an_error(loaded, toml, env, source):
    with pytest.raises(ConfigError) as raised:
        loaded(toml, env=env)

    assert str(raised.value).startswith(source)
    assert 'set kind = "sqlite" too' in str(raised.value)


def test_an_empty_path_of_the_store_is_an_error(loaded):
    with pytest.raises(ConfigError, match=r"\[store\]: expected the name of a file, got an empty one - at `path`"):
        loaded("[store]\nkind = 'sqlite'\npath = ''")


@pytest.mark.parametrize(
    ("toml", "texts"),
    [
        ("[store]\nkind = 'memory'\npath = 'x'", ("`path` (line 3)", 'set kind = "sqlite"')),
        ("[otel]\nendpoint = 'http://tempo:4318'", ("[otel]", "`endpoint` (line 2)", "enabled = true")),
        ("[otel.headers]\nx-team = 'env:PATH'", ("[otel]", "`headers`", "enabled = true")),
        ("[discovery]\nallow = ['10.0.0.0/8']", ("`allow` (line 2)", 'set trust = "allow"')),
        ("[discovery]\ntrust = 'all'\nallow = ['gpu-*']", ("`allow` (line 3)", 'set trust = "allow"')),
        (GPU + "[discovery]\nmdns = true", ("`mdns` (line 5)", "enabled = true in [discovery]")),
        (GPU + "[discovery]\nservice_types = ['_llm._tcp']", ("`service_types`", "enabled = true")),
        ("[discovery]\nmdns = false\nservice_types = ['_llm._tcp']", ("`service_types`", "mdns = false")),
        ("[routing]\nstrategy = 'random'\n[routing.weights]\nload = 30", ("strategy = 'random'", "only 'smart'")),
        (GPU + "tls_ca_file = 'nexus.toml'", ("`tls_ca_file` (line 4)", "the URL is not https")),
        (SECURE + "tls_verify = false\ntls_ca_file = 'nexus.toml'", ("`tls_ca_file`", "tls_verify = false")),
    ],
)
def test_a_key_that_has_no_effect_is_a_warning(loaded, toml, texts):
    (warning,) = loaded(toml, env={"PATH": "x"}).warnings

    assert warning.startswith("nexus.toml: ")
    assert all(text in warning for text in ("has no effect", *texts)), warning


@pytest.mark.parametrize(
    "toml",
    [
        "",
        "[store]\nkind = 'sqlite'\npath = 'x.db'",
        "[store]\nkind = 'papyrus'\npath = 'x'",
        "[otel]\nenabled = false\nendpoint = 'http://tempo:4318'",
        "[otel]\nenabled = true\nendpoint = 'http://tempo:4318'",
        "[discovery]\ntrust = 'allow'\nallow = ['gpu-*']",
        GPU + "[discovery]\nmdns = false",
        GPU + "[discovery]\nenabled = true\nmdns = true",
        "[routing.weights]\npriority = 50",
        SECURE + "tls_ca_file = 'nexus.toml'",
    ],
)
def test_a_key_that_has_an_effect_or_is_switched_off_by_name_is_no_warning(loaded, toml):
    assert loaded(toml).warnings == ()


def test_the_defaults_give_no_warning():
    assert list(unused(Config(), frozenset())) == []
