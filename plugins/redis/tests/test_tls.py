"""A server with TLS is checked against the certificates that the operator names."""

import pytest
import redis
import trustme

from nexus.api import StoreError
from nexus.testing.ports import free_port
from nexus_redis.config import RedisConfig
from nexus_redis.store import RedisStore


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def port(authority, own_server, tmp_path):
    """The port of a server with a certificate for localhost."""
    certificate, port = authority.issue_cert("localhost"), free_port()
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca")}
    certificate.private_key_pem.write_to_path(paths["key"])
    for at, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(paths["cert"], append=at > 0)
    authority.cert_pem.write_to_path(paths["ca"])
    files = [f"--tls-{option}-file" for option in ("cert", "key", "ca-cert")]
    try:
        own_server(
            "--tls-port",
            str(port),
            "--tls-auth-clients",
            "no",
            *(word for pair in zip(files, paths.values(), strict=True) for word in pair),
        )
    except redis.exceptions.ConnectionError:
        pytest.skip("this server was built without TLS")
    return port


async def test_a_server_with_a_certificate_of_that_authority_is_used(port, tmp_path):
    store = RedisStore(
        RedisConfig(url=f"rediss://localhost:{port}", ca_file=str(tmp_path / "ca.pem"), timeout_seconds=5)
    )
    await store.open()

    assert await store.add("n", 1) == 1
    await store.close()


async def test_a_server_with_another_certificate_is_refused(port):
    store = RedisStore(RedisConfig(url=f"rediss://localhost:{port}"))

    with pytest.raises(StoreError, match="certificate"):
        await store.open()


async def test_a_certificate_for_another_name_is_refused(port, tmp_path):
    store = RedisStore(RedisConfig(url=f"rediss://127.0.0.1:{port}", ca_file=str(tmp_path / "ca.pem")))

    with pytest.raises(StoreError, match="certificate"):
        await store.open()
