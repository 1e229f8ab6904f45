"""A stream that its backend breaks ends with an error in the client's protocol, and never looks finished."""

import json
from time import monotonic

import pytest

from nexus.testing.waiting import eventually
from tests.support.dialects import ANTHROPIC, CHAT, DIALECTS, LAST_CHUNK, OLLAMA, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Reset, Send, Stall, Wait

IMPATIENT = {"idle_s": 0.15, "first_byte_s": 0.15}
SSE = tuple(dialect for dialect in DIALECTS if dialect is not OLLAMA)

BEGUN = 3
"""Events after which every stream has said something."""


@pytest.fixture
def begin(script):
    """Make a backend that begins a stream and goes on with these steps."""

    async def make(scene, broken, dialect, *steps, events=BEGUN):
        broken.play([ReadRequest(), Send(dialect.stream_head() + chunks(*dialect.events[:events])), *steps])
        client = await scene.connect()
        client.send(dialect, stream=True)
        return await client.reply()

    return make


def half_of(event):
    """Return a chunk that announces *event* and brings half of it."""
    return b"%x\r\n%b" % (len(event), event[: len(event) // 2])


def error_in(dialect, body):
    """Return the code of the error that ends a stream."""
    last = body.strip().rsplit(b"\n", 1)[-1].removeprefix(b"data: ")
    document = json.loads(last)
    return document["code"] if dialect is OLLAMA else document["error"]["code"]


BREAKS = {
    "closes between events": ((Close(),), "stream_truncated"),
    "resets between events": ((Reset(),), "stream_truncated"),
    "closes in an event": ((half_of, Close()), "stream_truncated"),
    "resets in an event": ((half_of, Reset()), "stream_truncated"),
    "ends in good order, unfinished": ((Send(LAST_CHUNK),), "stream_truncated"),
    "breaks its chunks": ((Wait(0.03), Send(b"zz\r\n")), "upstream_error"),
    "falls silent": ((Stall(),), "stream_stalled"),
    "falls silent in an event": ((half_of, Stall()), "stream_stalled"),
}


@pytest.mark.parametrize(("steps", "code"), BREAKS.values(), ids=BREAKS.keys())
async def test_a_broken_stream_ends_with_an_error_event(start, script, begin, dialect, steps, code):
    broken, other = await script(), await script()
    scene = await start(broken=broken, other=other, settings=IMPATIENT)
    steps = [Send(step(dialect.events[-1])) if callable(step) else step for step in steps]

    reply = await begin(scene, broken, dialect, *steps)

    said = b"".join(dialect.events[:BEGUN])
    assert reply.body.startswith(said)
    assert reply.body[len(said) :].startswith(dialect.failure)
    assert error_in(dialect, reply.body) == code
    assert not reply.is_whole
    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.code, outcome.termination, outcome.status) == ("backend_failed", code, "SD", 200)
    assert other.attempts == []
    await eventually(lambda: not broken.open_connections)


async def test_comments_keep_a_silent_stream_alive(start, script, begin, dialect):
    busy = await script()
    scene = await start(busy=busy, settings=IMPATIENT)
    silence = [Send(chunks(dialect.comment)), Wait(0.05)] * 12

    reply = await begin(scene, busy, dialect, *silence, Send(chunks(*dialect.events[BEGUN:]) + LAST_CHUNK))

    assert reply.looks_finished(dialect)
    assert reply.body.count(dialect.comment) >= 12


async def test_comments_do_not_keep_it_alive_after_they_have_stopped(start, script, begin, dialect):
    broken = await script()
    scene = await start(broken=broken, settings=IMPATIENT)

    reply = await begin(scene, broken, dialect, Send(chunks(dialect.comment)), Stall())

    assert error_in(dialect, reply.body) == "stream_stalled"


async def test_comments_do_not_outlive_the_deadline(start, script, begin, dialect):
    zombie = await script()
    scene = await start(zombie=zombie, settings={**IMPATIENT, "stream_s": 0.5})

    reply = await begin(scene, zombie, dialect, *[Send(chunks(dialect.comment)), Wait(0.05)] * 100)

    assert error_in(dialect, reply.body) == "deadline_exceeded"


async def test_comments_before_the_first_content_are_passed_on(start, script):
    busy = await script()
    scene = await start(busy=busy)
    silence = [Send(chunks(CHAT.comment)), Wait(0.1)] * 8
    busy.play([ReadRequest(), Send(CHAT.stream_head()), *silence, Send(chunks(*CHAT.events) + LAST_CHUNK)])
    client = await scene.connect()
    client.send(CHAT, stream=True)
    began = monotonic()

    await client.reader.readuntil(b": still there")
    heard_after_s = monotonic() - began
    reply = await client.reader.readuntil(b"data: [DONE]")

    assert heard_after_s < 0.78
    assert b": still there" in reply


async def test_comments_alone_are_no_answer(start, script):
    zombie = await script()
    scene = await start(zombie=zombie, settings={"first_byte_s": 0.8})
    zombie.play([ReadRequest(), Send(CHAT.stream_head()), *[Send(chunks(CHAT.comment)), Wait(0.05)] * 60])

    reply = await scene.ask(CHAT, stream=True)

    assert (reply.status, error_in(CHAT, reply.body)) == (200, "stream_stalled")


async def test_a_slow_stream_is_no_stalled_one(start, script, begin, dialect):
    slow = await script()
    scene = await start(slow=slow, settings=IMPATIENT)
    drops = [step for event in dialect.events[BEGUN:] for step in (Wait(0.09), Send(chunks(event)))]

    reply = await begin(scene, slow, dialect, *drops, Send(LAST_CHUNK))

    assert reply.looks_finished(dialect)
    assert reply.body == b"".join(dialect.events)


async def test_an_event_that_drips_in_is_passed_whole(start, script, begin, dialect):
    slow = await script()
    scene = await start(slow=slow)
    last = b"".join(dialect.events[BEGUN:])
    drops = [step for byte in last for step in (Send(chunks(bytes([byte]))), Wait(0.0002))]

    reply = await begin(scene, slow, dialect, *drops, Send(LAST_CHUNK))

    assert reply.looks_finished(dialect)
    assert reply.body == b"".join(dialect.events)


async def test_a_stream_may_not_last_longer_than_its_deadline(start, script, begin, dialect):
    endless = await script()
    scene = await start(endless=endless, settings={"stream_s": 0.2})
    more = [Send(chunks(dialect.events[2])), Wait(0.02)] * 40

    reply = await begin(scene, endless, dialect, *more, Stall())

    assert error_in(dialect, reply.body) == "deadline_exceeded"
    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.termination) == ("timed_out", "sD")
    assert scene.backend("endless").breaker == "closed"


async def test_a_chat_that_says_why_it_ends_is_finished_for_the_client(start, script, begin):
    terse = await script()
    scene = await start(terse=terse)

    reply = await begin(scene, terse, CHAT, Send(LAST_CHUNK), events=4)

    assert reply.looks_finished(CHAT)
    assert reply.body == b"".join(CHAT.events)


@pytest.mark.parametrize("how", [Close(), Reset()], ids=["closes", "resets"])
async def test_what_breaks_after_the_last_event_is_missed_by_nobody(start, script, begin, dialect, how):
    hasty = await script()
    scene = await start(hasty=hasty)

    reply = await begin(scene, hasty, dialect, how, events=None)

    assert reply.looks_finished(dialect)
    assert (await scene.books.outcome()).ending == "finished"


async def test_a_stream_without_framing_is_finished_by_its_last_event(start, script, dialect):
    old = await script()
    scene = await start(old=old)
    old.play([ReadRequest(), Send(dialect.stream_head(b"") + b"".join(dialect.events)), Close()])

    reply = await scene.ask(dialect, stream=True)

    assert reply.looks_finished(dialect)


async def test_a_stream_without_framing_that_lacks_its_last_event_is_cut(start, script, dialect):
    old = await script()
    scene = await start(old=old)
    old.play([ReadRequest(), Send(dialect.stream_head(b"") + b"".join(dialect.events[:BEGUN])), Close()])

    reply = await scene.ask(dialect, stream=True)

    assert error_in(dialect, reply.body) == "stream_truncated"


async def test_an_old_client_gets_a_stream_that_its_end_closes(start, script, dialect):
    good = await script()
    scene = await start(good=good)
    good.play([ReadRequest(), Send(dialect.good_stream)])
    client = await scene.connect()

    client.writer.write(dialect.request(dialect.body(stream=True), version="1.0"))
    _, headers = await client.head()
    body = await client.reader.read()

    assert "transfer-encoding" not in headers
    assert body == b"".join(dialect.events)


# what a backend reports itself


OWN_ERRORS = {
    "chat": b'data: {"error":{"message":"boom","type":"server_error","code":500}}\n\n',
    "responses": b'event: error\ndata: {"type":"error","code":"server_error","message":"boom","param":null}\n\n',
    "messages": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"boom"}}\n\n',
    "ollama": b'{"error":"boom"}\n',
}


async def test_an_error_of_the_backends_own_passes_and_is_noted(start, script, begin, dialect):
    broken = await script()
    scene = await start(broken=broken)
    error = OWN_ERRORS[dialect.name]

    reply = await begin(scene, broken, dialect, Send(chunks(error) + LAST_CHUNK))

    assert reply.body == b"".join(dialect.events[:BEGUN]) + error
    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.code) == ("backend_failed", "upstream_error")
    assert scene.backend("broken").breaker == "closed"


# bytes that are odd and pass


ODD = {
    "carriage returns and line feeds": [b'data: {"choices":[]}\r\n\r\n'],
    "bare carriage returns": [b'data: {"choices":[]}\r\r'],
    "several data lines": [b'data: {"choices":\ndata: []}\n\n'],
    "ids and retries": [b'id: 7\nretry: 100\ndata: {"choices":[]}\n\n'],
    "comments": [b": ping\n\n", b":\n\n"],
    "invalid UTF-8": [b'data: {"choices":[],"x":"\xff\xfe\xc0"}\n\n'],
    "a NUL": [b'data: {"choices":[],"x":"\x00"}\n\n'],
    "invalid JSON": [b'data: {"choices":[}\n\n', b"data: nonsense\n\n", b"data: null\n\n", b"data: [1,2]\n\n"],
    "deep JSON": [b"data: " + b"[" * 5000 + b"]" * 5000 + b"\n\n"],
    "unknown fields": [b"what: ever\nnothing\n\n"],
    "a usage that cannot be": [b'data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1e400}}\n\n'],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("size", [1, 7, 65536])
async def test_odd_events_pass_byte_for_byte(start, script, begin, odd, size):
    strange = await script()
    scene = await start(strange=strange)
    wire = b"".join(odd + list(CHAT.events[BEGUN:]))
    pieces = [Send(chunks(*(wire[at : at + size] for at in range(0, len(wire), size))))]

    reply = await begin(scene, strange, CHAT, *pieces, Send(LAST_CHUNK))

    assert reply.is_whole
    assert reply.body == b"".join(CHAT.events[:BEGUN]) + wire
    assert (await scene.books.outcome()).ending == "finished"


async def test_a_byte_order_mark_passes(start, script):
    strange = await script()
    scene = await start(strange=strange)
    wire = b"\xef\xbb\xbf" + b"".join(CHAT.events)
    strange.play([ReadRequest(), Send(CHAT.stream_head() + chunks(wire) + LAST_CHUNK)])

    assert (await scene.ask(CHAT, stream=True)).body == wire


@pytest.mark.parametrize("line", [b"not json\n", b"\n", b"\r\n", b'{"message":{"content":"\xff"}}\n', b"[]\n"])
async def test_odd_lines_pass_byte_for_byte(start, script, begin, line):
    strange = await script()
    scene = await start(strange=strange)

    reply = await begin(scene, strange, OLLAMA, Send(chunks(line, *OLLAMA.events[BEGUN:]) + LAST_CHUNK))

    assert reply.body == b"".join([*OLLAMA.events[:BEGUN], line, *OLLAMA.events[BEGUN:]])


# sizes


@pytest.mark.parametrize("dialect", [CHAT, ANTHROPIC, OLLAMA], ids=lambda dialect: dialect.name)
async def test_an_event_that_is_too_long_ends_the_stream(start, script, begin, dialect):
    verbose = await script()
    scene = await start(verbose=verbose)
    long = dialect.events[2].replace(b"{", b"{" + b" " * 2_000_000, 1)

    reply = await begin(scene, verbose, dialect, Send(chunks(long)))

    assert error_in(dialect, reply.body) == "event_too_large"


async def test_a_hundred_thousand_small_chunks_pass(start, script, begin):
    chatty = await script()
    scene = await start(chatty=chatty)
    events = CHAT.events[2] * 1000
    crumbs = chunks(*(bytes([byte]) for byte in events), *CHAT.events[3:])

    reply = await begin(scene, chatty, CHAT, Send(crumbs + LAST_CHUNK))

    assert reply.looks_finished(CHAT)
    assert len(reply.body) == sum(map(len, CHAT.events)) + len(events)


async def test_a_large_answer_passes_whole(start, script):
    verbose = await script()
    scene = await start(verbose=verbose)
    body = b'{"text":"' + b"x" * 30_000_000 + b'"}'
    verbose.play([ReadRequest(), Send(whole_answer(body))])

    reply = await scene.ask(CHAT)

    assert (reply.is_whole, len(reply.body), reply.body == body) == (True, len(body), True)


async def test_a_large_answer_that_is_cut_does_not_look_whole(start, script):
    verbose = await script()
    scene = await start(verbose=verbose)
    body = b'{"text":"' + b"x" * 12_000_000 + b'"}'
    verbose.play([ReadRequest(), Send(whole_answer(body)[:-2_000_000]), Close()])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.is_whole) == (200, False)
    assert (await scene.books.outcome()).ending == "backend_failed"


async def test_the_usage_of_a_stream_is_accounted(start, script, begin):
    good = await script()
    scene = await start(good=good)
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'

    await begin(scene, good, CHAT, Send(chunks(*CHAT.events[3:4], usage, CHAT.events[4]) + LAST_CHUNK))

    outcome = await scene.books.outcome()
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, 2)
