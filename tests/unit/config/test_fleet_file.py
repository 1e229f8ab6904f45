from functools import partial

import pytest

from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.fleet_file import MAX_BYTES, backends_in
from nexus.config.one_backend import load_backend
from nexus.errors import ConfigError

LOAD = partial(load_backend, environ={"GPU_KEY": "sesame", "HOME_KEY": "canary"})
TOML = """
[[backends]]
name = "gpu-1"
url = "http://gpu-1:8000/v1"
zone = "Restricted"

[[backends]]
name = "gpu-2"
url = "http://gpu-2:8000"
"""


def read(text, path="fleet.toml", references=(), most=10):
    content = text if isinstance(text, bytes) else text.encode()
    return backends_in(content, FileSourceConfig(path=path, references=references), LOAD, most=most)


def refusal(*arguments, **options):
    with pytest.raises(ConfigError) as raised:
        read(*arguments, **options)
    return str(raised.value)


def test_entries_are_normalised_like_those_of_the_configuration():
    one, two = read("\ufeff" + TOML)

    assert (one.config.name, one.config.url, one.config.zone) == ("gpu-1", "http://gpu-1:8000", "restricted")
    assert two.config.name == "gpu-2"


@pytest.mark.parametrize(
    "text", ['[{"name": "a", "url": "http://x"}]', '{"backends": [{"name": "a", "url": "http://x"}]}']
)
def test_json_is_a_list_or_the_same_table(text):
    assert [each.config.name for each in read(text, "fleet.JSON")] == ["a"]


@pytest.mark.parametrize("text", ["backends = []", "# none\nbackends = []"])
def test_no_backends_at_all_must_be_explicit(text):
    assert read(text) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "fleet.toml: is empty; `backends = []`, or `[]` in JSON, says that there are none"),
        ("# soon", "fleet.toml: required, and missing - at `backends`"),
        ("[[backends]]\nname = ", "fleet.toml: not valid TOML: "),
        (b"\xff", "fleet.toml: expected UTF-8, got something else at byte 0"),
        (b"#" * (MAX_BYTES + 1), "fleet.toml: longer than 1024 KiB, the most that is read"),
        (TOML + "teir = 2\n", "backends[1]: 'gpu-2': unknown key - at `teir` (line 10); did you mean 'tier'?"),
        (TOML + "tier = 9\n", "backends[1]: 'gpu-2': expected `int` <= 5 - at `tier` (line 10)"),
        (
            TOML + "zone = 'mine'\n",
            "backends[1]: 'gpu-2': expected 'restricted' or 'open', got 'mine' - at `zone` (line 10)",
        ),
        (
            TOML.replace("gpu-2", "gpu-1", 1),
            "backends[1]: 'gpu-1': two backends are named 'gpu-1' - at `name` (line 8)",
        ),
        (TOML.replace("http://gpu-2:8000", "http://gpu-1:8000"), "the backend 'gpu-1' has the same URL"),
        ("[server]\nport = 1\n" + TOML, "fleet.toml: unknown table - at `server`"),
    ],
)
def test_an_error_names_the_entry_the_key_and_the_line(text, expected):
    assert expected in refusal(text)


def test_a_fault_in_json_names_the_backend_instead_of_a_line():
    text = '[{"name": "gpu-1", "url": "http://x", "priority": "low"}]'

    assert refusal(text, "fleet.json") == "fleet.json: backends[0]: 'gpu-1': expected `int`, got `str` - at `priority`"
    assert "not valid JSON: Expecting ',' delimiter: line 1" in refusal(text[:-2], "fleet.json")


def test_the_number_of_backends_is_limited():
    assert "fleet.toml: lists 2 backends, but at most 1 are allowed" in refusal(TOML, most=1)


@pytest.mark.parametrize("references", [["env:GPU_KEY"], ["env:GPU_*"]])
def test_an_allowed_secret_is_resolved(references):
    (_, two) = read(TOML + 'api_key = "env:GPU_KEY"\n', references=references)

    assert two.key.reveal() == "sesame"


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "env:HOME_KEY"',
        'api_key_env = "HOME_KEY"',
        'basic_auth = "env:HOME_KEY"',
        'headers = { X-Team = "env:HOME_KEY" }',
        'query = { key = "env:HOME_KEY" }',
        'https_proxy = "env:HOME_KEY"',
    ],
)
def test_other_secrets_are_refused(line):
    error = refusal(TOML + line, references=("env:GPU_*",))

    assert "this file may not name the secret env:HOME_KEY" in error
    assert 'add "env:HOME_KEY" to references in [[discovery.file]] if it may' in error


def test_a_pattern_for_a_folder_does_not_match_outside_of_it(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "gpu").write_text("sesame")
    (tmp_path / "other").write_text("canary")
    allowed = (f"file:{tmp_path}/keys/*",)

    (_, two) = read(TOML + f'api_key = "file:{tmp_path}/keys/gpu"\n', references=allowed)

    assert two.key.reveal() == "sesame"
    assert "may not name" in refusal(TOML + f'api_key = "file:{tmp_path}/keys/../other"\n', references=allowed)


def test_a_plain_secret_is_refused_and_not_quoted():
    assert "canary" not in refusal(TOML + 'api_key = "canary"\n')
    assert "canary" not in refusal(TOML.replace("http://gpu-2", "http://user:canary@gpu-2"))
