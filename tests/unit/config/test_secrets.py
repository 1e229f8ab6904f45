"""References to secrets are resolved, plain secrets refused, and none is ever shown."""

import hashlib
import traceback
from pathlib import Path

import pytest

from nexus.config.secrets import KeyRing, Secret
from nexus.errors import ConfigError

BACKEND = '[[backends]]\nname = "a"\nurl = "http://a"\n'


def test_only_reveal_returns_a_secret():
    secret = Secret("sesame")

    assert "sesame" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "sesame"
    assert secret == Secret("sesame")
    assert secret != Secret("other")
    assert len({secret, Secret("sesame")}) == 1


def test_a_key_ring_accepts_its_keys_and_no_other():
    ring = KeyRing(hashlib.sha256(key).digest() for key in (b"one", b"two"))

    assert [ring.accepts(key) for key in (b"one", b"two", b"three", b"", b"on")] == [True, True, False, False, False]
    assert not KeyRing(()).accepts(b"")
    assert "one" not in repr(ring)


def test_a_key_is_compared_with_all_keys_whatever_matches(monkeypatch):
    compared = []
    monkeypatch.setattr("nexus.config.secrets.hmac.compare_digest", lambda a, b: compared.append(b) or a == b)
    ring = KeyRing(hashlib.sha256(key).digest() for key in (b"one", b"two", b"three"))

    assert ring.accepts(b"one")

    assert len(compared) == 3


def test_server_keys_come_from_variables_files_and_digests(loaded, tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    file.chmod(0o600)
    digest = hashlib.sha256(b"digested").hexdigest().upper()
    toml = f'[server]\napi_keys = ["env:KEY", "file:{file}", "sha256:{digest}"]'

    result = loaded(toml, env={"KEY": "from-env"})

    assert all(result.server_keys.accepts(key) for key in (b"from-env", b"from-file", b"digested"))
    assert [secret.reveal() for secret in result.secrets] == ["from-env", "from-file"]
    assert result.warnings == ()


def test_a_world_readable_key_file_is_warned_of(loaded, tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file")
    file.chmod(0o644)

    result = loaded(BACKEND + f'api_key = "file:{file}"')

    assert result.backend_keys["a"].reveal() == "from-file"
    assert len(result.warnings) == 1
    assert "chmod" in result.warnings[0]


def test_api_key_env_is_the_same_as_an_env_reference(loaded):
    result = loaded(BACKEND + 'api_key_env = "KEY"', env={"KEY": "sesame"})

    assert result.config.backends[0].api_key == "env:KEY"
    assert result.backend_keys == {"a": Secret("sesame")}


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        (
            '[server]\napi_keys = ["sesame-open"]',
            (
                "nexus.toml: [server]: expected a reference to a secret, not the secret - at `api_keys[0]` (line 2);"
                ' write "env:NAME" and set that variable, or "file:PATH"'
            ),
        ),
        (
            BACKEND + 'api_key = "sesame-open"',
            (
                "nexus.toml: backends[0]: expected a reference to a secret, not the secret - at `api_key` (line 4);"
                ' write "env:NAME" and set that variable, or "file:PATH"'
            ),
        ),
        (
            BACKEND + 'api_key = "env:GONE"',
            (
                "nexus.toml: backends[0]: the variable GONE is not set - at `api_key` (line 4);"
                " set it where Nexus is started, or keep the secret in a file and write file:PATH"
            ),
        ),
        (BACKEND + 'api_key = "env:EMPTY"', "nexus.toml: backends[0]: env:EMPTY is empty - at `api_key` (line 4)"),
        (
            BACKEND + 'api_key = "env:BAD"',
            "nexus.toml: backends[0]: env:BAD holds a character that is not allowed in a key - at `api_key` (line 4)",
        ),
        (
            BACKEND + 'api_key = "file:gone"',
            "nexus.toml: backends[0]: gone cannot be read: No such file or directory - at `api_key` (line 4)",
        ),
        (
            '[server]\napi_keys = ["sha256:abc"]',
            (
                "nexus.toml: [server]: expected 64 hexadecimal digits after sha256: - at `api_keys[0]` (line 2);"
                " printf %s KEY | sha256sum"
            ),
        ),
        (
            BACKEND + 'api_key = "env:KEY"\napi_key_env = "KEY"',
            "nexus.toml: backends[0]: api_key is given too - at `api_key_env` (line 5); keep one of them",
        ),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_refused(loaded, toml, text):
    with pytest.raises(ConfigError) as refused:
        loaded(toml, env={"EMPTY": " ", "BAD": "se\nsame", "KEY": "x"})

    assert str(refused.value) == text


@pytest.mark.parametrize(
    "toml", ['[server]\napi_keys = ["sesame"]', BACKEND + 'api_key = "sesame"', '[server]\napi_keys = "sesame"']
)
def test_no_error_quotes_a_plain_secret(loaded, toml):
    with pytest.raises(ConfigError) as refused:
        loaded(toml)

    assert "sesame" not in "".join(traceback.format_exception_only(refused.value))


def test_a_file_that_is_no_key_is_refused(loaded):
    Path("big").write_bytes(b"x" * 20_000)

    with pytest.raises(ConfigError, match="too long for a key"):
        loaded(BACKEND + 'api_key = "file:big"')


def test_keys_of_administrators_are_resolved_like_those_of_clients(loaded):
    result = loaded('[server]\nadmin_keys = ["env:ROOT"]', env={"ROOT": "root-key"})

    assert result.admin_keys.accepts(b"root-key")
    assert not result.server_keys.accepts(b"root-key")


def test_a_server_key_may_have_a_name_and_a_highest_priority(loaded):
    toml = '[server]\napi_keys = ["env:KEY", {key = "env:BATCH", name = "batch", max_priority = "low"}]'

    result = loaded(toml, env={"KEY": "one", "BATCH": "two"})

    (entry,) = result.named_keys.values()
    assert [result.server_keys.accepts(key) for key in (b"one", b"two")] == [True, True]
    assert result.named_keys.keys() == {hashlib.sha256(b"two").digest()}
    assert (entry.name, entry.max_priority) == ("batch", "low")


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ('{key = "sesame"}', "expected a reference to a secret, not the secret"),
        ('{key = "env:KEY", max_priority = "top"}', "top"),
        ('{key = "env:KEY", rank = 1}', "rank"),
        ('{name = "batch"}', "key"),
        ('{key = "env:KEY", name = "a b"}', "server.api_keys[0]: bad name 'a b' - at `name` (line 2)"),
        (
            '{key = "env:KEY", name = "a"}, {key = "env:KEY", name = "a"}',
            "server.api_keys[1]: two keys are named 'a' - at `name` (line 2)",
        ),
    ],
)
def test_a_table_of_a_server_key_is_checked(loaded, entry, error):
    with pytest.raises(ConfigError) as refused:
        loaded(f"[server]\napi_keys = [{entry}]", env={"KEY": "one"})

    assert error in str(refused.value)
    assert "sesame" not in str(refused.value)
