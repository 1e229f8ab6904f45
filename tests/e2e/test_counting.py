"""Every answer has its tokens: as the backend reports them, else as an estimate that says so."""

import json

import openai
import pytest

from nexus.simulator import Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
UNCOUNTED = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "llama3",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "one two three four"}, "finish_reason": "stop"}
    ],
}


@pytest.fixture
def counted(simulate, start_nexus):
    """Ask a proxy in front of one simulator of a kind, and return what its history and metrics say of the answer."""

    def carry(kind, *, body=None, path="/v1/chat/completions", **request):
        backend = simulate(kind=kind)
        nexus = start_nexus(table_of(backend, type=kind))
        if body is not None:
            backend.faults.set(Status(status=200, body=json.dumps(body)))
        assert ask(nexus.url, path, chat("llama3", **request)).status == 200
        (entry,) = until(lambda: nexus.get_json("/v1/history"))
        metrics = ask(nexus.url, "/metrics").body.decode()
        return entry, {
            line.partition('counted="')[2].partition('"')[0] for line in metrics.splitlines() if 'counted="' in line
        }

    return carry


@pytest.mark.parametrize("kind", ["generic", "vllm", "sglang", "lmstudio", "ollama"])
def test_a_stream_without_a_usage_is_counted_from_its_content(counted, kind):
    entry, how = counted(kind, stream=True)

    assert (entry["tokens_prompt"], entry["tokens_completion"]) == (pytest.approx(3, abs=3), pytest.approx(16, abs=1))
    assert (entry["tokens_estimated"], how) == (True, {"estimated"})


def test_a_stream_with_a_usage_is_counted_by_it(counted):
    entry, how = counted("vllm", stream=True, stream_options={"include_usage": True})

    assert (entry["tokens_completion"], entry["tokens_estimated"], how) == (16, False, {"reported"})


def test_llama_cpp_s_timings_count_a_stream_without_a_usage(counted):
    entry, how = counted("llamacpp", stream=True)

    assert (entry["tokens_completion"], entry["tokens_estimated"], how) == (16, False, {"reported"})


def test_an_answer_without_a_usage_is_counted_from_its_text(counted):
    entry, how = counted("generic", body=UNCOUNTED)

    assert (entry["tokens_completion"], entry["tokens_estimated"], how) == (5, True, {"estimated"})


def test_what_a_model_thought_is_counted(counted):
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 214}

    entry, _ = counted("generic", body={**UNCOUNTED, "usage": usage})

    assert (entry["tokens_prompt"], entry["tokens_completion"], entry["tokens_estimated"]) == (10, 204, False)


def test_the_library_sees_which_model_a_fallback_was(simulate, start_nexus):
    spare = simulate(models=("llama3",))
    nexus = start_nexus(
        '[routing.fallbacks]\nretired = ["llama3"]\n[routing.aliases]\n"gpt-4o" = "llama3"\n' + table_of(spare)
    )

    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        fallback = client.chat.completions.create(model="retired", messages=QUESTION)
        streamed = list(client.chat.completions.create(model="retired", messages=QUESTION, stream=True))
        alias = client.chat.completions.create(model="gpt-4o", messages=QUESTION)

    assert (fallback.model, streamed[0].model, alias.model) == ("llama3", "llama3", "gpt-4o")
