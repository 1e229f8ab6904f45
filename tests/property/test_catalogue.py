"""Whatever servers call their models, the listing has a name for each, and no name twice in other words."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.domain.naming import Naming
from nexus.testing.builders import make_backend, make_fleet
from nexus.wire.catalogue import entries

NAMES = st.sampled_from(["m", "M", "m:latest", "M:latest", "M:Latest", "m:8b", "host:1/m", "host:1/m:latest"])
FLEETS = st.lists(st.tuples(st.sampled_from(["vllm", "ollama"]), st.sets(NAMES)), max_size=4).map(
    lambda servers: make_fleet(
        *(make_backend(f"gpu-{at}", kind=kind, models=sorted(models)) for at, (kind, models) in enumerate(servers))
    )
)


def found_by(name, fleet):
    return {(backend.name, backend.own_name(name)) for backend in fleet.having(name)}


@given(FLEETS)
@settings(max_examples=200)
def test_each_model_of_each_server_is_found_by_a_listed_name(fleet):
    listed = [entry.name for entry in entries(fleet, Naming())]

    found = set().union(*(found_by(name, fleet) for name in listed))
    assert found == {(backend.name, model) for backend in fleet.backends for model in backend.models}


@given(FLEETS)
@settings(max_examples=200)
def test_no_listed_name_finds_only_what_another_one_finds(fleet):
    found = [found_by(entry.name, fleet) for entry in entries(fleet, Naming())]

    assert [one for at, one in enumerate(found) if any(one <= other for other in found[:at] + found[at + 1 :])] == []


@given(FLEETS)
@settings(max_examples=100)
def test_a_row_names_those_who_are_asked_by_its_name(fleet):
    for entry in entries(fleet, Naming()):
        assert set(entry.backends) == {name for name, _ in found_by(entry.name, fleet)}
