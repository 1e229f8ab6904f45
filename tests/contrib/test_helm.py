"""The chart for Helm, rendered by Helm itself: objects that Kubernetes accepts, and that fit Nexus and its image."""

import base64
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from nexus.config.loading import load

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
schemas = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
CHART = ROOT / "contrib/helm/nexus-proxy"
EVERYTHING = {
    "image": {"repository": "registry.example/nexus-proxy", "tag": "own"},
    "imagePullSecrets": [{"name": "registry"}],
    "apiKey": {"existingSecret": "keys", "entry": "clients"},
    "env": [{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "clouds", "key": "openai"}}}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
    "autoscaling": {"enabled": True, "maxReplicas": 5, "requestsInFlight": 40},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "serviceAccount": {"annotations": {"a": "b"}, "readEndpointSlices": True},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "llm"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
}


class Rendered:
    """The objects of the chart with *values*, by kind, and what Helm says after an installation."""

    def __init__(self, values):
        with helm.Chart.load(str(CHART)) as chart:
            files = chart.render(values, name="demo", namespace="llm")
        self.notes = files.pop("nexus-proxy/templates/NOTES.txt")
        self.objects = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
        self.by_kind = {each["kind"]: each for each in self.objects}
        assert len(self.by_kind) == len(self.objects)
        self.pod = self.by_kind["Deployment"]["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.config = self.by_kind["ConfigMap"]["data"]["nexus.toml"]


@pytest.fixture(scope="module")
def usual():
    return Rendered({})


@pytest.fixture(scope="module")
def full():
    return Rendered(EVERYTHING)


def test_helm_finds_no_fault_with_the_chart():
    found = helm.lint(str(CHART))

    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.25", schemas.latest_version()])
@pytest.mark.parametrize("which", ["usual", "full"])
def test_kubernetes_accepts_every_object(request, which, version):
    for each in request.getfixturevalue(which).objects:
        # The operator of Prometheus defines this kind.
        if each["kind"] != "ServiceMonitor":
            schemas.validate(each, version, strict=True)


def test_what_is_optional_is_left_out_unless_it_is_asked_for(usual, full):
    optional = {"HorizontalPodAutoscaler", "ServiceMonitor", "Role", "RoleBinding"}

    assert set(full.by_kind) - set(usual.by_kind) == optional
    assert set(usual.by_kind) - set(full.by_kind) == {"Secret"}
    assert usual.by_kind["ServiceAccount"]["automountServiceAccountToken"] is False
    assert usual.by_kind["Deployment"]["spec"]["replicas"] == 2
    assert "replicas" not in full.by_kind["Deployment"]["spec"]


@pytest.mark.parametrize("which", ["usual", "full"])
def test_its_objects_refer_to_each_other(request, which):
    chart = request.getfixturevalue(which)
    deployment, kinds = chart.by_kind["Deployment"], chart.by_kind
    selector = deployment["spec"]["selector"]["matchLabels"]
    (port,) = chart.container["ports"]
    (served,) = kinds["Service"]["spec"]["ports"]
    (volume,) = chart.pod["volumes"]

    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert kinds["Service"]["spec"]["selector"] == selector
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    assert served["targetPort"] == port["name"] == chart.container["livenessProbe"]["tcpSocket"]["port"]
    assert volume["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
    assert chart.pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert {each["metadata"]["namespace"] for each in chart.objects} == {"llm"}


def test_the_autoscaler_and_the_monitor_read_what_nexus_serves(full):
    scaler, monitor = full.by_kind["HorizontalPodAutoscaler"]["spec"], full.by_kind["ServiceMonitor"]["spec"]
    (metric,) = scaler["metrics"]
    (endpoint,) = monitor["endpoints"]

    assert metric["pods"]["target"]["averageValue"] == "40"
    assert f"``{metric['pods']['metric']['name']}``" in (ROOT / "docs/reference/metrics.rst").read_text()
    assert scaler["scaleTargetRef"]["name"] == full.by_kind["Deployment"]["metadata"]["name"]
    assert (endpoint["port"], endpoint["path"]) == (full.by_kind["Service"]["spec"]["ports"][0]["name"], "/metrics")
    assert endpoint["authorization"]["credentials"] == {"name": "keys", "key": "clients"}


def test_its_configuration_is_one_and_is_given_its_key(usual, tmp_path):
    (tmp_path / "nexus.toml").write_text(usual.config)
    variable = usual.container["env"][0]
    secret = usual.by_kind["Secret"]

    loaded = load(tmp_path / "nexus.toml", environ={variable["name"]: "key"}, overrides={})

    reference = variable["valueFrom"]["secretKeyRef"]
    assert loaded.config.server.port == usual.container["ports"][0]["containerPort"]
    assert reference["name"] == secret["metadata"]["name"]
    assert len(base64.b64decode(secret["data"][reference["key"]])) == 48


def test_a_change_of_the_configuration_restarts_the_pods(usual):
    changed = Rendered({"config": usual.config + "# more\n"})

    checksums = {
        each.by_kind["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for each in (usual, changed)
    }

    assert len(checksums) == 2


def test_a_pod_may_finish_what_it_has(usual):
    server = tomllib.loads(usual.config)["server"]
    (_, _, program) = usual.container["lifecycle"]["preStop"]["exec"]["command"]
    waits = int(re.fullmatch(r"import time; time\.sleep\((\d+)\)", program)[1])

    # 5 is what lame_duck_seconds is where the address is no loopback.
    assert usual.pod["terminationGracePeriodSeconds"] > waits + 5 + server["drain_timeout_seconds"]
    assert "lifecycle" not in Rendered({"preStopSeconds": 0}).container


def test_user_and_probe_are_those_of_the_image_and_the_manifest(usual):
    (deployment,) = [
        each
        for each in yaml.safe_load_all((ROOT / "contrib/kubernetes/nexus-proxy.yaml").read_text())
        if each["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]

    assert usual.pod["securityContext"] == pod["securityContext"]
    assert usual.container["securityContext"] == pod["containers"][0]["securityContext"]
    # A test runs this program against a started Nexus.
    assert usual.container["readinessProbe"] == pod["containers"][0]["readinessProbe"]


@pytest.mark.parametrize(
    ("values", "is_warned"),
    [
        ({}, True),
        ({"replicas": 1}, False),
        ({"replicas": 1, "autoscaling": {"enabled": True}}, True),
        ({"config": '[store]\nkind = "redis"\n'}, False),
    ],
)
def test_several_replicas_without_a_shared_store_are_warned_of(values, is_warned):
    assert ("WARNING" in Rendered(values).notes) is is_warned


@pytest.mark.parametrize("values", [{"replica": 3}, {"replicas": 0}, {"image": {"pullPolicy": "Sometimes"}}])
def test_a_wrong_value_is_refused(values):
    with pytest.raises(helm.HelmValuesError):
        Rendered(values)


def test_the_versions_of_chart_and_nexus_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    nexus = re.search(r'^__version__ = "(.*)"$', (ROOT / "nexus/__init__.py").read_text(), re.MULTILINE)

    assert chart["appVersion"] == nexus[1]
