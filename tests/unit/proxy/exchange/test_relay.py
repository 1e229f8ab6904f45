"""A stream reaches the client as it comes, never looks finished when it is not, and pins nobody for ever."""

import asyncio
from time import monotonic

import pytest

from nexus.domain.model_load import ModelLoad
from nexus.error_codes import UpstreamFault
from nexus.proxy.exchange import relay as relays
from nexus.proxy.exchange.relay import LAST_CHUNK, End, StreamRelay
from nexus.proxy.exchange.response import Response
from nexus.proxy.upstream.response_parser import ResponseHead
from nexus.tasks import start

EVENTS = [(b"Content-Type", b"text/event-stream")]
AUDIO = [(b"Content-Type", b"audio/mpeg")]


@pytest.fixture
async def make_relay(client, connection, ask):
    """A relay that has begun, and the answer it relays; the test plays the backend through the answer."""
    made = []

    def make(
        headers=EVENTS,
        first=b"hello\n",
        *,
        is_chunked=False,
        deadline_s=60.0,
        first_content_s=60.0,
        restore=None,
        **deadlines,
    ):
        deadlines = {"idle_s": 60.0, "turn_until": lambda now: now, "figures": ModelLoad()} | deadlines
        response = Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(True))
        connection.send(b"", b"", response)
        response.on_head(ResponseHead(200, headers))
        response.on_body(first)
        relay = StreamRelay(
            client,
            connection,
            response,
            is_chunked=is_chunked,
            deadline=monotonic() + deadline_s,
            first_content_by=monotonic() + first_content_s,
            restore=restore,
            **deadlines,
        )
        made.append(relay)
        relay.start()
        return relay, response

    yield make
    for relay in made:
        relay.stop()


async def end_of(relay):
    return await asyncio.wait_for(relay.end(), 2)


# passing on


async def test_events_pass_as_they_come(make_relay, client):
    relay, _response = make_relay()
    relay.on_body(b"wor")
    before = client.transport.written
    relay.on_body(b"ld\nend\n")
    relay.on_end(is_framed=True)

    assert before == b"hello\n"
    assert client.transport.written == b"hello\nworld\nend\n"
    assert (await end_of(relay), relay.bytes_out, relay.code) == (End.COMPLETE, 16, None)


async def test_each_block_is_one_chunk(make_relay, client):
    relay, _response = make_relay(is_chunked=True)
    relay.on_body(b"one\ntwo\n")
    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)

    assert client.transport.written == b"6\r\nhello\n\r\n8\r\none\ntwo\n\r\n4\r\nend\n\r\n" + LAST_CHUNK
    assert relay.bytes_out == 18


async def test_what_passes_may_be_put_back_into_the_clients_words(make_relay, client):
    make_relay(restore=lambda events: events.replace(b"hello", b"goodbye"), is_chunked=True)

    assert client.transport.written == b"8\r\ngoodbye\n\r\n"


async def test_a_chunk_is_never_empty(make_relay, client):
    relay, _ = make_relay(is_chunked=True)

    relay.forward(b"")

    assert client.transport.written == b"6\r\nhello\n\r\n"


async def test_what_a_finished_answer_lacks_is_added(make_relay, client, scan):
    relay, _response = make_relay()
    scan.last_words = b"[DONE]\n"
    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)

    assert client.transport.written == b"hello\nend\n[DONE]\n"
    assert await end_of(relay) is End.COMPLETE


async def test_an_error_of_the_backends_own_is_an_end(make_relay, client):
    relay, _response = make_relay()
    relay.on_body(b"error 500\n")
    relay.on_end(is_framed=True)

    assert client.transport.written == b"hello\nerror 500\n"
    assert await end_of(relay) is End.COMPLETE


@pytest.mark.parametrize("is_framed", [True, False])
async def test_an_answer_that_is_no_stream_ends_with_its_bytes(make_relay, client, is_framed):
    relay, _response = make_relay(AUDIO, b"\x00\x01", is_chunked=True)
    relay.on_end(is_framed=is_framed)

    assert client.transport.written == b"2\r\n\x00\x01\r\n" + LAST_CHUNK
    assert await end_of(relay) is End.COMPLETE


async def test_an_answer_that_was_over_before_is_relayed_all_the_same(client, connection, ask):
    response = Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(True))
    response.on_head(ResponseHead(200, EVENTS))
    response.on_body(b"hello\nend\n")
    response.on_end(is_framed=True)
    deadlines = {"idle_s": 1, "first_content_by": monotonic() + 1, "deadline": monotonic() + 1}
    deadlines |= {"turn_until": lambda now: now, "figures": ModelLoad()}
    relay = StreamRelay(client, connection, response, is_chunked=False, restore=None, **deadlines)

    relay.start()

    assert await end_of(relay) is End.COMPLETE
    assert relay._timer is None
    relay.stop()


# being cut


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_stream_that_ends_too_early_is_said_to(make_relay, client, transport, is_chunked):
    relay, _response = make_relay(is_chunked=is_chunked)
    relay.on_body(b"wor")
    relay.on_end(is_framed=True)

    assert b"failure stream_truncated\n" in client.transport.written
    assert b"wor" not in client.transport.written
    assert LAST_CHUNK not in client.transport.written
    assert (client.transport.is_closed, transport.is_aborted) == (True, True)
    assert (await end_of(relay), relay.code) == (End.CUT, "stream_truncated")


@pytest.mark.parametrize(
    ("fault", "message", "code"),
    [
        (UpstreamFault.TRUNCATED, "", "stream_truncated"),
        (UpstreamFault.RESET, "", "stream_truncated"),
        (UpstreamFault.PROTOCOL, "", "upstream_error"),
        (UpstreamFault.EVENT_TOO_LARGE, "", "event_too_large"),
        (UpstreamFault.TLS, "", "upstream_error"),
    ],
)
async def test_a_stream_that_breaks_says_how(make_relay, client, fault, message, code):
    relay, _response = make_relay()
    relay.on_failed(fault, message)

    assert client.transport.written.endswith(b"failure " + code.encode() + b"\n")
    assert (await end_of(relay), relay.code) == (End.CUT, code)


async def test_what_breaks_after_the_end_is_not_missed(make_relay, client):
    relay, _response = make_relay(is_chunked=True)
    relay.on_body(b"end\n")
    relay.on_failed(UpstreamFault.TRUNCATED, "")

    assert client.transport.written.endswith(LAST_CHUNK)
    assert await end_of(relay) is End.COMPLETE


async def test_what_breaks_while_it_lacks_something_is(make_relay, scan):
    relay, _response = make_relay()
    scan.last_words = b"[DONE]\n"
    relay.on_body(b"end\n")
    relay.on_failed(UpstreamFault.TRUNCATED, "")

    assert await end_of(relay) is End.CUT


async def test_bytes_that_are_no_stream_are_cut_without_a_word(make_relay, client):
    relay, _response = make_relay(AUDIO, b"\x00", is_chunked=True)
    relay.on_failed(UpstreamFault.TRUNCATED, "")

    assert client.transport.written == b"1\r\n\x00\r\n"
    assert client.transport.is_closed
    assert await end_of(relay) is End.CUT


class FakeTranslation:
    """Passes events on until one is an error; nothing follows an error."""

    def __init__(self):
        self.has_failed = False

    def feed(self, block):
        if self.has_failed:
            return b""
        self.has_failed = b"cannot" in block or b"failure" in block
        return b"translated " + block

    def end(self):
        return b"" if self.has_failed else b"closing\n"

    def ping(self):
        return b"ping\n"


async def test_a_translation_that_fails_cuts_the_stream(make_relay, client):
    relay, _ = make_relay(translation=FakeTranslation(), is_chunked=True)
    relay.on_body(b"cannot be translated\n")

    assert (await end_of(relay), relay.code) == (End.CUT, "upstream_error")
    assert client.transport.written == b"11\r\ntranslated hello\n\r\n20\r\ntranslated cannot be translated\n\r\n"


async def test_a_stream_that_is_cut_ends_in_a_translated_error(make_relay, client):
    relay, _ = make_relay(translation=FakeTranslation())
    relay.cut("server_shutdown")

    assert (await end_of(relay), relay.code) == (End.CUT, "server_shutdown")
    assert client.transport.written == b"translated hello\ntranslated failure server_shutdown\n"


async def test_a_translated_stream_is_closed_in_the_dialect_of_the_client(make_relay, client):
    relay, _ = make_relay(translation=FakeTranslation())
    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)

    assert client.transport.written == b"translated hello\ntranslated end\nclosing\n"


async def test_a_translated_stream_that_says_nothing_is_kept_open(make_relay, client, monkeypatch):
    monkeypatch.setattr(relays, "PING_S", 0.01)
    make_relay(translation=FakeTranslation())

    await asyncio.sleep(0.03)

    assert client.transport.written.startswith(b"translated hello\nping\n")


async def test_a_client_that_does_not_read_is_not_pinged(make_relay, client, monkeypatch):
    relay, _ = make_relay(translation=FakeTranslation())
    client.stop_reading(unsent=100)
    monkeypatch.setattr(relays, "PING_S", 0.0)

    relay._stop_watching()
    relay._watch()

    assert client.transport.written == b"translated hello\n"


async def test_it_is_cut_once_and_nothing_follows(make_relay, client, connection):
    relay, _ = make_relay()
    relay.cut("server_shutdown")
    written = client.transport.written

    relay.cut("deadline_exceeded")
    connection.data_received(b"more\n")

    assert (client.transport.written, relay.code) == (written, "server_shutdown")


async def test_a_client_that_is_gone_is_written_to_no_more(make_relay, client):
    relay, _response = make_relay()
    client.is_gone = True

    relay.on_body(b"more\n")
    relay.cut("server_shutdown")

    assert client.transport.written == b"hello\n"
    assert await end_of(relay) is End.CUT


# deadlines


async def test_a_silent_backend_is_given_up(make_relay, transport):
    relay, _ = make_relay(idle_s=0.03)

    assert (await end_of(relay), relay.code, transport.is_aborted) == (End.CUT, "stream_stalled", True)


async def test_comments_are_signs_of_life_once_there_is_content(make_relay, client):
    relay, response = make_relay(idle_s=0.3)
    ending = start(relay.end(), name="exchange")
    for _ in range(8):
        relay.on_body(b":still here\n")
        await asyncio.sleep(0.05)
    was_done = relay.done.done()

    assert not was_done
    assert client.transport.written.count(b":still here\n") == 8
    relay.cut("server_shutdown")
    await ending
    assert response.last_content_at < monotonic() - 0.3


async def test_content_that_comes_late_is_noticed_when_it_comes(make_relay, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.COMMIT_HOLD_S", 0.0)
    relay, response = make_relay(first=b"role\n")
    released_at = monotonic()

    relay.on_body(b"role\n")
    before = response.begun_at
    relay.on_body(b"hello\n")

    assert before is None
    assert response.begun_at == response.content_at >= released_at


async def test_an_event_that_is_too_long_breaks_the_stream(make_relay, transport):
    relay, _ = make_relay()
    relay.on_body(b"x" * 2000)

    assert (await end_of(relay), relay.code, transport.is_aborted) == (End.CUT, "event_too_large", True)


async def test_comments_alone_do_not_put_off_the_first_content(make_relay, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.COMMIT_HOLD_S", 0.0)
    relay, _response = make_relay(first=b":still here\n", idle_s=60.0, first_content_s=0.1)

    async def drip():
        while True:
            relay.on_body(b":still here\n")
            await asyncio.sleep(0.005)

    dripping = start(drip(), name="drip")

    assert (await end_of(relay), relay.code) == (End.CUT, "stream_stalled")
    dripping.cancel()


async def test_what_waits_for_its_turn_at_the_backend_may_begin_later(make_relay, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.COMMIT_HOLD_S", 0.0)
    turn_comes_at = monotonic() + 0.3
    relay, _ = make_relay(first=b":still here\n", first_content_s=0.05, turn_until=lambda _now: turn_comes_at)

    assert (await end_of(relay), relay.code) == (End.CUT, "stream_stalled")
    assert monotonic() >= turn_comes_at


async def test_silence_after_the_first_content_is_noticed_in_its_own_time(make_relay, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.COMMIT_HOLD_S", 0.0)
    relay, _response = make_relay(first=b":still here\n", idle_s=0.1, first_content_s=60.0)
    await asyncio.sleep(0.05)
    relay.on_body(b"hello\n")

    assert (await end_of(relay), relay.code) == (End.CUT, "stream_stalled")


async def test_events_are(make_relay):
    relay, _response = make_relay(idle_s=0.3)
    start(relay.end(), name="exchange")
    for _ in range(8):
        relay.on_body(b"more\n")
        await asyncio.sleep(0.05)

    assert not relay.done.done()


async def test_bytes_that_are_no_stream_are_signs_of_life_too(make_relay):
    relay, _response = make_relay(AUDIO, b"\x00", idle_s=0.3, first_content_s=60.0)
    for _ in range(8):
        relay.on_body(b"\x00")
        await asyncio.sleep(0.05)
    was_done = relay.done.done()

    assert not was_done
    assert (await end_of(relay), relay.code) == (End.CUT, "stream_stalled")


async def test_content_that_is_still_to_come_may_take_its_own_time(make_relay, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.COMMIT_HOLD_S", 0.0)
    relay, _ = make_relay(first=b"role\n", idle_s=0.01, first_content_s=0.1)
    began = monotonic()

    assert (await end_of(relay), relay.code) == (End.CUT, "stream_stalled")
    assert monotonic() - began >= 0.09


async def test_no_stream_outlives_its_deadline(make_relay):
    relay, _ = make_relay(deadline_s=0.03)

    assert (await end_of(relay), relay.code) == (End.CUT, "deadline_exceeded")


# back-pressure


async def test_a_client_that_stops_reading_stops_the_backend(make_relay, client, transport):
    make_relay()

    client.stop_reading(unsent=100)
    is_paused = transport.is_reading_paused
    client.read_on()

    assert (is_paused, transport.is_reading_paused) == (True, False)


async def test_a_client_that_has_stopped_before_is_noticed(make_relay, client, transport):
    client.writing_paused = True
    make_relay()

    assert transport.is_reading_paused


async def test_what_a_client_does_not_take_waits_for_it_in_pieces(make_relay, client):
    relay, _response = make_relay(AUDIO, b"1")
    client.stop_reading(unsent=100)
    relay.on_body(b"2" * 150_000)
    relay.on_end(is_framed=True)
    before = client.transport.written
    waiting = start(relay.taken(), name="exchange")
    await asyncio.sleep(0)
    client.pauses_always = True
    client.read_on()

    assert (before, relay.done.done(), waiting.done()) == (b"1", True, False)
    assert (client.transport.written, relay.bytes_out) == (b"1" + b"2" * 65536, 65537)
    client.pauses_always = False
    client.read_on()
    await asyncio.wait_for(waiting, 2)
    assert (client.transport.written, relay.bytes_out) == (b"1" + b"2" * 150_000, 150_001)


async def test_a_long_event_is_written_in_pieces(make_relay, client):
    make_relay(AUDIO, b"x" * 70_000, is_chunked=True)

    assert client.transport.written == b"10000\r\n%b\r\n1170\r\n%b\r\n" % (b"x" * 65536, b"x" * 4464)


async def test_the_backend_may_go_before_the_client_has_taken_all(make_relay, client, transport):
    relay, _response = make_relay(AUDIO, b"1")
    client.stop_reading(unsent=100)
    relay.on_body(b"2")
    relay.on_end(is_framed=True)
    transport.is_reading_paused = False
    end = await end_of(relay)
    client.stop_reading(unsent=100)

    assert end is End.COMPLETE
    assert (client.transport.written, transport.is_reading_paused) == (b"1", False)


async def test_an_error_comes_after_what_waits(make_relay, client):
    relay, _ = make_relay()
    client.stop_reading(unsent=100)
    relay.forward(b"more\n")
    relay.cut("deadline_exceeded")
    is_closed = client.transport.is_closed
    client.read_on()

    assert not is_closed
    assert client.transport.written == b"hello\nmore\nfailure deadline_exceeded\n"
    assert client.transport.is_closed


async def test_a_client_that_leaves_before_it_has_taken_all_was_not_answered(make_relay, client):
    relay, _response = make_relay()
    waiting = start(relay.end(), name="exchange")
    await asyncio.sleep(0)
    client.stop_reading(unsent=100)
    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_backend_is_not_blamed_for_a_client_that_does_not_read(make_relay, client):
    relay, _ = make_relay(idle_s=0.02)
    client.stop_reading(unsent=100)
    await asyncio.sleep(0.06)
    was_done = relay.done.done()
    client.read_on()
    relay._watch()

    assert (was_done, relay.done.done()) == (False, False)


# letting go


async def test_whoever_stops_it_leaves_no_timer_behind(make_relay, client):
    relay, _response = make_relay(idle_s=0.01)
    client.stop_reading(unsent=100)

    relay.stop()
    await asyncio.sleep(0.03)
    relay.on_body(b"more\n")

    assert not relay.done.done()
    assert client.pause is None
    assert client.transport.written == b"hello\n"


async def test_an_end_counts_even_when_the_client_leaves_in_that_moment(make_relay):
    relay, _response = make_relay()
    waiting = start(relay.end(), name="exchange")
    await asyncio.sleep(0)

    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)
    waiting.cancel()

    assert await waiting is End.COMPLETE


async def test_a_client_that_leaves_ends_the_waiting(make_relay):
    relay, _ = make_relay()
    waiting = start(relay.end(), name="exchange")
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_end_counts_when_the_client_leaves_while_many_others_are_settled(make_relay, client, monkeypatch):
    relay, _response = make_relay()
    turn = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(client.starts, "turn_to_settle", lambda: turn)
    waiting = start(relay.end(), name="exchange")
    relay.on_body(b"end\n")
    relay.on_end(is_framed=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    was_waiting = not waiting.done()

    waiting.cancel()

    assert was_waiting
    assert await waiting is End.COMPLETE
