"""The hooks of the plugin."""

import subprocess
import sys
from pathlib import Path

import nexus_kubernetes
from nexus.testing.imports import assert_only_uses_api
from nexus_kubernetes import plugin
from nexus_kubernetes.config import KubernetesConfig, ServiceConfig


def test_it_has_a_table():
    assert plugin.nexus_config() is KubernetesConfig


def test_without_a_service_it_gives_nothing():
    assert plugin.nexus_discoverers(KubernetesConfig()) == []


def test_with_a_service_it_gives_a_certain_discoverer():
    (finder,) = plugin.nexus_discoverers(KubernetesConfig(services=(ServiceConfig(service="vllm"),)))

    assert (finder.name, finder.is_certain, finder.needs_approval) == ("kubernetes", True, False)


def test_the_library_is_imported_only_when_a_service_is_followed():
    program = """
import sys
from nexus_kubernetes import plugin
from nexus_kubernetes.config import KubernetesConfig, ServiceConfig
plugin.nexus_discoverers(KubernetesConfig(services=(ServiceConfig(service="vllm"),)))
print([name for name in sys.modules if name.startswith("kubernetes")])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(Path(__file__).parents[1])


def test_it_says_its_version():
    assert nexus_kubernetes.__version__ == "0.1.0"
