"""Address and keys are read even from files with other errors."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.loading import load
from nexus.config.partial import address_of, load_partial
from nexus.errors import ConfigError


@pytest.fixture
def seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def of(toml, environ=(), overrides=()):
        Path("nexus.toml").write_text(toml)
        return load_partial(None, environ=dict(environ), overrides=dict(overrides))

    return of


@pytest.mark.parametrize(
    "rest",
    [
        "[servre]",
        '[[backends]]\nname = "a"',
        "[plugins.gone]",
        '[routing]\nstrategy = "luck"',
        "[queue]\nmax_size = -1",
    ],
)
def test_other_errors_do_not_matter(seen, rest):
    found = seen(f'[server]\nport = 81\nhost = "localhost"\nmax_body_bytes = -1\napi_keys = ["env:A"]\n{rest}\n')

    assert (found.url, found.fault, found.api_keys) == ("http://localhost:81", None, ("env:A",))


@pytest.mark.parametrize("toml", ["not TOML", "[server]\nport = 'many'", "[server]\nport = 0"])
def test_an_address_that_cannot_be_read_is_a_fault(seen, toml):
    found = seen(toml)

    assert found.fault is not None
    assert str(found.fault).startswith("nexus.toml: ")


@pytest.mark.parametrize(("environ", "overrides"), [({"NEXUS_PORT": "82"}, {}), ({}, {"server.port": 82})])
def test_an_address_that_is_given_needs_no_file(seen, environ, overrides):
    found = seen("not TOML", environ, overrides)

    assert (found.url, found.fault, found.is_address_set) == ("http://127.0.0.1:82", None, True)


@pytest.mark.parametrize(
    ("environ", "overrides"),
    [({"NEXUS_PORT": "many"}, {}), ({"NEXUS_SERVER__PORT": "0"}, {}), ({}, {"server.port": "0"})],
)
def test_an_address_that_is_given_wrongly_is_an_error(seen, environ, overrides):
    with pytest.raises(ConfigError):
        seen("", environ, overrides)


def test_other_variables_and_options_may_be_wrong(seen):
    found = seen("", {"NEXUS_QUEUE__MAX_SIZE": "many", "NEXUS_PROT": "1"}, {"queue.max_size": "-1", "no.key": "1"})

    assert found.url == "http://127.0.0.1:8000"
    assert [text.partition(":")[0] for text in found.warnings] == ["NEXUS_PROT"]


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_partial(tmp_path / "gone.toml", environ={}, overrides={})


def test_the_first_key_that_can_be_resolved_is_used(seen):
    found = seen(f'[server]\nadmin_keys = ["sha256:{"0" * 64}", "env:GONE", "env:ADMIN"]\napi_keys = ["env:CLIENT"]\n')
    environ = {"ADMIN": "sesame-1", "CLIENT": "sesame-2"}

    assert found.key(environ, is_admin=True).reveal() == "sesame-1"
    assert found.key(environ, is_admin=False).reveal() == "sesame-2"
    assert found.key({}, is_admin=True) is None


ports, hosts = st.integers(1, 65535), st.sampled_from(["127.0.0.1", "localhost", "::1"])


@given(
    file=st.fixed_dictionaries({}, optional={"port": ports, "host": hosts}),
    env=st.none() | ports,
    line=st.none() | ports,
)
def test_it_agrees_with_what_a_start_reads(tmp_path_factory, file, env, line):
    path = tmp_path_factory.mktemp("load_partial") / "nexus.toml"
    path.write_text("[server]\n" + "".join(f"{name} = {value!r}\n" for name, value in file.items()))
    environ = {} if env is None else {"NEXUS_PORT": str(env)}
    overrides = {} if line is None else {"server.port": line}

    server = load(path, environ=environ, overrides=overrides).config.server

    assert load_partial(path, environ=environ, overrides=overrides).url == address_of(server.host, server.port)


def test_the_keys_of_tables_are_read_too(seen):
    found = seen('[server]\napi_keys = [{key = "env:A", name = "batch"}, "env:B"]')

    assert found.api_keys == ("env:A", "env:B")
