"""Requests for a count of tokens that no backend can count."""

import json

import pytest

from nexus.domain.outcome import Ending

ENDPOINT = "/v1/messages/count_tokens"
BODY = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "x" * 400}]}).encode()


async def test_the_client_gets_an_estimate_that_says_so(rig):
    pool = rig.backend("gpu-1", kind="lmstudio")

    reply = await rig.ask(target=ENDPOINT, body=BODY)

    assert (reply.status, reply.headers["x-nexus-estimated"], reply.headers["x-nexus-backend"]) == (
        200,
        "tokens",
        "none",
    )
    assert json.loads(reply.body) == {"input_tokens": pytest.approx(100, abs=15)}
    assert rig.may_follow
    assert (pool.lent, rig.outcome.attempts) == ([], ())
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.code) == (Ending.FINISHED, 200, None)


async def test_a_model_that_no_backend_has_is_not_estimated(rig):
    reply = await rig.ask(target=ENDPOINT, body=BODY)

    assert (reply.status, reply.code) == (404, "model_not_found")


async def test_nothing_is_estimated_where_translation_is_disabled(make_rig):
    rig = make_rig(translation={"enabled": False})
    rig.backend("gpu-1", kind="lmstudio")

    reply = await rig.ask(target=ENDPOINT, body=BODY)

    assert (reply.status, reply.code) == (404, "protocol_not_supported")


async def test_only_counts_are_estimated(rig):
    rig.backend("gpu-1", kind="lmstudio")

    reply = await rig.ask(target="/v1/complete", body=b'{"model":"llama3","prompt":"hi"}')

    assert (reply.status, reply.code) == (404, "protocol_not_supported")
