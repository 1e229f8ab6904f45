import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.discovery_schema import HostsSourceConfig
from nexus.config.rules.scan_places import faults_of, names_in, place_in


def faults(*hosts, **keys):
    return [f"{fault.problem} {fault.hint}" for fault in faults_of((HostsSourceConfig(hosts=hosts, **keys),))]


@pytest.mark.parametrize(
    ("entry", "hosts", "ports"),
    [
        ("Mac-Studio.local", ("mac-studio.local",), []),
        ("gpu_1.example.:8000", ("gpu_1.example",), [8000]),
        ("10.0.0.7:8000-8003", ("10.0.0.7",), [8000, 8001, 8002, 8003]),
        ("fd00::7", ("fd00::7",), []),
        ("[fd00::7]", ("fd00::7",), []),
        ("[FD00:0::7]:8000", ("fd00::7",), [8000]),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0",), [1]),
        ("169.254.169.254:80", ("169.254.169.254",), [80]),
        ("192.168.1.0/30", ("192.168.1.1", "192.168.1.2"), []),
        ("192.168.1.9/32:8000", ("192.168.1.9",), [8000]),
        ("fd00::/126", ("fd00::1", "fd00::2", "fd00::3"), []),
        ("[fd00::8/127]:8000", ("fd00::8", "fd00::9"), [8000]),
        ("[fd00::8]/127:8000", ("fd00::8", "fd00::9"), [8000]),
    ],
)
def test_an_entry_is_parsed_into_hosts_and_ports(entry, hosts, ports):
    place = place_in(entry)

    assert (place.hosts, list(place.ports), place.is_subnet) == (hosts, ports, "/" in entry)
    assert faults(entry) == []


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "'': neither a name nor an address"),
        ("http://gpu:8000", "expected a host, an address or a subnet"),
        ("gpu/v1", "no subnet, such as 192.168.1.0/28 or fd00::/120"),
        ("gpu:", "expected a host, an address or a subnet"),
        ("gpu:0", "expected ports from 1 to 65535"),
        ("gpu:9-8", "expected ports from 1 to 65535"),
        ("gpu:65536", "expected ports from 1 to 65535"),
        ("10.0.0.300", "neither a name nor an address"),
        ("0x7f000001", "neither a name nor an address"),
        ("2852039166", "neither a name nor an address"),
        ("a b", "neither a name nor an address"),
        ("10.0.0.0/8", "has 16777216 addresses; the largest subnet that is scanned is a /24"),
        ("fd00::/64", "the largest subnet that is scanned is a /120"),
        ("127.0.0.0/28", "is not a subnet of other machines list the addresses instead"),
        ("169.254.169.0/28", "is not a subnet of other machines"),
        ("fe80::/126", "is not a subnet of other machines"),
        ("224.0.0.0/28", "is not a subnet of other machines"),
    ],
)
def test_an_invalid_entry_is_refused_with_the_reason(entry, problem):
    (fault,) = faults(entry)

    assert problem in fault


def test_the_number_of_ports_to_scan_is_limited():
    assert faults(*(f"10.0.{third}.0/24" for third in range(4))) == []
    assert "10.0.4" not in faults(*(f"10.0.{third}.0/24" for third in range(5)))[0]
    assert "at most 1024 and 8192 in all entries" in faults(*(f"10.0.{third}.0/24" for third in range(5)))[0]
    assert "254 addresses with 16256 ports" in faults("10.0.0.0/24:1000-1063")[0]


def test_a_table_without_hosts_or_ports_is_an_error():
    assert faults() == ["expected at least one host "]
    assert faults("gpu", ports=()) == ["'gpu' has no port append :port, or set ports"]
    assert faults("gpu:1", ports=()) == []


def test_names_are_distinguished_from_addresses():
    assert names_in([HostsSourceConfig(hosts=("gpu", "10.0.0.1", "gpu:1", "fd00::1", "10.0.0.0/30"))]) == ("gpu",)


@given(st.text(alphabet="[]:/-%.0123456789abcdef ", max_size=24))
def test_any_entry_is_a_limited_number_of_hosts_or_an_error(entry):
    try:
        place = place_in(entry)
    except ValueError:
        return

    assert 1 <= len(place.hosts) <= 256
    assert all(0 < port < 65536 for port in place.ports[:2])
