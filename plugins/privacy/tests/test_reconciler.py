"""Which requests are restricted, and which backends may then be asked."""

import pytest

from nexus.api import ModelFacts
from nexus.testing.builders import make_backend, make_intent
from nexus_privacy.config import PrivacyConfig, PrivacyKeys
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler

FLEET = {"gpu-1": "local", "gpu-2": "local", "openai": "cloud"}
LOCAL = {"gpu-1", "gpu-2"}


def judged(*, backends=FLEET, privacy=None, header=None, **config):
    """Return an intent after the stage has spoken."""
    policy = {} if privacy is None else {"privacy": PrivacyKeys(privacy=privacy)}
    headers = {} if header is None else {"x-nexus-privacy": header}
    intent = make_intent(backends=backends, policy=policy, headers=headers)
    PrivacyReconciler(PrivacyConfig(**config), RestrictionCounters()).reconcile(intent)
    return intent


class TestWhatIsRestricted:
    def test_by_default_a_request_may_go_anywhere(self):
        assert judged().candidates == set(FLEET)

    def test_a_policy_keeps_it_in_the_restricted_zone(self):
        assert judged(privacy="restricted").candidates == LOCAL

    def test_a_policy_may_be_unrestricted(self):
        assert judged(privacy="unrestricted").candidates == set(FLEET)

    def test_the_default_applies_without_a_policy(self):
        assert judged(default="restricted").candidates == LOCAL

    def test_a_policy_lifts_the_default(self):
        assert judged(default="restricted", privacy="unrestricted").candidates == set(FLEET)

    @pytest.mark.parametrize("word", ["restricted", "Restricted", " RESTRICTED ", "private", "true", "1", "", "open"])
    def test_a_client_may_ask_for_more_with_any_value(self, word):
        assert judged(header=word).candidates == LOCAL
        assert judged(header=word, privacy="unrestricted").candidates == LOCAL

    @pytest.mark.parametrize("word", ["unrestricted", "Unrestricted", " unrestricted "])
    def test_a_client_cannot_ask_for_less(self, word):
        assert judged(header=word, privacy="restricted").candidates == LOCAL
        assert judged(header=word, default="restricted").candidates == LOCAL
        assert judged(header=word).candidates == set(FLEET)


class TestWhichBackendsMayBeAsked:
    def test_a_model_that_its_server_passes_on_is_open(self):
        passed_on = ModelFacts(name="llama3", zone="open")
        fleet = [make_backend("laptop", kind="ollama", models=[passed_on]), make_backend("gpu-1")]

        assert judged(backends=fleet, privacy="restricted").candidates == {"gpu-1"}

    def test_a_model_of_a_cloud_can_be_restricted(self):
        trusted = ModelFacts(name="llama3", zone="restricted")

        assert judged(backends=[make_backend("eu", zone="cloud", models=[trusted])], privacy="restricted").candidates

    def test_a_discovered_backend_may_be_distrusted(self):
        fleet = [make_backend("gpu-1"), make_backend("found", discovery_source="mdns")]

        trusting = judged(backends=fleet, privacy="restricted")
        wary = judged(backends=fleet, privacy="restricted", trust_discovered=False)

        assert (trusting.candidates, wary.candidates) == ({"gpu-1", "found"}, {"gpu-1"})
        assert wary.excluded[0].reason == "Agent that is not configured violates Restricted policy for model 'llama3'"

    def test_discovered_backends_may_get_unrestricted_requests(self):
        fleet = [make_backend("found", discovery_source="mdns")]

        assert judged(backends=fleet, trust_discovered=False).candidates == {"found"}


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("words", "reason", "action"),
        [
            (
                {"privacy": "restricted"},
                "Agent privacy zone Open violates Restricted policy for model 'llama3'",
                "Use a backend of the restricted zone, or change the policy",
            ),
            (
                {"default": "restricted"},
                "Agent privacy zone Open violates Restricted default for model 'llama3'",
                "Use a backend of the restricted zone, or write a policy for this model",
            ),
            (
                {"header": "restricted"},
                "Agent privacy zone Open violates X-Nexus-Privacy of the client",
                "Use a backend of the restricted zone, or leave X-Nexus-Privacy out",
            ),
        ],
    )
    def test_each_exclusion_says_why_and_what_would_help(self, words, reason, action):
        (verdict,) = judged(**words).excluded

        assert (verdict.backend, verdict.stage, verdict.reason, verdict.action) == ("openai", "privacy", reason, action)
        assert (verdict.code, verdict.context) == ("rejected_by_policy", {"privacy_zone_required": "restricted"})

    def test_who_demands_it_is_explained(self):
        stage = PrivacyReconciler(PrivacyConfig(default="restricted"), RestrictionCounters())

        assert stage.explain(make_intent(backends={"gpu-1": "local", "openai": "cloud"})) == {
            "privacy": "restricted",
            "demanded_by": "default",
            "zones": {"gpu-1": "restricted", "openai": "open"},
        }

    def test_an_unrestricted_request_is_explained_too(self):
        told = PrivacyReconciler(PrivacyConfig(), RestrictionCounters()).explain(make_intent())

        assert told == {"privacy": "unrestricted", "demanded_by": None, "zones": {}}
