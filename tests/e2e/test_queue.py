"""Requests that wait in a started proxy are served fairly, by priority and in time, and clients see why they wait."""

import asyncio
import json
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import quantiles
from textwrap import dedent

import anthropic
import ollama
import openai
import pytest

from nexus.simulator.faults import Stall
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
KEYS = {"CHAT_KEY": "sk-chat", "BATCH_KEY": "sk-batch"}
PAGE = (Path(__file__).parents[2] / "docs/howto/queue.rst").read_text()


def block(language):
    """Return the first example in *language* of the page."""
    found = re.search(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE)
    return dedent(found[1]).strip()


CONFIG = block("toml") + "\n"


def depth(nexus):
    return ask(nexus.url, "/admin/queue", headers={"x-api-key": KEYS["CHAT_KEY"]}).json()["depth"]


@contextmanager
def waiting(nexus, key, *, priority=None, stream=False, **body):
    """Send a request, and return its connection once it waits."""
    before = depth(nexus)
    headers = {"Content-Type": "application/json", "x-api-key": key}
    with closing(HTTPConnection(nexus.url.removeprefix("http://"), timeout=30)) as connection:
        priorities = {"X-Nexus-Priority": priority} if priority else {}
        connection.request("POST", CHAT, json.dumps(chat(stream=stream, **body)), headers | priorities)
        until(lambda: depth(nexus) > before)
        yield connection


@contextmanager
def occupied(nexus, simulator):
    """Let a request hold the only slot of *simulator* until its client leaves."""
    simulator.faults.set(Stall(phase="before_headers", times=1))
    before = len(simulator.requests)
    headers = {"Content-Type": "application/json", "x-api-key": KEYS["CHAT_KEY"]}
    with closing(HTTPConnection(nexus.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("POST", CHAT, json.dumps(chat()), headers)
        until(lambda: len(simulator.requests) > before)
        yield connection


def answer_of(connection):
    """Return the head of the response, and its body."""
    with connection.getresponse() as response:
        return response, response.read()


def users(simulator):
    """Return the ``user`` of each request, in the order in which they came."""
    bodies = (json.loads(record.body) for record in simulator.requests if record.path == CHAT)
    return [body["user"] for body in bodies if "user" in body]


async def ask_often(url, key, rate_per_s, seconds, **options):
    """Send requests at a rate for a time, half of them streams, and return the status of each, and its duration."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:

        async def one(number):
            began = time.monotonic()
            try:
                reply = await client.chat.completions.create(
                    model="llama3", messages=MESSAGES, stream=number % 2 == 0, **options
                )
                if number % 2 == 0:
                    async for _ in reply:
                        pass
            except openai.APIStatusError as exc:
                return exc.status_code, 0.0
            return 200, time.monotonic() - began

        tasks = []
        for number in range(int(rate_per_s * seconds)):
            tasks.append(asyncio.create_task(one(number)))  # noqa: TID251 - gathered below
            await asyncio.sleep(1 / rate_per_s)
        return await asyncio.gather(*tasks)


@pytest.mark.timeout(60)
def test_a_burst_of_three_times_the_capacity_is_served(simulate, start_nexus):
    """Scaled down: for 1 s instead of 10 s, at two slots with answers of 50 ms."""
    gpu = simulate(ttft_s=0.05, concurrency=2)
    nexus = start_nexus(table_of(gpu, max_in_flight=2))

    answers = asyncio.run(ask_often(nexus.url, "unused", rate_per_s=3 * 2 / 0.05, seconds=1.0))

    statuses = Counter(status for status, _ in answers)
    assert statuses[200] >= 0.95 * len(answers)
    queue = nexus.get_json("/admin/queue")
    assert (queue["depth"], queue["refused"], queue["shed"]) == (0, 0, 0)
    assert queue["drained"] > len(answers) / 2


async def keep_asking(url, key, name, *, at_once, until_s):
    """Keep so many requests under way until then; their ids begin with *name*."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:

        async def ask_in_turn(number):
            for turn in count():
                if time.monotonic() > until_s:
                    return
                own_id = {"X-Request-Id": f"{name}-{number}-{turn}"}
                await client.chat.completions.create(model="llama3", messages=MESSAGES, extra_headers=own_id)

        await asyncio.gather(*(ask_in_turn(number) for number in range(at_once)))


@pytest.mark.timeout(90)
def test_a_client_that_floods_hardly_delays_another(simulate, start_nexus):
    gpu = simulate(ttft_s=0.05, concurrency=2)
    keys = {f"KEY_{number}": f"sk-{number}" for number in range(3)}
    listed = ", ".join(f'"env:{name}"' for name in keys)
    nexus = start_nexus(f"[server]\napi_keys = [{listed}]\n" + table_of(gpu, max_in_flight=2), environ=keys)
    flooding, *steady = keys.values()

    def p95_wait_ms(name, flood):
        """Let two clients keep three requests under way and the third *flood*; return how long the two had to wait."""

        async def run():
            until_s = time.monotonic() + 3.0
            await asyncio.gather(
                keep_asking(nexus.url, flooding, "flood", at_once=flood, until_s=until_s),
                *(keep_asking(nexus.url, key, f"{name}-{key}", at_once=3, until_s=until_s) for key in steady),
            )

        asyncio.run(run())
        history = ask(nexus.url, "/v1/history?limit=1000", headers={"x-api-key": flooding}).json()
        waits = [row["queued_ms"] for row in history if row["client_request_id"].startswith(name)]
        assert len(waits) > 20
        return quantiles(waits, n=20)[-1]

    usual, flooded = p95_wait_ms("usual", flood=3), p95_wait_ms("flooded", flood=40)

    # The flood gets its share, and one slot of eight in addition; the rest is for a machine that is busy.
    assert usual > 50
    assert flooded <= 1.5 * usual, (flooded, usual)


def test_requests_go_by_priority_as_far_as_the_key_allows(simulate, start_nexus):
    gpu = simulate(ttft_s=0.02)
    nexus = start_nexus(CONFIG + table_of(gpu, max_in_flight=1), environ=KEYS)
    chat_key, batch_key = KEYS.values()

    with (
        occupied(nexus, gpu) as first,
        waiting(nexus, batch_key, priority="high", user="batch") as capped,
        waiting(nexus, chat_key, priority="low", user="low") as low,
        waiting(nexus, chat_key, user="normal", stream=True) as normal,
        waiting(nexus, chat_key, priority="high", user="high") as high,
    ):
        queue = ask(nexus.url, "/admin/queue", headers={"x-api-key": chat_key}).json()
        first.close()
        statuses = [answer_of(connection)[0].status for connection in (capped, low, normal, high)]

    assert statuses == [200] * 4
    assert users(gpu)[:2] == ["high", "normal"]
    assert sorted(users(gpu)[2:]) == ["batch", "low"]
    assert queue["priorities"] == {"high": 1, "normal": 1, "low": 2}
    assert {(row["client"], row["priority"]) for row in queue["clients"]} == {
        ("batch", "low"),
        ("chat", "low"),
        ("chat", "normal"),
        ("chat", "high"),
    }
    assert not any(key in json.dumps(queue) for key in KEYS.values())
    names = {name.lower() for record in gpu.requests for name, _ in record.request.raw_headers}
    assert names.isdisjoint({b"x-nexus-priority", b"x-nexus-queue-timeout"})


def test_the_client_limits_its_wait_and_each_protocol_says_so(simulate, start_nexus):
    gpu = simulate(kind="ollama")
    nexus = start_nexus(table_of(gpu, max_in_flight=1))
    limit = {"X-Nexus-Queue-Timeout": "0.05"}

    with occupied(nexus, gpu):
        with (
            openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client,
            pytest.raises(openai.APIStatusError) as by_openai,
        ):
            client.chat.completions.create(model="llama3", messages=MESSAGES, extra_headers=limit)
        with (
            anthropic.Anthropic(base_url=nexus.url, api_key="unused", max_retries=0) as client,
            pytest.raises(anthropic.APIStatusError) as by_anthropic,
        ):
            client.messages.create(model="llama3", messages=MESSAGES, max_tokens=9, extra_headers=limit)
        with (
            closing(ollama.Client(nexus.url, headers=limit)) as client,
            pytest.raises(ollama.ResponseError) as by_ollama,
        ):
            client.chat("llama3", MESSAGES)

    for refused in (by_openai, by_anthropic):
        assert refused.value.response.headers["retry-after"] == "1"
        assert "X-Nexus-Queue-Timeout" in str(refused.value)
    assert (by_openai.value.code, by_anthropic.value.status_code, by_ollama.value.status_code) == (
        "queue_timeout",
        503,
        503,
    )
    told, shown = by_openai.value.response.json(), json.loads(block("json"))
    assert told.keys() == shown.keys()
    assert told["error"].keys() == shown["error"].keys()
    assert (told["error"]["type"], told["error"]["code"]) == (shown["error"]["type"], shown["error"]["code"])
    assert told["context"].keys() == shown["context"].keys()
    assert told["context"]["queue"].keys() == shown["context"]["queue"].keys()
    assert told["context"]["rejection_reasons"] == shown["context"]["rejection_reasons"]


def test_a_full_queue_makes_room_for_a_higher_priority(simulate, start_nexus):
    gpu = simulate(ttft_s=0.02)
    config = CONFIG.replace("max_wait_seconds = 120", "max_size = 2")
    nexus = start_nexus(config + table_of(gpu, max_in_flight=1), environ=KEYS)
    chat_key, batch_key = KEYS.values()

    with (
        occupied(nexus, gpu) as first,
        waiting(nexus, batch_key, user="older") as older,
        waiting(nexus, batch_key, user="newer") as newer,
    ):
        full = ask(nexus.url, CHAT, chat(), headers={"x-api-key": batch_key})
        with ThreadPoolExecutor() as pool:
            urgent = pool.submit(ask, nexus.url, CHAT, chat(user="urgent"), headers={"x-api-key": chat_key})
            shed, body = answer_of(newer)
            first.close()
            statuses = (urgent.result().status, answer_of(older)[0].status)

    assert (full.status, full.json()["error"]["code"]) == (503, "queue_full")
    assert full.json()["context"]["queue"]["position"] == 3
    assert (shed.status, json.loads(body)["error"]["code"]) == (503, "queue_full")
    assert int(shed.headers["Retry-After"]) >= 1
    assert statuses == (200, 200)
    assert users(gpu) == ["urgent", "older"]
    queue = ask(nexus.url, "/admin/queue", headers={"x-api-key": chat_key}).json()
    assert (queue["shed"], queue["refused"]) == (1, 1)


def test_requests_that_wait_outlive_reloads_and_a_drain(simulate, start_nexus):
    gpu, spare = simulate(name="gpu-1", ttft_s=0.02), simulate(name="gpu-2", models=("qwen3",))
    config = CONFIG + table_of(gpu, max_in_flight=1)
    nexus = start_nexus(config, environ=KEYS)
    changes = (
        config.replace("max_wait_seconds = 120", "max_size = 1"),
        config.replace('max_priority = "low"', 'max_priority = "high"') + table_of(spare),
        '[routing]\nstrategy = "round_robin"\n' + config,
    )

    with (
        occupied(nexus, gpu) as first,
        waiting(nexus, KEYS["CHAT_KEY"], user="one") as one,
        waiting(nexus, KEYS["BATCH_KEY"], user="two", stream=True) as two,
    ):
        for number, change in enumerate(changes, start=1):
            nexus.config_file.write_text(change)
            nexus.send(signal.SIGHUP)
            nexus.wait_for_log("config_reloaded", number)
        still_waiting = depth(nexus)
        nexus.send(signal.SIGTERM)
        nexus.wait_for_log("draining")
        first.close()
        answers = [answer_of(connection) for connection in (one, two)]

    assert still_waiting == 2
    assert [answer.status for answer, _ in answers] == [200, 200]
    assert answers[1][1].rstrip().endswith(b"data: [DONE]")


def test_a_backend_that_leaves_answers_or_refuses_those_that_wait_for_it(simulate, start_nexus):
    gpu = simulate(name="gpu-1")
    nexus = start_nexus(CONFIG + table_of(gpu, max_in_flight=1), environ=KEYS)

    with occupied(nexus, gpu), waiting(nexus, KEYS["CHAT_KEY"]) as waiter:
        nexus.config_file.write_text(CONFIG)
        nexus.send(signal.SIGHUP)
        refused, body = answer_of(waiter)

    assert (refused.status, json.loads(body)["error"]["code"]) == (404, "model_not_found")


def test_the_command_shows_the_queue_as_the_page_does(simulate, start_nexus, command):
    gpu = simulate(name="gpu-1")
    nexus = start_nexus(CONFIG + table_of(gpu, max_in_flight=1), environ=KEYS)
    chat_key, batch_key = KEYS.values()

    with (
        occupied(nexus, gpu),
        waiting(nexus, batch_key),
        waiting(nexus, batch_key),
        waiting(nexus, chat_key, priority="high"),
    ):
        shown = command("queue", "--url", nexus.url, NEXUS_API_KEY=chat_key).stdout
        told = json.loads(command("queue", "--json", "--url", nexus.url, NEXUS_API_KEY=chat_key).stdout)
        explained = command("explain", "--model", "llama3", "--url", nexus.url, NEXUS_API_KEY=chat_key).stdout

    assert told["queue"]["depth"] == 3
    assert without_figures(shown) == without_figures(block("text"))
    assert re.search(r"queue: waits for gpu-1; place 2 at normal priority, a wait of about \S+ s", explained)


def without_figures(text):
    return [re.sub(r"\d+\.\d", "N", line).split() for line in text.strip().splitlines()]
