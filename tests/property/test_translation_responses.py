"""The Responses API says all that it has a place for: what is written is read again as it was."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from nexus.translation.chat import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.translation.dialect import AnswerContext, Target
from nexus.translation.events import (
    End,
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
from nexus.translation.responses import DIALECT
from nexus.wire.streams.sse import SSEFraming

CONTEXT = AnswerContext(model="m", id="1a", created=0)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAME, TEXT | st.integers(), max_size=3).map(lambda value: json.dumps(value, indent=1))
CUT = st.integers(0, 1 << 16)


@st.composite
def parts_of_answers(draw):
    """Return events of an answer whose calls come interleaved, as chat backends send them."""
    calls = draw(st.lists(st.tuples(NAME, ARGUMENTS), max_size=3))
    said = [TextPart(text) for text in draw(st.lists(TEXT, max_size=3))]
    thought = [ThinkingPart(text) for text in draw(st.lists(TEXT, max_size=3))]
    begun = [ToolBegin(index, f"call_{index}", name) for index, (name, _) in enumerate(calls)]
    pieces = []
    for index, (_, arguments) in enumerate(calls):
        at = draw(CUT) % (len(arguments) + 1)
        pieces += [ToolArguments(index, arguments[:at]), ToolArguments(index, arguments[at:])]
    # Two pieces of one call stay in their order.
    waiting = {index: [piece for piece in pieces if piece.index == index] for index in range(len(calls))}
    turns = draw(st.permutations([piece.index for piece in pieces]))
    return [*thought, *said, *begun, *(waiting[index].pop(0) for index in turns)]


REASONS = st.sampled_from(["stop", "length", "content_filter"])
COUNT = st.integers(0, 1 << 20)


@st.composite
def answers(draw):
    usage = draw(st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT))
    return [Start("resp_1", "m"), *draw(parts_of_answers()), Finish(draw(REASONS)), usage, End()]


def written(events):
    return DIALECT.open_encoder(CONTEXT).encode(Ordering("call_1a").add(events))


def read(stream, cuts=()):
    """Return the events of *stream*, whose bytes come in pieces."""
    framing, decoder = SSEFraming(), DIALECT.open_decoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    blocks = [framing.feed(stream[start:end]) for start, end in pairwise(edges)]
    found = [event for block in blocks for raw in framing.events(block) for event in decoder.decode(raw)]
    return Ordering("call_1a").add(found)


def in_one_piece(events):
    """Return *events* with neighbours of one kind joined, and only the last count of tokens."""
    joined = []
    for event in events:
        before = joined[-1] if joined else None
        if isinstance(event, TextPart | ThinkingPart) and type(before) is type(event):
            joined[-1] = type(event)(before.text + event.text)
        elif isinstance(event, ToolArguments) and isinstance(before, ToolArguments) and before.index == event.index:
            joined[-1] = ToolArguments(event.index, before.text + event.text)
        elif not isinstance(event, Usage) or isinstance(before, Finish):
            joined.append(event)
    return _with_places(joined)


def _with_places(events):
    """Return *events* with the calls numbered in their order: the numbers differ between dialects."""
    places = {}
    for event in events:
        if isinstance(event, ToolBegin):
            places[event.index] = len(places)
    named = []
    for event in events:
        match event:
            case ToolBegin(index, id_, name):
                named.append(ToolBegin(places[index], id_, name))
            case ToolArguments(index, text):
                named.append(ToolArguments(places[index], text))
            case ToolEnd(index):
                named.append(ToolEnd(places[index]))
            case _:
                named.append(event)
    return named


@given(answers(), st.lists(CUT, max_size=12))
def test_a_stream_that_is_written_is_read_as_it_was_wherever_it_is_cut(events, cuts):
    expected = in_one_piece(Ordering("call_1a").add(events))

    assert in_one_piece(read(written(events), cuts)) == expected


@given(answers())
def test_a_whole_answer_is_read_as_it_was(events):
    body = DIALECT.encode_answer(Ordering("call_1a").add(events), CONTEXT)

    found = Ordering("call_1a").add(DIALECT.decode_answer(body))

    assert in_one_piece(found) == in_one_piece(Ordering("call_1a").add(events))


@given(answers())
def test_the_client_library_accumulates_every_answer(events):
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    last = None

    for number, event in enumerate(SSEFraming.events(written(events))):
        document = json.loads(event.content)
        assert document["sequence_number"] == number
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=document))
        last = document

    items = last["response"]["output"]
    text = "".join(event.text for event in events if isinstance(event, TextPart))
    assert "".join(item["content"][0]["text"] for item in items if item["type"] == "message") == text
    assert last["response"]["status"] == ("completed" if events[-3].reason == "stop" else "incomplete")


@st.composite
def chats(draw):
    calls = draw(st.lists(st.builds(ToolCall, st.just(""), NAME, ARGUMENTS), max_size=3))
    calls = [ToolCall(f"call_{place}", call.name, call.arguments) for place, call in enumerate(calls)]
    results = [ToolResult(call.id, (Text(draw(TEXT)),)) for call in draw(st.permutations(calls))]
    asked = draw(st.lists(st.builds(Text, TEXT) | st.just(Image("AAEC", "image/png")), min_size=1, max_size=3))
    messages = [Message("system", (Text(draw(TEXT)),)), Message("user", tuple(asked))]
    messages.append(Message("assistant", (Text(draw(TEXT)), *calls)))
    if results:
        messages.append(Message("user", tuple(results)))
    return ChatRequest(
        model="m",
        messages=tuple(messages),
        is_stream=draw(st.booleans()),
        wants_usage=True,
        tools=(Tool("get", draw(TEXT), kind=draw(st.sampled_from(["function", "custom"]))),),
        tool_choice=draw(st.sampled_from(["auto", "none", "required"])),
        parallel_tools=draw(st.booleans()),
        max_tokens=draw(st.integers(16, 1 << 20)),
        temperature=draw(st.floats(0, 2)),
        format=draw(st.sampled_from([None, JsonFormat()])),
        verbosity=draw(st.sampled_from([None, "low"])),
        reasoning=draw(st.sampled_from([Reasoning(), Reasoning(is_on=False), Reasoning(is_on=True, effort="high")])),
        user=draw(TEXT),
        cache_key=draw(TEXT),
    )


@given(chats())
def test_a_request_that_is_written_is_read_as_it_was(chat):
    encoded = DIALECT.encode_request(chat, Target(model="m"))

    found = DIALECT.decode_request(encoded.body)

    assert _compared(found) == _compared(chat)
    assert found.lost == ()


def _compared(chat):
    """Return what of *chat* must be the same.

    A function without a schema gets an empty one, and results come in the order of their calls.
    """
    same = {name: getattr(chat, name) for name in chat.__struct_fields__ if name not in ("tools", "echo", "lost")}
    last = chat.messages[-1]
    if any(isinstance(part, ToolResult) for part in last.parts):
        results = sorted(last.parts, key=lambda result: result.call_id)
        same["messages"] = (*chat.messages[:-1], replace(last, parts=tuple(results)))
    return same, [(tool.name, tool.description, tool.kind) for tool in chat.tools]
