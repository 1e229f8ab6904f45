"""``KEY=VALUE`` settings become the keys of one backend."""

import click
import pytest

from nexus.cli.arguments.backend_keys import refuse_keys_of_a_backend, table_of


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        (["priority=10"], {"priority": 10}),
        (["type=vllm"], {"type": "vllm"}),
        (["headers.X-Team=blue", "headers.X-Site=north"], {"headers": {"X-Team": "blue", "X-Site": "north"}}),
        (['models."llama3:8b".vision=true'], {"models": {"llama3:8b": {"vision": True}}}),
        (['protocols=["openai"]'], {"protocols": ["openai"]}),
        (["query.a=b=c"], {"query": {"a": "b=c"}}),
        (['tls_ca_file=C:\\"x"'], {"tls_ca_file": 'C:\\"x"'}),
        (["priority=1", "priority=2"], {"priority": 2}),
    ],
)
def test_values_are_toml_or_else_texts(settings, table):
    assert table_of(settings) == table


@pytest.mark.parametrize("setting", ["priority", "=1", "a b=1", "[x]=1", "priority=1\nname=2"])
def test_a_setting_without_key_or_value_is_a_usage_error(setting):
    try:
        found = table_of([setting])
    except click.BadParameter:
        return
    # A line break is a part of the text, and brings no second key.
    assert found == {"priority": "1\nname=2"}


@pytest.mark.parametrize("key", ["priority", "weigth", "headers.X-Team"])
def test_set_does_not_accept_keys_of_a_backend(key):
    with pytest.raises(click.BadParameter, match=f"'{key}' is no key of the configuration; --with sets one of the"):
        refuse_keys_of_a_backend(["server.port", key])
