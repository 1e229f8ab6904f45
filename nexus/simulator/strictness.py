"""What the cloud APIs refuse in a request for a chat, though most copies of them take it."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.blocks import SIGNATURE
from nexus.simulator.refusals import Refusal
from nexus.simulator.settings import SimulatedModel

MAX_ID_CHARS: Final = 40
MAX_STOPS: Final = 4
LEAST_BUDGET: Final = 1024

CHAT_FIELDS: Final = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort"
    " response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice"
    " tools top_logprobs top_p user verbosity web_search_options"
)
RESPONSES_FIELDS: Final = (
    "background conversation include input instructions max_output_tokens max_tool_calls metadata model"
    " parallel_tool_calls previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier store"
    " stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
MESSAGES_FIELDS: Final = (
    "cache_control container context_management inference_geo max_tokens mcp_servers messages metadata model"
    " output_config service_tier stop_sequences stream system temperature thinking tool_choice tools top_k"
    " top_p"
)


def check_chat(body: Mapping[str, Any]) -> None:
    """:raises Refusal: OpenAI's chat completions would refuse *body*."""
    _check_fields(body, CHAT_FIELDS, "Unrecognized request argument supplied: {}")
    stops = body.get("stop")
    _require(not isinstance(stops, list) or len(stops) <= MAX_STOPS, "Invalid 'stop': array too long")
    unanswered: set[str] = set()
    for message in body["messages"]:
        role = message.get("role")
        _require(role in {"system", "developer", "user", "assistant", "tool"}, f"Invalid value: '{role}'")
        if role == "tool":
            call_id = message.get("tool_call_id")
            _require(call_id in unanswered, "messages with role 'tool' must follow a message with 'tool_calls'")
            unanswered.discard(call_id)
        else:
            _require(not unanswered, f"tool_call_ids did not have response messages: {', '.join(sorted(unanswered))}")
        for part in _parts(message):
            _check_chat_part(role, part)
        calls = message.get("tool_calls")
        _require(calls != [], "Invalid 'tool_calls': empty array")
        for call in calls or ():
            _require(0 < len(call["id"]) <= MAX_ID_CHARS, "Invalid 'tool_calls.id': string too long")
            _check_arguments_text(call["function"].get("arguments"))
            unanswered.add(call["id"])
    _require(not unanswered, f"tool_call_ids did not have response messages: {', '.join(sorted(unanswered))}")


def _check_chat_part(role: str, part: Mapping[str, Any]) -> None:
    allowed = {"user": {"text", "image_url", "input_audio", "file"}, "assistant": {"text", "refusal"}}
    _require(part.get("type") in allowed.get(role, {"text"}), f"Invalid content type '{part.get('type')}' of {role}")
    if part["type"] == "image_url":
        url = part["image_url"]["url"]
        _require(url.startswith(("http://", "https://", "data:image/")), "Invalid image URL")


def check_responses(body: Mapping[str, Any]) -> None:
    """:raises Refusal: OpenAI's Responses API would refuse *body*."""
    _check_fields(body, RESPONSES_FIELDS, "Unknown parameter: '{}'.")
    for tool in body.get("tools") or ():
        _require(tool["type"] != "function" or "name" in tool, "Missing required parameter: 'tools[0].name'")
    called, answered = set(), set()
    rows = body["input"]
    for item in rows if isinstance(rows, list) else ():
        match item.get("type", "message"):
            case "message":
                kind = "output_text" if item["role"] == "assistant" else "input_text"
                allowed = {kind} if kind == "output_text" else {kind, "input_image", "input_file"}
                wrong = [part["type"] for part in _parts(item) if part["type"] not in allowed]
                _require(not wrong, f"Invalid value: {wrong}. Supported values are: '{kind}'")
            case "function_call":
                _require(item.get("id", "fc_").startswith("fc"), "Expected an ID that begins with 'fc'")
                _check_arguments_text(item.get("arguments"))
                called.add(item["call_id"])
            case "function_call_output":
                _require(item["call_id"] in called, "No tool call found for function call output")
                answered.add(item["call_id"])
    _require(called == answered, f"No tool output found for function call {', '.join(sorted(called - answered))}")


def check_messages(body: Mapping[str, Any]) -> None:
    """:raises Refusal: Anthropic's Messages API would refuse *body*."""
    _check_fields(body, MESSAGES_FIELDS, "{}: Extra inputs are not permitted")
    _check_thinking(body)
    _require(0 <= body.get("temperature", 1) <= 1, "temperature: range: 0..1")
    for text in _parts({"content": body.get("system")}):
        _require(text.get("text"), "system: text content blocks must be non-empty")
    unanswered: set[str] = set()
    for position, message in enumerate(body["messages"]):
        role = message.get("role")
        _require(role in {"user", "assistant"}, f"messages.{position}.role: Input should be 'user' or 'assistant'")
        _require(position or role == "user", "messages: first message must use the user role")
        _require(message.get("content"), f"messages.{position}: content must be non-empty")
        blocks = _parts(message)
        results = [block for block in blocks if block["type"] == "tool_result"]
        given = {block["tool_use_id"] for block in results}
        _require(given <= unanswered, "unexpected `tool_use_id` found in `tool_result` blocks")
        _require(given == unanswered, "`tool_use` ids were found without `tool_result` blocks immediately after")
        _require(len(given) == len(results), "each tool_use must have a single result")
        _require(blocks[: len(results)] == results, "`tool_result` blocks must come first")
        unanswered = set()
        for block in blocks:
            _check_block(block)
            if block["type"] == "tool_use":
                unanswered.add(block["id"])


def _check_thinking(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens", 0)
        _require(budget >= LEAST_BUDGET, "thinking.budget_tokens: Input should be greater than or equal to 1024")
        _require(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")
    if thinking.get("type", "disabled") != "disabled":
        choice = (body.get("tool_choice") or {}).get("type", "auto")
        _require(choice in {"auto", "none"}, "Thinking may not be enabled when tool_choice forces tool use.")
        _require(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled.")
        _require("top_k" not in body, "`top_k` must be unset when thinking is enabled.")


def _check_block(block: Mapping[str, Any]) -> None:
    match block["type"]:
        case "text":
            _require(block["text"], "text content blocks must be non-empty")
        case "thinking":
            _require(block.get("signature", "").startswith(SIGNATURE), "Invalid `signature` in `thinking` block")
        case "tool_use":
            _require(isinstance(block.get("input"), dict), "tool_use.input: Input should be a valid dictionary")
            _require(re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]), "tool_use.id: String should match pattern")
        case "image" if block["source"]["type"] == "base64":
            _check_base64(block["source"]["data"])


def check_ollama(body: Mapping[str, Any], model: SimulatedModel) -> None:
    """:raises Refusal: Ollama would refuse *body*."""
    if body.get("think") and "thinking" not in model.capabilities:
        raise Refusal("unsupported", model=model.name, detail="thinking")
    for message in (body, *body.get("messages", ())):
        _require(isinstance(message.get("content", ""), str), "cannot unmarshal array into Go value of type string")
        for image in message.get("images") or ():
            _check_base64(image)
        for call in message.get("tool_calls") or ():
            _require(isinstance(call["function"]["arguments"], dict), "cannot unmarshal string into Go struct field")


def _check_fields(body: Mapping[str, Any], known: str, text: str) -> None:
    unknown = sorted(body.keys() - set(known.split()))
    _require(not unknown, text.format(", ".join(unknown)))


def _check_arguments_text(text: object) -> None:
    try:
        is_json = isinstance(text, str) and isinstance(msgspec.json.decode(text), dict)
    except msgspec.DecodeError:
        is_json = False
    _require(is_json, "arguments must be the JSON text of an object")


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refusal("invalid", detail="illegal base64 data") from None


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _require(is_met: object, detail: str) -> None:
    if not is_met:
        raise Refusal("invalid", detail=detail)
