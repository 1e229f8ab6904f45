"""Discovery of servers on this machine."""

from contextlib import aclosing

import pytest

from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.ports.local import LocalDiscoverer
from nexus.fleet.discovery.ports.open_port import LOOKS_PER_DETECTION
from nexus.fleet.fetching import Fetcher


@pytest.fixture
async def look_around():
    """Look as often as the test wants, at these ports with their usual kinds."""
    async with Fetcher(timeout_s=1.0) as fetcher:

        async def look_around(ports, times=1, own_port=None):
            discoverer = LocalDiscoverer(fetcher, interval_s=0.001, own_port=own_port, usual_ports=ports)
            looks = []
            async with aclosing(discoverer.watch()) as watching:
                async for seen in watching:
                    looks.append(seen)
                    if len(looks) == times:
                        return looks
            return looks

        yield look_around


async def test_a_server_at_its_usual_port_is_called_by_its_kind(serve, look_around):
    server = await serve("ollama", "llama3")

    (seen,) = await look_around({server.port: "ollama"})

    assert seen == (Discovered("ollama", server.url, "ollama"),)


async def test_a_server_at_the_port_of_others_has_it_in_its_name(serve, look_around):
    server = await serve("llamacpp", "tiny")

    (seen,) = await look_around({server.port: "vllm"})

    assert [found.name for found in seen] == [f"llamacpp-{server.port}"]


async def test_another_nexus_is_left_alone(serve, look_around):
    server = await serve("ollama", "llama3", headers={"X-Nexus-Version": "0.5.0"})

    assert await look_around({server.port: "vllm"}) == [()]


async def test_its_own_port_is_not_scanned(serve, look_around):
    server = await serve("ollama", "llama3")

    assert await look_around({server.port: "vllm"}, own_port=server.port) == [()]
    assert server.asked == []


async def test_a_web_page_is_no_language_model(serve, look_around):
    page = b"<!doctype html><title>hello</title>"
    paths = ("/api/version", "/props", "/v1/models", "/model_info", "/api/v1/models", "/api/v0/models", "/node_id")
    server = await serve(answers=dict.fromkeys(paths, page))

    assert await look_around({server.port: "llamacpp"}) == [()]


async def test_the_kind_of_a_listener_is_detected_only_once_in_a_while(serve, look_around):
    server = await serve("ollama", "llama3")

    looks = await look_around({server.port: "ollama"}, times=LOOKS_PER_DETECTION + 1)

    assert all(len(seen) == 1 for seen in looks)
    assert server.asked == ["GET /api/version"] * 2


async def test_a_closed_port_is_no_server(look_around, free_port):
    assert await look_around({free_port: "ollama"}) == [()]
