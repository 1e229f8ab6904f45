"""Scanned streams, and client libraries with a fake transport."""

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS


@pytest.fixture
def opened():
    """Return a function that scans blocks of a stream at a path."""

    def open_stream(path, *blocks):
        endpoint = ENDPOINTS[path]
        scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
        for block in blocks:
            scan.feed(block)
        return scan

    return open_stream


def answering(library, status, body, content_type):
    headers = {"content-type": content_type}
    return library.MockTransport(lambda _: library.Response(status, headers=headers, content=body))


@pytest.fixture
def openai_client():
    """OpenAI's library with a fixed response to every request."""
    clients = []

    def make(body, *, status=200, content_type="text/event-stream"):
        http = httpx2.Client(transport=answering(httpx2, status, body, content_type))
        clients.append(openai.OpenAI(api_key="k", base_url="http://nexus/v1", http_client=http, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def anthropic_client():
    """Anthropic's library with a fixed response to every request."""
    clients = []

    def make(body, *, status=200, content_type="text/event-stream"):
        http = httpx2.Client(transport=answering(httpx2, status, body, content_type))
        clients.append(anthropic.Anthropic(api_key="k", base_url="http://nexus", http_client=http, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def ollama_client():
    """Ollama's library with a fixed response to every request."""

    def make(body, *, status=200, content_type="application/x-ndjson"):
        return ollama.Client(host="http://nexus", transport=answering(httpx, status, body, content_type))

    return make
