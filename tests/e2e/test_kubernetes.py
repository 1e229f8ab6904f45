"""A rolling update of pods under load: a started proxy follows the API server, and no request fails."""

import importlib.util
from pathlib import Path

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.waiting import until
from tests.support.steady_load import SteadyLoad, backend_of
from tests.support.streaming import Streaming

WITHIN_S = 20.0
FAKE_API = Path(__file__).parents[2] / "plugins/kubernetes/tests/fake_api.py"

CONFIG = """
[plugins.kubernetes]
kubeconfig = "{kubeconfig}"

[[plugins.kubernetes.services]]
service = "vllm"
port = "http"
"""

for module in ("nexus_kubernetes", "kubernetes_asyncio"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)


@pytest.fixture(scope="session")
def fake_api():
    spec = importlib.util.spec_from_file_location("fake_api_server", FAKE_API)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cluster:
    """Pods on this machine, each in a slice of its own: they differ by their ports."""

    def __init__(self, fake_api, api, call):
        self._fake_api = fake_api
        self.api = api
        self.call = call

    def put(self, simulator, **conditions):
        """Create a pod, or change its conditions."""
        pod = self._fake_api.pod(simulator.name, "127.0.0.1", **conditions)
        each = self._fake_api.slice_of(f"slice-{simulator.name}", pod, ports=[("http", simulator.port)])
        self.call(self.api.put, each)

    def delete(self, simulator):
        self.call(self.api.delete, f"slice-{simulator.name}")


@pytest.fixture
def cluster(fake_api, tmp_path):
    with fake_api.in_thread() as (api, url, call):
        (tmp_path / "kubeconfig").write_text(fake_api.kubeconfig(url, "llm"))
        yield Cluster(fake_api, api, call)


@pytest.fixture
def config(tmp_path):
    return CONFIG.format(kubeconfig=tmp_path / "kubeconfig")


def rows(nexus):
    return {row["name"]: row for row in nexus.get_json("/admin/backends")["backends"]}


def healthy(nexus):
    return {name for name, row in rows(nexus).items() if row["status"] == "healthy"}


def test_a_rolling_update_under_load_loses_no_request(simulate, start_nexus, cluster, config):
    old = [simulate(name=f"old-{n}", kind="vllm", models=("llama3",), tokens_per_s=200.0) for n in range(2)]
    new = [simulate(name=f"new-{n}", kind="vllm", models=("llama3",), tokens_per_s=200.0) for n in range(2)]
    for pod in old:
        cluster.put(pod)
    nexus = start_nexus(config)
    until(lambda: healthy(nexus) == {"old-0", "old-1"}, WITHIN_S)

    with SteadyLoad(nexus.url, clients=3, max_tokens=None) as load:
        load.wait_for("old-0")
        for leaving, coming in zip(old, new, strict=True):
            cluster.put(coming, ready=False)
            cluster.put(coming)
            until(lambda name=coming.name: name in healthy(nexus), WITHIN_S)
            cluster.put(leaving, ready=False, serving=True, terminating=True)
            until(lambda name=leaving.name: name not in rows(nexus), WITHIN_S)
            cluster.delete(leaving)
        cluster.call(cluster.api.drop_watches)
        load.wait_for("new-0")
        load.wait_for("new-1")
        # What has left is asked no more.
        asked = [len(pod.requests) for pod in old]
        load.wait_for("new-0")

    assert load.failures == []
    assert [len(pod.requests) for pod in old] == asked
    assert healthy(nexus) == {"new-0", "new-1"}
    assert {row["discovery_source"] for row in rows(nexus).values()} == {"kubernetes"}


def test_a_stream_outlives_the_pods_place_in_the_fleet(simulate, start_nexus, cluster, config):
    one = simulate(name="one", kind="vllm", models=("llama3",), tokens_per_s=10.0)
    two = simulate(name="two", kind="vllm", models=("llama3",))
    cluster.put(one)
    nexus = start_nexus(config)
    until(lambda: healthy(nexus) == {"one"}, WITHIN_S)
    stream = Streaming(nexus.url)
    until(lambda: any(record.body for record in one.requests), WITHIN_S)

    cluster.put(two)
    cluster.put(one, ready=False, serving=True, terminating=True)
    until(lambda: set(rows(nexus)) == {"two"}, WITHIN_S)
    other = backend_of(ask(nexus.url, "/v1/chat/completions", chat()))

    assert stream.is_done()
    assert (stream.backend, other) == ("one", "two")


def test_a_pod_that_comes_back_elsewhere_keeps_its_name(simulate, start_nexus, cluster, config):
    before, after = (simulate(name="vllm-0", kind="vllm", models=("llama3",)) for _ in range(2))
    cluster.put(before)
    nexus = start_nexus(config)
    until(lambda: healthy(nexus) == {"vllm-0"}, WITHIN_S)

    with SteadyLoad(nexus.url, clients=2, max_tokens=None) as load:
        load.wait_for("vllm-0")
        cluster.put(after)
        until(lambda: any(record.body for record in after.requests), WITHIN_S)
        asked = len(before.requests)
        load.wait_for("vllm-0")

    assert load.failures == []
    assert len(before.requests) == asked
    assert set(rows(nexus)) == {"vllm-0"}


def test_the_last_good_set_serves_while_the_api_server_refuses(simulate, start_nexus, cluster, config):
    pod = simulate(name="vllm-0", kind="vllm", models=("llama3",))
    cluster.put(pod)
    nexus = start_nexus(config)
    until(lambda: healthy(nexus) == {"vllm-0"}, WITHIN_S)

    cluster.api.refused.update(list=403, watch=403)
    cluster.call(cluster.api.drop_watches)
    (warning,) = nexus.wait_for_log("service_watch_failed", within_s=15)

    assert backend_of(ask(nexus.url, "/v1/chat/completions", chat())) == "vllm-0"
    assert warning["servers"] == 1
    assert "endpointslices.discovery.k8s.io is forbidden" in warning["reason"]
