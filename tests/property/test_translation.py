"""Properties of translations that hold for every dialect, whatever an answer or a conversation has in it."""

import json
from itertools import groupby, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.simulator.refusals import Refusal
from nexus.simulator.settings import SimulatedModel
from nexus.simulator.strictness import check_chat, check_messages, check_ollama, check_responses
from nexus.translation.chat import (
    ChatRequest,
    File,
    Image,
    Message,
    OneTool,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.translation.custom_tools import as_functions
from nexus.translation.dialect import AnswerContext, Target
from nexus.translation.dialects import DIALECTS
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
from nexus.wire.streams.ndjson import LineFraming
from nexus.wire.streams.sse import SSEFraming
from tests.support.answer_readers import READERS

CONTEXT = AnswerContext(model="asked", id="abc", created=1_700_000_000)
STREAMED = sorted(name for name, dialect in DIALECTS.items() if dialect.open_decoder is not None)
WHOLE = sorted(name for name, dialect in DIALECTS.items() if dialect.decode_answer is not None)
ASKED = sorted(name for name, dialect in DIALECTS.items() if dialect.encode_request is not None)
WITHOUT_IDS = {"ollama.chat", "ollama.generate"}
WITHOUT_FILTERS = {"ollama.chat", "ollama.generate"}
"""They have no word for an answer that a filter has stopped."""

TEXTS = st.text(min_size=1, max_size=12)
WORDS = TEXTS.filter(lambda text: text == text.strip())
"""Some servers refuse blank texts, and spaces at the end of a conversation."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4).map(json.dumps)
"""The JSON text of an object; the order of its keys is arbitrary."""


@st.composite
def answers(draw, *, has_tools=True):
    """Return the events of one answer in any order that a backend may send them in."""
    calls = draw(st.lists(ARGUMENTS, max_size=3)) if has_tools else []
    queues = [list(pieces(draw, arguments, index)) for index, arguments in enumerate(calls)]
    said = draw(st.lists(st.builds(TextPart, TEXTS) | st.builds(ThinkingPart, TEXTS), max_size=6))
    events = [Start(), *said]
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        events.append(queue.pop(0))
    events.append(Finish(draw(st.sampled_from(["stop", "length", "content_filter"]))))
    counts = st.integers(1, 10**6)  # Ollama reports no prompt as zero tokens, or not at all.
    cached, rest, output = draw(counts), draw(counts), draw(counts)
    events.append(Usage(input_tokens=cached + rest, output_tokens=output, cached_tokens=cached))
    return [*events, End()]


def pieces(draw, arguments, index):
    yield ToolBegin(index, f"call_{index}", draw(st.sampled_from(["weather", "clock"])))
    for begin, end in pairwise(cuts(draw, len(arguments))):
        yield ToolArguments(index, arguments[begin:end])
    if draw(st.booleans()):
        yield ToolEnd(index)


def cuts(draw, length, most=4):
    return [0, *sorted(draw(st.lists(st.integers(0, length), max_size=most))), length]


def ordered(events):
    return Ordering("call_abc").add(events)


def summary(events, endpoint):
    """Return what a dialect can say of an answer: runs of parts as one, and no more than it has a place for."""
    rows = []
    for kind, run in groupby(events, key=type):
        parts = list(run)
        if kind in (TextPart, ThinkingPart):
            rows.append((kind.__name__, "".join(part.text for part in parts)))
        elif kind is ToolBegin:
            rows.append(("call", "" if endpoint in WITHOUT_IDS else parts[0].id, parts[0].name))
        elif kind is ToolArguments:
            rows.append(("arguments", "".join(part.text for part in parts)))
    (finish,) = [event for event in events if isinstance(event, Finish)]
    usage = [event for event in events if isinstance(event, Usage)][-1]
    has_reason = finish.reason != "content_filter" or endpoint not in WITHOUT_FILTERS
    cached = None if endpoint in WITHOUT_IDS else usage.cached_tokens or 0
    return rows, finish.reason if has_reason else "*", (usage.input_tokens, usage.output_tokens, cached)


def same(one, other):
    return one[0] == other[0] and one[1] in ("*", other[1]) and one[2] == other[2]


@pytest.mark.parametrize("endpoint", STREAMED)
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_a_stream_says_what_it_was_written_from_however_it_is_cut(endpoint, draw):
    dialect = DIALECTS[endpoint]
    events = ordered(draw.draw(answers()))
    encoder = dialect.open_encoder(CONTEXT)
    batches = pairwise(cuts(draw.draw, len(events)))

    wire = b"".join(encoder.encode(events[begin:end]) for begin, end in batches)

    framing = LineFraming() if endpoint in WITHOUT_IDS else SSEFraming()
    decoder = dialect.open_decoder()
    blocks = [framing.feed(wire[begin:end]) for begin, end in pairwise(cuts(draw.draw, len(wire), most=8))]
    read = ordered(
        answer for block in blocks if block for event in framing.events(block) for answer in decoder.decode(event)
    )
    assert same(summary(events, endpoint), summary(read, endpoint)), wire
    READERS[endpoint][1](wire)


@pytest.mark.parametrize("endpoint", WHOLE)
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_a_whole_answer_says_what_it_was_written_from(endpoint, draw):
    dialect = DIALECTS[endpoint]
    events = ordered(draw.draw(answers()))

    body = dialect.encode_answer(events, CONTEXT)

    read = ordered(dialect.decode_answer(body))
    assert same(by_kind(summary(events, endpoint)), by_kind(summary(read, endpoint))), body
    READERS[endpoint][0](body)


def by_kind(said):
    """Return a summary without the order of text, thoughts and calls among each other, which not every dialect has."""
    rows, *more = said
    texts = {kind: "".join(row[1] for row in rows if row[0] == kind) for kind in ("TextPart", "ThinkingPart")}
    return [texts, [row for row in rows if row[0] in {"call", "arguments"}]], *more


@settings(max_examples=60, deadline=None)
@given(answers(), st.lists(st.sampled_from([End(), TextPart("late"), Failure(500, "late")]), max_size=2))
def test_one_call_is_open_at_a_time_and_nothing_follows_the_end(events, late):
    passed = ordered([*events, *late])

    assert isinstance(passed[0], Start)
    assert [type(event) for event in passed[-3:]] == [Finish, Usage, End]
    open_call = None
    for event in passed:
        if isinstance(event, ToolBegin):
            assert open_call is None
            open_call = event.index
        elif isinstance(event, ToolArguments):
            assert event.index == open_call
        elif isinstance(event, ToolEnd):
            assert event.index == open_call
            open_call = None
        elif isinstance(event, (TextPart, ThinkingPart)):
            assert open_call is None
    assert said_in(passed) == said_in(events)


def said_in(events):
    """Return all text, all thoughts, and the arguments of each call, as they were sent or ``{}``."""
    arguments = {}
    for event in events:
        if isinstance(event, ToolBegin):
            arguments.setdefault(event.index, "")
        elif isinstance(event, ToolArguments):
            arguments[event.index] += event.text
    texts = ["".join(event.text for event in events if isinstance(event, kind)) for kind in (TextPart, ThinkingPart)]
    return texts, {index: text or "{}" for index, text in arguments.items()}


@pytest.mark.parametrize("endpoint", sorted(DIALECTS))
@settings(max_examples=30, deadline=None)
@given(answers(), st.integers(1, 8))
def test_a_stream_that_fails_ends_with_the_error(endpoint, events, position):
    encoder = DIALECTS[endpoint].open_encoder(CONTEXT)

    has_calls = endpoint != "ollama.generate"
    failed = [*events[: min(position, len(events) - 1)], Failure(502, "the engine broke")]
    wire = encoder.encode(ordered(event for event in failed if has_calls or not isinstance(event, ToolBegin)))

    assert "the engine broke" in json.dumps(READERS[endpoint][1](wire)["error"])


# requests

PNG = "iVBORw0KGgo="
TEXT = st.builds(Text, TEXTS)
IMAGE = st.just(Image(data=PNG, media_type="image/png"))
IDS = st.sampled_from(["call_a", "call_b", "toolu_1", ""])
NAMES = st.sampled_from(["weather", "clock"])
RESULT = st.builds(
    ToolResult,
    IDS,
    st.lists(TEXT | IMAGE, max_size=2).map(tuple),
    name=st.sampled_from(["", "weather"]),
    is_error=st.booleans(),
)
FILE = st.just(File(text="plain", media_type="text/plain", name="a.txt"))
PARTS = {
    "system": TEXT,
    "user": st.one_of(TEXT, IMAGE, FILE, RESULT),
    "assistant": st.one_of(
        TEXT,
        st.builds(Thinking, TEXTS, st.sampled_from(["", "c2ln"])),
        st.builds(ToolCall, IDS, NAMES, ARGUMENTS),
    ),
}
"""By role."""
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"z":{"type":"string"},"a":{}}}')
TOOLS = st.sampled_from([(), (Tool("weather", "tells it", SCHEMA), Tool("clock"))])
MESSAGES = st.sampled_from(sorted(PARTS)).flatmap(
    lambda role: st.builds(Message, st.just(role), st.lists(PARTS[role], max_size=3).map(tuple))
)
CONVERSATIONS = st.lists(MESSAGES, min_size=1, max_size=5)
"""Any messages in any order, as clients lose turns, results and ids."""


@st.composite
def requests(draw):
    tools = draw(TOOLS)
    choices = [None, "auto", "none", "required", OneTool("weather")] if tools else [None]
    return ChatRequest(
        model="asked",
        messages=(*draw(CONVERSATIONS), Message("user", (Text(draw(WORDS)),))),
        is_stream=draw(st.booleans()),
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)),
        parallel_tools=draw(st.none() | st.booleans()) if tools else None,
        max_tokens=draw(st.none() | st.integers(1, 5000)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_k=draw(st.none() | st.integers(1, 50)),
        stop=tuple(draw(st.lists(st.just("END") | st.just("\n"), max_size=4))),
        reasoning=draw(
            st.builds(
                Reasoning,
                st.none() | st.booleans(),
                st.none() | st.sampled_from(["minimal", "low", "high", "max"]),
                st.none() | st.integers(1, 10_000),
            )
        ),
    )


STRICT = {
    "openai.chat": check_chat,
    "openai.responses": check_responses,
    "anthropic.messages": check_messages,
    "ollama.chat": lambda body: check_ollama(body, SimulatedModel("served")),
}


@pytest.mark.parametrize("endpoint", ASKED)
@settings(max_examples=80, deadline=None)
@given(chat=requests())
def test_no_strict_server_refuses_what_was_translated(endpoint, chat):
    encoded = encoded_or_refused(endpoint, chat)

    try:
        if encoded is not None:
            STRICT[endpoint](json.loads(encoded.body))
    except Refusal as refusal:
        pytest.fail(f"{refusal.detail}: {encoded.body.decode()}")


def encoded_or_refused(endpoint, chat):
    """Return the request; None if it is refused by the name of a field."""
    try:
        return DIALECTS[endpoint].encode_request(as_functions(chat), Target(model="served", thinks=False))
    except RequestError as error:
        if error.code == "not_translatable" and error.param:
            return None
        raise


@st.composite
def proper_conversations(draw):
    """Return turns as agents have them: calls by the assistant, and all of their results in the next turn."""
    messages = [Message("system", (Text(draw(WORDS)),))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        messages.append(Message("user", (Text(draw(WORDS)),)))
        calls = [ToolCall(f"call_{turn}_{n}", "weather", draw(ARGUMENTS)) for n in range(draw(st.integers(0, 2)))]
        messages.append(Message("assistant", (Text(draw(WORDS)), *calls)))
        if calls:
            results = [ToolResult(call.id, (Text(draw(WORDS)),)) for call in calls]
            messages.append(Message("user", tuple(results)))
            messages.append(Message("assistant", (Text(draw(WORDS)),)))
    return tuple(messages)


@pytest.mark.parametrize("endpoint", ASKED)
@settings(max_examples=60, deadline=None)
@given(proper_conversations())
def test_a_conversation_says_what_it_was_written_from(endpoint, messages):
    dialect = DIALECTS[endpoint]
    chat = ChatRequest(model="asked", messages=messages, tools=(Tool("weather", "tells it", SCHEMA),), max_tokens=99)

    encoded = dialect.encode_request(chat, Target(model="served"))

    read = dialect.decode_request(encoded.body)
    assert encoded.lost == read.lost == ()
    assert flat(read.messages, endpoint) == flat(messages, endpoint)
    assert (read.model, read.max_tokens) == ("served", 99)
    assert [(tool.name, tool.description, bytes(tool.schema)) for tool in read.tools] == [
        ("weather", "tells it", bytes(SCHEMA))
    ]


def flat(messages, endpoint):
    """Return each part with its role; a dialect may join or split messages of one role."""
    rows = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                rows.append(("call", "" if endpoint in WITHOUT_IDS else part.id, part.name, part.arguments))
            elif isinstance(part, ToolResult):
                texts = "".join(inner.text for inner in part.parts)
                rows.append(("result", "" if endpoint in WITHOUT_IDS else part.call_id, texts))
            else:
                rows.append((message.role, part.text))
    return rows
