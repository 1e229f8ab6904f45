"""Whatever the bytes, loading ends in a configuration or in one ConfigError."""

import string
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nexus.config.loading import LoadedConfig, load
from nexus.config.quoting import shown
from nexus.config.rules import urls
from nexus.config.schema import Config
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS
from nexus.errors import ConfigError

VALID = """
[server]
port = 8001
api_keys = ["env:KEY"]
[routing]
strategy = "random"
[routing.weights]
load = 30
[routing.aliases]
gpt-4 = "llama3"
any = ["a", "b"]
[routing.fallbacks]
"llama3:8b" = ["qwen"]
[[routing.policies]]
model_pattern = "llama*"
[[backends]]
name = "gpu-1"
url = "http://[::1]:8000/v1"
zone = "Open"
[backends.models."llama3:8b"]
vision = true
[plugins.budget]
limit = 1.5
"""

NOTHING: Mapping[str, str] = {}

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(
    content: bytes, folder: Path, env: Mapping[str, str] = NOTHING, overrides: Mapping[str, str] = NOTHING
) -> LoadedConfig | ConfigError:
    path = folder / "nexus.toml"
    path.write_bytes(content)
    try:
        return load(path, environ={"KEY": "sesame", **env}, overrides=overrides)
    except ConfigError as exc:
        return exc


names = st.sampled_from(
    [*Config.__struct_fields__, "port", "host", "level", "weights", "load", "aliases", "x", "é\x1b"]
)
scalars = st.one_of(
    st.none().map(lambda _: "inf"),
    st.integers().map(str),
    st.integers(10**400, 10**401).map(str),
    st.floats().map(str),
    st.booleans().map(lambda b: str(b).lower()),
    st.text(string.printable, max_size=10).map(lambda text: msgspec.json.encode(text).decode()),
    st.sampled_from(["2026-05-01", "07:32:00", "2026-05-01T03:00:00Z", "0x1f", "nan", '"env:KEY"']),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(names, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{quoted(key)} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)


def quoted(key: str) -> str:
    return msgspec.json.encode(key).decode()


@quick
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes_end_in_a_configuration_or_a_config_error(content, tmp_path):
    assert isinstance(outcome(content, tmp_path), LoadedConfig | ConfigError)


@quick
@given(table=st.dictionaries(names, values, max_size=4))
def test_any_table_ends_in_a_configuration_or_a_config_error(table, tmp_path):
    toml = "\n".join(f"{quoted(key)} = {value}" for key, value in table.items())

    assert isinstance(outcome(toml.encode(), tmp_path), LoadedConfig | ConfigError)


@quick
@given(start=st.integers(0, len(VALID)), length=st.integers(0, 20), put=values)
def test_a_valid_file_with_a_piece_replaced_ends_well_too(start, length, put, tmp_path):
    broken = VALID[:start] + put + VALID[start + length :]

    assert isinstance(outcome(broken.encode(), tmp_path), LoadedConfig | ConfigError)


@quick
@given(
    name=st.one_of(
        st.text(string.ascii_uppercase + "_", max_size=12),
        st.sampled_from(["PORT", "SERVER__PORT", "BACKENDS", "ROUTING__WEIGHTS__LOAD", "ROUTING__ALIASES__A"]),
    ),
    text=st.one_of(
        values, st.text(max_size=20), st.binary(max_size=9).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    ),
)
def test_any_variable_ends_in_a_configuration_or_a_config_error(name, text, tmp_path):
    assert isinstance(outcome(VALID.encode(), tmp_path, {f"NEXUS_{name}": text}), LoadedConfig | ConfigError)


@quick
@given(
    dotted=st.one_of(st.text(max_size=12), st.sampled_from(["server.port", "backends", "plugins.a.b"])), value=values
)
def test_any_option_ends_in_a_configuration_or_a_config_error(dotted, value, tmp_path):
    assert isinstance(outcome(VALID.encode(), tmp_path, overrides={dotted: value}), LoadedConfig | ConfigError)


@quick
@given(key=st.text(min_size=1, max_size=10), value=values)
def test_an_error_is_one_line_that_a_terminal_can_take(key, value, tmp_path):
    result = outcome(f"[server]\n{quoted(key)} = {value}".encode("utf-8", "replace"), tmp_path)

    if isinstance(result, ConfigError):
        text = str(result)
        assert text.startswith(str(tmp_path / "nexus.toml"))
        assert text.isprintable()


@quick
@example(url="http://v1")
@example(url="http://a/v1/v1")
@given(
    url=st.one_of(st.text(max_size=30), st.from_regex(r"https?://[a-z\[\]:0-9.]{1,9}(/[a-z1/]{0,9})?", fullmatch=True))
)
def test_a_normal_url_is_its_own_normal_form(url):
    try:
        normal = urls.normalised(url)
    except ValueError:
        return

    assert urls.normalised(normal) == normal
    assert not urlsplit(normal).path.endswith("/")
    # With another version in it, a path that ends in /v1 is another path than one that does not.
    if not urls.VERSION_SEGMENT.search(urlsplit(normal).path):
        assert urls.normalised(normal + "/v1/") == urls.normalised(normal + "/")


@quick
@given(path=st.from_regex(r"(/(v1|v4|v1beta|a|openai)){0,4}/?", fullmatch=True))
def test_a_base_path_with_or_without_v1_leads_to_the_same_place(path):
    """Whether or not the ``/v1`` is normalised away, a client's path is appended to what stands before it."""
    url = urls.normalised(f"https://h{path}")
    target = DEFAULT_SETTINGS.path_of(url).of("/v1/chat/completions")

    bare = path.rstrip("/")
    is_versioned = urls.VERSION_SEGMENT.search(bare) is not None
    expected = bare if is_versioned else f"{bare}/v1"
    while expected.endswith("/v1/v1"):
        expected = expected.removesuffix("/v1")
    assert target == f"{expected}/chat/completions"


@quick
@given(text=st.text(max_size=200))
def test_what_is_shown_is_short_and_printable(text):
    assert shown(text).isprintable()
    assert len(shown(text)) <= 81 * 10
