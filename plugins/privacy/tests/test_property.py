"""Restricted never meets open: under random fleets, aliases, fallbacks, policies, retries, failures and reloads."""

from fnmatch import fnmatchcase

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nexus.api import ModelFacts, Status
from nexus.testing.builders import make_backend, make_fleet
from nexus.testing.routing import Reject, Reserved, begin, give_back, make_router
from nexus_privacy.config import PrivacyConfig, PrivacyKeys
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler

MODELS = ("llama3", "qwen3")
ALIASES = ("fast", "any")
NAMES = (*MODELS, *ALIASES)

thoroughly = settings(max_examples=400, deadline=None)

policies = st.lists(
    st.fixed_dictionaries(
        {"model_pattern": st.sampled_from([*NAMES, *NAMES, "*", "llama*", "{fast,qwen3}", "?*t"])},
        optional={
            "privacy": st.sampled_from(["restricted", "Restricted", "unrestricted"]),
            "fallback_allowed": st.just(value=True) | st.booleans(),
        },
    ),
    min_size=1,
    max_size=3,
)
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple)
configurations = st.fixed_dictionaries(
    {
        "policies": policies,
        "aliases": st.fixed_dictionaries({"fast": names}, optional={"any": names}),
        "fallbacks": st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, names)),
    }
)
configs = st.sampled_from(["restricted", "unrestricted", "unrestricted"]).map(lambda word: PrivacyConfig(default=word))
zones = st.sampled_from(["restricted", "open"])
backends = st.fixed_dictionaries(
    {
        "zone": zones,
        "models": st.lists(
            st.builds(ModelFacts, name=st.sampled_from(MODELS), zone=st.none() | zones),
            min_size=1,
            unique_by=lambda facts: facts.name,
        ),
        "status": st.sampled_from([Status.HEALTHY, Status.HEALTHY, Status.HEALTHY, Status.UNHEALTHY]),
        "max_in_flight": st.integers(1, 2),
    }
)
fleets = st.lists(backends, min_size=1, max_size=4).map(
    lambda rows: [make_backend(f"gpu-{number}", **row) for number, row in enumerate(rows)]
)
headers = st.sampled_from([{}, {}, {"x-nexus-privacy": "restricted"}, {"x-nexus-privacy": "unrestricted"}])


def zone_met(reserved):
    return reserved.backend.models[reserved.model].zone or reserved.backend.zone


def first_match(tables, name):
    """Say in the plainest way what the first policy that matches *name* demands."""
    for table in tables:
        alternatives = ("fast", "qwen3") if "{" in table["model_pattern"] else (table["model_pattern"],)
        if any(fnmatchcase(name, pattern) for pattern in alternatives):
            return table.get("privacy", "").lower()
    return None


def demands(tables, name, default):
    """Whether a request for the model *name* is restricted, whatever other names it goes by."""
    return (first_match(tables, name) or default) == "restricted"


@thoroughly
@given(st.lists(fleets, min_size=1, max_size=2), st.sampled_from(NAMES), configs, configurations, headers, st.data())
def test_restricted_never_meets_open(states, name, config, configuration, headers, data):
    stage, tables = PrivacyReconciler(config, RestrictionCounters()), configuration["policies"]
    search = begin(make_router(stage, policy_keys={"privacy": PrivacyKeys}, **configuration), name, headers=headers)
    is_restricted = "restricted" in headers.values() or (name in MODELS and demands(tables, name, config.default))

    for state in data.draw(st.lists(st.sampled_from(states), min_size=1, max_size=4)):
        found = search.next(make_fleet(*state))
        if isinstance(found, Reserved):
            assert not (is_restricted or demands(tables, found.model, "")) or zone_met(found) == "restricted"
            if data.draw(st.booleans()):
                give_back(found)


class Broken(PrivacyReconciler):
    """Breaks when it has looked at so many backends."""

    looks_left = 0

    def _objection(self, intent, backend):
        self.looks_left -= 1
        if self.looks_left < 0:
            raise RuntimeError("for the test")
        return super()._objection(intent, backend)


@thoroughly
@given(fleets, st.integers(0, 8))
def test_a_stage_that_breaks_lets_no_restricted_request_out(fleet, looks):
    stage = Broken(PrivacyConfig(default="restricted"), RestrictionCounters())
    stage.looks_left = looks
    search = begin(make_router(stage, fallbacks={MODELS[0]: MODELS[1:]}))

    for _ in range(4):
        with capture_logs():
            found = search.next(make_fleet(*fleet))
        assert not isinstance(found, Reserved) or zone_met(found) == "restricted"
        assert stage.looks_left >= 0 or isinstance(found, Reject)
