"""Which backends are too weak for a request, and what the stage says about them."""

import pytest

from nexus.api import ModelFacts
from nexus.testing.builders import make_backend, make_intent
from nexus_tier.config import TierConfig, TierKeys
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler

FLEET = tuple(make_backend(f"tier-{tier}", tier=tier) for tier in (1, 2, 3, 4, 5))

STRICT = {"x-nexus-strict": "true"}
FLEXIBLE = {"x-nexus-flexible": "true"}


def judged(*, headers=(), backends=FLEET, config=None, **keys):
    """Return an intent after the stage has run."""
    policy = {"tier": TierKeys(**keys)} if keys else {}
    intent = make_intent(backends=backends, policy=policy, headers=dict(headers))
    TierReconciler(config or TierConfig(), TierCounters()).reconcile(intent)
    return intent


def left(intent):
    """Return the tiers of those that may be asked, and of those among them that are avoided."""
    return (
        sorted(int(name[-1]) for name in intent.candidates),
        sorted(int(verdict.backend[-1]) for verdict in intent.avoided),
    )


class TestWhatIsWanted:
    def test_by_default_every_tier_may_answer(self):
        assert left(judged()) == ([1, 2, 3, 4, 5], [])

    @pytest.mark.parametrize("tier", [1, 2, 3, 4, 5])
    def test_a_policy_sets_the_tier(self, tier):
        assert left(judged(min_tier=tier)) == (list(range(tier, 6)), [])

    def test_the_table_applies_without_a_policy(self):
        config = TierConfig(min_tier=4)

        assert left(judged(config=config)) == ([4, 5], [])
        assert left(judged(config=config, allow_downgrade=False)) == ([4, 5], [])

    def test_a_policy_may_want_less_than_the_table(self):
        assert left(judged(config=TierConfig(min_tier=4), min_tier=2)) == ([2, 3, 4, 5], [])

    def test_a_model_has_a_tier_of_its_own(self):
        big = make_backend("big", tier=1, models=[ModelFacts(name="llama3", tier=4)])
        small = make_backend("small", tier=5, models=[ModelFacts(name="llama3", tier=1)])

        assert judged(backends=[big, small], min_tier=3).candidates == {"big"}


class TestStrictAndFlexible:
    @pytest.mark.parametrize("headers", [{}, STRICT, FLEXIBLE, STRICT | FLEXIBLE])
    def test_no_request_is_downgraded_unless_the_operator_allows_it(self, headers):
        assert left(judged(headers=headers, min_tier=3)) == ([3, 4, 5], [])

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, ([3, 4, 5], [])),
            (STRICT, ([3, 4, 5], [])),
            (FLEXIBLE, ([1, 2, 3, 4, 5], [1, 2])),
            (STRICT | FLEXIBLE, ([3, 4, 5], [])),
        ],
    )
    def test_if_allowed_a_flexible_client_may_get_a_weak_backend_as_a_last_resort(self, headers, expected):
        assert left(judged(headers=headers, min_tier=3, allow_downgrade=True)) == expected
        assert left(judged(headers=headers, config=TierConfig(min_tier=3, allow_downgrade=True))) == expected

    def test_a_policy_may_forbid_what_the_table_allows(self):
        config = TierConfig(allow_downgrade=True)

        assert left(judged(headers=FLEXIBLE, config=config, min_tier=3)) == ([1, 2, 3, 4, 5], [1, 2])
        assert left(judged(headers=FLEXIBLE, config=config, min_tier=3, allow_downgrade=False)) == ([3, 4, 5], [])

    @pytest.mark.parametrize(
        ("strict", "is_strict"),
        [("true", True), ("TRUE", True), ("1", True), ("yes", True), ("", True), ("false", False), (" False ", False)],
    )
    def test_strict_is_every_value_except_false(self, strict, is_strict):
        headers = FLEXIBLE | {"x-nexus-strict": strict}

        expected = [3, 4, 5] if is_strict else [1, 2, 3, 4, 5]
        assert left(judged(headers=headers, min_tier=3, allow_downgrade=True))[0] == expected

    @pytest.mark.parametrize(
        ("flexible", "is_flexible"),
        [("true", True), (" True ", True), ("1", False), ("yes", False), ("", False), ("false", False)],
    )
    def test_flexible_is_only_true(self, flexible, is_flexible):
        headers = {"x-nexus-flexible": flexible}

        expected = [1, 2, 3, 4, 5] if is_flexible else [3, 4, 5]
        assert left(judged(headers=headers, min_tier=3, allow_downgrade=True))[0] == expected


class TestWhatIsSaid:
    def test_each_exclusion_says_why_and_what_would_help(self):
        (_, verdict) = judged(min_tier=3).excluded

        assert (verdict.backend, verdict.stage) == ("tier-2", "tier")
        assert verdict.reason == (
            "Agent capability tier 2 is below minimum tier 3 required by policy for model 'llama3'"
        )
        assert verdict.action == "Use a backend of tier 3 or higher, or lower min_tier"
        assert (verdict.code, verdict.context) == ("rejected_by_policy", {"required_tier": 3})

    @pytest.mark.parametrize(
        ("headers", "action"),
        [
            ({}, "Use a backend of tier 3 or higher, or send X-Nexus-Flexible: true"),
            (STRICT, "Use a backend of tier 3 or higher, or send X-Nexus-Flexible: true without X-Nexus-Strict"),
        ],
    )
    def test_a_header_that_would_help_is_named(self, headers, action):
        assert judged(headers=headers, min_tier=3, allow_downgrade=True).excluded[0].action == action

    def test_an_avoided_backend_has_a_reason(self):
        intent = judged(headers=FLEXIBLE, min_tier=2, allow_downgrade=True)

        (verdict,) = intent.avoided
        assert verdict.backend == "tier-1"
        assert verdict.reason == (
            "Agent capability tier 1 is below minimum tier 2 required by policy for model 'llama3':"
            " only if no better one is left"
        )

    def test_the_needs_of_a_request_are_explained(self):
        stage = TierReconciler(TierConfig(min_tier=3, allow_downgrade=True), TierCounters())

        assert stage.explain(make_intent(backends=FLEET[:2], headers=FLEXIBLE)) == {
            "mode": "flexible",
            "min_tier": 3,
            "least_tier": 1,
            "tiers": {"tier-1": 1, "tier-2": 2},
        }
