"""With nexus-proxy-tier a started proxy does what its README says: never weaker than both sides agreed to."""

import json

import openai
import pytest

from nexus.simulator import Refuse
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of

QUESTION = [{"role": "user", "content": "hello there"}]
FLEXIBLE = {"X-Nexus-Flexible": "true"}
STRICT = {"X-Nexus-Strict": "true"}


def policy(**keys):
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f'\n[[routing.policies]]\nmodel_pattern = "llama*"\n{rows}'


@pytest.fixture
def weak(simulate):
    return simulate(name="weak")


@pytest.fixture
def strong(simulate):
    return simulate(name="strong")


@pytest.fixture
def fleet(weak, strong):
    """Give the tables of two servers, of which the weaker is preferred."""
    return table_of(weak, type="generic", tier=2, priority=0) + table_of(strong, type="generic", tier=4, priority=99)


def answered(nexus, headers=None, **more):
    """Ask with the openai library, and return the headers of the answer."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        create = client.chat.completions.with_raw_response.create
        return create(model="llama3", messages=QUESTION, extra_headers=headers, **more).headers


def refused(nexus, headers=None):
    with pytest.raises(openai.InternalServerError) as caught:
        answered(nexus, headers)
    return caught.value.response


def figures(nexus):
    """Return what Prometheus is told by this plugin, without what is zero."""
    lines = [line.split() for line in ask(nexus.url, "/metrics").body.decode().splitlines()]
    samples = {line[0]: float(line[-1]) for line in lines if line[0].startswith("nexus_tier_")}
    return {name: value for name, value in samples.items() if value and "_created" not in name}


def test_without_a_policy_the_preferred_one_answers(start_nexus, fleet):
    assert answered(start_nexus(fleet))["X-Nexus-Backend"] == "weak"


@pytest.mark.parametrize("headers", [None, STRICT, FLEXIBLE])
@pytest.mark.parametrize("stream", [False, True])
def test_with_one_the_strong_one_does(start_nexus, fleet, headers, stream):
    nexus = start_nexus(fleet + policy(min_tier=3))

    assert answered(nexus, headers, stream=stream)["X-Nexus-Backend"] == "strong"
    assert figures(nexus)["nexus_tier_backends_excluded_total"] == 1.0


def test_the_tier_of_a_model_counts_for_more_than_that_of_its_backend(start_nexus, weak, strong):
    tables = table_of(weak, type="generic", priority=0) + '[backends.models."llama3"]\ntier = 5\n'
    nexus = start_nexus(tables + table_of(strong, type="generic", tier=4) + policy(min_tier=5))

    assert answered(nexus)["X-Nexus-Backend"] == "weak"


def test_a_request_that_nobody_is_good_enough_for_says_what_would_help(start_nexus, fleet):
    reply = refused(start_nexus(fleet + policy(min_tier=5)))

    told = reply.json()
    assert (reply.status_code, told["error"]["code"], reply.headers["Retry-After"]) == (503, "rejected_by_policy", "30")
    assert told["context"]["required_tier"] == 5
    assert told["context"]["rejection_reasons"] == json.loads(reply.headers["X-Nexus-Rejection-Details"])
    assert told["context"]["rejection_reasons"][1] == {
        "agent_id": "weak",
        "reconciler": "tier",
        "reason": "Agent capability tier 2 is below minimum tier 5 required by policy for model 'llama3'",
        "suggested_action": "Use a backend of tier 5 or higher, or lower min_tier",
    }


class TestWhenTheStrongOneIsDown:
    @pytest.fixture(autouse=True)
    def down(self, strong):
        strong.faults.set(Refuse())

    @pytest.mark.parametrize("headers", [None, STRICT, FLEXIBLE])
    def test_nobody_is_downgraded_by_default(self, start_nexus, fleet, headers):
        assert refused(start_nexus(fleet + policy(min_tier=3)), headers).status_code == 503

    @pytest.mark.parametrize("headers", [None, STRICT, STRICT | FLEXIBLE, {"X-Nexus-Flexible": "yes"}])
    def test_nor_a_strict_client_where_it_is_allowed(self, start_nexus, fleet, headers):
        reply = refused(start_nexus(fleet + policy(min_tier=3, allow_downgrade=True)), headers)

        actions = [reason["suggested_action"] for reason in reply.json()["context"]["rejection_reasons"]]
        assert any("send X-Nexus-Flexible: true" in action for action in actions)

    def test_a_flexible_one_is_and_is_told(self, start_nexus, fleet):
        nexus = start_nexus(fleet + policy(min_tier=3, allow_downgrade=True))

        headers = answered(nexus, FLEXIBLE)

        assert (headers["X-Nexus-Backend"], headers["X-Nexus-Tier"]) == ("weak", "2")
        assert figures(nexus) == {
            'nexus_tier_requests_total{mode="flexible"}': 1.0,
            "nexus_tier_backends_avoided_total": 1.0,
            "nexus_tier_downgrades_total": 1.0,
        }


def test_while_the_strong_one_is_up_a_flexible_client_gets_it(start_nexus, fleet):
    headers = answered(start_nexus(fleet + policy(min_tier=3, allow_downgrade=True)), FLEXIBLE)

    assert (headers["X-Nexus-Backend"], headers.get("X-Nexus-Tier")) == ("strong", None)


def test_a_fallback_keeps_the_tier_of_the_name_that_was_asked_for(start_nexus, simulate):
    other = simulate(name="other", models=("qwen3",))
    config = '[routing.fallbacks]\nllama3 = ["qwen3"]\n' + table_of(other, type="generic", tier=2)

    reply = refused(start_nexus(config + policy(min_tier=3)))

    assert reply.json()["error"]["code"] == "fallback_exhausted"
    assert reply.json()["context"]["required_tier"] == 3
    assert other.received("/v1/chat/completions") == ()


def test_what_would_be_decided_is_explained(start_nexus, fleet):
    nexus = start_nexus(fleet + policy(min_tier=3))

    told = ask(nexus.url, "/v1/route/explain?endpoint=/v1/chat/completions", chat()).json()

    (stage,) = [stage for stage in told["rounds"][0]["models"][0]["stages"] if stage["stage"] == "tier"]
    assert stage["facts"] == {"mode": "strict", "min_tier": 3, "least_tier": 3, "tiers": {"strong": 4, "weak": 2}}


def test_when_it_only_observes_the_preferred_one_answers_and_the_metrics_tell(start_nexus, fleet):
    nexus = start_nexus('[routing]\nobserve = ["tier"]\n' + fleet + policy(min_tier=3))

    assert answered(nexus)["X-Nexus-Backend"] == "weak"
    assert figures(nexus)["nexus_tier_backends_excluded_total"] == 1.0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (policy(min_tier=6), "expected `int` <= 5 - at `min_tier`"),
        (policy(min_tier="high"), "expected `int`, got `str`"),
        (policy(min_tire=3), "no installed plugin understands 'min_tire'; did you mean 'min_tier'?"),
        ("[plugins.tier]\nmin_tier = 0\n", "expected `int` >= 1 - at `min_tier` (line 2)"),
    ],
)
def test_a_check_refuses_what_is_wrong(command, tmp_path, config, expected):
    (tmp_path / "nexus.toml").write_text(config)

    told = command("check")

    assert told.returncode == 78
    assert expected in told.stderr
