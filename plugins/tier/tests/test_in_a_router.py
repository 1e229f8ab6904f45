"""Which backend answers, with health, slots, fallbacks and flexible clients."""

from nexus.api import Ending, Status
from nexus.testing.builders import make_backend, make_fleet
from nexus.testing.routing import Reject, Saturated, begin, give_back, make_router
from nexus_tier.config import TierConfig, TierKeys
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler

FLEXIBLE = {"x-nexus-flexible": "true"}
WEAK = make_backend("weak", tier=1, models=["llama3", "qwen3"], priority=0)


def policy(pattern, **keys):
    return {"model_pattern": pattern, **keys}


def routing(*policies, headers=(), counters=None, config=None, model="llama3", **parts):
    stage = TierReconciler(config or TierConfig(), counters or TierCounters())
    router = make_router(stage, policies=policies, policy_keys={"tier": TierKeys}, **parts)
    return begin(router, model, headers=dict(headers))


def test_a_weak_backend_is_not_asked_even_with_the_best_priority():
    found = routing(policy("*", min_tier=2)).next(make_fleet(WEAK, make_backend("strong", tier=3)))

    assert found.backend.name == "strong"


def test_a_strict_client_gets_an_error_when_the_strong_backend_is_down():
    fleet = make_fleet(WEAK, make_backend("strong", tier=3, status=Status.UNHEALTHY, is_refusing=True))

    assert routing(policy("*", min_tier=2)).next(fleet).code == "no_healthy_backend"


def test_a_flexible_client_gets_the_weak_backend_if_allowed():
    fleet = make_fleet(WEAK, make_backend("strong", tier=3, status=Status.UNHEALTHY, is_refusing=True))

    found = routing(policy("*", min_tier=2, allow_downgrade=True), headers=FLEXIBLE).next(fleet)

    assert found.backend.name == "weak"


def test_a_flexible_client_waits_while_the_strong_backend_is_busy():
    fleet = make_fleet(WEAK, make_backend("strong", tier=3, max_in_flight=1))
    policies = policy("*", min_tier=2, allow_downgrade=True)
    routing(policies).next(fleet)

    waiting = routing(policies, headers=FLEXIBLE).next(fleet)

    assert isinstance(waiting, Saturated)


def test_without_a_backend_of_the_tier_the_rejection_names_the_tier():
    reject = routing(policy("*", min_tier=4)).next(make_fleet(WEAK))

    assert (reject.code, reject.context["required_tier"], reject.retry_after_s) == ("rejected_by_policy", 4, 30)
    assert reject.message == (
        "Request for model 'llama3' rejected: 1 backend excluded by tier:"
        " Agent capability tier 1 is below minimum tier 4 required by policy for model 'llama3'"
    )


class TestFallbacks:
    def test_the_tier_of_the_first_name_sticks_to_the_chain(self):
        fleet = make_fleet(WEAK, make_backend("sick", tier=3, status=Status.UNHEALTHY, is_refusing=True))
        policies = policy("llama3", min_tier=3), policy("qwen3", min_tier=1)

        reject = routing(*policies, fallbacks={"llama3": ("qwen3",)}).next(fleet)

        assert reject.code == "fallback_exhausted"

    def test_the_tier_of_the_fallback_holds_too(self):
        search = routing(policy("qwen3", min_tier=3), fallbacks={"phi": ("qwen3",)}, model="phi")

        assert isinstance(search.next(make_fleet(WEAK)), Reject)

    def test_one_policy_cannot_allow_what_the_other_forbids(self):
        policies = policy("phi", min_tier=3), policy("qwen3", min_tier=2, allow_downgrade=True)
        search = routing(*policies, fallbacks={"phi": ("qwen3",)}, model="phi", headers=FLEXIBLE)

        reject = search.next(make_fleet(WEAK, make_backend("middling", tier=2, models=["qwen3"])))

        assert reject.code == "fallback_exhausted"
        assert {reason.context["required_tier"] for reason in reject.reasons} == {3}


class TestDowngrades:
    def downgraded(self, counters):
        return routing(policy("*", min_tier=3, allow_downgrade=True), headers=FLEXIBLE, counters=counters).next(
            make_fleet(WEAK)
        )

    def test_the_answer_has_a_header(self):
        (hold,) = self.downgraded(TierCounters()).holds

        assert hold.headers(None) == {"X-Nexus-Tier": "1"}

    def test_an_answer_is_counted_and_a_failed_attempt_is_not(self):
        counters = TierCounters()

        give_back(self.downgraded(counters))
        give_back(self.downgraded(counters), Ending.BACKEND_FAILED)

        assert counters.downgrades == 1

    def test_an_answer_of_the_wanted_tier_has_no_header(self):
        (hold,) = routing(policy("*", min_tier=1), headers=FLEXIBLE).next(make_fleet(WEAK)).holds

        assert hold.headers(None) == {}


def test_when_it_only_observes_no_backend_is_excluded_and_no_header_added():
    counters = TierCounters()
    search = routing(
        policy("*", min_tier=3, allow_downgrade=True), headers=FLEXIBLE, counters=counters, observe=["tier"]
    )

    found = search.next(make_fleet(WEAK))
    give_back(found)

    assert found.backend.name == "weak"
    assert [hold.headers(None) for hold in found.holds] == [{}]
    assert counters.downgrades == 0
    assert {m.name: m.samples[0].value for m in counters.measures()}["nexus_tier_backends_avoided"] == 1


def test_where_no_policy_wants_a_higher_tier_no_downgrade_is_looked_for():
    asked = TierReconciler(TierConfig(), TierCounters())

    is_idle = asked.is_idle([{"tier": TierKeys(min_tier=3)}, {}])

    may_hold = [asked.may_hold(make_backend(tier=tier), "llama3") for tier in (1, 2, 3, 4, 5)]
    assert (is_idle, may_hold) == (False, [True, True, False, False, False])
