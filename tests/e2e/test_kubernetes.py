"""A rolling update of pods under load: a started proxy follows the API server, and no request fails."""

import importlib.util
import json
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

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


def ask(nexus, *, stream=False):
    body = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    request = Request(nexus.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=20) as answer:
        text = answer.read()
        return answer.headers["X-Nexus-Backend"], text


class Load:
    """Clients that ask one request after the other, every second one streamed."""

    def __init__(self, nexus, clients=3):
        self._nexus = nexus
        self._is_over = threading.Event()
        self.answers = []
        self.failures = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        stream = False
        while not self._is_over.is_set():
            stream = not stream
            try:
                backend, text = ask(self._nexus, stream=stream)
            except OSError as exc:
                self.failures.append(exc)
                continue
            if stream and not text.rstrip().endswith(b"data: [DONE]"):
                self.failures.append(text[-200:])
            self.answers.append(backend)

    def wait_for(self, backend, count=3):
        """Wait until *backend* has answered so often from now on."""
        before = self.answers.count(backend)
        wait_for(lambda: self.answers.count(backend) >= before + count)


def wait_for(claim, within_s=20):
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


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
    wait_for(lambda: healthy(nexus) == {"old-0", "old-1"})

    with Load(nexus) as load:
        load.wait_for("old-0")
        for leaving, coming in zip(old, new, strict=True):
            cluster.put(coming, ready=False)
            cluster.put(coming)
            wait_for(lambda name=coming.name: name in healthy(nexus))
            cluster.put(leaving, ready=False, serving=True, terminating=True)
            wait_for(lambda name=leaving.name: name not in rows(nexus))
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
    wait_for(lambda: healthy(nexus) == {"one"})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(nexus, stream=True)))
    asking.start()
    wait_for(lambda: any(record.body for record in one.requests))

    cluster.put(two)
    cluster.put(one, ready=False, serving=True, terminating=True)
    wait_for(lambda: set(rows(nexus)) == {"two"})
    other, _ = ask(nexus)
    asking.join(20)

    ((backend, text),) = answers
    assert (backend, other) == ("one", "two")
    assert text.rstrip().endswith(b"data: [DONE]")


def test_a_pod_that_comes_back_elsewhere_keeps_its_name(simulate, start_nexus, cluster, config):
    before, after = (simulate(name="vllm-0", kind="vllm", models=("llama3",)) for _ in range(2))
    cluster.put(before)
    nexus = start_nexus(config)
    wait_for(lambda: healthy(nexus) == {"vllm-0"})

    with Load(nexus, clients=1) as load:
        load.wait_for("vllm-0")
        cluster.put(after)
        wait_for(lambda: any(record.body for record in after.requests))
        asked = len(before.requests)
        load.wait_for("vllm-0")

    assert load.failures == []
    assert len(before.requests) == asked
    assert set(rows(nexus)) == {"vllm-0"}


def test_the_last_good_set_serves_while_the_api_server_refuses(simulate, start_nexus, cluster, config):
    pod = simulate(name="vllm-0", kind="vllm", models=("llama3",))
    cluster.put(pod)
    nexus = start_nexus(config)
    wait_for(lambda: healthy(nexus) == {"vllm-0"})

    cluster.api.refused.update(list=403, watch=403)
    cluster.call(cluster.api.drop_watches)
    (warning,) = nexus.wait_for_log("service_watch_failed", within_s=15)

    assert ask(nexus)[0] == "vllm-0"
    assert warning["servers"] == 1
    assert "endpointslices.discovery.k8s.io is forbidden" in warning["reason"]
