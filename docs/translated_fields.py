"""Requests that have one field more than they must, for the tables of what a translation carries over."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.translation.dialect import Target
from nexus.translation.quirks import quirks_of

Json = Mapping[str, Any]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQK"
HI = [{"role": "user", "content": "hi"}]
NAMED = {"name": "weather", "description": "Tells it."}
CHAT_TOOL = {"type": "function", "function": {**NAMED, "parameters": SCHEMA}}
FLAT_TOOL = {"type": "function", **NAMED, "parameters": SCHEMA}
ANTHROPIC_TOOL = {**NAMED, "input_schema": SCHEMA}
PLAIN_TOOL = {"type": "custom", "name": "patch", "description": "Takes plain text."}


class Sample(msgspec.Struct, frozen=True):
    """A request that any server takes, and fields to add to it, one row of the table each."""

    base: Json
    fields: Mapping[str, Json]


def said(*parts: Json) -> Json:
    """Return the members of a request with one message of the user."""
    return {"messages": [{"role": "user", "content": parts}]}


CHAT = Sample(
    {"model": "m", "messages": HI},
    {
        "stream": {"stream": True},
        "stream_options": {"stream": True, "stream_options": {"include_usage": True}},
        "image_url": said({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}),
        "input_audio": said({"type": "input_audio", "input_audio": {"data": PDF, "format": "wav"}}),
        "file": said(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
        ),
        "max_completion_tokens": {"max_completion_tokens": 99},
        "max_tokens": {"max_tokens": 99},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "stop": {"stop": ["END"]},
        "seed": {"seed": 7},
        "presence_penalty": {"presence_penalty": 0.5},
        "frequency_penalty": {"frequency_penalty": 0.5},
        "n": {"n": 2},
        "logprobs": {"logprobs": True},
        "top_logprobs": {"logprobs": True, "top_logprobs": 2},
        "logit_bias": {"logit_bias": {"5": 1}},
        "tools": {"tools": [CHAT_TOOL]},
        "tools: custom": {
            "tools": [{"type": "custom", "custom": {"name": "patch", "description": "Takes plain text."}}]
        },
        "tool_choice: required": {"tools": [CHAT_TOOL], "tool_choice": "required"},
        "tool_choice: none": {"tools": [CHAT_TOOL], "tool_choice": "none"},
        "tool_choice: a function": {
            "tools": [CHAT_TOOL],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        },
        "parallel_tool_calls: false": {"tools": [CHAT_TOOL], "parallel_tool_calls": False},
        "functions": {"functions": [{**NAMED, "parameters": SCHEMA}]},
        "function_call": {"functions": [{**NAMED, "parameters": SCHEMA}], "function_call": {"name": "weather"}},
        "response_format: json_object": {"response_format": {"type": "json_object"}},
        "response_format: json_schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
        },
        "reasoning_effort": {"reasoning_effort": "low"},
        "verbosity": {"verbosity": "low"},
        "user": {"user": "me"},
        "safety_identifier": {"safety_identifier": "me"},
        "prompt_cache_key": {"prompt_cache_key": "k"},
        "prompt_cache_retention": {"prompt_cache_retention": "24h"},
        "prompt_cache_options": {"prompt_cache_options": {"mode": "explicit"}},
        "metadata": {"metadata": {"a": "b"}},
        "store": {"store": True},
        "service_tier": {"service_tier": "flex"},
        "modalities": {"modalities": ["text", "audio"]},
        "audio": {"audio": {"voice": "alloy", "format": "wav"}},
        "prediction": {"prediction": {"type": "content", "content": "hi"}},
        "moderation": {"moderation": {"model": "omni-moderation"}},
        "web_search_options": {"web_search_options": {"search_context_size": "low"}},
    },
)


def given(*parts: Json) -> Json:
    """Return the members of a request for a response with one message of the user."""
    return {"input": [{"role": "user", "content": parts}]}


RESPONSES = Sample(
    {"model": "m", "input": "hi"},
    {
        "stream": {"stream": True},
        "stream_options": {"stream": True, "stream_options": {"include_obfuscation": False}},
        "instructions": {"instructions": "Be brief."},
        "input_image": given({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}),
        "input_file": given(
            {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
        ),
        "max_output_tokens": {"max_output_tokens": 99},
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "top_logprobs": {"top_logprobs": 2},
        "tools": {"tools": [FLAT_TOOL]},
        "tools: custom": {"tools": [PLAIN_TOOL]},
        "tools: namespace": {"tools": [{"type": "namespace", "name": "own", "description": "", "tools": [FLAT_TOOL]}]},
        "tools: web_search": {"tools": [{"type": "web_search"}]},
        "tools: code_interpreter": {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        "tools: mcp": {"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://mcp.example"}]},
        "tool_choice: required": {"tools": [FLAT_TOOL], "tool_choice": "required"},
        "tool_choice: none": {"tools": [FLAT_TOOL], "tool_choice": "none"},
        "tool_choice: a function": {"tools": [FLAT_TOOL], "tool_choice": {"type": "function", "name": "weather"}},
        "parallel_tool_calls: false": {"tools": [FLAT_TOOL], "parallel_tool_calls": False},
        "max_tool_calls": {"max_tool_calls": 3},
        "text.format": {"text": {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}},
        "text.verbosity": {"text": {"verbosity": "low"}},
        "reasoning.effort": {"reasoning": {"effort": "low"}},
        "reasoning.summary": {"reasoning": {"summary": "auto"}},
        "previous_response_id": {"previous_response_id": "resp_1"},
        "conversation": {"conversation": "conv_1"},
        "background": {"background": True},
        "background_options": {"background_options": {"a": 1}},
        "prompt": {"prompt": {"id": "pmpt_1"}},
        "include": {"include": ["reasoning.encrypted_content"]},
        "store": {"store": True},
        "truncation": {"truncation": "auto"},
        "context_management": {"context_management": [{"type": "compaction"}]},
        "user": {"user": "me"},
        "safety_identifier": {"safety_identifier": "me"},
        "prompt_cache_key": {"prompt_cache_key": "k"},
        "prompt_cache_retention": {"prompt_cache_retention": "24h"},
        "prompt_cache_options": {"prompt_cache_options": {"mode": "explicit"}},
        "metadata": {"metadata": {"a": "b"}},
        "service_tier": {"service_tier": "flex"},
        "moderation": {"moderation": {"model": "omni-moderation"}},
        "image": {"image": {"quality": "low"}},
        "access_programs": {"access_programs": ["a"]},
    },
)

MESSAGES = Sample(
    {"model": "m", "max_tokens": 99, "messages": HI},
    {
        "stream": {"stream": True},
        "system": {"system": "Be brief."},
        "image": said({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}),
        "document": said(
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
        ),
        "citations": said(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "It rains."},
                "citations": {"enabled": True},
            }
        ),
        "search_result": said(
            {"type": "search_result", "source": "a", "title": "b", "content": [{"type": "text", "text": "It rains."}]}
        ),
        "cache_control": {"cache_control": {"type": "ephemeral"}},
        "cache_control of a block": {
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        },
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.5},
        "top_k": {"top_k": 5},
        "stop_sequences": {"stop_sequences": ["END"]},
        "tools": {"tools": [ANTHROPIC_TOOL]},
        "tools: web_search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools: bash": {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        "tool_choice: any": {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}},
        "tool_choice: none": {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "none"}},
        "tool_choice: a tool": {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
        "disable_parallel_tool_use": {
            "tools": [ANTHROPIC_TOOL],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        },
        "thinking: enabled": {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        "thinking: adaptive": {"thinking": {"type": "adaptive"}},
        "thinking: disabled": {"thinking": {"type": "disabled"}},
        "output_config.effort": {"output_config": {"effort": "low"}},
        "output_config.format": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "metadata.user_id": {"metadata": {"user_id": "me"}},
        "service_tier": {"service_tier": "standard_only"},
        "container": {"container": "c"},
        "mcp_servers": {"mcp_servers": [{"type": "url", "name": "a", "url": "https://mcp.example"}]},
        "context_management": {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        "inference_geo": {"inference_geo": "eu"},
        "speed": {"speed": "fast"},
        "diagnostics": {"diagnostics": {"a": 1}},
        "user_profile_id": {"user_profile_id": "a"},
        "workspace_id": {"workspace_id": "a"},
    },
)

OLLAMA_CHAT = Sample(
    {"model": "m", "messages": HI},
    {
        "stream": {"stream": True},
        "images": {"messages": [{"role": "user", "content": "hi", "images": [PIXEL]}]},
        "tools": {"tools": [CHAT_TOOL]},
        "format: json": {"format": "json"},
        "format: a schema": {"format": SCHEMA},
        "think": {"think": True},
        "keep_alive": {"keep_alive": "5m"},
        "logprobs": {"logprobs": True},
        "top_logprobs": {"logprobs": True, "top_logprobs": 2},
        "options: num_predict": {"options": {"num_predict": 99}},
        "options: temperature": {"options": {"temperature": 0.5}},
        "options: top_p": {"options": {"top_p": 0.5}},
        "options: top_k": {"options": {"top_k": 5}},
        "options: min_p": {"options": {"min_p": 0.1}},
        "options: seed": {"options": {"seed": 7}},
        "options: stop": {"options": {"stop": ["END"]}},
        "options: presence_penalty": {"options": {"presence_penalty": 0.5}},
        "options: frequency_penalty": {"options": {"frequency_penalty": 0.5}},
        "options: repeat_penalty": {"options": {"repeat_penalty": 1.1}},
        "options: num_ctx": {"options": {"num_ctx": 8192}},
    },
)

GENERATE = Sample(
    {"model": "m", "prompt": "hi"},
    {
        "stream": {"stream": True},
        "system": {"system": "Be brief."},
        "images": {"images": [PIXEL]},
        "format": {"format": "json"},
        "think": {"think": True},
        "keep_alive": {"keep_alive": "5m"},
        "options": {"options": {"num_predict": 99}},
        "suffix": {"suffix": "bye"},
        "template": {"template": "{{ .Prompt }}"},
        "context": {"context": [1, 2]},
        "raw": {"raw": True},
        "logprobs": {"logprobs": True},
        "top_logprobs": {"logprobs": True, "top_logprobs": 2},
        "width": {"width": 512},
        "height": {"height": 512},
        "steps": {"steps": 5},
    },
)

SAMPLES: Mapping[str, Sample] = {
    "openai.chat": CHAT,
    "openai.responses": RESPONSES,
    "anthropic.messages": MESSAGES,
    "ollama.chat": OLLAMA_CHAT,
    "ollama.generate": GENERATE,
}
"""By the name of the endpoint that takes them."""

TARGETS: Mapping[str, Target] = {
    "openai.chat": Target(model="gpt-5.2", quirks=quirks_of("openai")),
    "openai.responses": Target(model="gpt-5.2", quirks=quirks_of("openai")),
    "anthropic.messages": Target(model="claude-sonnet-4-5", quirks=quirks_of("anthropic")),
    "ollama.chat": Target(model="qwen3", quirks=quirks_of("ollama")),
}
"""The backend that the table is about, by the name of the endpoint at which it is asked."""
