"""A backend that keeps failing is left alone, one request tries it again, and the last one is never given up."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from nexus.fleet.health import breaker
from nexus.testing.waiting import eventually
from tests.support.dialects import CHAT, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Send, Stall, Wait

BUSY = b'{"error":{"message":"overloaded","type":"server_error"}}'
GOOD = [ReadRequest(), Send(CHAT.good_answer)] * 20


@pytest.fixture
def short_pause(monkeypatch):
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.1)


def answers(status, headers=""):
    return [ReadRequest(), Send(whole_answer(BUSY, status=status, headers=headers)), Close()]


async def fail_three_times(scene):
    for _ in range(3):
        await scene.ask(CHAT)


FAILURES = {
    "hangs up": [ReadRequest(), Close()],
    "garbage": [ReadRequest(), Send(bytes(range(256))), Close()],
    "500": answers(500),
    "502": answers(502),
    "503": answers(503),
    "504": answers(504),
    "truncated": [ReadRequest(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), Close()],
}


@pytest.mark.parametrize("steps", FAILURES.values(), ids=FAILURES.keys())
async def test_three_failures_in_a_row_open_the_breaker(start, script, steps):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play(steps)
    steady.play(GOOD)

    await fail_three_times(scene)
    before = len(broken.attempts)
    reply = await scene.ask(CHAT)

    assert scene.backend("broken").breaker == "open"
    assert (before, len(broken.attempts)) == (3, 3)
    assert reply.status == 200
    assert "x-nexus-attempts" not in reply.headers


@pytest.mark.parametrize("how", [(Close(),), (Stall(),)], ids=["cut", "stalled"])
async def test_streams_that_break_open_the_breaker(start, script, how):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady, settings={"idle_s": 0.1, "first_byte_s": 0.1})
    broken.play([ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:3])), *how])

    for _ in range(3):
        await scene.ask(CHAT, stream=True)
    await eventually(lambda: len(scene.outcomes) == 3)

    assert scene.backend("broken").breaker == "open"


async def test_a_success_in_between_starts_the_count_again(start, script):
    shaky, steady = await script(), await script()
    scene = await start(shaky=shaky, steady=steady)
    steady.play(GOOD)
    fails, works = [ReadRequest(), Close()], [ReadRequest(), Send(CHAT.good_answer), Close()]
    shaky.play(fails, fails, works, fails, fails, works)

    for _ in range(6):
        assert (await scene.ask(CHAT)).status == 200

    assert scene.backend("shaky").breaker == "closed"
    assert len(shaky.attempts) == 6


HARMLESS = {"400": 400, "404": 404, "422": 422, "429": 429, "401": 401}


@pytest.mark.parametrize("status", HARMLESS.values(), ids=HARMLESS.keys())
async def test_what_is_not_the_backends_fault_never_opens_it(start, script, status):
    strict = await script()
    scene = await start(strict=strict)
    strict.play(answers(status))

    for _ in range(5):
        await scene.ask(CHAT)

    assert scene.backend("strict").breaker == "closed"


async def test_clients_that_leave_never_open_it(start, script):
    slow = await script()
    scene = await start(slow=slow)
    slow.play([ReadRequest(), Stall()])

    for count in range(1, 6):
        client = await scene.connect()
        client.send(CHAT)
        await eventually(lambda count=count: len(slow.attempts) == count)
        client.leave()
        await eventually(lambda count=count: len(scene.outcomes) == count)

    assert scene.backend("slow").breaker == "closed"


async def test_a_refused_connection_needs_no_second_one(start, script):
    gone, steady = await script(), await script()
    scene = await start(gone=gone, steady=steady, options={"gone": {"url": "http://127.0.0.1:1"}})
    steady.play(GOOD)

    await scene.ask(CHAT)

    assert scene.backend("gone").breaker == "open"


@pytest.mark.usefixtures("short_pause")
async def test_after_a_pause_one_request_at_a_time_tries_it(start, script):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play([ReadRequest(), Close()])
    steady.play(GOOD)
    await fail_three_times(scene)
    broken.play([ReadRequest(), Wait(0.15), Send(CHAT.good_answer)])
    await eventually(lambda: scene.backend("broken").breaker == "half_open")

    replies = await asyncio.gather(*(scene.ask(CHAT) for _ in range(8)))

    backends = [reply.headers["x-nexus-backend"] for reply in replies]
    assert (backends.count("broken"), backends.count("steady")) == (1, 7)
    assert scene.backend("broken").breaker == "closed"


@pytest.mark.usefixtures("short_pause")
async def test_a_trial_that_fails_opens_it_again(start, script):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play([ReadRequest(), Close()])
    steady.play(GOOD)
    await fail_three_times(scene)
    await eventually(lambda: scene.backend("broken").breaker == "half_open")

    reply = await scene.ask(CHAT)

    assert (reply.headers["x-nexus-backend"], reply.headers["x-nexus-attempts"]) == ("steady", "2")
    assert scene.backend("broken").breaker == "open"


@pytest.mark.usefixtures("short_pause")
async def test_a_trial_whose_client_leaves_lets_another_try(start, script):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play([ReadRequest(), Close()])
    steady.play(GOOD)
    await fail_three_times(scene)
    broken.play([ReadRequest(), Stall()], [ReadRequest(), Send(CHAT.good_answer)])
    await eventually(lambda: scene.backend("broken").breaker == "half_open")

    client = await scene.connect()
    client.send(CHAT)
    await eventually(lambda: broken.attempts)
    assert scene.backend("broken").load.probing
    client.leave()
    await eventually(lambda: len(scene.outcomes) == 4)

    assert (await scene.ask(CHAT)).headers["x-nexus-backend"] == "broken"


async def test_the_last_backend_of_a_model_is_never_given_up(start, script):
    only = await script()
    scene = await start(only=only)
    only.play([ReadRequest(), Close()])
    await fail_three_times(scene)
    only.play(GOOD)

    assert scene.backend("only").breaker == "open"
    assert (await scene.ask(CHAT)).status == 200


# Retry-After


def in_seconds(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


WAITS = {
    "seconds": ("7", "7"),
    "too many seconds": ("99999999", "300"),
    "a date": (None, None),
    "a date far away": ("Fri, 01 Jan 2099 00:00:00 GMT", "300"),
    "negative": ("-1", None),
    "junk": ("soon", None),
    "not a number": ("nan", None),
}


@pytest.mark.parametrize(("asked", "told"), WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("status", [429, 503])
async def test_a_backend_that_asks_for_it_is_left_alone(start, script, status, asked, told):
    busy, steady = await script(), await script()
    scene = await start(busy=busy, steady=steady)
    asked = asked or in_seconds(9)
    busy.play(answers(status, f"Retry-After: {asked}\r\n"))
    steady.play(GOOD)
    is_understood = told is not None or "GMT" in asked

    replies = [await scene.ask(CHAT), await scene.ask(CHAT)]

    assert [reply.headers["x-nexus-backend"] for reply in replies] == ["steady", "steady"]
    assert scene.backend("busy").is_cooling is is_understood
    assert len(busy.attempts) == (1 if is_understood else 2)


@pytest.mark.parametrize(("asked", "told"), WAITS.values(), ids=WAITS.keys())
async def test_when_nobody_else_is_there_the_client_is_told_how_long(start, script, dialect, asked, told):
    busy = await script()
    scene = await start(busy=busy)
    is_date = asked is None
    busy.play(answers(429, f"Retry-After: {asked or in_seconds(9)}\r\n"))

    reply = await scene.ask(dialect)

    assert (reply.status, reply.body) == (429, BUSY)
    if is_date:
        assert 7 <= int(reply.headers["retry-after"]) <= 9
    else:
        assert reply.headers.get("retry-after") == told


async def test_milliseconds_are_for_the_client_to_read(start, script):
    busy = await script()
    scene = await start(busy=busy)
    busy.play(answers(429, "Retry-After-Ms: 1500\r\n"))

    reply = await scene.ask(CHAT)

    assert reply.headers["retry-after-ms"] == "1500"


@pytest.mark.parametrize("status", [429, 503])
async def test_asking_to_be_left_alone_is_no_failure(start, script, status):
    busy, steady = await script(), await script()
    scene = await start(busy=busy, steady=steady)
    busy.play(answers(status, "Retry-After: 0\r\n"))
    steady.play(GOOD)

    for _ in range(4):
        await scene.ask(CHAT)

    assert scene.backend("busy").breaker == "closed"
