"""What the URL of a backend tells of where it is."""

import asyncio

import pytest

from nexus.dialing.metadata import is_metadata
from nexus.fleet.membership.locations import is_public, leads_to_metadata


@pytest.mark.parametrize(
    "url",
    ["https://llm.example.com", "https://openrouter.ai/api", "http://8.8.8.8:8000", "https://[2606:4700::1]",
     "https://api.openai.com.", "https://local.example.org"],
)  # fmt: skip
def test_some_addresses_can_be_in_the_internet(url):
    assert is_public(url)


@pytest.mark.parametrize(
    "url",
    ["http://gpu-1:8000", "http://localhost", "http://127.0.0.1:11434", "http://192.168.1.7", "http://10.0.0.1",
     "http://100.64.0.9", "http://[::1]:8000", "http://[fd00::1]", "http://gpu.lan", "http://gpu.local.",
     "http://vllm.models.svc", "http://vllm.models.svc.cluster.local", "http://gpu.home.arpa"],
)  # fmt: skip
def test_others_are_private(url):
    assert not is_public(url)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::a9fe:a9fe",
        "2002:a9fe:a9fe::",
    ],
)
def test_every_form_of_a_link_local_address_is_recognised(address):
    assert is_metadata(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9", "::1", "fe80::1", "100.100.100.201", "64:ff9b::808:808"])
def test_other_addresses_are_not(address):
    assert not is_metadata(address)


@pytest.mark.parametrize(
    ("host", "leads"),
    [
        ("2852039166", True),
        ("127.0.0.1", False),
        ("[fe80::a9fe:a9fe]", True),
        ("169.254.169.254.", True),
        ("0251.0376.43518", True),
    ],
)
async def test_a_name_is_looked_up(host, leads):
    assert await leads_to_metadata(f"http://{host}:80/v1") is leads


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:a9fe:a9fe", "100.100.100.200"])
async def test_a_name_that_resolves_to_one_leads_there_whatever_else_it_resolves_to(monkeypatch, address):
    async def resolve(*_):
        return [(None, None, None, "", (found, 0)) for found in ("10.0.0.9", address)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)

    assert await leads_to_metadata("http://gpu.example:8000")


async def test_a_name_that_does_not_resolve_is_no_reason_to_refuse():
    assert not await leads_to_metadata("http://nothing.invalid")
