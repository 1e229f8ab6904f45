"""What another translator, llm-rosetta, makes of the same requests and answers, with each difference and its reason."""

import json
import tomllib
import warnings
from pathlib import Path

import pytest

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, Text, ToolCall, ToolResult
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import DIALECTS, convert
from tests.support.answer_readers import READERS

rosetta = pytest.importorskip("llm_rosetta", reason="llm-rosetta is not installed: pip install llm-rosetta")

NAMES = {"openai.chat": "openai_chat", "openai.responses": "openai_responses", "anthropic.messages": "anthropic"}
"""The dialects that both know."""
FOLDER = Path(__file__).parents[1] / "unit/translation/cases"
CASES = {
    f"{file.stem}-{number}-{exam['client']}-{exam['backend']}": exam
    for file in sorted(FOLDER.glob("*.toml"))
    for number, exam in enumerate(tomllib.loads(file.read_text())["exams"])
    if exam["client"] in NAMES and exam["backend"] in NAMES and exam.get("kind", "generic") == "generic"
}
REQUESTS = sorted(name for name, exam in CASES.items() if exam["what"] == "request")
ANSWERS = sorted(name for name, exam in CASES.items() if exam["what"] == "answer")
ABOUT = About(model="asked", id="abc", created=1_700_000_000)
SIMPLE = {
    "openai.chat": {"model": "asked", "messages": [{"role": "user", "content": "x"}]},
    "openai.responses": {"model": "asked", "input": "x"},
    "anthropic.messages": {"model": "asked", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
}
"""The requests of the answers."""
CACHED_TWICE = "it takes prompt tokens as they are, though only OpenAI's include those from a cache"
DIFFERENT = {
    "a_result_of_several_parts_keeps_them-0": "it repeats the text of a result beside its image",
    "a_result_of_several_parts_keeps_them-2": "it does not say in a chat that the result of a call is an error",
    "a_result_without_a_call_and_a_call_without_a_result_pass-0": "it keeps the second of two results",
    "a_result_without_a_call_and_a_call_without_a_result_pass-1": "it has another text for a result that is missing",
    "a_result_without_a_call_and_a_call_without_a_result_pass-2": "it keeps a result of no call, which OpenAI refuses",
    "a_result_without_a_call_and_a_call_without_a_result_pass-3": "it drops a result of no call with its text",
    "a_system_message_within_the_conversation_is_kept-0": "it keeps late system messages, which many templates refuse",
    "a_system_message_within_the_conversation_is_kept-2": "it makes late system messages those of a user",
    "a_tool_of_the_provider_does_not_fail_the_request-0": "it makes a function of a tool that the client cannot run",
    "a_tool_of_the_provider_does_not_fail_the_request-1": "it makes a function of a tool that the client cannot run",
    "a_tool_with_plain_input_stays_usable-0": "it does not tell the model the grammar",
    "a_tool_with_plain_input_stays_usable-1": "it does not tell the model the grammar",
    "a_wanted_form_is_asked_for_in_every_dialect-0": "it nests the schema where the Responses API has no such member",
    "a_wanted_form_is_asked_for_in_every_dialect-1": "it drops the schema",
    "a_wanted_form_is_asked_for_in_every_dialect-2": "it drops the schema",
    "a_wanted_form_is_asked_for_in_every_dialect-6": "it drops the schema",
    "signatures_go_only_to_the_provider_that_made_them-0": "it sends signed thoughts to another provider",
    "signatures_go_only_to_the_provider_that_made_them-3": "it sends thoughts without a signature, which are refused",
    "the_model_has_the_name_that_each_side_knows-7": "it adds members of its own, and leaves out the signature",
    "the_prompt_counts_its_cached_part_once-1": CACHED_TWICE,
    "the_prompt_counts_its_cached_part_once-2": CACHED_TWICE,
    "the_prompt_counts_its_cached_part_once-3": CACHED_TWICE,
    "what_would_change_the_meaning_is_refused": "it drops what the answer depends on",
}
"""By the beginning of a case's name: what the other translator does, and why Nexus does not."""


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_say_the_same(name):
    exam = CASES[name]
    given, backend = exam["given"], exam["backend"]

    differences = request_differences(given.encode(), exam["client"], backend)

    assert bool(differences) == (reason_of(name) is not None), differences


def request_differences(given, client, backend):
    """Return what differs, as text; empty: nothing."""
    try:
        ours = facts(convert(client, backend, given, Target(model="asked"), ABOUT).body, backend)
    except RequestError as error:
        ours = error.code
    try:
        request = quietly(rosetta.convert, json.loads(given), NAMES[backend], NAMES[client])
        theirs = facts(json.dumps(request).encode(), backend)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the other translator's
        theirs = repr(exc)
    return "" if ours == theirs else f"\nours   {ours}\ntheirs {theirs}"


def quietly(call, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments)


def facts(body, endpoint):
    """Return what a request says, whichever of the ways to say it was taken."""
    chat: ChatRequest = DIALECTS[endpoint].decode_request(body)
    rows = []
    for message in chat.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                rows.append(("call", part.id, part.name, json.loads(part.arguments or "{}")))
            elif isinstance(part, ToolResult):
                rows.append(("result", part.call_id, [row(message.role, inner)[1:] for inner in part.parts]))
            else:
                rows.append(row(message.role, part))
    return {
        "messages": rows,
        "tools": [(tool.name, tool.description, json.loads(bytes(tool.schema or b"null"))) for tool in chat.tools],
        "choice": (chat.tool_choice or "auto", chat.parallel_tools is not False) if chat.tools else None,
        "limits": (chat.temperature, chat.top_p, chat.stop),
        "format": json.loads(bytes(chat.format.schema)) if chat.format and chat.format.schema else None,
    }


def row(role, part):
    return (role, part.text) if isinstance(part, Text) else (role, type(part).__name__, getattr(part, "data", ""))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_say_the_same(name):
    exam = CASES[name]
    given, client, backend = exam["given"], exam["client"], exam["backend"]
    request = SIMPLE[client]

    differences = answer_differences(given, request, client, backend)

    assert bool(differences) == (reason_of(name) is not None), differences


def answer_differences(given, request, client, backend):
    """Return what differs, as text; empty: nothing."""
    read = READERS[client][0]
    conversion = convert(client, backend, json.dumps(request).encode(), Target(model="asked"), ABOUT)
    ours = said(read(conversion.answer(given.encode())))
    try:
        answer = quietly(rosetta.convert_response, json.loads(given), request, NAMES[client], NAMES[backend])
        theirs = said(read(json.dumps(answer, separators=(",", ":")).encode()))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the other translator's
        theirs = repr(exc)
    return "" if ours == theirs else f"\nours   {ours}\ntheirs {theirs}"


def said(reading):
    blocks = [
        (block["tool"], block["id"], json.loads(block["arguments"])) if "tool" in block else block
        for block in reading["blocks"]
    ]
    usage = reading["usage"]
    names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "cache_read_input_tokens")
    return blocks, reading["finish"], {name: usage[name] for name in names if usage.get(name)}


def reason_of(name):
    return next((reason for start, reason in DIFFERENT.items() if name.startswith(start)), None)


def test_each_difference_is_still_one():
    assert [start for start in DIFFERENT if not any(name.startswith(start) for name in CASES)] == []
