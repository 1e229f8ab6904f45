"""What the client libraries make of a stream that broke: an exception, never an answer that seems complete."""

import asyncio

import anthropic
import httpx
import ollama
import openai
import pytest

from nexus.simulator import Cut, ErrorEvent, HangUp, HugeEvent, Refuse, Reset, Stall, Status, Unfinished
from nexus.testing.waiting import eventually
from tests.support.dialects import MODEL

QUESTION = [{"role": "user", "content": "hello"}]
IMPATIENT = {"idle_s": 0.2, "first_byte_s": 0.5}


@pytest.fixture
async def libraries():
    """Make clients of each library for a proxy, and close them before its books are balanced."""
    opened = []

    def make(scene):
        clients = {
            "openai": openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="none", max_retries=0),
            "anthropic": anthropic.AsyncAnthropic(base_url=scene.url, api_key="none", max_retries=0),
            "ollama": ollama.AsyncClient(host=scene.url, trust_env=False),
        }
        opened.extend(clients.values())
        return clients

    yield make
    for client in opened:
        await (client._client.aclose() if isinstance(client, ollama.AsyncClient) else client.close())


async def chat(clients):
    stream = await clients["openai"].chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    return [chunk async for chunk in stream]


async def responses(clients):
    stream = await clients["openai"].responses.create(model=MODEL, input="hello", stream=True)
    return [event async for event in stream]


async def messages(clients):
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 64}
    stream = await clients["anthropic"].messages.create(**asked, stream=True)
    return [event async for event in stream]


async def messages_gathered(clients):
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 64}
    async with clients["anthropic"].messages.stream(**asked) as stream:
        return await stream.get_final_message()


async def ollama_chat(clients):
    return [part async for part in await clients["ollama"].chat(model=MODEL, messages=QUESTION, stream=True)]


async def ollama_generate(clients):
    return [part async for part in await clients["ollama"].generate(model=MODEL, prompt="hello", stream=True)]


STREAMS = {
    "chat": (chat, openai.APIError, "vllm"),
    "responses": (responses, openai.APIError, "vllm"),
    "messages": (messages, anthropic.APIStatusError, "vllm"),
    "messages gathered": (messages_gathered, anthropic.APIStatusError, "vllm"),
    "ollama chat": (ollama_chat, ollama.ResponseError, "ollama"),
    "ollama generate": (ollama_generate, ollama.ResponseError, "ollama"),
}
LIBRARY_OF_REFUSAL = {
    openai.APIError: openai.APIStatusError,
    anthropic.APIStatusError: anthropic.APIStatusError,
    ollama.ResponseError: ollama.ResponseError,
}


@pytest.fixture(params=STREAMS.values(), ids=STREAMS.keys())
def library(request):
    return request.param


FAULTS = {
    "cut between events": Cut(after_events=5, mid_event=False),
    "cut in an event": Cut(after_events=5),
    "cut and reset": Cut(after_events=5, ending="reset"),
    "cut and ended in good order": Cut(after_events=5, mid_event=False, ending="terminate"),
    "stalled": Stall(phase="mid_stream", after_events=5),
    "unfinished": Unfinished(),
    "an event that is too long": HugeEvent(after_events=5),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_stream_that_breaks_raises(start, simulate, libraries, library, fault):
    consume, error, kind = library
    gpu = await simulate("gpu", kind=kind, tokens_per_s=300, answer_tokens=12)
    scene = await start(gpu=gpu, settings=IMPATIENT)
    gpu.faults.set(fault)

    with pytest.raises(error):
        await consume(libraries(scene))

    outcome = await scene.books.outcome()
    assert outcome.ending == "backend_failed"
    assert len(outcome.attempts) == 1


async def test_an_error_of_the_engines_own_is_seen(start, simulate, libraries, library):
    consume, error, kind = library
    gpu = await simulate("gpu", kind=kind)
    scene = await start(gpu=gpu)
    gpu.faults.set(ErrorEvent(after_events=5))

    try:
        events = await consume(libraries(scene))
    except error:
        events = None

    # One library hands on a lone error event, as it came, instead of raising it.
    assert events is None or events[-1].type == "error"
    assert (await scene.books.outcome()).ending == "backend_failed"


async def test_a_stream_that_does_not_break_does_not_raise(start, simulate, libraries, library):
    consume, _, kind = library
    gpu = await simulate("gpu", kind=kind)
    scene = await start(gpu=gpu)

    assert await consume(libraries(scene))


async def test_a_shutdown_raises(start, simulate, libraries, library):
    consume, error, kind = library
    gpu = await simulate("gpu", kind=kind, tokens_per_s=5)
    scene = await start(gpu=gpu)
    clients = libraries(scene)

    async def shut_down():
        await eventually(lambda: any(exchange.relay for exchange in scene.nexus.plane.exchanges))
        scene.is_stopped = True
        await scene.nexus.stop(drain_s=0.0)

    stopping = asyncio.ensure_future(shut_down())
    with pytest.raises(error):
        await consume(clients)
    await stopping


async def test_killing_one_of_two_backends_loses_only_what_had_begun(start, simulate, libraries, library):
    consume, error, kind = library
    # Long answers, and a preference for the one that is going to fail: however slow the machine, all get there in time.
    doomed = await simulate("doomed", kind=kind, tokens_per_s=60, ttft_s=0.05, answer_tokens=2000)
    steady = await simulate("steady", kind=kind)
    scene = await start(doomed=doomed, steady=steady, options={"doomed": {"max_in_flight": 64, "priority": 0}})
    clients = libraries(scene)
    begun = [asyncio.ensure_future(consume(clients)) for _ in range(4)]
    await eventually(lambda: sum(exchange.relay is not None for exchange in scene.nexus.plane.exchanges) == 4)
    waiting = [asyncio.ensure_future(consume(clients)) for _ in range(4)]
    await eventually(lambda: doomed.active == 8)

    doomed.faults.set(Refuse(kills_active=True))
    told = await asyncio.gather(*begun, return_exceptions=True)
    answers = await asyncio.gather(*waiting)

    assert all(isinstance(answer, error) for answer in told)
    assert all(answers)


REFUSALS = {
    "hangs up": (HangUp(), 502),
    "resets": (Reset(), 502),
    "is busy": (Status(status=503), 503),
    "asks to wait": (Status(status=429, retry_after="7"), 429),
    "falls silent": (Stall(), 504),
}


@pytest.mark.parametrize(("fault", "status"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_fails_before_it_began_raises_with_its_status(start, simulate, libraries, library, fault, status):
    consume, error, kind = library
    gpu = await simulate("gpu", kind=kind)
    scene = await start(gpu=gpu, settings=IMPATIENT)
    gpu.faults.set(fault)

    with pytest.raises(LIBRARY_OF_REFUSAL[error]) as raised:
        await consume(libraries(scene))

    assert raised.value.status_code == status


async def test_a_failure_of_one_backend_is_seen_by_no_library(start, simulate, libraries, library):
    consume, _, kind = library
    broken, steady = await simulate("broken", kind=kind), await simulate("steady", kind=kind)
    scene = await start(broken=broken, steady=steady)
    broken.faults.set(ErrorEvent(times=1), Status(status=503, times=1), HangUp(times=1))
    clients = libraries(scene)

    for _ in range(3):
        assert await consume(clients)


async def test_a_client_that_stops_iterating_stops_its_backend(start, simulate, libraries):
    gpu = await simulate("gpu", tokens_per_s=50, answer_tokens=200)
    scene = await start(gpu=gpu)
    client = libraries(scene)["openai"]

    stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    async for _ in stream:
        break
    await stream.close()

    await gpu.idle()
    assert len(gpu.aborted) == 1
    assert (await scene.books.outcome()).ending == "client_left"


async def test_a_client_whose_patience_ends_stops_its_backend(start, simulate, libraries):
    gpu = await simulate("gpu", ttft_s=30)
    scene = await start(gpu=gpu)
    client = libraries(scene)["openai"].with_options(timeout=httpx.Timeout(0.2))

    with pytest.raises(openai.APITimeoutError):
        await client.chat.completions.create(model=MODEL, messages=QUESTION)

    await gpu.idle()
    assert len(gpu.aborted) == 1
