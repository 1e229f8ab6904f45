"""The manifest for Kubernetes fits the plugin, the image and the pages about them."""

import re
import subprocess
import sys
import tomllib
from textwrap import dedent

import msgspec
import pytest
import yaml

from nexus.config.loading import load
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.process import run_nexus

KEY = "the-key-of-the-page"
KEYS = '[server]\napi_keys = ["env:NEXUS_API_KEY"]\n'


@pytest.fixture(scope="module")
def manifest(root):
    """Give each object of the manifest by its kind, of which there is one each."""
    objects = list(yaml.safe_load_all((root / "contrib/kubernetes/nexus-proxy.yaml").read_text()))
    by_kind = {each["kind"]: each for each in objects}
    assert len(by_kind) == len(objects)
    return by_kind


@pytest.fixture
def page(root):
    return (root / "docs/howto/find-servers.rst").read_text()


@pytest.fixture
def pod(manifest):
    return manifest["Deployment"]["spec"]["template"]["spec"]


def test_everything_is_in_the_namespace_of_the_page(manifest, page):
    assert {each["metadata"]["namespace"] for each in manifest.values()} == {"llm"}
    assert {each["metadata"]["name"] for each in manifest.values()} == {"nexus-proxy"}
    assert "kubectl create namespace llm" in page


def test_the_readme_shows_the_same_rights(manifest, root):
    readme = (root / "plugins/kubernetes/README.rst").read_text()
    (shown,) = re.findall(r"^\.\. code-block:: yaml\n\n((?: {4}.*\n|\n)+)", readme, re.MULTILINE)

    assert list(yaml.safe_load_all(dedent(shown))) == [manifest["Role"], manifest["RoleBinding"]]


def test_the_rights_are_those_that_it_needs_and_belong_to_its_account(manifest, pod):
    account = manifest["ServiceAccount"]["metadata"]
    (subject,) = manifest["RoleBinding"]["subjects"]

    assert manifest["Role"]["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]
    assert manifest["RoleBinding"]["roleRef"]["name"] == manifest["Role"]["metadata"]["name"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert pod["serviceAccountName"] == account["name"]


def test_its_configuration_is_one_and_follows_the_service_of_the_page(manifest, page, tmp_path):
    text = manifest["ConfigMap"]["data"]["nexus.toml"]
    (tmp_path / "nexus.toml").write_text(text)
    (shown,) = [
        tomllib.loads(dedent(block))
        for block in re.findall(r"^\.\. code-block:: toml\n\n((?: {3}.*\n|\n)+)", page, re.MULTILINE)
        if "plugins.kubernetes" in block
    ]

    loaded = load(tmp_path / "nexus.toml", environ={"NEXUS_API_KEY": KEY}, overrides={})

    assert loaded.config.plugins == shown["plugins"]


def test_the_plugin_takes_its_table(manifest):
    plugin = pytest.importorskip("nexus_kubernetes.plugin")
    table = tomllib.loads(manifest["ConfigMap"]["data"]["nexus.toml"])["plugins"]["kubernetes"]

    (finder,) = plugin.nexus_discoverers(msgspec.convert(table, plugin.nexus_config()))
    assert finder.name == "kubernetes"


def test_it_may_finish_what_it_has(manifest, pod):
    server = tomllib.loads(manifest["ConfigMap"]["data"]["nexus.toml"])["server"]

    # 5 is what lame_duck_seconds is where the address is no loopback.
    assert pod["terminationGracePeriodSeconds"] > server["drain_timeout_seconds"] + 5


def test_ports_names_and_user_fit_each_other_and_the_image(manifest, pod, root):
    (container,) = pod["containers"]
    server = tomllib.loads(manifest["ConfigMap"]["data"]["nexus.toml"])["server"]
    image = (root / "contrib/docker/Dockerfile").read_text()
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    (port,) = container["ports"]
    (served,) = manifest["Service"]["spec"]["ports"]

    assert port["containerPort"] == served["port"] == server["port"]
    assert served["targetPort"] == container["livenessProbe"]["tcpSocket"]["port"] == port["name"]
    assert manifest["Service"]["spec"]["selector"] == manifest["Deployment"]["spec"]["selector"]["matchLabels"]
    assert manifest["Deployment"]["spec"]["template"]["metadata"]["labels"] == manifest["Service"]["spec"]["selector"]
    assert (volume["name"], volume["configMap"]["name"]) == (mount["name"], manifest["ConfigMap"]["metadata"]["name"])
    assert container["args"] == ["--config", f"{mount['mountPath']}/nexus.toml"]
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in image
    assert container["readinessProbe"]["exec"]["command"][0] in image


def test_image_and_secret_are_made_as_the_page_says(pod, page, root):
    (container,) = pod["containers"]
    (variable,) = container["env"]
    secret = variable["valueFrom"]["secretKeyRef"]
    dockerfile = (root / "contrib/kubernetes/Dockerfile").read_text()

    assert f"docker build -f contrib/kubernetes/Dockerfile -t {container['image']} plugins/kubernetes" in page
    assert f"docker build -f contrib/kubernetes/Dockerfile -t {container['image']} plugins/kubernetes" in dockerfile
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in page
    assert dockerfile.rstrip().endswith("USER 10001:10001")


def test_its_question_whether_it_is_ready_is_answered(pod, tmp_path):
    (container,) = pod["containers"]
    _, flag, program = container["readinessProbe"]["exec"]["command"]
    gpu = Simulator(Settings(name="gpu", kind="vllm", models=("llama3",)))

    with in_thread(gpu), run_nexus(tmp_path, KEYS + table_of(gpu), environ={"NEXUS_API_KEY": KEY}) as nexus:
        asks = program.replace("8000", str(nexus.port))
        codes = [
            subprocess.run([sys.executable, flag, asks], env={"NEXUS_API_KEY": key}, check=False).returncode
            for key in (KEY, "wrong")
        ]

    assert codes == [0, 1]
