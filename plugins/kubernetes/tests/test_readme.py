"""The README is complete and agrees with the code."""

import ast
from pathlib import Path

import msgspec

from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_kubernetes import following
from nexus_kubernetes.config import KubernetesConfig, ServiceConfig

PATH = Path(__file__).parents[1] / "README.rst"
README = Readme(PATH)


class TestReadme(ReadmeContract):
    plugin = "kubernetes"
    path = PATH
    config = KubernetesConfig

    def make(self) -> None:
        return None


def test_every_key_of_a_service_is_explained_with_its_default():
    told = {key.strip("`"): default for key, _, default, _ in README.rows("Of a service")}
    defaults = {"service": "must be set", "type": '``"auto"``', "path": '``""``', "tls": "``false``"}

    assert told == {field.name: defaults.get(field.name, "not set") for field in msgspec.structs.fields(ServiceConfig)}


def test_every_log_event_is_explained():
    calls = [node for node in ast.walk(ast.parse(Path(following.__file__).read_text())) if isinstance(node, ast.Call)]
    logged = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", None) == "log"
    }

    assert README.named("Log event") == logged


def test_it_shows_how_to_require_the_plugin():
    assert README.configuration()["plugin_loading"]["required"] == ["kubernetes>=0.1"]
