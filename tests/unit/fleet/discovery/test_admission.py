from nexus.config.schema import BackendConfig
from nexus.fleet.discovery.admission import admit
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import Sighting
from nexus.fleet.kinds import KINDS
from nexus.fleet.membership.member import Member


def configured(name, url):
    return Member(config=BackendConfig(name=name, url=url), kind=None)


def join(*found, members=()):
    return [
        (m.config.name, m.config.url, m.kind and m.kind.name, m.source)
        for m in admit([Sighting("local", f) for f in found], members, KINDS, "open", {})
    ]


def test_a_server_that_was_found_joins_with_its_kind_and_source():
    assert join(Discovered("ollama", "http://127.0.0.1:11434/v1/", "ollama")) == [
        ("ollama", "http://127.0.0.1:11434", "ollama", "local")
    ]


def test_a_configured_backend_of_the_same_place_wins_whatever_its_host_is_called():
    for host in ("localhost", "127.0.0.1", "[::1]"):
        members = [configured("mine", f"http://{host}:11434")]

        assert join(Discovered("ollama", "http://127.0.0.1:11434"), members=members) == []


def test_a_name_that_is_taken_gets_the_port():
    members = [configured("ollama", "http://gpu:11434")]

    (joined,) = join(Discovered("ollama", "http://127.0.0.1:11434"), members=members)

    assert joined[0] == "ollama-11434"


def test_one_address_is_in_the_fleet_once():
    assert len(join(Discovered("a", "http://127.0.0.1:1"), Discovered("b", "http://localhost:1/"))) == 1


def test_invalid_servers_are_ignored():
    assert join(Discovered("a", "ftp://x"), Discovered("a\n", "http://x"), Discovered("", "http://y")) == []


def test_an_unknown_kind_is_detected():
    (joined,) = join(Discovered("a", "http://x", "tgi"))

    assert joined[2] is None
