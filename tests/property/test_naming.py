"""Whatever models are called: hints are listed names, and a loose tag leads to one model or to none."""

from hypothesis import assume, given
from hypothesis import strategies as st

from nexus.domain.naming import MAX_SUGGESTED, Naming
from nexus.testing.builders import make_backend, make_fleet
from nexus.wire.catalogue import entries

NAMES = st.one_of(
    st.sampled_from(["m", "M", "m:latest", "m:8b", "m:1b", "org/m", "m-q4_k_m", "mm", "host:1/m"]),
    st.text(min_size=1, max_size=12),
)
SERVERS = st.lists(
    st.tuples(st.sampled_from(["vllm", "ollama"]), st.sets(NAMES, max_size=5), st.booleans()), max_size=4
)


def fleet_of(servers):
    return make_fleet(
        *(
            make_backend(f"gpu-{at}", kind=kind, models=sorted(models), is_refusing=gone, status="unhealthy")
            for at, (kind, models, gone) in enumerate(servers)
        )
    )


@given(SERVERS, NAMES, st.booleans())
def test_what_is_suggested_is_listed_and_can_be_asked_for(servers, name, loose_tags):
    fleet, naming = fleet_of(servers), Naming({"alias": ("m", "org/m")}, loose_tags)
    assume(not fleet.having(name))

    hint = naming.hint(name, fleet)

    if hint is not None:
        assert 0 < len(hint.names) <= MAX_SUGGESTED
        assert set(hint.names) <= {row.name for row in entries(fleet, naming)}


@given(SERVERS, NAMES)
def test_a_loose_tag_changes_nothing_for_a_name_that_a_backend_has(servers, name):
    fleet = fleet_of(servers)

    if fleet.having(name):
        assert Naming(loose_tags=True).meaning(name, fleet) == Naming().meaning(name, fleet)


@given(SERVERS, NAMES)
def test_a_loose_tag_leads_to_a_model_of_the_same_name_or_says_which_there_are(servers, name):
    fleet = fleet_of(servers)

    meaning = Naming(loose_tags=True).meaning(name, fleet)

    if meaning.models != (name,):
        assert fleet.having(meaning.models[0])
        assert not meaning.ambiguous
    assert len(meaning.ambiguous) != 1
