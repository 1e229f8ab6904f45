"""What an answer or a history of OpenAI's chat dialect says survives its translation, in whatever pieces it comes."""

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nexus.translation.chat import Image, Message, Text, Thinking, ToolCall, ToolResult
from nexus.translation.events import (
    End,
    Failure,
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
from nexus.translation.openai import DIALECT
from nexus.translation.ordering import Ordering
from nexus.translation.signed_ids import signed, split
from nexus.translation.translator import StreamTranslation
from nexus.wire.streams.sse import SSEFraming
from tests.support.chat_dialect import CONTEXT, chunk, read, sent

TEXTS = st.text(min_size=1, max_size=8)
COUNTS = st.integers(0, 10**6)
NAMES = st.sampled_from(["get", "put", "now"])
JSON_OBJECTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(json.dumps)


@st.composite
def pieces(draw, text):
    """Return *text* in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


@st.composite
def calls(draw, index):
    arguments = draw(st.one_of(st.just(""), JSON_OBJECTS))
    begin = ToolBegin(index, f"call_{index}", draw(NAMES))
    return [begin, *(ToolArguments(index, piece) for piece in draw(pieces(arguments))), ToolEnd(index)]


PARTS = st.one_of(
    TEXTS.map(TextPart), TEXTS.map(ThinkingPart), st.just(Signature("c2ln")), st.just(RedactedThinking("eA"))
)


@st.composite
def answers(draw):
    """Return the events of an answer as a decoder may yield them: calls at the end, in any order of their pieces."""
    parts = draw(st.lists(PARTS, max_size=5))
    whole = [draw(calls(index)) for index in range(draw(st.integers(0, 3)))]
    usage = Usage(draw(COUNTS), draw(COUNTS), draw(st.none() | COUNTS), None, draw(st.none() | COUNTS))
    reason = draw(st.sampled_from(["stop", "length", "content_filter"]))
    return [Start("msg_1", "claude"), *parts, *draw(interleaved(whole)), usage, Finish(reason), End()]


@st.composite
def interleaved(draw, sequences):
    """Return one sequence in which each of *sequences* keeps its order."""
    rest = [list(each) for each in sequences if each]
    found = []
    while rest:
        chosen = draw(st.sampled_from(rest))
        found.append(chosen.pop(0))
        rest = [each for each in rest if each]
    return found


def said(events):
    """Return what this dialect can say of ordered *events*: calls are counted from 0, and nothing is signed."""
    known = []
    places = {}
    for event in events:
        if isinstance(event, (Start, Signature, RedactedThinking)):
            continue
        if isinstance(event, ToolBegin):
            places[event.index] = len(places)
        if isinstance(event, (ToolBegin, ToolArguments, ToolEnd)):
            known.append(structs.replace(event, index=places[event.index]))
        else:
            known.append(event)
    # Usage may come at any place, and its last report counts.
    last = [event for event in known if isinstance(event, Usage)][-1:]
    return [event for event in known if not isinstance(event, Usage)] + last


def decoded(stream):
    return Ordering("call_r1").add(read(event.content for event in SSEFraming.events(stream)))


@given(answers())
def test_a_stream_says_what_its_events_say(events):
    ordered = Ordering("call_r1").add(events)

    stream = DIALECT.open_encoder(CONTEXT).encode(ordered)

    assert said(ordered) == said(decoded(stream))


@given(answers())
def test_a_whole_answer_says_what_its_stream_says(events):
    ordered = Ordering("call_r1").add(events)

    whole = Ordering("call_r1").add(DIALECT.decode_answer(DIALECT.encode_answer(ordered, CONTEXT)))

    for kind in (TextPart, ThinkingPart):
        assert joined(ordered, kind) == joined(whole, kind)
    assert called(ordered) == called(whole)
    assert said(ordered)[-3:] == said(whole)[-3:]


def joined(events, kind):
    return "".join(event.text for event in events if isinstance(event, kind))


def called(events):
    found = []
    for event in events:
        if isinstance(event, ToolBegin):
            found.append([event.id, event.name, ""])
        elif isinstance(event, ToolArguments):
            found[-1][2] += event.text
    return found


@given(answers(), st.data())
def test_a_stream_does_not_depend_on_how_its_bytes_are_cut(events, data):
    stream = DIALECT.open_encoder(CONTEXT).encode(Ordering("call_r1").add(events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    whole = StreamTranslation(DIALECT, DIALECT, CONTEXT, SSEFraming()).feed(stream)
    framing = SSEFraming()
    translation = StreamTranslation(DIALECT, DIALECT, CONTEXT, framing)

    translated = b"".join(
        translation.feed(framing.feed(stream[start:end])) for start, end in pairwise([0, *cuts, len(stream)])
    )

    assert whole == translated


@given(st.integers(1, 4), st.data())
def test_calls_may_come_in_any_order_of_their_pieces(number, data):
    texts = [data.draw(JSON_OBJECTS) for _ in range(number)]
    names = [data.draw(NAMES) for _ in range(number)]
    sequences = []
    for index, text in enumerate(texts):
        arguments = [{"index": index, "function": {"arguments": piece}} for piece in data.draw(pieces(text))]
        # The name may come after the first arguments.
        at = data.draw(st.integers(0, len(arguments)))
        arguments.insert(at, {"index": index, "id": f"c{index}", "function": {"name": names[index]}})
        sequences.append(arguments)
    chunks = [chunk({"tool_calls": [call]}) for call in data.draw(interleaved(sequences))]

    events = Ordering("made").add(read([*chunks, chunk({}, "tool_calls"), b"[DONE]"]))

    expected = {(f"c{index}", names[index], texts[index]) for index in range(number)}
    assert expected == {tuple(call) for call in called(events)}
    kinds = [type(event) for event in events if isinstance(event, (ToolBegin, ToolEnd))]
    assert [ToolBegin, ToolEnd] * number == kinds


@given(answers(), st.integers(0, 8), st.integers(400, 599))
def test_nothing_follows_a_failure(events, at, status):
    failing = [*events[:at], Failure(status, "full"), *events[at:]]

    stream = DIALECT.open_encoder(CONTEXT).encode(Ordering("call_r1").add(failing))

    *_, error, done = SSEFraming.events(stream)
    if at < len(events):
        assert json.loads(error.content)["error"]["message"] == "full"
        assert stream.count(b'"finish_reason":"') == 0
    assert done.content == b"[DONE]"


MEMBERS = [
    *("id", "model", "choices", "index", "delta", "message", "content", "tool_calls", "function", "name"),
    *("arguments", "finish_reason", "usage", "prompt_tokens", "error", "reasoning", "extra_content", "google"),
]
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)


@given(SOME_JSON)
def test_whatever_a_backend_sends_is_read_without_an_exception(document):
    events = read([json.dumps(document).encode(), chunk({"content": "hi"})])

    assert TextPart("hi") in events
    assert DIALECT.decode_error(502, json.dumps(document).encode()).message


IDS = st.sampled_from(["", "a", "b", "c"])
RESULTS = st.builds(
    ToolResult, IDS, st.lists(TEXTS.map(Text) | st.just(Image("iVBO")), max_size=2).map(tuple), NAMES, st.booleans()
)
HISTORIES = st.lists(
    st.one_of(
        TEXTS.map(lambda text: Message("system", (Text(text),))),
        st.lists(st.one_of(TEXTS.map(Text), RESULTS), max_size=3).map(lambda parts: Message("user", tuple(parts))),
        st.lists(
            st.one_of(TEXTS.map(Text), TEXTS.map(Thinking), st.builds(ToolCall, IDS, NAMES, JSON_OBJECTS)), max_size=3
        ).map(lambda parts: Message("assistant", tuple(parts))),
    ),
    max_size=6,
)


@given(HISTORIES, st.sampled_from(["generic", "vllm", "openai", "google"]))
def test_every_history_is_one_that_servers_take(messages, kind):
    written = sent(*messages, kind=kind)["messages"]

    waiting = []
    for place, message in enumerate(written):
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert not waiting
        if message["role"] == "system" and kind != "openai":
            assert place == 0
        if message["role"] == "user":
            assert place == 0 or written[place - 1]["role"] != "user"
        if place < len(written) - 1:
            waiting = [call["id"] for call in message.get("tool_calls", ())]


@given(HISTORIES)
def test_no_text_and_no_call_of_a_history_is_lost(messages):
    written = json.dumps(sent(*messages)["messages"], ensure_ascii=False)

    for message in messages:
        for part in message.parts:
            if isinstance(part, Text):
                assert json.dumps(part.text, ensure_ascii=False)[1:-1] in written
    calls_given = [part for message in messages for part in message.parts if isinstance(part, ToolCall)]
    assert written.count('"arguments"') >= len(calls_given)


@given(HISTORIES)
def test_the_beginning_of_a_history_stays_the_same_in_the_next_turn(messages):
    """Otherwise no engine could reuse its cache of the prompt."""
    later = [*messages, Message("assistant", (Text("yes"),)), Message("user", (Text("and?"),))]

    first, second = sent(*messages)["messages"], sent(*later)["messages"]

    # A call at the end still waits for its result; the system message may only be the last.
    assert [message["role"] for message in first] == [message["role"] for message in second[: len(first)]]
    assert first == second[: len(first)]


@given(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True), st.text(min_size=1, max_size=40))
def test_a_signature_survives_in_an_id(id_, signature):
    carried = signed(id_, signature)

    assert split(carried) == (id_, signature)
    assert carried.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=20))
@settings(max_examples=50)
def test_any_id_of_a_client_can_be_split(id_):
    assert split(id_).id == id_ or split(id_).signature
