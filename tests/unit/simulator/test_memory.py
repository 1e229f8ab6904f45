"""A simulated server loads models as real ones do: one at a time, evicting what is idle, and says so."""

import asyncio
import json

from nexus.simulator import SimulatedModel

LINES = {"messages": [{"role": "user", "content": "hi"}]}


async def ask(wire, model, **more):
    await wire.ask("/api/chat", json.dumps({"model": model, "stream": False, **LINES, **more}).encode())
    head, body = await wire.answer()
    return head, json.loads(body)


async def in_memory(wire):
    await wire.ask("/api/ps", method="GET")
    return [row["name"] for row in json.loads((await wire.answer())[1])["models"]]


async def test_a_model_is_loaded_once_and_the_answer_says_how_long_it_took(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a", "b"), load_s=0.05)
    wire = await connect(simulator)

    before = await in_memory(wire)
    _, first = await ask(wire, "a")
    _, second = await ask(wire, "a")

    assert before == []
    assert first["load_duration"] >= 50_000_000
    assert second["load_duration"] == 0
    assert await in_memory(wire) == ["a:latest"]
    assert simulator.engine.memory.loads == 1


async def test_where_there_is_no_room_the_idle_model_is_evicted(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a", "b"), load_s=0.01, max_loaded=1)
    wire = await connect(simulator)

    for model in ("a", "b", "a"):
        await ask(wire, model)

    assert simulator.engine.memory.loads == 3
    assert await in_memory(wire) == ["a:latest"]


async def test_ollama_lists_a_model_while_it_loads_and_the_evicted_one_no_more(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a", "b"), load_s=0.3, max_loaded=1)
    first, second = await connect(simulator), await connect(simulator)
    await ask(first, "a")

    swap = asyncio.ensure_future(ask(first, "b"))
    await asyncio.sleep(0.1)

    assert await in_memory(second) == ["b:latest"]
    assert not swap.done()
    await swap


async def test_a_model_in_use_is_not_evicted(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a", "b"), load_s=0.01, max_loaded=1, ttft_s=0.2)
    first, second = await connect(simulator), await connect(simulator)

    busy = asyncio.ensure_future(ask(first, "a"))
    await asyncio.sleep(0.1)
    _, late = await ask(second, "b")
    await busy

    assert late["load_duration"] >= 100_000_000


async def test_two_requests_for_an_absent_model_load_it_once(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a",), load_s=0.05)
    first, second = await connect(simulator), await connect(simulator)

    await asyncio.gather(ask(first, "a"), ask(second, "a"))

    assert simulator.engine.memory.loads == 1


async def test_an_idle_model_leaves_after_its_time(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a",), load_s=0.01, keep_loaded_s=0.05)
    wire = await connect(simulator)

    await ask(wire, "a")
    await asyncio.sleep(0.1)

    assert await in_memory(wire) == []


async def test_a_load_can_fail(simulate, connect):
    simulator = await simulate(kind="ollama", models=("a",), load_s=0.01)
    simulator.engine.memory.failures_left = 1
    wire = await connect(simulator)

    head, failed = await ask(wire, "a")
    _, answer = await ask(wire, "a")

    assert head.startswith(b"HTTP/1.1 500")
    assert "could not be loaded" in failed["error"]
    assert answer["done"]


async def test_the_router_of_llamacpp_and_lm_studio_show_what_is_loaded(simulate, connect):
    router = await simulate(kind="llamacpp", models=(SimulatedModel("a", status="unloaded"),), load_s=0.05)
    studio = await simulate(kind="lmstudio", models=("a",), load_s=0.05)

    shown = [await show(connect, router, "/v1/models"), await show(connect, studio, "/api/v0/models")]
    wire = await connect(router)
    await wire.ask("/v1/chat/completions", json.dumps({"model": "a", **LINES}).encode())
    await asyncio.sleep(0.02)
    during = await show(connect, router, "/v1/models")
    await wire.answer()
    after = await show(connect, router, "/v1/models")

    assert [row["data"][0].get("status", {}).get("value") for row in (shown[0], during, after)] == [
        "unloaded",
        "loading",
        "loaded",
    ]
    assert shown[1]["data"][0]["state"] == "not-loaded"


async def test_a_llamacpp_for_one_model_answers_503_until_it_is_loaded(simulate, connect):
    simulator = await simulate(kind="llamacpp", models=("a",), load_s=0.1)
    wire = await connect(simulator)

    await wire.ask("/health", method="GET")
    head, body = await wire.answer()
    listed = await show(connect, simulator, "/v1/models")
    await asyncio.sleep(0.15)
    after = await connect(simulator)
    await after.ask("/health", method="GET")
    healthy, _ = await after.answer()

    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body) == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    assert listed["data"][0]["id"] == "a"
    assert healthy.startswith(b"HTTP/1.1 200")
    assert simulator.engine.memory.loads == 1


async def show(connect, simulator, path):
    wire = await connect(simulator)
    await wire.ask(path, method="GET")
    return json.loads((await wire.answer())[1])
