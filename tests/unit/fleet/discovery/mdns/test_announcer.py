"""The addresses that a machine announces for its servers."""

from types import SimpleNamespace

import ifaddr
import pytest

from nexus.fleet.discovery.mdns.announcer import Announcement, own_addresses
from nexus.fleet.discovery.mdns.announcer import _service as service_of


@pytest.fixture
def machine(monkeypatch):
    """Give this machine other interfaces, each with its addresses."""

    def machine(**addresses):
        adapters = [
            SimpleNamespace(name=name, ips=[SimpleNamespace(ip=(ip, 0, 0) if ":" in ip else ip) for ip in ips])
            for name, ips in addresses.items()
        ]
        monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)

    return machine


@pytest.mark.parametrize(
    ("addresses", "announced"),
    [
        ({"lo": ["127.0.0.1", "::1"], "eth0": ["192.168.1.5", "fe80::1"]}, ["192.168.1.5"]),
        ({"eth0": ["fe80::1"]}, ["fe80::1%eth0"]),
        ({"docker0": ["172.17.0.1", "fe80::2"], "eth0": ["fe80::1"]}, ["172.17.0.1", "fe80::1%eth0"]),
        ({"eth0": ["169.254.7.7"]}, []),
        ({"eth0": ["fd00::1", "fe80::1"]}, ["fd00::1"]),
    ],
)
def test_a_link_local_address_stands_in_where_an_interface_has_no_other(machine, addresses, announced):
    machine(**addresses)

    assert own_addresses() == announced


def test_the_interface_is_not_announced(machine):
    machine(eth0=["fe80::1"])

    info = service_of(Announcement(name="desk", port=1, kind="ollama"), "desk")

    assert info.parsed_scoped_addresses() == ["fe80::1"]
