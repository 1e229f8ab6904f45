"""What is written in Ollama's dialect is read again as what was meant, however the bytes are cut."""

import json
from contextlib import suppress
from itertools import groupby, pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.translation.chat import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.translation.dialect import AnswerContext, Target
from nexus.translation.events import (
    End,
    Finish,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.ollama import COMPLETION_DIALECT, DIALECT
from nexus.translation.ordering import Ordering
from nexus.wire.streams.event import Event
from nexus.wire.streams.ndjson import LineFraming

CONTEXT = AnswerContext(model="m", id="r1", created=1_700_000_000)

quick = settings(max_examples=60, deadline=None)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
names = st.text("abcdefghij_-", min_size=1, max_size=8)
counts = st.none() | st.integers(1, 10**6)
objects = st.dictionaries(
    texts, st.recursive(st.none() | st.integers(0, 9) | texts, st.lists, max_leaves=4), max_size=3
)


@st.composite
def arguments(draw):
    """An object as a model may write it, with or without white space."""
    return json.dumps(draw(objects), indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))


@st.composite
def calls(draw):
    """The events of some calls, interleaved anyhow, and each in pieces."""
    streams = []
    for index in range(draw(st.integers(0, 3))):
        text = draw(arguments())
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
        begin = ToolBegin(index, draw(st.sampled_from(["", f"id{index}"])), draw(names))
        streams.append([begin, *(ToolArguments(index, piece) for piece in pieces), ToolEnd(index)])
    events = []
    while streams := [stream for stream in streams if stream]:
        events.append(draw(st.sampled_from(streams)).pop(0))
    return events


@st.composite
def answers(draw):
    """The events of a whole answer, as a decoder may yield them."""
    parts = st.one_of(
        st.builds(TextPart, texts),
        st.builds(ThinkingPart, texts),
        st.just(Signature("s")),
        st.just(RedactedThinking("r")),
        st.builds(Usage, counts, counts),
    )
    events = [*draw(st.lists(parts, max_size=6)), *draw(calls()), *draw(st.lists(parts, max_size=2))]
    finish = Finish(draw(st.sampled_from(["stop", "length", "tool_calls"])))
    return [Start("id", "other"), *events, finish, Usage(draw(counts), draw(counts)), End()]


def meaning(events, *, has_ids=True):
    """Return what of *events* the dialect can say, whatever the pieces in which it comes."""
    said = []
    for kind, group in groupby(Ordering("call_r1").add(events), type):
        same = list(group)
        if kind in (TextPart, ThinkingPart):
            said.append((kind.__name__, "".join(event.text for event in same)))
        elif kind is ToolBegin:
            said += [("call", event.id if has_ids else "", event.name) for event in same]
        elif kind is ToolArguments:
            said.append(("arguments", json.loads("".join(event.text for event in same))))
        elif kind is Finish:
            said += [("finish", event.reason) for event in same]
        elif kind is Usage:
            last = (same[-1].input_tokens, same[-1].output_tokens)
    return [*joined(said), last]


def joined(said):
    """Join texts that a signature stood between."""
    result = []
    for item in said:
        if result and item[0] in ("TextPart", "ThinkingPart") and result[-1][0] == item[0]:
            result[-1] = (item[0], result[-1][1] + item[1])
        else:
            result.append(item)
    return result


def encode(events, cuts=(), dialect=DIALECT):
    encoder, ordering = dialect.open_encoder(CONTEXT), Ordering("call_r1")
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return b"".join(encoder.encode(ordering.add(events[a:b])) for a, b in pairwise(edges))


def decode(content, cuts=()):
    framing, decoder = LineFraming(), DIALECT.open_decoder()
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    blocks = [framing.feed(content[a:b]) for a, b in pairwise(edges)]
    assert not framing.rest
    return [found for block in blocks for event in framing.events(block) for found in decoder.decode(event)]


cut_places = st.lists(st.integers(0, 10**6), max_size=8)


@quick
@given(answers(), cut_places, cut_places)
def test_a_stream_says_what_was_meant_however_it_is_cut(events, event_cuts, byte_cuts):
    assert meaning(decode(encode(events, event_cuts), byte_cuts)) == meaning(events)


@quick
@given(answers())
def test_each_line_of_a_stream_is_one_document(events):
    for dialect in (DIALECT, COMPLETION_DIALECT):
        content = encode(events, dialect=dialect)

        lines = content.split(b"\n")
        assert lines.pop() == b""
        assert [json.loads(line)["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


@quick
@given(answers())
def test_a_whole_answer_says_the_same_as_a_stream(events):
    whole = DIALECT.decode_answer(DIALECT.encode_answer(Ordering("call_r1").add(events), CONTEXT))

    assert sorted(map(repr, in_kinds(whole))) == sorted(map(repr, in_kinds(events)))


def in_kinds(events):
    """Return what is said, without the order of thoughts, text and calls, of which a document has each once."""
    said = meaning(events)
    text = {kind: "".join(item[1] for item in said if item[0] == kind) for kind in ("TextPart", "ThinkingPart")}
    return [text, *(item for item in said if item[0] not in text)]


@quick
@given(st.lists(st.binary(max_size=30) | answers().map(encode), max_size=4))
def test_a_decoder_reads_any_lines(blocks):
    decoder = DIALECT.open_decoder()

    for line in b"\n".join(blocks).split(b"\n"):
        list(decoder.decode(Event(b"", line)))


@quick
@given(st.integers(400, 599), st.binary(max_size=60) | objects.map(lambda error: json.dumps({"error": error}).encode()))
def test_any_error_is_read(status, body):
    failure = DIALECT.decode_error(status, body)

    assert failure.status == status
    assert failure.message
    assert DIALECT.decode_error(status, DIALECT.encode_error(failure, "")) == failure


@st.composite
def conversations(draw):
    """Messages that Ollama can say, in the only order of parts that it has."""
    messages = draw(st.lists(st.builds(lambda text: Message("system", (Text(text),)), texts), max_size=1))
    for turn in range(draw(st.integers(1, 3))):
        images = draw(st.lists(st.just(Image(data="/9j/x", media_type="image/jpeg")), max_size=2))
        messages.append(Message("user", (*images, Text(draw(texts)))))
        called = [ToolCall(f"c{turn}_{n}", draw(names), draw(arguments())) for n in range(draw(st.integers(0, 2)))]
        thoughts = draw(st.lists(st.builds(Thinking, texts), max_size=1))
        messages.append(Message("assistant", (*thoughts, Text(draw(texts)), *called)))
        if called:
            results = tuple(ToolResult(call.id, (Text(draw(texts)),), name=call.name) for call in called)
            messages.append(Message("user", results))
    return tuple(messages)


chats = st.builds(
    ChatRequest,
    model=names,
    messages=conversations(),
    is_stream=st.booleans(),
    wants_usage=st.just(value=True),
    tools=st.lists(st.builds(Tool, names, texts, arguments().map(lambda text: msgspec.Raw(text.encode())))).map(tuple),
    max_tokens=counts,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=counts,
    seed=counts,
    presence_penalty=st.none() | st.floats(-2, 2),
    frequency_penalty=st.none() | st.floats(-2, 2),
    stop=st.lists(texts, max_size=3).map(tuple),
    format=st.sampled_from([None, JsonFormat(), JsonFormat(schema=msgspec.Raw(b'{"b" : 1, "a": 2}'))]),
    reasoning=st.sampled_from([Reasoning(), Reasoning(is_on=False), Reasoning(is_on=True, effort="low")]),
    keep_alive=st.sampled_from([None, msgspec.Raw(b"0"), msgspec.Raw(b'"5m"')]),
)


@quick
@given(chats)
def test_a_request_is_read_as_it_was_meant(chat):
    encoded = DIALECT.encode_request(chat, Target(model=chat.model, thinks=True))

    assert encoded.lost == ()
    assert DIALECT.decode_request(encoded.body) == chat


bodies = objects.map(lambda body: json.dumps({"prompt": "hi", "messages": [{}], **body}).encode())


@quick
@given(st.binary(max_size=40) | bodies)
def test_a_body_is_read_or_refused(body):
    for dialect in (DIALECT, COMPLETION_DIALECT):
        with suppress(RequestError):
            assert dialect.decode_request(body).messages


def test_the_meaning_of_an_answer_depends_on_all_of_it():
    events = [TextPart("hi"), ToolBegin(0, "c", "f"), ToolArguments(0, '{"a":1}'), Finish("stop"), Usage(1, 2), End()]

    for place, other in ((0, TextPart("ho")), (2, ToolArguments(0, "{}")), (3, Finish("length")), (4, Usage(1, 3))):
        assert meaning([*events[:place], other, *events[place + 1 :]]) != meaning(events)
