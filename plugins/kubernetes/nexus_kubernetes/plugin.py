"""The hooks of the kubernetes plugin."""

from nexus.api import Discoverer, PluginConfig, hookimpl
from nexus_kubernetes.config import KubernetesConfig
from nexus_kubernetes.discoverer import KubernetesDiscoverer


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return KubernetesConfig


@hookimpl
def nexus_discoverers(config: KubernetesConfig) -> list[Discoverer]:
    return [KubernetesDiscoverer(config)] if config.services else []
