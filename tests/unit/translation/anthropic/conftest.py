"""What the tests of Anthropic's dialect share."""

import json
from pathlib import Path

import anthropic
import httpx2
import pytest

from nexus.translation.anthropic import DIALECT
from nexus.translation.dialect import AnswerContext
from nexus.translation.ordering import Ordering
from nexus.wire.streams.sse import SSEFraming

AGENTS = Path(__file__).parent.parent / "agents"
CONTEXT = AnswerContext(model="gpt", id="1a", created=0, prompt_tokens=7)


@pytest.fixture(scope="session")
def decoded():
    """Return the request with these members."""

    def decode(*, messages=(), **members):
        body = {"model": "m", "max_tokens": 10, "messages": messages, **members}
        return DIALECT.decode_request(json.dumps(body).encode())

    return decode


@pytest.fixture(scope="session")
def said():
    """Return the request whose only message has this content."""

    def decode(content, role="user"):
        body = {"model": "m", "max_tokens": 10, "messages": [{"role": role, "content": content}]}
        return DIALECT.decode_request(json.dumps(body).encode())

    return decode


@pytest.fixture(scope="session")
def agent():
    """Return the request that a coding agent sent, by the name of its recording."""

    def decode(name):
        recording = json.loads((AGENTS / f"{name}.json").read_text())
        return DIALECT.decode_request(json.dumps(recording["body"]).encode())

    return decode


def ordered(events):
    return Ordering("call_1a").add(events)


@pytest.fixture(scope="session")
def streamed():
    """Return the bytes of the stream that these events make."""
    return lambda *events, context=CONTEXT: DIALECT.open_encoder(context).encode(ordered(events))


@pytest.fixture(scope="session")
def written():
    """Return the message that these events make."""
    return lambda *events, context=CONTEXT: json.loads(DIALECT.encode_answer(ordered(events), context))


@pytest.fixture(scope="session")
def events_of():
    """Return the events in the bytes of a stream, each as its name and its document."""
    return lambda stream: [(e.name.decode(), json.loads(e.content)) for e in SSEFraming.events(stream)]


@pytest.fixture
def client_of():
    """Return a client library whose server answers with this body."""
    clients = []

    def make(body, content_type="text/event-stream", status=200):
        reply = httpx2.Response(status, headers={"content-type": content_type}, content=body)
        transport = httpx2.MockTransport(lambda _request: reply)
        clients.append(httpx2.Client(transport=transport))
        return anthropic.Anthropic(api_key="k", base_url="http://server", http_client=clients[-1], max_retries=0)

    yield make
    for client in clients:
        client.close()
