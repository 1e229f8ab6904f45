"""Where a restricted request goes, with aliases, fallbacks, retries and slots."""

import pytest

from nexus.api import Status
from nexus.testing.builders import make_backend, make_fleet
from nexus.testing.routing import Reject, Reserved, Saturated, begin, make_router
from nexus_privacy.config import PrivacyConfig, PrivacyKeys
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler

OPENAI = make_backend("openai", zone="cloud", models=["llama3", "qwen3"])
SICK = make_backend("sick", status=Status.UNHEALTHY, is_refusing=True, models=["llama3", "qwen3"])

RESTRICTED = {"privacy": "restricted"}
UNRESTRICTED = {"privacy": "unrestricted"}


def policy(pattern, **keys):
    return {"model_pattern": pattern, **keys}


def routing(*policies, model="llama3", headers=(), default="unrestricted", **parts):
    stage = PrivacyReconciler(PrivacyConfig(default=default), RestrictionCounters())
    router = make_router(stage, policies=policies, policy_keys={"privacy": PrivacyKeys}, **parts)
    return begin(router, model, headers=dict(headers))


@pytest.mark.parametrize("pattern", ["llama3", "fast", "*", "{fast,slow}", "lla?a[0-9]"])
def test_a_policy_holds_under_the_alias_and_under_the_name(pattern):
    search = routing(policy(pattern, **RESTRICTED), model="fast", aliases={"fast": "llama3"})

    assert isinstance(search.next(make_fleet(OPENAI)), Reject)


@pytest.mark.parametrize("first", [policy("fast"), policy("fast", **UNRESTRICTED)])
def test_an_alias_with_a_policy_of_its_own_does_not_dodge_that_of_its_model(first):
    search = routing(first, policy("llama*", **RESTRICTED), model="fast", aliases={"fast": "llama3"})

    assert isinstance(search.next(make_fleet(OPENAI)), Reject)


def test_an_alias_of_several_models_is_as_restricted_as_the_strictest():
    search = routing(policy("llama3", **RESTRICTED), model="any", aliases={"any": ("qwen3", "llama3")})

    assert isinstance(search.next(make_fleet(OPENAI)), Reject)


def test_the_first_match_counts():
    search = routing(policy("llama3", **UNRESTRICTED), policy("*", **RESTRICTED))

    assert search.next(make_fleet(OPENAI)).backend.name == "openai"


class TestFallbacks:
    def test_the_policy_of_the_first_name_sticks_to_the_chain(self):
        policies = policy("llama3", **RESTRICTED), policy("qwen3", **UNRESTRICTED)

        reject = routing(*policies, fallbacks={"llama3": ("qwen3",)}).next(make_fleet(SICK, OPENAI))

        assert reject.code == "fallback_exhausted"
        assert {reason.stage for reason in reject.reasons if reason.backend == "openai"} == {"privacy"}

    def test_the_policy_of_the_fallback_holds_too(self):
        search = routing(policy("qwen3", **RESTRICTED), fallbacks={"phi": ("qwen3",)}, model="phi")

        assert search.next(make_fleet(OPENAI)).code == "fallback_exhausted"

    @pytest.mark.parametrize("unrestricted", ["llama3", "qwen3"])
    def test_the_default_holds_for_the_name_that_has_no_policy(self, unrestricted):
        fleet = make_fleet(
            make_backend("sick", zone="cloud", status=Status.UNHEALTHY, is_refusing=True),
            make_backend("openai", zone="cloud", models=["qwen3"]),
        )
        search = routing(policy(unrestricted, **UNRESTRICTED), default="restricted", fallbacks={"llama3": ("qwen3",)})

        assert search.next(fleet).code == "fallback_exhausted"


def test_a_retry_stays_in_the_restricted_zone():
    fleet = make_fleet(make_backend("gpu-1"), make_backend("gpu-2"), OPENAI)
    search = routing(policy("*", **RESTRICTED))

    tried = [search.next(fleet) for _ in range(3)]

    assert {found.backend.name for found in tried[:2]} == {"gpu-1", "gpu-2"}
    assert isinstance(tried[2], Reject)


def test_a_waiting_request_waits_for_a_restricted_backend():
    fleet = make_fleet(make_backend("gpu-1", max_in_flight=1), OPENAI)
    routing(policy("*", **RESTRICTED)).next(fleet)

    waiting = routing(policy("*", **RESTRICTED)).next(fleet)

    assert isinstance(waiting, Saturated)
    assert [backend.name for backend in waiting.backends] == ["gpu-1"]


def test_a_backend_whose_zone_has_changed_meanwhile_is_excluded():
    search = routing(policy("*", **RESTRICTED))
    before = search.next(make_fleet(make_backend("gpu-1"), make_backend("gpu-2")))

    after = search.next(make_fleet(make_backend("gpu-1", zone="cloud"), make_backend("gpu-2", zone="cloud")))

    assert (isinstance(before, Reserved), isinstance(after, Reject)) == (True, True)


def test_the_reason_of_the_route_is_privacy():
    found = routing(policy("*", **RESTRICTED)).next(make_fleet(make_backend("gpu-1"), OPENAI))

    assert (found.backend.name, found.route_reason) == ("gpu-1", "privacy-requirement")


def test_a_rejected_client_learns_what_was_required():
    reject = routing(headers={"x-nexus-privacy": "restricted"}).next(make_fleet(OPENAI))

    assert (reject.code, reject.retry_after_s) == ("rejected_by_policy", 30)
    assert reject.context["privacy_zone_required"] == "restricted"


def test_when_it_only_observes_no_backend_is_excluded():
    search = routing(policy("*", **RESTRICTED), observe=["privacy"])

    assert search.next(make_fleet(OPENAI)).backend.name == "openai"
