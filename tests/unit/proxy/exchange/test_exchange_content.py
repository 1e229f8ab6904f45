"""What an exchange reads in a request and its answer: names of models, ids, text for stages, a preview for the log."""

import json

import pytest

from nexus.domain.request import Kept, Reference
from nexus.error_codes import UpstreamFault
from nexus.routing.stage.api import Hold, Reconciler
from nexus.testing.builders import MODEL
from tests.support.fake_backends import ANSWER, DONE, HELLO, STREAM_REQUEST, broken, end, stream, whole

UNCOUNTED = b'{"choices": [{"message": {"content": "Hello, world"}}]}'
BY_ALIAS = b'{"model": "best", "messages": []}'
STORED = b'{"model": "llama3", "input": "hi"}'
RESPONSE = b'{"id": "resp_1", "object": "response", "model": "llama3", "output": [], "status": "completed"}'
CREATED = b'event: response.created\ndata: {"type": "response.created", "response": {"id": "resp_1"}}\n\n'
SAID = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "Hello"}\n\n'
COMPLETED = b'event: response.completed\ndata: {"type": "response.completed", "response": {"id": "resp_1"}}\n\n'
FILE = {"target": "/v1/files/file-1", "body": b""}


class Listening(Hold):
    def __init__(self, texts):
        self._texts = texts

    def listener(self):
        return self._texts.append

    def headers(self, usage):
        return {"X-Nexus-Tokens": str(usage and usage.total_tokens)}

    def cost_usd(self):
        return 0.25

    def settle(self, outcome):
        pass


class Listener(Reconciler):
    """A stage that listens to the text of answers."""

    name = "listener"
    priority = 300

    def __init__(self):
        self.texts = []

    def reconcile(self, intent):
        pass

    def reserve(self, intent, backend):
        return Listening(self.texts)


async def kept_at(rig, id_):
    return await rig.plane.owners.find((Reference(id_),))


# stages


@pytest.mark.parametrize(
    ("request_body", "script", "texts"),
    [
        (None, whole(UNCOUNTED), ["Hello, world"]),
        (None, whole(ANSWER), []),
        (STREAM_REQUEST, (*stream(HELLO, DONE), end), ["Hello"]),
    ],
    ids=["whole, without usage", "whole, with usage", "streamed"],
)
async def test_a_stage_is_given_the_text_of_an_answer(make_rig, request_body, script, texts):
    stage = Listener()
    rig = make_rig(stage)
    rig.backend("gpu-1", script)

    await rig.ask(**({} if request_body is None else {"body": request_body}))

    assert stage.texts == texts


async def test_a_stage_adds_headers_that_know_the_usage(make_rig):
    rig = make_rig(Listener())
    rig.backend("gpu-1", whole())

    assert (await rig.ask()).headers["x-nexus-tokens"] == "9"


async def test_what_the_attempts_cost_is_added_up(make_rig):
    rig = make_rig(Listener())
    rig.backend("gpu-1", broken(UpstreamFault.RESET))
    rig.backend("gpu-2", whole())

    await rig.ask()

    assert rig.outcome.cost_usd == 0.5


# the name of the model


@pytest.fixture
async def aliased(make_rig):
    """A rig whose clients may call the model ``best``."""
    return make_rig(routing={"aliases": {"best": MODEL}})


async def test_a_whole_answer_carries_the_name_that_the_client_used(aliased):
    pool = aliased.backend("gpu-1", whole())

    reply = await aliased.ask(body=BY_ALIAS)

    assert json.loads(pool.lent[0].body)["model"] == MODEL
    assert json.loads(reply.body)["model"] == "best"


async def test_a_stream_carries_the_name_that_the_client_used(aliased):
    aliased.backend("gpu-1", (*stream(HELLO, DONE), end))

    reply = await aliased.ask(body=b'{"model": "best", "messages": [], "stream": true}')

    assert reply.body == HELLO.replace(b'"llama3"', b'"best"') + DONE


# what backends keep


async def test_what_a_whole_answer_has_made_is_found_at_its_backend(rig):
    rig.backend("gpu-1", whole(RESPONSE))

    await rig.ask(target="/v1/responses", body=STORED)

    assert (await kept_at(rig, "resp_1")).backend == "gpu-1"


async def test_what_a_stream_has_made_is_found_at_its_backend(rig):
    rig.backend("gpu-1", (*stream(CREATED, SAID, COMPLETED), end))

    await rig.ask(target="/v1/responses", body=STORED[:-1] + b', "stream": true}')

    assert (await kept_at(rig, "resp_1")).backend == "gpu-1"


async def test_a_chat_that_is_not_to_be_kept_is_not_remembered(rig):
    rig.backend("gpu-1", whole())

    await rig.ask()

    assert await kept_at(rig, "c-1") is None


async def test_a_request_goes_to_the_backend_that_keeps_what_it_refers_to(rig):
    rig.plane.owners.learn(("file-1",), "gpu-2", "")
    rig.backend("gpu-1", whole(b"{}"))
    rig.backend("gpu-2", whole(b"{}"))

    exchange = rig.begin(method="GET", **FILE)
    await rig.over()

    assert exchange.failover.kept == Kept(Reference("file-1"), "gpu-2")
    assert rig.asked == ["gpu-2"]


async def test_what_is_posted_to_an_id_goes_to_the_backend_that_keeps_it(rig):
    rig.plane.owners.learn(("batch-1",), "gpu-2", "")
    rig.backend("gpu-1", whole(b"{}"))
    rig.backend("gpu-2", whole(b"{}"))

    await rig.ask(target="/v1/batches/batch-1/cancel", body=b"")

    assert rig.asked == ["gpu-2"]


async def test_a_listing_is_recorded_by_its_method(rig):
    rig.backend("gpu-1", whole(b'{"data": []}'))

    await rig.ask(method="GET", target="/v1/files", body=b"")

    assert (rig.outcome.status, rig.outcome.method) == (200, "GET")


async def test_what_is_deleted_is_forgotten(rig):
    rig.plane.owners.learn(("file-1",), "gpu-1", "")
    rig.backend("gpu-1", whole(b'{"deleted": true}'))

    await rig.ask(method="DELETE", **FILE)

    assert await kept_at(rig, "file-1") is None
    assert rig.outcome.method == "DELETE"


async def test_what_is_fetched_uses_no_tokens(rig):
    rig.backend("gpu-1", whole(b'{"usage": {"prompt_tokens": 7, "completion_tokens": 2}}'))

    await rig.ask(method="GET", **FILE)

    assert rig.outcome.usage is None


# the log


@pytest.mark.parametrize(("is_enabled", "preview"), [(True, "hi"), (False, None)])
async def test_the_log_shows_how_a_prompt_begins_if_the_operator_wants_it(make_rig, is_enabled, preview):
    rig = make_rig(logging={"enable_content_logging": is_enabled})
    rig.backend("gpu-1", whole())

    exchange = rig.begin()
    await rig.over()

    assert exchange.record.prompt_preview == preview


async def test_a_request_that_has_no_prompt_has_no_preview(make_rig):
    rig = make_rig(logging={"enable_content_logging": True})
    rig.backend("gpu-1", whole(b"{}"))

    exchange = rig.begin(method="GET", **FILE)
    await rig.over()

    assert exchange.record.prompt_preview is None


async def test_a_client_that_asks_why_is_told_where_to_read_it_in_answers_and_errors(rig):
    rig.backend("gpu-1", whole())

    answer = await rig.ask(("X-Nexus-Explain", "true"))
    rig.client.transport.written = b""
    error = await rig.ask(("X-Nexus-Explain", "true"), body=b'{"model": "unknown", "messages": []}')

    assert (answer.status, answer.headers["x-nexus-decision-id"]) == (200, "r-1")
    assert (error.status, error.headers["x-nexus-decision-id"]) == (404, "r-1")
