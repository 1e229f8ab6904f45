"""File, variables and command line become one checked configuration, or one helpful error."""

import os
from pathlib import Path

import pytest

from nexus.config.loading import check_kinds, load
from nexus.config.schema import Config
from nexus.config.sources import texts
from nexus.errors import ConfigError

GPU = '[[backends]]\nname = "gpu-1"\nurl = "http://gpu-1:8000"\n'


def test_an_empty_file_means_the_defaults(loaded):
    result = loaded("")

    assert result.config == Config()
    assert result.explicitly_set == frozenset()


def test_without_any_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    result = load(None, environ={}, overrides={})

    assert result.source is None
    assert result.config == Config()


def test_a_working_directory_that_cannot_be_read_is_an_error(monkeypatch):
    def exists(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.exists", exists)

    with pytest.raises(ConfigError, match="cannot be searched in the working directory: Permission denied; change"):
        load(None, environ={}, overrides={})


def test_the_default_file_is_used_when_it_exists(loaded):
    loaded("[server]\nport = 9001")

    result = load(None, environ={}, overrides={})

    assert (result.source, result.config.server.port) == (Path("nexus.toml"), 9001)


def test_the_variable_nexus_config_names_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("other.toml").write_text("[server]\nport = 9002")

    result = load(None, environ={"NEXUS_CONFIG": "other.toml"}, overrides={})

    assert result.config.server.port == 9002


@pytest.mark.parametrize("environ", [{}, {"NEXUS_CONFIG": "gone.toml"}])
def test_a_named_file_that_is_missing_is_an_error(tmp_path, monkeypatch, environ):
    monkeypatch.chdir(tmp_path)
    path = None if environ else Path("gone.toml")

    with pytest.raises(ConfigError, match=r"^gone\.toml: no such file; `nexus-proxy config init` writes one$"):
        load(path, environ=environ, overrides={})


def test_the_command_line_overrides_the_environment_and_the_environment_the_file(loaded):
    toml = "[server]\nport = 1\nmax_body_bytes = 1\nmax_concurrent_requests = 1"
    env = {"NEXUS_SERVER__PORT": "2", "NEXUS_SERVER__MAX_BODY_BYTES": "2"}

    server = loaded(toml, env=env, overrides={"server.port": 3}).config.server

    assert (server.port, server.max_body_bytes, server.max_concurrent_requests) == (3, 2, 1)


def test_what_was_set_is_known_by_its_dotted_key(loaded):
    result = loaded(
        "[server]\nport = 1\n[plugins.budget]", env={"NEXUS_LOG_LEVEL": "debug"}, overrides={"queue.max_size": 3}
    )

    assert result.explicitly_set == {"server.port", "plugins.budget", "logging.level", "queue.max_size"}


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("x = 1\n[server]\nport = 'a'", "nexus.toml: unknown key - at `x` (line 1)"),
        ("[server]\nport = 'a'", "nexus.toml: [server]: expected `int`, got `str` - at `port` (line 2)"),
        ("[server]\nport = 0", "nexus.toml: [server]: expected `int` >= 1 - at `port` (line 2)"),
        ("[server]\nport = 65536", "nexus.toml: [server]: expected `int` <= 65535 - at `port` (line 2)"),
        ("[server]\nprot = 1", "nexus.toml: [server]: unknown key - at `prot` (line 2); did you mean 'port'?"),
        ("[servre]\nport = 1", "nexus.toml: unknown table - at `servre` (line 1); did you mean 'server'?"),
        ("server = 1", "nexus.toml: expected a table, got `int` - at `server` (line 1)"),
        (
            "[timeouts]\nconnect_seconds = 0",
            "nexus.toml: [timeouts]: expected `float` > 0.0 - at `connect_seconds` (line 2)",
        ),
        (
            "[health_check]\ninterval_seconds = nan",
            "nexus.toml: [health_check]: expected `float` > 0.0 - at `interval_seconds` (line 2)",
        ),
        (
            "[discovery]\ninterval_seconds = inf",
            "nexus.toml: [discovery]: expected `float` <= 31536000.0 - at `interval_seconds` (line 2)",
        ),
        ("[routing]\nmax_retries = -1", "nexus.toml: [routing]: expected `int` >= 0 - at `max_retries` (line 2)"),
        (
            "[logging]\nlevel = 'inof'",
            (
                "nexus.toml: [logging]: expected 'debug' or 'info' or 'warning' or 'error', got 'inof'"
                " - at `level` (line 2); did you mean 'info'?"
            ),
        ),
        (
            "[logging]\nlevel = 'INFO'",
            (
                "nexus.toml: [logging]: expected 'debug' or 'info' or 'warning' or 'error', got 'INFO'"
                " - at `level` (line 2); did you mean 'info'?"
            ),
        ),
        (
            "port = 8001",
            "nexus.toml: unknown key - at `port` (line 1); it belongs below [server]",
        ),
        (
            "# all of it\ninterval_seconds = 5",
            (
                "nexus.toml: unknown key - at `interval_seconds` (line 2);"
                " it belongs below [health_check] or [discovery]"
            ),
        ),
        (
            "[backends]\nname = 'a'",
            "nexus.toml: expected `array`, got `table` - at `backends` (line 1); write [[backends]]",
        ),
        (
            "[routing.policies]\nmodel_pattern = '*'",
            "nexus.toml: [routing]: expected `array`, got `table` - at `policies` (line 1); write [[routing.policies]]",
        ),
        (
            "[routing.weights]\nload = 20",
            "nexus.toml: [routing]: priority, load and latency must sum to 100, and sum to 90 - at `weights` (line 1)",
        ),
        (GPU + "tier = 6", "nexus.toml: backends[0]: expected `int` <= 5 - at `tier` (line 4)"),
        (GPU + "kind = 'vllm'", "nexus.toml: backends[0]: unknown key - at `kind` (line 4); use `type`"),
        (GPU + "priority = 101", "nexus.toml: backends[0]: expected `int` <= 100 - at `priority` (line 4)"),
        (GPU + "max_in_flight = 0", "nexus.toml: backends[0]: expected `int` >= 1 - at `max_in_flight` (line 4)"),
        ('[[backends]]\nname = "a"', "nexus.toml: backends[0]: required, and missing - at `url` (line 1)"),
        (
            "[routing.fallbacks]\na = ['b']\nc = 'b'",
            (
                "nexus.toml: [routing.fallbacks]: expected `array`, got `str` - at `c` (line 3);"
                ' put it in brackets: ["..."]'
            ),
        ),
        (
            GPU + '[[backends]]\nname = "gpu-2"\nurl = "http://b"\n[backends.models."llama3:8b"]\nvison = true',
            "nexus.toml: backends[1].models.llama3:8b: unknown key - at `vison` (line 8); did you mean 'vision'?",
        ),
        (
            "[quality]\nenabled = true",
            (
                "nexus.toml: unknown table - at `quality` (line 1);"
                " stages are plugins: use [plugins.quality] and pip install nexus-proxy-quality"
            ),
        ),
        (
            "[routing.budget]\nmonthly = 3",
            (
                "nexus.toml: [routing]: unknown key - at `budget` (line 1);"
                " stages are plugins: use [plugins.budget] and pip install nexus-proxy-budget"
            ),
        ),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_line(loaded, toml, text):
    with pytest.raises(ConfigError) as refused:
        loaded(toml)

    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        (
            b"[server\nport = 1",
            "nexus.toml: not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 8)",
        ),
        (b"\xff", "nexus.toml: expected UTF-8, got something else at byte 0"),
        (b"a = " + b"[" * 5000, "nexus.toml: not valid TOML: nested too deeply"),
    ],
)
def test_invalid_toml_is_refused_with_its_place(tmp_path, monkeypatch, toml, text):
    monkeypatch.chdir(tmp_path)
    Path("nexus.toml").write_bytes(toml)

    with pytest.raises(ConfigError) as refused:
        load(Path("nexus.toml"), environ={}, overrides={})

    assert str(refused.value) == text


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "nexus.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 81\r\n")

    assert load(path, environ={}, overrides={}).config.server.port == 81


def test_a_folder_instead_of_a_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, environ={}, overrides={})


def test_an_option_that_is_no_key_is_refused(loaded):
    with pytest.raises(
        ConfigError, match=r"^command line: \[server\]: unknown key - at `prot`; did you mean 'port'\?$"
    ):
        loaded(overrides={"server.prot": "1"})


@pytest.mark.parametrize("dotted", ["", "server.", "a = 1\nb", "a b", "server"])
def test_an_option_that_is_no_single_key_is_refused(loaded, dotted):
    with pytest.raises(ConfigError, match=r"^command line: "):
        loaded(overrides={dotted: "1"})


def test_an_option_reaches_a_key_with_dots_in_it(loaded):
    result = loaded(overrides={'routing.aliases."gpt-3.5"': "llama3"})

    assert result.config.routing.aliases == {"gpt-3.5": "llama3"}


def test_an_option_cannot_reach_through_a_value(loaded):
    with pytest.raises(ConfigError, match=r"expected a table - at `server`"):
        loaded("server = 3", overrides={"server.port": "1"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "nexus.local", "*"])
def test_listening_for_other_machines_needs_keys_or_insecure(loaded, host):
    toml = f'[server]\nhost = "{host}"'

    with pytest.raises(ConfigError, match=r"\[server\]: .* - at `host` \(line 2\); set api_keys .* --insecure"):
        loaded(toml)

    assert loaded(toml, insecure=True).config.server.host == host
    assert len(loaded(toml + '\napi_keys = ["env:KEY"]', env={"KEY": "sesame"}).server_keys) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_needs_no_key(loaded, host):
    assert loaded(f'[server]\nhost = "{host}"').config.server.host == host


def test_an_unknown_kind_of_backend_is_refused(loaded):
    result = loaded(GPU + 'type = "olama"')

    with pytest.raises(ConfigError, match=r"backends\[0\]: .* - at `type` \(line 4\); did you mean 'ollama'\?"):
        check_kinds(result, ["ollama", "vllm"])


@pytest.mark.parametrize("kind", ["auto", "vllm"])
def test_a_known_kind_passes(loaded, kind):
    check_kinds(loaded(GPU + f'type = "{kind}"'), ["ollama", "vllm"])


def test_every_key_can_be_set_by_a_variable_of_its_name(loaded):
    samples = {bool: "true", int: "50", float: "0.5", str: "text"}
    needs_more = {
        ("routing", "weights", "priority"),
        ("routing", "weights", "load"),
        ("routing", "weights", "latency"),
        ("server", "host"),
        ("server", "api_keys"),
        ("otel", "endpoint"),
        ("store", "path"),
    }

    for path, type_ in texts.all_keys().items():
        sample = samples.get(texts.bare(type_))
        if sample and path not in needs_more:
            name = "NEXUS_" + "__".join(path).upper()
            assert ".".join(path) in loaded(env={name: sample}).explicitly_set


def test_the_real_environment_is_never_read(loaded, monkeypatch):
    monkeypatch.setitem(os.environ, "NEXUS_PORT", "1")

    assert loaded().config.server.port == 8000


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('endpoint = "collector:4318"', "bad URL: expected it to begin with http:// or https://"),
        ('endpoint = "http://user:c4n4ry@collector"', "credentials do not belong in a URL; use otel.headers"),
        ("sample_ratio = 2", "expected `float` <= 1.0"),
        ('headers = { "a b" = "env:KEY" }', "expected the name of a header"),
        ('enabled = true\nheaders = { authorization = "c4n4ry" }', "expected a reference to a secret, not the secret"),
        ('enabled = true\nheaders = { authorization = "env:ABSENT" }', "the variable ABSENT is not set"),
    ],
)
def test_errors_in_the_otel_table_are_named(loaded, toml, problem):
    with pytest.raises(ConfigError) as caught:
        loaded(f"[otel]\n{toml}", env={"KEY": "sesame"})

    assert problem in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


def test_a_header_for_the_collector_may_have_two_words_and_is_hidden(loaded):
    toml = '[otel]\nenabled = true\nheaders = { authorization = "env:KEY" }'

    result = loaded(toml, env={"KEY": "Bearer sesame"})

    assert result.otel_headers["authorization"].reveal() == "Bearer sesame"
    assert {secret.reveal() for secret in result.secrets} == {"Bearer sesame", "sesame"}


def test_headers_of_a_disabled_collector_are_not_resolved(loaded):
    assert loaded('[otel]\nheaders = { authorization = "env:ABSENT" }').otel_headers == {}


def test_what_was_read_before_is_used_instead_of_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key, file = Path("key"), Path("nexus.toml")
    key.write_text("first-key")
    file.write_text(f'{GPU}api_key = "file:key"\n')
    first = load(file, environ={}, overrides={})
    key.unlink()
    file.write_text("not toml")

    again = load(first.source, environ={}, overrides={}, contents=first.contents)

    assert (again.config, again.backend_keys) == (first.config, first.backend_keys)


def test_a_file_that_appeared_since_is_not_read_instead_of_what_was_read_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = load(None, environ={}, overrides={})
    Path("nexus.toml").write_text("not toml")

    assert load(None, environ={}, overrides={}, contents=first.contents).config == first.config


@pytest.mark.parametrize(("text", "workers"), [("3", 3), ("auto", "auto"), ("Auto", "auto")])
def test_the_number_of_workers_may_be_left_to_nexus(text, workers):
    assert load(None, environ={}, overrides={"server.workers": text}).config.server.workers == workers


@pytest.mark.parametrize("text", ["0", "many", "1.5"])
def test_another_number_of_workers_is_refused(text):
    with pytest.raises(ConfigError, match="workers"):
        load(None, environ={}, overrides={"server.workers": text})
