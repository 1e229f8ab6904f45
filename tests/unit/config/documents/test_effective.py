"""What is shown of a configuration holds no secrets."""

import pytest

from nexus.config.documents.effective import HIDDEN, without_secrets


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("server", "api_keys"), ["sha256:abc"]),
        (("backends", "headers"), {"X-Team": "blue"}),
        (("backends", "query"), {"key": "sk"}),
        (("plugins", "greeter", "token"), "sk"),
        (("otel", "headers", "Authorization"), "Bearer sk"),
        (("api_key",), "sk"),
    ],
)
def test_whatever_may_be_a_secret_is_hidden(path, value):
    shown = without_secrets(value, path)

    (text,) = shown.values() if isinstance(shown, dict) else shown if isinstance(shown, list) else [shown]
    assert text == HIDDEN


@pytest.mark.parametrize("reference", ["env:KEY", "file:/run/key"])
@pytest.mark.parametrize("path", [("api_key",), ("plugins", "greeter", "token"), ("headers", "Authorization")])
def test_a_reference_is_shown(path, reference):
    assert without_secrets(reference, path) == reference


def test_credentials_in_a_url_are_hidden_in_any_key():
    assert without_secrets("postgres://me:p@ss/word@db/nexus", ("store", "path")) == f"postgres://{HIDDEN}@db/nexus"


def test_everything_else_is_shown():
    assert without_secrets({"a": [1, None, "x"]}, ("routing",)) == {"a": [1, None, "x"]}


def test_of_a_client_key_only_the_key_is_hidden():
    keys = [{"key": "sha256:abc", "name": "batch", "max_priority": "low"}, "env:KEY"]

    shown = without_secrets(keys, ("server", "api_keys"))

    assert shown == [{"key": HIDDEN, "name": "batch", "max_priority": "low"}, "env:KEY"]
