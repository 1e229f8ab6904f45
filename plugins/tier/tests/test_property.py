"""Never lower: under random fleets, tiers, fallbacks, retries and whatever a client says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import ModelFacts, Status
from nexus.testing.builders import make_backend, make_fleet
from nexus.testing.routing import Reserved, begin, make_router
from nexus_tier.config import TierConfig, TierKeys
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler

MODELS = ("llama3", "qwen3")
WORDS = ("true", "false", "yes", "")

thoroughly = settings(max_examples=200, deadline=None)

tiers = st.integers(1, 5)
backends = st.fixed_dictionaries(
    {
        "tier": tiers,
        "models": st.lists(
            st.builds(ModelFacts, name=st.sampled_from(MODELS), tier=st.none() | tiers),
            min_size=1,
            unique_by=lambda facts: facts.name,
        ),
        "status": st.sampled_from([Status.HEALTHY, Status.HEALTHY, Status.UNHEALTHY]),
        # One that is unhealthy, and still listens, would come after the downgrade.
        "is_refusing": st.just(True),
    }
)
fleets = st.lists(backends, min_size=1, max_size=4).map(
    lambda rows: make_fleet(*(make_backend(f"gpu-{number}", **row) for number, row in enumerate(rows)))
)
headers = st.dictionaries(st.sampled_from(["x-nexus-strict", "x-nexus-flexible"]), st.sampled_from(WORDS))


def tier_met(reserved):
    return reserved.backend.models[reserved.model].tier or reserved.backend.tier


@thoroughly
@given(fleets, tiers, tiers, st.booleans(), st.booleans(), headers)
def test_no_answer_is_below_what_both_sides_agreed_to(fleet, first, second, allows_first, allows_second, headers):
    policies = [
        {"model_pattern": "llama3", "min_tier": first, "allow_downgrade": allows_first},
        {"model_pattern": "qwen3", "min_tier": second, "allow_downgrade": allows_second},
    ]
    stage = TierReconciler(TierConfig(), TierCounters())
    router = make_router(stage, policies=policies, policy_keys={"tier": TierKeys}, fallbacks={"llama3": ("qwen3",)})
    search = begin(router, headers=headers)
    agrees = headers.get("x-nexus-flexible") == "true" and headers.get("x-nexus-strict", "false") == "false"

    for _ in range(4):
        found = search.next(fleet)
        if not isinstance(found, Reserved):
            continue
        assert tier_met(found) >= first or (agrees and allows_first)
        if found.fallback_model is not None:
            assert tier_met(found) >= second or (agrees and allows_second)


@thoroughly
@given(fleets, tiers)
def test_a_downgrade_is_the_last_resort(fleet, min_tier):
    stage = TierReconciler(TierConfig(min_tier=min_tier, allow_downgrade=True), TierCounters())
    search = begin(make_router(stage), headers={"x-nexus-flexible": "true"})

    met = [tier_met(found) >= min_tier for _ in range(5) if isinstance(found := search.next(fleet), Reserved)]

    assert met == sorted(met, reverse=True)
