"""What a blueprint contains for a configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.app.composition.blueprint import build_blueprint, load_plugins, own_names
from nexus.config.loading import load
from nexus.errors import ConfigError
from nexus.proxy.client.access import LOOPBACK_NAMES


@pytest.fixture
def hosts_of(tmp_path, monkeypatch):
    """Return the names that the door of a machine called ``gpu.lab.example`` takes in a Host header."""
    monkeypatch.setattr("socket.gethostname", lambda: "GPU.lab.example")

    def hosts(server):
        file = tmp_path / "nexus.toml"
        file.write_text(f"[server]\n{server}\n")
        loaded = load(file, environ={"KEY": "sesame"}, overrides={}, insecure=True)
        return build_blueprint(loaded, load_plugins(loaded)).access_rules._hosts

    return hosts


def test_other_machines_cannot_name_what_listens_on_loopback(hosts_of):
    assert hosts_of("") == LOOPBACK_NAMES


def test_a_proxy_that_others_reach_accepts_the_machines_names(hosts_of):
    names = {"gpu.lab.example", "gpu", "gpu.local"}

    assert hosts_of('host = "0.0.0.0"') == LOOPBACK_NAMES | names | {"0.0.0.0"}
    assert hosts_of('host = "LLM.lan"\nallowed_hosts = ["Chat.lan"]') == LOOPBACK_NAMES | names | {
        "llm.lan",
        "chat.lan",
    }


@pytest.mark.parametrize("server", ['allowed_hosts = ["*"]', 'host = "0.0.0.0"\napi_keys = ["env:KEY"]'])
def test_any_name_is_accepted_if_configured_or_if_keys_are_required(hosts_of, server):
    assert hosts_of(server) is None


def test_an_exporter_of_traces_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path, monkeypatch):
    def exporter(_):
        raise ValueError("'brotli' is not a valid Compression")

    monkeypatch.setattr("nexus.app.composition.tracing._is_installed", lambda: True)
    monkeypatch.setattr("nexus.app.composition.tracing._exporter", exporter)
    file = tmp_path / "nexus.toml"
    file.write_text("[otel]\nenabled = true\n")
    loaded = load(file, environ={}, overrides={})

    with pytest.raises(ConfigError, match=r"cannot be made: ValueError: 'brotli' is not .* OTEL_EXPORTER_OTLP_\*"):
        build_blueprint(loaded, load_plugins(loaded))


@given(st.text(alphabet="ab.-", max_size=8))
def test_the_names_of_a_machine_are_its_own(hostname):
    names = own_names(hostname)

    assert "" not in names
    assert all(name.removesuffix(".local") in hostname for name in names)
