"""Ollama's clients on a server of OpenAI's API, and OpenAI's clients on one that speaks Ollama's only."""

import json

import ollama
import openai
import pytest

from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.simulator.faults import Cut, Decline, ErrorEvent, IgnoreStream, Unfinished
from nexus.testing.fleets import table_of
from tests.support.process import run_nexus

QUESTION = [{"role": "user", "content": "hello there"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": WEATHER}}
EMBEDDER = SimulatedModel("embedder", 2048, ("embedding",))
THINKER = SimulatedModel("thinker", 8192, ("completion", "tools", "thinking"))
BREAKS = [Cut(after_events=3, times=1), Unfinished(times=1), ErrorEvent(after_events=3, times=1)]
GEMMA = SimulatedModel("gemma", 8192, ("completion", "tools"))


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    cloud = Simulator(Settings(name="cloud", kind="generic", models=("llama3", "minilm")))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=(GEMMA, THINKER, EMBEDDER)))
    with in_thread(cloud, laptop):
        config = table_of(cloud, type="generic") + table_of(laptop, protocols=["ollama"])
        with run_nexus(tmp_path_factory.mktemp("apart"), config) as nexus:
            yield nexus.url, cloud, laptop


@pytest.fixture(autouse=True)
def _healthy(apart):
    yield
    for simulator in apart[1:]:
        simulator.faults.clear()


@pytest.fixture
def ollama_client(apart):
    client = ollama.Client(apart[0])
    yield client
    client.close()


@pytest.fixture
def openai_client(apart):
    with openai.OpenAI(base_url=f"{apart[0]}/v1", api_key="unused", max_retries=0) as client:
        yield client


class TestOllamaClient:
    def test_a_chat_is_answered_whole_and_streamed(self, ollama_client):
        whole = ollama_client.chat("llama3", QUESTION)
        lines = list(ollama_client.chat("llama3", QUESTION, stream=True))

        assert whole.message.content.startswith("cloud: you said hello there")
        assert "".join(line.message.content for line in lines) == whole.message.content
        assert (lines[-1].done, lines[-1].done_reason, lines[-1].eval_count) == (True, "stop", 16)
        assert lines[-1].model == "llama3"

    def test_text_is_generated_whole_and_streamed(self, ollama_client):
        whole = ollama_client.generate("llama3", "hello there", system="be kind")
        lines = list(ollama_client.generate("llama3", "hello there", system="be kind", stream=True))

        assert whole.response.startswith("cloud: you said hello there")
        assert "".join(line.response for line in lines) == whole.response

    def test_a_tool_is_called_and_its_result_is_read(self, ollama_client):
        said = [*QUESTION, ollama_client.chat("llama3", QUESTION, tools=[TOOL]).message]
        said.append({"role": "tool", "tool_name": "weather", "content": "sunny"})

        answer = ollama_client.chat("llama3", said, tools=[TOOL])

        assert said[1].tool_calls[0].function.arguments == {"city": "cloud", "days": 1}
        assert answer.message.content

    def test_an_answer_fits_a_schema(self, ollama_client):
        assert '"city"' in ollama_client.chat("llama3", QUESTION, format=WEATHER).message.content

    def test_vectors_come_in_both_forms(self, ollama_client):
        new = ollama_client.embed("minilm", ["one", "two"])
        old = ollama_client.embeddings("minilm", "one")

        assert len(new.embeddings) == 2
        assert new.embeddings[0] == old.embedding
        assert new.prompt_eval_count

    @pytest.mark.parametrize(("model", "thinks"), [("thinker", True), ("gemma", False), ("llama3", False)])
    def test_a_model_that_thinks_is_shown_to(self, ollama_client, model, thinks):
        assert ("thinking" in ollama_client.show(model).capabilities) is thinks

    def test_loading_a_model_is_not_translated(self, ollama_client):
        with pytest.raises(ollama.ResponseError, match="only Ollama") as raised:
            ollama_client.generate("llama3", keep_alive="5m")

        assert raised.value.status_code == 400


class TestOpenAIClient:
    def test_a_chat_is_answered_whole_and_streamed(self, openai_client):
        whole = openai_client.chat.completions.create(model="gemma", messages=QUESTION)
        chunks = list(openai_client.chat.completions.create(model="gemma", messages=QUESTION, stream=True))

        text = whole.choices[0].message.content
        assert text.startswith("laptop: you said hello there")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert whole.usage.completion_tokens == 16

    @pytest.mark.parametrize(("model", "level"), [("thinker", "low"), ("gemma", None)])
    def test_only_a_model_that_can_think_is_asked_to(self, apart, openai_client, model, level):
        openai_client.chat.completions.create(model=model, messages=QUESTION, reasoning_effort="low")

        asked = json.loads(apart[2].received("/api/chat")[-1].body)
        assert asked.get("think") == level

    @pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"])
    def test_vectors_come_as_asked_for(self, openai_client, encoding):
        made = openai_client.embeddings.create(model="embedder", input=["one", "two"], encoding_format=encoding)

        assert [row.index for row in made.data] == [0, 1]
        assert isinstance(made.data[0].embedding, str if encoding == "base64" else list)
        assert made.usage.prompt_tokens

    def test_tokens_are_not_embedded(self, openai_client):
        with pytest.raises(openai.BadRequestError) as raised:
            openai_client.embeddings.create(model="embedder", input=[1, 2])

        assert (raised.value.code, raised.value.param) == ("not_translatable", "input")

    def test_many_vectors_are_as_many_as_the_texts(self, openai_client):
        texts = [f"text {number}" for number in range(300)]

        made = openai_client.embeddings.create(model="embedder", input=texts, dimensions=128)

        assert [len(row.embedding) for row in made.data] == [128] * len(texts)


class TestFailures:
    def test_an_error_before_the_answer_is_ollamas(self, apart, ollama_client):
        apart[1].faults.set(Decline(reason="too_long", times=1))

        with pytest.raises(ollama.ResponseError) as raised:
            list(ollama_client.chat("llama3", QUESTION, stream=True))

        assert raised.value.status_code == 400
        assert "context" in raised.value.error

    @pytest.mark.parametrize("fault", BREAKS)
    def test_a_stream_that_breaks_off_ends_with_ollamas_error(self, apart, ollama_client, fault):
        apart[1].faults.set(fault)
        lines = ollama_client.chat("llama3", QUESTION, stream=True)

        with pytest.raises(ollama.ResponseError):
            assert not any(line.done for line in lines)

    @pytest.mark.parametrize("fault", BREAKS)
    def test_a_stream_of_ollama_that_breaks_off_ends_with_openais_error(self, apart, openai_client, fault):
        apart[2].faults.set(fault)
        chunks = openai_client.chat.completions.create(model="gemma", messages=QUESTION, stream=True)

        with pytest.raises(openai.APIError):
            assert not any(chunk.choices[0].finish_reason for chunk in chunks)

    def test_an_error_of_ollama_is_openais(self, apart, openai_client):
        apart[2].faults.set(Decline(reason="too_long", times=1))

        with pytest.raises(openai.BadRequestError) as raised:
            openai_client.chat.completions.create(model="gemma", messages=QUESTION)

        assert "context" in raised.value.message

    @pytest.mark.parametrize("streams", [True, False])
    def test_a_server_that_ignores_stream_is_understood(self, apart, openai_client, ollama_client, streams):
        for simulator in apart[1:]:
            simulator.faults.set(IgnoreStream(streams=streams))

        whole = ollama_client.chat("llama3", QUESTION).message.content
        lines = list(ollama_client.chat("llama3", QUESTION, stream=True))
        text = openai_client.chat.completions.create(model="gemma", messages=QUESTION).choices[0].message.content
        chunks = list(openai_client.chat.completions.create(model="gemma", messages=QUESTION, stream=True))

        assert whole.startswith("cloud: you said hello there")
        assert "".join(line.message.content for line in lines) == whole
        assert text.startswith("laptop: you said hello there")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
