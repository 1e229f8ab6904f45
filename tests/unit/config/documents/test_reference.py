"""The example file and the reference page have every key of the schema."""

import re
import tomllib
from pathlib import Path

import pytest

from nexus.config.documents import reference
from nexus.config.schema import Config
from nexus.config.sources import texts


def uncommented(example: str) -> str:
    return re.sub(r"^#(?=[\w\[])", "", example, flags=re.MULTILINE)


def test_the_unchanged_example_sets_nothing(loaded):
    assert loaded(reference.example()).config == Config()


def test_the_uncommented_example_loads_and_has_every_key(loaded):
    for name in ("ca.pem", "client.pem", "client.key"):
        Path(name).write_text("")
    toml = uncommented(reference.example())

    env = {"NEXUS_API_KEY": "sesame", "NEXUS_ADMIN_KEY": "root", "GPU_1_KEY": "open"}
    result = loaded(toml, env={**env, "GPU_1_LOGIN": "me:sesame", "AZURE_KEY": "secret"})

    tree = tomllib.loads(toml)
    for path in texts.all_keys():
        node = tree
        for part in path:
            assert part in node
            node = node[part]
    backend_keys = {key.name for table in reference.tables() if table.header == "[[backends]]" for key in table.keys}
    assert backend_keys - tree["backends"][0].keys() == {"api_key_env"}
    assert result.config.backends[0].models["llama3"].context_length == 8192


def test_every_table_and_key_has_a_sentence():
    for table in reference.tables():
        assert table.sentence, table.header
        for key in table.keys:
            assert key.sentence.endswith("."), key.path


def test_a_default_in_the_example_is_the_default(loaded):
    commented = [line for line in reference.example().splitlines() if line.startswith("# Default: ")]

    required = {"backends.name", "backends.url", "discovery.dns.name", "discovery.file.path", "discovery.hosts.hosts"}
    assert len(commented) == len({*reference.EXAMPLES} - required)


def test_every_example_belongs_to_a_key():
    keys = {key.path for table in reference.tables() for key in table.keys}

    assert reference.EXAMPLES.keys() <= keys
    assert keys >= reference.INSTEAD


@pytest.mark.parametrize(
    "line",
    [
        "``[server]``",
        "``[[backends]]``",
        '``[backends.models."NAME"]``',
        "    integer from 1 to 65535, default ``8000``",
        "    number above 0 to 31536000, default ``600.0``",
        "    text, required",
        "    true or false, default ``unset``",
        "    table of text or list of text, default ``{ }``",
        '    one of ``auto``, ``pretty``, ``json``, default ``"auto"``',
    ],
)
def test_the_page_names_tables_types_ranges_and_defaults(line):
    assert line in reference.as_rst().splitlines()
