"""/v1/route/explain validates and routes a request as usual, without sending it."""

import msgspec
import pytest

from nexus.admin.routing.explain import Explainer
from nexus.config.schema import QueueConfig, RoutingConfig
from nexus.domain.routes import PageRequest
from nexus.errors import RequestError
from nexus.proxy.client.access import AccessRules
from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.fair_queue import Waiter
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.routing.assembly import build_router
from nexus.testing.builders import make_backend, make_fleet

JSON = b"application/json"
BODY = b'{"model": "llama3", "messages": [{"role": "user", "content": "a secret"}], "max_tokens": 9}'


@pytest.fixture
def explain():
    async def run(body=BODY, *, fleet=None, queue=None, waiting=0, **asked):
        fleet, queue = fleet or make_fleet(make_backend()), queue or QueueConfig()
        line = RequestQueue(max_size=100 if queue.max_size is None else queue.max_size, max_wait_s=None)
        for number in range(waiting):
            line.line.push(Waiter(Claim(client=str(number)), 0.0), frozenset({"gpu-1"}))
        rules = AccessRules(accepts_key=None, hosts=None, origins=frozenset())
        explainer = Explainer(build_router(RoutingConfig()), lambda: fleet, queue, rules, line)
        request = PageRequest(method="POST", path="/v1/route/explain", body=body, **{"content_type": JSON, **asked})
        return msgspec.json.decode((await explainer.respond(request)).body)

    return run


async def test_the_explanation_shows_what_routing_knows_of_the_request(explain):
    told = await explain(request_id="r-7", hints={"x-nexus-strict": "true"})

    assert (told["id"], told["source"], told["outcome"]) == ("r-7", "proxy", None)
    assert told["request"]["max_tokens"] == 9
    assert told["request"]["hints"] == {"x-nexus-strict": "true"}
    assert told["decision"]["backend"] == "gpu-1"
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("query", "is_anthropic", "endpoint"),
    [
        ("", False, "openai.chat"),
        ("", True, "anthropic.messages"),
        ("endpoint=/api/chat", False, "ollama.chat"),
        ("endpoint=openai.embeddings", False, "openai.embeddings"),
    ],
)
async def test_the_query_or_the_protocol_chooses_the_endpoint(explain, query, is_anthropic, endpoint):
    told = await explain(query=query, is_anthropic=is_anthropic)

    assert told["request"]["endpoint"] == endpoint


async def test_a_form_can_be_explained_too(explain):
    body = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n'

    told = await explain(
        body, query="endpoint=/v1/audio/transcriptions", content_type=b"multipart/form-data; boundary=x"
    )

    assert told["request"]["model"] == "whisper"


@pytest.mark.parametrize(
    ("body", "asked", "code"),
    [
        (b"{", {}, "invalid_json"),
        (b'{"model": 5}', {}, "invalid_value"),
        (BODY, {"content_type": b"text/plain"}, "unsupported_media_type"),
        (BODY, {"query": "endpoint=/api/nothing"}, "invalid_value"),
        (BODY, {"query": "endpoint=/api/chat", "content_type": b"", "origin": b"http://x"}, "unsupported_media_type"),
    ],
)
async def test_an_invalid_request_gets_the_error_it_would_get(explain, body, asked, code):
    with pytest.raises(RequestError) as refused:
        await explain(body, **asked)

    assert refused.value.code == code


async def test_ollamas_clients_need_no_content_type(explain):
    told = await explain(query="endpoint=/api/chat", content_type=b"application/x-www-form-urlencoded")

    assert told["request"]["is_stream"] is True


@pytest.mark.parametrize(
    ("queue", "waiting", "decision", "code"),
    [
        (QueueConfig(), 0, "queue", None),
        (QueueConfig(max_size=3), 3, "reject", "queue_full"),
        (QueueConfig(enabled=False), 0, "reject", "overloaded"),
    ],
)
async def test_the_explanation_knows_whether_a_request_may_wait(explain, queue, waiting, decision, code):
    told = await explain(fleet=make_fleet(make_backend(max_in_flight=0)), queue=queue, waiting=waiting)

    assert (told["decision"]["decision"], told["decision"]["code"]) == (decision, code)
    assert told["decision"]["full"] == ["gpu-1"]


async def test_the_explanation_says_how_long_a_request_would_wait(explain):
    hints = {"x-nexus-priority": "high", "x-nexus-queue-timeout": "9"}

    told = await explain(fleet=make_fleet(make_backend(max_in_flight=0)), waiting=2, hints=hints)
    normal = await explain(fleet=make_fleet(make_backend(max_in_flight=0)), waiting=2)
    routed = await explain()

    assert told["decision"]["wait"] == {
        "priority": "high",
        "position": 1,
        "expected_wait_s": 1.0,
        "is_measured": False,
        "limit_s": 9.0,
        "limited_by": "X-Nexus-Queue-Timeout",
    }
    assert normal["decision"]["wait"] == {
        "priority": "normal",
        "position": 3,
        "expected_wait_s": 3.0,
        "is_measured": False,
        "limit_s": None,
        "limited_by": None,
    }
    assert routed["decision"]["wait"] is None
