"""Valid and invalid configurations."""

import msgspec
import pytest

from nexus_kubernetes.config import KubernetesConfig, ServiceConfig


def decoded(**keys):
    return msgspec.convert(keys, KubernetesConfig)


@pytest.mark.parametrize("port", ["http", "8080-tcp", 1, 65535])
def test_a_port_is_a_name_or_a_number(port):
    (service,) = decoded(services=[{"service": "vllm", "port": port}]).services

    assert service == ServiceConfig(service="vllm", port=port)


@pytest.mark.parametrize("port", ["", "8000", 0, 65536, "HTTP", "a b", True, 80.5, "http\n"])
def test_another_port_is_refused(port):
    with pytest.raises(msgspec.ValidationError, match="port"):
        decoded(services=[{"service": "vllm", "port": port}])


@pytest.mark.parametrize("key", ["service", "namespace"])
@pytest.mark.parametrize("name", ["", "Vllm", "vllm,app=x", "a.b", "-a", "a-", "a" * 64, "a\n"])
def test_a_name_that_kubernetes_would_refuse_is_refused(key, name):
    with pytest.raises(msgspec.ValidationError, match=key):
        decoded(services=[{"service": "vllm", key: name}])


def test_a_service_must_be_named_and_its_keys_known():
    with pytest.raises(msgspec.ValidationError, match="service"):
        decoded(services=[{"namespace": "llm"}])
    with pytest.raises(msgspec.ValidationError, match="ports"):
        decoded(services=[{"service": "vllm", "ports": 1}])


def test_a_service_is_listed_once():
    decoded(services=[{"service": "vllm"}, {"service": "vllm", "namespace": "test"}, {"service": "vllm", "port": 1}])

    with pytest.raises(msgspec.ValidationError, match="the service 'vllm' is listed twice"):
        decoded(services=[{"service": "vllm"}, {"service": "vllm", "path": "/v1"}])


@pytest.mark.parametrize("key", ["kubeconfig", "context"])
def test_a_cluster_without_a_service_is_a_mistake(key):
    with pytest.raises(msgspec.ValidationError, match="names a service to follow"):
        decoded(**{key: "x"})
