"""A backend that is the proxy itself is found by its address."""

import pytest

from nexus.app.composition.own_address import is_own_address, own_address_warnings
from nexus.config.schema import BackendConfig, Config, ServerConfig
from nexus.fleet.discovery.mdns.announcer import own_addresses


def warned(host: str, url: str, port: int = 8000, **keys) -> bool:
    backend = BackendConfig(name="gpu-1", url=url, **keys)
    return bool([*own_address_warnings(Config(server=ServerConfig(host=host), backends=(backend,)), port)])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("127.0.0.1", "http://localhost:8000/base"),
        ("localhost", "http://[::1]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://localhost:8000"),
        ("llm.lan", "http://llm.lan:8000"),
    ],
)
def test_a_backend_at_the_proxys_own_address_is_a_warning(host, url):
    assert warned(host, url)


@pytest.mark.parametrize(
    ("host", "url", "keys"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001", {}),
        ("127.0.0.1", "https://127.0.0.1:8000", {}),
        ("127.0.0.1", "http://10.0.0.1:8000", {}),
        ("10.0.0.2", "http://127.0.0.1:8000", {}),
        ("127.0.0.1", "http://127.0.0.1:8000", {"https_proxy": "http://elsewhere:3128"}),
    ],
)
def test_another_address_is_another_server(host, url, keys):
    assert not warned(host, url, **keys)


def test_every_address_of_the_machine_leads_to_a_proxy_that_listens_on_all():
    (own, *_) = own_addresses() or ["127.0.0.1"]

    assert is_own_address(f"http://{own}:8000", "0.0.0.0", 8000)
    assert not is_own_address("http://203.0.113.9:8000", "0.0.0.0", 8000)
    assert not is_own_address("http://203.0.113.7:8000", "127.0.0.1", 8000)
