"""With nexus-proxy-privacy a started proxy does what its README says; without it, nothing passes for private."""

import json

import openai
import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from tests.support.installing import hide_distribution

QUESTION = [{"role": "user", "content": "hello there"}]
POLICY = '\n[[routing.policies]]\nmodel_pattern = "llama*"\nprivacy = "restricted"\n'


@pytest.fixture
def fleet(simulate):
    """Start a server of the house and a preferred cloud; give the tables of both."""
    gpu, cloud = simulate(name="gpu-1"), simulate(name="cloud")
    return table_of(gpu, type="generic") + table_of(cloud, type="generic", zone="open", priority=0)


def client_of(nexus):
    return openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)


def answered(nexus, **more):
    """Ask with the openai library, and return the headers of the answer."""
    with client_of(nexus) as client:
        return client.chat.completions.with_raw_response.create(model="llama3", messages=QUESTION, **more).headers


def figures(nexus):
    """Return what Prometheus is told by this plugin, without what is zero."""
    lines = [line.split() for line in ask(nexus.url, "/metrics").body.decode().splitlines()]
    samples = {line[0]: float(line[-1]) for line in lines if line[0].startswith("nexus_privacy_")}
    return {name: value for name, value in samples.items() if value and "_created" not in name}


def test_without_a_word_of_privacy_the_cloud_answers(start_nexus, fleet):
    headers = answered(start_nexus(fleet))

    assert (headers["X-Nexus-Backend"], headers["X-Nexus-Privacy-Zone"]) == ("cloud", "open")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("config", "sent", "by"),
    [
        (POLICY, None, "policy"),
        ('\n[plugins.privacy]\ndefault = "Restricted"\n', None, "default"),
        ("", {"X-Nexus-Privacy": "restricted"}, "header"),
    ],
    ids=["policy", "default", "header"],
)
def test_a_restricted_request_is_answered_by_the_house(start_nexus, fleet, config, sent, by, stream):
    nexus = start_nexus(fleet + config)

    headers = answered(nexus, extra_headers=sent, stream=stream)

    assert (headers["X-Nexus-Backend"], headers["X-Nexus-Privacy-Zone"]) == ("gpu-1", "restricted")
    assert headers["X-Nexus-Route-Reason"] == "privacy-requirement"
    assert figures(nexus) == {
        f'nexus_privacy_requests_restricted_total{{by="{by}"}}': 1.0,
        f'nexus_privacy_backends_excluded_total{{by="{by}"}}': 1.0,
    }


def test_a_request_that_nobody_may_answer_says_what_would_help(start_nexus, simulate):
    cloud = simulate(name="cloud")
    nexus = start_nexus(table_of(cloud, type="generic", zone="open") + POLICY)

    with pytest.raises(openai.InternalServerError) as refused:
        answered(nexus)

    reply = refused.value.response
    told = reply.json()
    assert (reply.status_code, told["error"]["code"], reply.headers["Retry-After"]) == (503, "rejected_by_policy", "30")
    assert told["context"]["privacy_zone_required"] == "restricted"
    assert told["context"]["rejection_reasons"] == json.loads(reply.headers["X-Nexus-Rejection-Details"])
    assert told["context"]["rejection_reasons"][0] == {
        "agent_id": "cloud",
        "reconciler": "privacy",
        "reason": "Agent privacy zone Open violates Restricted policy for model 'llama3'",
        "suggested_action": "Use a backend of the restricted zone, or change the policy",
    }
    assert reply.headers["X-Nexus-Rejection-Reasons"] == "1 agents rejected by privacy"


def test_what_would_be_decided_is_explained(start_nexus, fleet):
    nexus = start_nexus(fleet + POLICY)

    told = ask(nexus.url, "/v1/route/explain?endpoint=/v1/chat/completions", chat()).json()

    (stage,) = [stage for stage in told["rounds"][0]["models"][0]["stages"] if stage["stage"] == "privacy"]
    assert stage["facts"] == {
        "privacy": "restricted",
        "demanded_by": "policy",
        "zones": {"gpu-1": "restricted", "cloud": "open"},
    }


def test_when_it_only_observes_the_cloud_answers_and_the_metrics_tell(start_nexus, fleet):
    nexus = start_nexus('[routing]\nobserve = ["privacy"]\n' + fleet + POLICY)

    assert answered(nexus)["X-Nexus-Backend"] == "cloud"
    assert figures(nexus)['nexus_privacy_backends_excluded_total{by="policy"}'] == 1.0


class TestWithoutIt:
    """Not installed, or switched off: nothing that asks for privacy goes on as if it had it."""

    @pytest.fixture
    def uninstalled(self, tmp_path):
        folder = tmp_path / "site"
        folder.mkdir()
        hide_distribution("nexus-proxy-privacy", folder)
        return {"PYTHONPATH": str(folder)}

    def test_a_configuration_that_requires_it_does_not_start(self, command, tmp_path, uninstalled):
        (tmp_path / "nexus.toml").write_text('[plugin_loading]\nrequired = ["privacy"]\n')

        told = [command(word, **uninstalled) for word in ("check", "serve")]

        assert [one.returncode for one in told] == [78, 78]
        assert all("plugin 'privacy' is required by [plugin_loading]" in one.stderr + one.stdout for one in told)
        assert "is not installed; pip install nexus-proxy-privacy" in told[0].stderr
        assert command("check").returncode == 0

    @pytest.mark.parametrize(
        "words",
        [("--disable-plugin", "privacy"), ("--set", "plugin_loading.autoload=false")],
        ids=lambda words: words[0],
    )
    def test_nor_when_it_is_switched_off(self, command, tmp_path, words):
        (tmp_path / "nexus.toml").write_text('[plugin_loading]\nrequired = ["privacy"]\n')

        assert command("serve", *words).returncode == 78

    def test_a_policy_that_needs_it_does_not_start_either(self, command, tmp_path, uninstalled):
        (tmp_path / "nexus.toml").write_text(POLICY)

        told = command("check", **uninstalled)

        assert told.returncode == 78
        assert told.stderr.strip().endswith(
            "routing.policies[0].privacy: no installed plugin understands 'privacy'; pip install nexus-proxy-privacy"
        )

    def test_a_client_that_asks_for_it_is_refused(self, start_nexus, fleet, uninstalled):
        nexus = start_nexus(fleet, environ=uninstalled)

        with pytest.raises(openai.BadRequestError) as refused:
            answered(nexus, extra_headers={"X-Nexus-Privacy": "restricted"})

        assert refused.value.response.json()["error"]["code"] == "unsupported_parameter"


def test_a_check_tells_of_what_is_assumed_and_of_what_can_never_apply(command, tmp_path):
    cloudy = '[[backends]]\nname = "gw"\nurl = "https://llm.example.com"\n'
    (tmp_path / "nexus.toml").write_text(cloudy + POLICY + POLICY.replace("llama*", "llama3"))

    told = command("check")

    assert told.returncode == 0
    assert "zone_assumed" in told.stdout + told.stderr
    assert "policy_shadowed" in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (POLICY.replace('"restricted"', '"private"'), "expected 'restricted' or 'unrestricted', got 'private'"),
        (POLICY.replace("llama*", "llama["), "'llama[' is not a valid pattern"),
        ("[plugins.privacy]\ndefalt = 1\n", "unknown key - at `defalt` (line 2); did you mean 'default'?"),
        ('[[backends]]\nname = "a"\nurl = "http://a"\nzone = "internal"\n', "expected 'restricted' or 'open'"),
    ],
)
def test_a_check_refuses_what_is_wrong(command, tmp_path, config, expected):
    (tmp_path / "nexus.toml").write_text(config)

    told = command("check")

    assert told.returncode == 78
    assert expected in told.stderr
