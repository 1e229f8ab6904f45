"""Where the API server is: a pod's own credentials first, then a kubeconfig."""

import ssl

import pytest

from nexus_kubernetes import cluster
from nexus_kubernetes.config import KubernetesConfig, ServiceConfig

SERVICES = (ServiceConfig(service="vllm"),)


@pytest.fixture
def inside(monkeypatch, tmp_path):
    """Be in a pod."""
    for name, text in {"token": "pod-token", "ca.crt": "certificate", "namespace": "llm\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = pytest.importorskip("kubernetes_asyncio.config")
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent/config")


async def configure(config):
    client = pytest.importorskip("kubernetes_asyncio.client")
    library = pytest.importorskip("kubernetes_asyncio.config")
    settings = client.Configuration()
    namespace = await cluster._configure(settings, config, library)
    return settings, namespace


async def test_in_a_pod_its_own_credentials_count(inside):
    settings, namespace = await configure(KubernetesConfig(services=SERVICES))

    assert (settings.host, namespace) == ("https://10.96.0.1:443", "llm")
    assert settings.api_key["BearerToken"] == "Bearer pod-token"
    assert settings.ssl_ca_cert == str(inside / "ca.crt")


async def test_a_pod_reaches_the_api_server_by_its_certificate_and_its_token_of_now(
    inside, monkeypatch, fake_api, aiohttp_server
):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(inside / "ca.crt")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    api = fake_api.FakeApi()
    server = await aiohttp_server(api.app, ssl=context)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))

    for token in ("first", "second"):
        (inside / "token").write_text(token)
        async with cluster.connected(KubernetesConfig(services=SERVICES)) as connection:
            await connection.list_slices("vllm", connection.namespace)

    assert api.tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(("context", "namespace"), [(None, "default"), ("other", "other")])
async def test_a_kubeconfig_that_is_named_counts_in_a_pod_too(inside, fake_api, context, namespace):
    path = inside / "kubeconfig"
    path.write_text(fake_api.kubeconfig("http://127.0.0.1:1"))

    settings, found = await configure(KubernetesConfig(services=SERVICES, kubeconfig=str(path), context=context))

    assert (settings.host, found) == ("http://127.0.0.1:1", namespace)


async def test_without_credentials_both_failures_are_named(outside, tmp_path):
    with pytest.raises(cluster.ApiFailure, match=r"neither a pod's credentials \(.+\) nor a kubeconfig \(.+\)"):
        await configure(KubernetesConfig(services=SERVICES))


async def test_errors_of_the_library_are_not_logged_twice(outside, caplog):
    with pytest.raises(cluster.ApiFailure):
        async with cluster.connected(KubernetesConfig(services=SERVICES)):
            pass

    assert caplog.records == []


async def test_a_context_that_is_not_there_is_named(outside, fake_api, tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(fake_api.kubeconfig("http://127.0.0.1:1"))

    with pytest.raises(Exception, match="production"):
        await configure(KubernetesConfig(services=SERVICES, kubeconfig=str(path), context="production"))
