"""The connection to the API server of a cluster: its credentials and its requests."""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from nexus_kubernetes.config import KubernetesConfig
from nexus_kubernetes.slices import ApiFailure, Lines, refusal

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has its credentials: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""
WATCH_S: Final = 300
"""The API server ends a watch after this time, and a new one continues from there."""
CONNECT_S: Final = 5
LIST_S: Final = 30
SILENCE_S: Final = 330
"""A watch that is silent for this long is closed: it should have ended before."""


class Cluster:
    """One connection to the API server."""

    def __init__(self, client: Any, api: Any, namespace: str) -> None:
        self._client = client
        self._api = api
        self.namespace = namespace
        """The namespace of services that do not configure one."""

    async def list_slices(self, service: str, namespace: str) -> bytes:
        """Return the list of all slices of *service*. :raises ApiFailure: the request is refused."""
        answer = await self._ask(service, namespace, _request_timeout=(CONNECT_S, LIST_S))
        async with answer:
            return bytes(await answer.read())

    async def watch_slices(self, service: str, namespace: str, version: str) -> AsyncGenerator[bytes, None]:
        """Yield the events since *version* until the API server ends the watch.

        :raises ApiFailure: the request is refused.
        """
        answer = await self._ask(
            service,
            namespace,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=WATCH_S,
            _request_timeout=(CONNECT_S, SILENCE_S),
        )
        lines = Lines()
        async with answer:
            async for chunk in answer.content.iter_any():
                for line in lines.feed(chunk):
                    yield line

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, service: str, namespace: str, **arguments: Any) -> Any:
        # The library's models reject a slice with null endpoints, which a Service without pods has.
        answer = await self._api.list_namespaced_endpoint_slice(
            namespace, label_selector=f"kubernetes.io/service-name={service}", _preload_content=False, **arguments
        )
        if answer.status != HTTPStatus.OK:
            async with answer:
                raise ApiFailure(refusal(await answer.read(), answer.status))
        return answer


@asynccontextmanager
async def connected(config: KubernetesConfig) -> AsyncIterator[Cluster]:
    """Open a connection with the current credentials.

    :raises Exception: raised by the library if it finds none.
    """
    # The import takes half a second, which would block the event loop.
    client_library = await asyncio.to_thread(importlib.import_module, "kubernetes_asyncio.client")
    config_library = await asyncio.to_thread(importlib.import_module, "kubernetes_asyncio.config")
    # The library logs every error that it raises.
    logging.getLogger("kubernetes_asyncio.config").setLevel(logging.CRITICAL)
    settings = client_library.Configuration()
    namespace = await _configure(settings, config, config_library)
    client = client_library.ApiClient(configuration=settings)
    cluster = Cluster(client, client_library.DiscoveryV1Api(client), namespace)
    try:
        yield cluster
    finally:
        await cluster.close()


async def _configure(settings: Any, config: KubernetesConfig, library: Any) -> str:
    """Fill *settings* and return the default namespace."""
    not_inside = None
    if not config.kubeconfig and not config.context:
        try:
            library.load_incluster_config(
                client_configuration=settings,
                token_filename=str(SERVICE_ACCOUNT / "token"),
                cert_filename=str(SERVICE_ACCOUNT / "ca.crt"),
            )
            return (SERVICE_ACCOUNT / "namespace").read_text().strip()
        except library.ConfigException as exc:
            not_inside = exc
    try:
        loader = await library.load_kube_config(
            config_file=config.kubeconfig, context=config.context, client_configuration=settings
        )
    except library.ConfigException as exc:
        if not_inside is None:
            raise
        raise ApiFailure(f"neither a pod's credentials ({not_inside}) nor a kubeconfig ({exc}) can be used") from exc
    namespace = loader.current_context["context"].get("namespace")
    return str(namespace or "default")
