"""Any answer in Anthropic's dialect, and any body of a request."""

import json
from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.translation.anthropic import DIALECT
from nexus.translation.chat import ChatRequest, Image, Message, Text, Thinking, ToolCall, ToolResult
from nexus.translation.dialect import AnswerContext, Target
from nexus.translation.events import (
    End,
    Failure,
    Finish,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.ordering import Ordering
from nexus.wire.streams.sse import SSEFraming

CONTEXT = AnswerContext(model="m", id="1a", created=0)

words = st.text(min_size=1, max_size=8)
counts = st.integers(0, 1000)
arguments = st.dictionaries(words, st.one_of(words, st.integers(), st.none()), max_size=3).map(json.dumps)


@st.composite
def calls(draw, index):
    text = draw(arguments)
    cut = draw(st.integers(0, len(text)))
    return [
        ToolBegin(index, f"call_{index}", draw(words)),
        *(ToolArguments(index, part) for part in (text[:cut], text[cut:]) if part),
        ToolEnd(index),
    ]


@st.composite
def answers(draw):
    """An answer in order, from Start to End."""
    parts = draw(st.lists(st.one_of(words.map(TextPart), words.map(ThinkingPart)), max_size=5))
    called = [event for index in range(draw(st.integers(0, 3))) for event in draw(calls(index))]
    reason = draw(st.sampled_from(["stop", "length", "content_filter"]))
    finish = Finish("tool_calls") if called and reason == "stop" else Finish(reason)
    cached, written, fresh, answer, thought = (draw(counts) for _ in range(5))
    usage = Usage(cached + written + fresh, answer, cached, written, draw(st.sampled_from([None, thought])))
    return [Start(), *parts, *called, finish, usage, End()]


def joined(events):
    """Return *events* with neighbouring parts as one, ids of messages left out, and calls numbered in order."""
    found, numbers = [], {}
    for event in Ordering("x").add(events):
        last = found[-1] if found else None
        if isinstance(event, ToolBegin):
            numbers[event.index] = len(numbers)
        if isinstance(event, Usage) and not isinstance(last, Finish):
            continue
        if isinstance(event, Start):
            found.append(Start())
        elif type(event) is type(last) and isinstance(event, TextPart | ThinkingPart):
            found[-1] = type(event)(last.text + event.text)
        elif isinstance(event, ToolArguments) and isinstance(last, ToolArguments):
            found[-1] = ToolArguments(last.index, last.text + event.text)
        elif isinstance(event, ToolBegin):
            found.append(ToolBegin(numbers[event.index], event.id, event.name))
        elif isinstance(event, ToolArguments):
            found.append(ToolArguments(numbers[event.index], event.text))
        elif isinstance(event, ToolEnd):
            found.append(ToolEnd(numbers[event.index]))
        else:
            found.append(event)
    return found


def decoded(stream, cuts=()):
    framing, decoder, events = SSEFraming(), DIALECT.open_decoder(), []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        for event in framing.events(framing.feed(stream[begin:end])):
            events += decoder.decode(event)
    return events


@given(answers(), st.lists(st.integers(0, 10_000), max_size=6))
def test_a_stream_that_is_written_is_read_the_same_however_its_bytes_are_cut(events, cuts):
    stream = DIALECT.open_encoder(CONTEXT).encode(Ordering("x").add(events))

    assert joined(decoded(stream, cuts)) == joined(events)


@given(answers())
def test_a_whole_answer_that_is_written_is_read_the_same(events):
    body = DIALECT.encode_answer(Ordering("x").add(events), CONTEXT)

    assert joined(DIALECT.decode_answer(body)) == joined(events)


@given(answers())
def test_a_stream_says_the_same_as_a_whole_answer(events):
    ordered = Ordering("x").add(events)

    stream = DIALECT.open_encoder(CONTEXT).encode(ordered)
    whole = DIALECT.encode_answer(ordered, CONTEXT)

    assert joined(decoded(stream)) == joined(DIALECT.decode_answer(whole))


@given(st.lists(st.one_of(
    words.map(TextPart), words.map(ThinkingPart),
    st.builds(ToolBegin, st.integers(0, 3), st.sampled_from(["", "a", "b"]), st.sampled_from(["", "f"])),
    st.builds(ToolArguments, st.integers(0, 3), words), st.builds(ToolEnd, st.integers(0, 3)),
    st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls"])), st.builds(Usage, counts, counts),
    st.builds(Failure, st.integers(400, 599), words), st.just(End()),
), max_size=20))  # fmt: skip
def test_blocks_never_overlap_and_nothing_follows_the_end_whatever_a_backend_sends(events):
    ordering, encoder = Ordering("x"), DIALECT.open_encoder(CONTEXT)
    stream = b"".join(encoder.encode(ordering.add([event])) for event in events)

    index, is_open, is_over = -1, False, False
    for event in SSEFraming.events(stream):
        document = json.loads(event.content)
        assert not is_over
        match event.name:
            case b"content_block_start":
                assert (is_open, document["index"]) == (False, index + 1)
                index, is_open = index + 1, True
            case b"content_block_delta":
                assert (is_open, document["index"]) == (True, index)
            case b"content_block_stop":
                assert (is_open, document["index"]) == (True, index)
                is_open = False
            case b"message_stop":
                assert not is_open
                is_over = True
            case b"error":
                is_over = True


texts = words.map(Text)
ids = st.sampled_from(["", "a", "b", "c.d"])
parts_by_role = {
    "system": texts,
    "user": st.one_of(
        texts,
        st.builds(Image, data=st.just("AAAA"), media_type=st.just("image/png")),
        st.builds(ToolResult, ids, st.lists(texts, max_size=2).map(tuple)),
    ),
    "assistant": st.one_of(
        texts, words.map(Thinking), st.builds(ToolCall, ids, st.just("f"), st.one_of(arguments, words))
    ),
}
conversations = st.lists(
    st.one_of(
        st.builds(Message, st.just(role), st.lists(parts, max_size=4).map(tuple))
        for role, parts in parts_by_role.items()
    ),
    max_size=6,
).map(tuple)


@given(conversations)
def test_a_conversation_is_always_one_that_the_api_accepts(messages):
    """Sides take turns, the user begins, each call is answered first in the next message, and ids are unique."""
    body = DIALECT.encode_request(ChatRequest(model="m", messages=messages), Target(model="m")).body

    sent = json.loads(body)["messages"]
    assert all(message["role"] == ("user", "assistant")[i % 2] for i, message in enumerate(sent))
    assert all(message["content"] for message in sent)
    all_ids = [block["id"] for message in sent for block in message["content"] if block["type"] == "tool_use"]
    assert len(all_ids) == len(set(all_ids))
    for i, message in enumerate(sent):
        called = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        answers = [block.get("tool_use_id") for block in sent[i + 1]["content"]] if called else []
        assert called == answers[: len(called)]
    answered = [b["tool_use_id"] for message in sent for b in message["content"] if b["type"] == "tool_result"]
    assert answered == all_ids


@given(conversations)
def test_a_conversation_that_is_written_can_be_read_and_written_again(messages):
    chat = ChatRequest(model="m", messages=messages)
    body = DIALECT.encode_request(chat, Target(model="m")).body

    assert DIALECT.encode_request(DIALECT.decode_request(body), Target(model="m")).body == body


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), words, st.sampled_from(["text", "tool_use", "user"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "text", "role", "content", "source", "input"]), inner, max_size=4),
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "system", "tools", "tool_choice", "thinking", "metadata", "x"]), json_values
    )
)
def test_any_body_is_read_or_refused(body):
    with suppress(RequestError):
        DIALECT.decode_request(json.dumps(body).encode())
