"""Which replicas share the limit of a backend, by its address."""

import pytest

from nexus.fleet.sharing import replicas
from nexus.fleet.sharing.replicas import name_of


@pytest.fixture
def elsewhere(monkeypatch):
    """Let this process be on another machine from now on."""

    def move(machine, network):
        monkeypatch.setattr(replicas, "_machine", lambda: machine)
        monkeypatch.setattr(replicas, "_network", lambda: network)

    return move


@pytest.mark.parametrize("url", ["http://gpu.internal:8000", "http://10.0.0.4:11434", "https://api.openai.com"])
def test_a_server_on_the_network_is_the_same_for_all_replicas(url, elsewhere):
    here = name_of(url, "m")
    elsewhere("another", "another")

    assert name_of(url, "m") == here


@pytest.mark.parametrize("url", ["http://127.0.0.1:11434", "http://localhost:8000", "http://[::1]:8000"])
def test_a_server_at_a_loopback_address_is_that_of_one_machine_or_container(url, elsewhere):
    elsewhere("one", "a")
    here = name_of(url, "")
    elsewhere("two", "a")
    on_another_machine = name_of(url, "")
    elsewhere("one", "b")
    in_a_container = name_of(url, "")

    assert len({here, on_another_machine, in_a_container}) == 3


def test_the_host_of_containers_is_that_of_one_machine(elsewhere):
    elsewhere("one", "a")
    here = name_of("http://host.docker.internal:11434", "")
    elsewhere("one", "b")

    assert name_of("http://host.docker.internal:11434", "") == here
    elsewhere("two", "a")
    assert name_of("http://host.docker.internal:11434", "") != here
