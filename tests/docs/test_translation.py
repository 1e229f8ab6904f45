"""The pages about translation say what happens."""

import re
import tomllib
from textwrap import dedent

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from ollama._types import ChatRequest, GenerateRequest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from nexus.domain.translation import PAIRS, pair
from nexus.errors import RequestError
from nexus.fleet.kinds import KINDS
from nexus.translation.conversion import About
from nexus.translation.dialects import DIALECTS, convert, translations
from tests.support.coding_agents import CODEX_CONFIG

PARAMETERS = {
    "openai.chat": CompletionCreateParamsBase.__annotations__,
    "openai.responses": ResponseCreateParamsBase.__annotations__,
    "anthropic.messages": MessageCreateParamsBase.__annotations__,
    "ollama.chat": ChatRequest.model_fields,
    "ollama.generate": GenerateRequest.model_fields,
}
"""What each library lets a program say, by the name of the endpoint."""

ABOUT = About(model="m", id="0", created=0)
HARMLESS = {
    "stream": "Ollama streams unless it is told not to; all others are always told",
    "stream_options": "every stream reports its usage to the encoder of the client, which keeps to this option",
    "reasoning.summary": "all thoughts that the backend shows become the summary",
    "include": "encrypted thoughts are never invented",
    "metadata": "the answer repeats it",
    "think": "Ollama lets each model think that can",
    "thinking: adaptive": "Ollama lets each model think that can",
}
"""Fields that need not change what another backend is sent, and why."""


@pytest.fixture(scope="module")
def fields(page):
    """Give the samples from which the tables are made."""
    page("reference/translation")  # puts the folder of the pages on the path
    import translated_fields

    return translated_fields


@pytest.fixture
def blocks(root):
    """Give the literal blocks of a page in one language."""

    def found(page, language):
        text = (root / "docs/howto" / f"{page}.rst").read_text()
        pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
        return [dedent(block).strip() + "\n" for _, block in re.findall(pattern, text, re.MULTILINE)]

    return found


def test_the_table_has_every_client_and_every_kind(page):
    text = page("reference/translation")

    assert [name for name in KINDS if f"``{name}``" not in text] == []
    assert [name for name in DIALECTS if f"From ``{name}``" not in text] == []
    made = {pair(client, backend) for client, others in translations().items() for backend in others}
    assert [name for name in made if f"``{name}``" not in text] == []
    assert made <= set(PAIRS)


@pytest.mark.parametrize("endpoint", PARAMETERS)
def test_every_parameter_of_the_library_is_in_the_table(fields, endpoint):
    sample = fields.SAMPLES[endpoint]

    said = {member for members in (sample.base, *sample.fields.values()) for member in members}

    assert PARAMETERS[endpoint].keys() - said == set()


@pytest.mark.parametrize("endpoint", DIALECTS)
def test_no_field_is_dropped_in_silence(fields, endpoint):
    sample = fields.SAMPLES[endpoint]

    def sent(other, members):
        body = msgspec.json.encode({**sample.base, **members})
        try:
            conversion = convert(endpoint, other, body, fields.TARGETS[other], ABOUT)
        except RequestError as refused:
            return refused  # equal to no other
        return conversion.body, conversion.lost

    dropped = set()
    for name, members in sample.fields.items():
        # The last member is what the row is about; those before it are what it needs.
        without = dict(list(members.items())[:-1])
        for other in translations()[endpoint]:
            if sent(other, members) == sent(other, without):
                dropped.add(name)

    assert dropped <= HARMLESS.keys()


def test_codex_is_configured_as_in_its_tests(blocks):
    (shown,) = blocks("clients/codex", "ini")
    tested = tomllib.loads(CODEX_CONFIG.format(model="qwen3-coder", url="http://127.0.0.1:8000"))

    config = tomllib.loads(shown)

    provider = {**tested["model_providers"]["nexus"], "env_key": "NEXUS_API_KEY"}
    shared = {name: tested[name] for name in ("model", "model_provider", "model_context_window")}
    assert config == {**shared, "model_providers": {"nexus": provider}}


def test_claude_code_is_configured_as_in_its_tests(root, blocks):
    (shown,) = blocks("clients/claude-code", "sh")
    tested = (root / "tests/support/coding_agents.py").read_text()

    variables = re.findall(r"^export (\w+)=", shown, re.MULTILINE)

    assert variables == ["ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"]
    assert [name for name in variables if f'"{name}"' not in tested] == []
