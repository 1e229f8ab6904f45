"""The ``[plugins.kubernetes]`` table: the services to follow."""

from typing import Annotated

import msgspec
from msgspec import Meta

from nexus.api import PluginConfig

Label = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
"""The name of a service or a namespace (RFC 1123)."""
PortName = Annotated[str, Meta(pattern=r"^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Service whose pods are backends."""

    service: Label
    """The Service's name, as in the label ``kubernetes.io/service-name`` of its EndpointSlices."""
    namespace: Label | None = None
    """Unset: the namespace of the pod in which Nexus runs; outside a cluster, that of the kubeconfig's context."""
    port: PortNumber | PortName | None = None
    """The name of the Service's port, or the port number of the pods; unset: the only port."""
    type: str = "auto"
    """The kind of the servers; ``auto`` detects it."""
    path: str = ""
    """The base path of their API."""
    tls: bool = False
    """Whether they speak HTTPS."""


class KubernetesConfig(PluginConfig):
    """The ``[plugins.kubernetes]`` table."""

    services: tuple[ServiceConfig, ...] = ()
    """The services that are followed; none: the plugin does nothing."""
    kubeconfig: str | None = None
    """A file with the address of the API server; unset: the credentials of the pod, else ``$KUBECONFIG`` or
    ``~/.kube/config``."""
    context: str | None = None
    """The context of the kubeconfig; unset: its current one."""

    def __post_init__(self) -> None:
        places = [(entry.namespace, entry.service, entry.port) for entry in self.services]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"the service '{place[1]}' is listed twice with one namespace and port")
        if not self.services and (self.kubeconfig or self.context):
            raise ValueError("no [[plugins.kubernetes.services]] names a service to follow")
