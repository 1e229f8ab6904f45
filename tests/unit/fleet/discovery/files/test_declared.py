from nexus.config.schema import BackendConfig
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.files.declared import Clash, Declared, resolve_clashes
from nexus.fleet.discovery.sightings import Sighting
from nexus.fleet.kinds import KINDS
from nexus.fleet.membership.member import Member


def member(name, url, source="file", **keys):
    return Member(config=BackendConfig(name=name, url=url, **keys), kind=None, source=source)


def listed(name, url, file="a.toml", rank=0, **keys):
    found = Declared(f"{file}: {name}", url, member=member(name, url, **keys), file=file, rank=rank)
    return Sighting("file", found)


def test_an_entry_joins_with_all_its_keys():
    (joined,), clashes = resolve_clashes([listed("gpu", "http://gpu", type="vllm", tier=3)], [], KINDS)

    assert (joined.config.tier, joined.kind, joined.source) == (3, KINDS["vllm"], "file")
    assert clashes == frozenset()


def test_configured_and_added_backends_take_precedence():
    others = [member("gpu", "http://one", "static"), member("added", "http://two", "api")]

    joined, clashes = resolve_clashes([listed("gpu", "http://other"), listed("new", "http://two:80")], others, KINDS)

    assert joined == ()
    assert clashes == {Clash("gpu", "a.toml", "gpu", "static"), Clash("new", "a.toml", "added", "api")}


def test_of_two_files_the_first_one_has_the_name():
    joined, clashes = resolve_clashes(
        [listed("gpu", "http://later", "a.toml", rank=1), listed("gpu", "http://first", "z.toml")], [], KINDS
    )

    assert [each.config.url for each in joined] == ["http://first"]
    assert clashes == {Clash("gpu", "a.toml", "gpu", "file")}


def test_found_servers_are_left_to_admission():
    assert resolve_clashes([Sighting("mdns", Discovered("gpu", "http://gpu"))], [], KINDS) == ((), frozenset())
