"""A server that answers its probes and lets inference hang: it gets no share of the traffic, and costs no answer."""

import asyncio
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest

from nexus.simulator import CommentsOnly, Stall
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

CLIENTS = 12
PATIENCE_S = 6.0
FOR_S = 8.0
CHAT = "/v1/chat/completions"


def row(nexus, name):
    return next(row for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == name)


async def ask_once(session, url, *, is_stream, patience_s=PATIENCE_S):
    """Return what came of one request: the number of attempts, or how it failed."""
    patience = aiohttp.ClientTimeout(total=patience_s)
    try:
        async with session.post(url + CHAT, json=chat(stream=is_stream), timeout=patience) as reply:
            text = await reply.text()
            is_whole = "[DONE]" in text if is_stream else '"choices"' in text
            return int(reply.headers.get("x-nexus-attempts", "1")) if reply.status == 200 and is_whole else text
    except TimeoutError:
        return "gave up"


def ask_for_a_while(url, *, is_stream, then, for_s=FOR_S):
    """Let clients ask one request after the other, call *then* after a third of the time, and count what came of it."""

    async def client(session, until_s, found):
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            found[await ask_once(session, url, is_stream=is_stream)] += 1

    async def run():
        found = Counter()
        loop = asyncio.get_running_loop()
        loop.call_later(for_s / 3, then)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            until_s = loop.time() + for_s
            await asyncio.gather(*(client(session, until_s, found) for _ in range(CLIENTS)))
        return found

    return asyncio.run(run())


def give_up(url, times, *, is_stream, after_s):
    """Let so many clients ask at once, and leave after a while."""

    async def run():
        async with aiohttp.ClientSession() as session:
            asked = (ask_once(session, url, is_stream=is_stream, patience_s=after_s) for _ in range(times))
            return await asyncio.gather(*asked)

    return asyncio.run(run())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("is_stream", [True, False], ids=["streams", "whole answers"])
@pytest.mark.parametrize("begins", ["at the start", "in the middle"])
def test_no_answer_is_lost_to_a_server_that_hangs(simulate, start_nexus, is_stream, begins):
    # The one that is going to hang is the fastest before.
    hung, two, three = (
        simulate(name=name, ttft_s=ttft_s, answer_tokens=4)
        for name, ttft_s in (("hung", 0.15), ("gpu-2", 0.3), ("gpu-3", 0.3))
    )
    nexus = start_nexus(table_of(hung) + table_of(two) + table_of(three))
    if begins == "at the start":
        hung.faults.set(Stall())

    found = ask_for_a_while(nexus.url, is_stream=is_stream, then=lambda: hung.faults.set(Stall()))

    failed = {what: count for what, count in found.items() if isinstance(what, str)}
    assert sum(found.values()) > 200
    assert sum(failed.values()) < 0.01 * sum(found.values()), found
    assert found[2] > 0
    assert {line["to"] for line in nexus.log_lines("request_moved")} <= {"gpu-2", "gpu-3"}
    assert row(nexus, "hung")["models"][0]["breaker"] != "closed"
    # Nothing is left there but at most the request that tries it.
    assert hung.active <= 1
    hung.faults.clear()


def test_a_silent_backend_is_told_everywhere(simulate, start_nexus):
    hung, well = simulate(name="hung"), simulate(name="well", ttft_s=0.5)
    # It may not be asked twice, so its requests stay where they are.
    nexus = start_nexus(table_of(hung, retry_unsafe=False) + table_of(well))
    hung.faults.set(Stall())

    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(give_up, nexus.url, 4, is_stream=False, after_s=4.5)
        until(lambda: row(nexus, "hung")["oldest_unanswered_s"] > 3.2)
        told = ask(nexus.url, "/v1/route/explain", chat()).json()
        metrics = ask(nexus.url, "/metrics").body.decode()
        found = waiting.result()

    assert Counter(found) == {"gave up": 2, 1: 2}
    assert told["decision"]["backend"] == "well"
    assert "Backend has been silent for 3 s with 2 requests waiting, longer than answers take" in str(told["rounds"])
    samples = re.findall(r"^nexus_backend_oldest_unanswered_seconds\{.*hung.*\} (.+)$", metrics, re.MULTILINE)
    assert [float(sample) > 3 for sample in samples] == [True]
    hung.faults.clear()


@pytest.mark.parametrize("fault", [Stall(), Stall(phase="after_headers"), CommentsOnly()], ids=lambda f: f.kind)
def test_clients_that_give_up_on_a_silent_backend_open_its_breaker(simulate, start_nexus, fault):
    hung, well = simulate(name="hung"), simulate(name="well")
    nexus = start_nexus(table_of(hung, priority=1) + table_of(well, priority=99))
    ask(nexus.url, CHAT, chat(stream=True))
    hung.faults.set(fault)

    few = give_up(nexus.url, 4, is_stream=True, after_s=1.0)
    before = row(nexus, "hung")["models"][0]["breaker"]
    several = give_up(nexus.url, 3, is_stream=True, after_s=3.5)
    until(lambda: row(nexus, "hung")["models"][0]["breaker"] == "open")

    assert set(few) | set(several) == {"gave up"}
    assert before == "closed"
    assert ask(nexus.url, CHAT, chat()).headers["X-Nexus-Backend"] == "well"
    hung.faults.clear()


def test_a_sole_backend_that_is_slow_once_keeps_its_request(simulate, start_nexus):
    sole = simulate()
    nexus = start_nexus(table_of(sole))
    ask(nexus.url, CHAT, chat())
    sole.faults.set(Stall())

    given_up = give_up(nexus.url, 3, is_stream=False, after_s=3.5)
    until(lambda: row(nexus, "gpu-1")["models"][0]["breaker"] == "open")
    sole.faults.clear()

    assert given_up == ["gave up"] * 3
    assert ask(nexus.url, CHAT, chat()).status == 200
    assert nexus.log_lines("request_moved") == []


def test_an_idle_standby_takes_over_from_a_server_that_hangs(simulate, start_nexus):
    primary, standby = simulate(name="primary", ttft_s=0.1), simulate(name="standby", ttft_s=0.1)
    nexus = start_nexus(table_of(primary, priority=1) + table_of(standby, priority=99))
    for _ in range(5):
        ask(nexus.url, CHAT, chat(stream=True))
    primary.faults.set(Stall())

    found = asyncio.run(arrivals(nexus.url, 9, every_s=0.8))

    # What came before the silence was remarkable moved; what came after it was never sent to the primary.
    assert set(found) == {1, 2}
    assert found[1] >= 3
    assert standby.received(CHAT)
    primary.faults.clear()


async def arrivals(url, times, *, every_s):
    """Ask so many streams, one after the other whether or not those before are answered, and count what came of it."""
    async with aiohttp.ClientSession() as session:
        asked = []
        for _ in range(times):
            asked.append(asyncio.ensure_future(ask_once(session, url, is_stream=True, patience_s=9.0)))
            await asyncio.sleep(every_s)
        return Counter(await asyncio.gather(*asked))


def test_a_single_request_at_a_server_that_hangs_moves_to_an_idle_one(simulate, start_nexus):
    hung, idle = simulate(name="hung", ttft_s=0.1), simulate(name="idle", ttft_s=0.1)
    nexus = start_nexus(table_of(hung, priority=1) + table_of(idle, priority=99))
    ask(nexus.url, CHAT, chat(stream=True))
    hung.faults.set(Stall())

    found = give_up(nexus.url, 1, is_stream=True, after_s=14.0)

    assert found == [2]
    assert [(line["backend"], line["to"]) for line in nexus.log_lines("request_moved")] == [("hung", "idle")]
    hung.faults.clear()
