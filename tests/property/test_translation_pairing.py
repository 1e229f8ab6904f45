"""Properties of calls and their results in translated requests: a result names one call, whatever clients send."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.translation.quirks import quirks_of

IDS = st.sampled_from(["b", "b_1", "b_2", "b_3", "call_2", "c" * 70])
TURNS = st.lists(st.lists(IDS, min_size=1, max_size=3, unique=True))
"""The ids of the calls of each turn; some servers count them from zero in every answer."""


def _chat(turns):
    messages = [{"role": "user", "content": "hi"}]
    for turn in turns:
        calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_, _ in turn]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in turn]
    return {"messages": messages}


def _anthropic(turns):
    messages = [{"role": "user", "content": "hi"}]
    for turn in turns:
        calls = [{"type": "tool_use", "id": id_, "name": "f", "input": {}} for id_, _ in turn]
        results = [{"type": "tool_result", "tool_use_id": id_, "content": text} for id_, text in turn]
        messages += [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    return {"max_tokens": 9, "messages": messages}


def _responses(turns):
    items = [{"role": "user", "content": "hi"}]
    for turn in turns:
        items += [{"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"} for id_, _ in turn]
        items += [{"type": "function_call_output", "call_id": id_, "output": text} for id_, text in turn]
    return {"input": items}


def _ollama(turns):
    messages = [{"role": "user", "content": "hi"}]
    for turn in turns:
        calls = [{"id": id_, "function": {"name": "f", "arguments": {}}} for id_, _ in turn]
        messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": id_, "tool_name": "f", "content": text} for id_, text in turn]
    return {"messages": messages}


def _ids_of_chat(body):
    for message in body["messages"]:
        yield from ((call["id"], None) for call in message.get("tool_calls", ()))
        if message["role"] == "tool":
            yield message["tool_call_id"], message["content"]


def _ids_of_anthropic(body):
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                yield block["id"], None
            elif block["type"] == "tool_result":
                said = block["content"]
                yield block["tool_use_id"], said if isinstance(said, str) else said[0]["text"]


def _ids_of_responses(body):
    return ((item["call_id"], item.get("output")) for item in body["input"] if "call_id" in item)


CLIENTS = {
    "openai.chat": _chat,
    "anthropic.messages": _anthropic,
    "openai.responses": _responses,
    "ollama.chat": _ollama,
}
BACKENDS = {
    "openai.chat": _ids_of_chat,
    "anthropic.messages": _ids_of_anthropic,
    "openai.responses": _ids_of_responses,
}
"""Ollama goes by the order of calls and results, and keeps the ids that the client gave."""
PAIRS = [(client, backend) for client in CLIENTS for backend in BACKENDS if client != backend]


@pytest.mark.parametrize(("client", "backend"), PAIRS)
@given(ids=TURNS)
def test_each_call_has_an_id_of_its_own_and_its_result_follows(client, backend, ids):
    turns = [[(id_, f"{turn} {place}") for place, id_ in enumerate(calls)] for turn, calls in enumerate(ids)]
    body = json.dumps({"model": "m", **CLIENTS[client](turns)}).encode()

    target = Target(model="m", quirks=quirks_of("openai"))
    sent = convert(client, backend, body, target, About(model="m", id="1", created=1)).body

    found = list(BACKENDS[backend](json.loads(sent)))
    calls = [id_ for id_, text in found if text is None]
    assert len(set(calls)) == len(calls)
    results = {id_: text for id_, text in found if text is not None}
    assert [results[id_] for id_ in calls] == [text for turn in turns for _, text in turn]
    assert all(found.index((id_, None)) < found.index((id_, results[id_])) for id_ in calls)
