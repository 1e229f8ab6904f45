"""What the tests of the Responses API's dialect share."""

import json
from pathlib import Path

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from nexus.translation.dialect import AnswerContext
from nexus.translation.ordering import Ordering
from nexus.translation.responses import DIALECT
from nexus.wire.streams.sse import SSEFraming

AGENTS = Path(__file__).parent.parent / "agents"
EVENT = TypeAdapter(ResponseStreamEvent)
CONTEXT = AnswerContext(model="gpt", id="1a", created=1700000000)


@pytest.fixture(scope="session")
def decoded():
    """Return the request with these members."""

    def decode(**members):
        return DIALECT.decode_request(json.dumps({"model": "m", **members}).encode())

    return decode


@pytest.fixture(scope="session")
def agent(decoded):
    """Return the request that a coding agent sent, by the name of its recording."""
    return lambda name: decoded(**json.loads((AGENTS / f"{name}.json").read_text())["body"])


@pytest.fixture(scope="session")
def context_of(decoded):
    """Return the context of an answer to the request with these members."""

    def make(**members):
        return AnswerContext(model="gpt", id="1a", created=1700000000, request=decoded(**members))

    return make


@pytest.fixture(scope="session")
def streamed():
    """Return the bytes of the stream that these events make."""
    return lambda *events, context=CONTEXT: DIALECT.open_encoder(context).encode(Ordering("call_1a").add(events))


@pytest.fixture(scope="session")
def written():
    """Return the response that these events make, as the client library reads it."""

    def write(*events, context=CONTEXT):
        body = DIALECT.encode_answer(Ordering("call_1a").add(events), context)
        return Response.model_validate_json(body)

    return write


@pytest.fixture(scope="session")
def events_of():
    """Return the events in the bytes of a stream, each of which must be as the client library declares it."""

    def read(stream):
        events = []
        for event in SSEFraming.events(stream):
            document = json.loads(event.content)
            assert event.name.decode() == document["type"]
            EVENT.validate_python(document)
            events.append(document)
        return events

    return read


@pytest.fixture(scope="session")
def client_of():
    """Return a client library whose server answers with this body."""
    clients = []

    def make(body, content_type="text/event-stream", status=200):
        reply = httpx2.Response(status, headers={"content-type": content_type}, content=body)
        transport = httpx2.MockTransport(lambda _request: reply)
        clients.append(httpx2.Client(transport=transport))
        return openai.OpenAI(api_key="k", base_url="http://server", http_client=clients[-1], max_retries=0)

    yield make
    for client in clients:
        client.close()
