"""Reads answers of each dialect as strictly as its documents allow, with nothing of Nexus.

Each reader returns a dict with ``blocks`` (``{"text": ...}``, ``{"thinking": ...}`` or ``{"tool": name, "id": ...,
"arguments": text}`` each, in order), ``finish``, ``usage``, ``model`` and, of a stream that failed, ``error``.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Reading = dict[str, Any]


class Violation(AssertionError):
    """The bytes are no answer of the dialect."""


NO_END: Final = "the stream has no end"


def demand(is_met: object, *what: object) -> None:
    if not is_met:
        raise Violation(*what)


def sse_events(wire: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name and the data of each event."""
    demand(not wire or wire.endswith(b"\n\n"), "the last event is incomplete", wire[-80:])
    for event in wire.decode().split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in event.split("\n"):
            if not line.startswith(":"):
                name, _, value = line.partition(": ")
                demand(name in {"event", "data"} and name not in fields, "an unexpected line", line)
                fields[name] = value
        if fields:
            yield fields.get("event", ""), fields["data"]


# whole answers


def read_chat(body: bytes) -> Reading:
    answer = json.loads(body)
    demand(answer["object"] == "chat.completion" and answer["id"] and isinstance(answer["created"], int), answer)
    (choice,) = answer["choices"]
    message = choice["message"]
    demand(choice["index"] == 0 and message["role"] == "assistant" and "content" in message, choice)
    blocks = _said_in(message)
    for call in message.get("tool_calls") or ():
        demand(call["type"] == "function" and call["id"], call)
        blocks.append(_tool(call["function"]["name"], call["id"], call["function"]["arguments"]))
    demand(message.get("tool_calls") != [], "an empty list of calls")
    return {**_head(answer), "blocks": blocks, "finish": choice["finish_reason"], "usage": answer.get("usage")}


def _said_in(message: Mapping[str, Any]) -> list[Reading]:
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    said = message.get("content")
    return [*([{"thinking": thoughts}] if thoughts else []), *([{"text": said}] if said else [])]


def read_message(body: bytes) -> Reading:
    answer = json.loads(body)
    demand(answer["type"] == "message" and answer["role"] == "assistant" and answer["id"].startswith("msg_"), answer)
    demand({"stop_reason", "stop_sequence"} <= answer.keys(), answer)
    blocks = []
    texts = iter(_inputs(body))
    for block in answer["content"]:
        match block["type"]:
            case "text":
                demand(block["text"] and "input" not in block, block)
                blocks.append({"text": block["text"]})
            case "thinking":
                demand("signature" in block, block)
                blocks.append({"thinking": block["thinking"]})
            case "tool_use":
                demand(isinstance(block["input"], dict), block)
                blocks.append(_tool(block["name"], block["id"], next(texts)))
            case kind:
                raise Violation(kind)
    return {**_head(answer), "blocks": blocks, "finish": answer["stop_reason"], "usage": _counted(answer["usage"])}


def _inputs(body: bytes) -> list[str]:
    """Return the text of each ``input`` as it stands in *body*."""
    text = body.decode()
    decoder = json.JSONDecoder()
    found = []
    for match in re.finditer(r'"type": ?"tool_use"', text):
        at = text.index('"input":', match.end()) + len('"input":')
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
    return found


def _counted(usage: Any) -> Any:
    demand(isinstance(usage["input_tokens"], int) and isinstance(usage["output_tokens"], int), usage)
    demand(all(count is None or not isinstance(count, int) or count >= 0 for count in usage.values()), usage)
    return usage


def read_response(body: bytes) -> Reading:
    return _response(json.loads(body))


RESPONSE_MEMBERS: Final = {
    "id",
    "object",
    "created_at",
    "status",
    "error",
    "incomplete_details",
    "instructions",
    "metadata",
    "model",
    "output",
    "parallel_tool_calls",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
}
"""Those that openai's library requires."""


def _response(answer: Reading) -> Reading:
    demand(answer["object"] == "response" and answer["id"].startswith("resp_"), answer)
    demand(answer.keys() >= RESPONSE_MEMBERS, RESPONSE_MEMBERS - answer.keys())
    blocks = [block for item in answer["output"] for block in _blocks_of_item(item)]
    usage = answer["usage"]
    if usage is not None:
        demand(isinstance(usage["input_tokens_details"]["cached_tokens"], int), usage)
        demand(isinstance(usage["output_tokens_details"]["reasoning_tokens"], int), usage)
        demand(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], usage)
    finish = answer["status"]
    if finish == "incomplete":
        finish = answer["incomplete_details"]["reason"]
    return {**_head(answer), "blocks": blocks, "finish": finish, "usage": usage}


def _blocks_of_item(item: Mapping[str, Any]) -> Iterator[Reading]:
    match item["type"]:
        case "message":
            demand(item["role"] == "assistant" and item["id"].startswith("msg_"), item)
            for part in item["content"]:
                demand(part["type"] == "output_text" and part["annotations"] == [], part)
                yield {"text": part["text"]}
        case "reasoning":
            demand(item["id"].startswith("rs_") and isinstance(item["summary"], list), item)
            for part in (*item["summary"], *(item.get("content") or ())):
                yield {"thinking": part["text"]}
        case "function_call":
            demand(item["id"].startswith("fc_") and item["call_id"], item)
            yield _tool(item["name"], item["call_id"], item["arguments"])
        case "custom_tool_call":
            demand(item["id"].startswith("ctc_") and item["call_id"], item)
            yield {"custom_tool": item["name"], "id": item["call_id"], "input": item["input"]}
        case kind:
            raise Violation(kind)


def read_ollama(body: bytes) -> Reading:
    return _ollama([json.loads(body)])


def _head(answer: Mapping[str, Any]) -> Reading:
    return {"model": answer["model"]}


def _tool(name: str, id_: str, arguments: str) -> Reading:
    return {"tool": name, "id": id_, "arguments": arguments}


# streams


def read_chat_stream(wire: bytes) -> Reading:
    events = [data for _, data in sse_events(wire)]
    demand(events and events[-1] == "[DONE]", NO_END)
    demand("[DONE]" not in events[:-1], "more than one [DONE]")
    reading: Reading = {"blocks": [], "finish": None, "usage": None}
    chunks = [json.loads(event) for event in events[:-1]]
    if chunks and "error" in chunks[-1]:
        reading["error"] = chunks.pop()["error"]
    for number, chunk in enumerate(chunks):
        demand(chunk["object"] == "chat.completion.chunk" and chunk["id"] == chunks[0]["id"], chunk)
        reading["model"] = chunk["model"]
        if chunk.get("usage"):
            demand(number == len(chunks) - 1, "usage before the last chunk")
            reading["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            demand(choice["index"] == 0, choice)
            demand(reading["finish"] is None, "a chunk after the finish reason", choice)
            demand(number or choice["delta"].get("role") == "assistant", "no role in the first chunk")
            _add_delta(reading["blocks"], choice["delta"])
            reading["finish"] = choice["finish_reason"]
        demand(chunk["choices"] or chunk.get("usage"), "an empty chunk")
    demand("error" in reading or reading["finish"], "no finish reason")
    return reading


def _add_delta(blocks: list[Reading], delta: Mapping[str, Any]) -> None:
    for block in _said_in(delta):
        _extend(blocks, *block.items())
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        calls = [block for block in blocks if "tool" in block]
        if call["index"] == len(calls):
            demand(call["id"] and call["type"] == "function" and function["name"], call)
            blocks.append({"tool": function["name"], "id": call["id"], "arguments": ""})
            calls = [*calls, blocks[-1]]
        else:
            demand(call["index"] == len(calls) - 1 and blocks[-1] is calls[-1], "calls overlap", call)
        calls[-1]["arguments"] += function.get("arguments") or ""


def _extend(blocks: list[Reading], part: tuple[str, str]) -> None:
    kind, text = part
    if blocks and kind in blocks[-1]:
        blocks[-1][kind] += text
    else:
        blocks.append({kind: text})


def read_message_stream(wire: bytes) -> Reading:
    reading: Reading = {"blocks": [], "finish": None, "usage": None}
    kind = ""
    """The type of the open block."""
    index = -1
    stage = "before"
    for name, data in sse_events(wire):
        event = json.loads(data)
        demand(event["type"] == name, name, data)
        demand(stage != "after", "an event after the end", data)
        if name == "ping":
            continue
        demand((name == "message_start") == (stage == "before") or name == "error", name, stage)
        match name:
            case "message_start":
                stage, message = "within", event["message"]
                demand(message["content"] == [] and message["stop_reason"] is None, message)
                demand(message["id"].startswith("msg_") and message["role"] == "assistant", message)
                demand(message["type"] == "message", message)
                reading |= {"model": message["model"], "usage": _counted(message["usage"])}
            case "content_block_start":
                demand(not kind and event["index"] == index + 1, "blocks overlap or skip", data)
                index, block = index + 1, event["content_block"]
                kind = block["type"]
                reading["blocks"].append(_begun(block))
            case "content_block_delta":
                demand(event["index"] == index and kind, "a delta of no open block", data)
                _add_block_delta(reading["blocks"][-1], kind, event["delta"])
            case "content_block_stop":
                demand(event["index"] == index and kind, data)
                kind = ""
            case "message_delta":
                demand(not kind, "an open block at the end")
                reading["finish"] = event["delta"]["stop_reason"]
                reading["usage"] = reading["usage"] | event["usage"]
            case "message_stop":
                demand(reading["finish"], "no stop reason")
                stage = "after"
            case "error":
                reading["error"], stage = event["error"], "after"
            case _:
                raise Violation(name)
    demand(stage == "after", NO_END)
    return reading


def _begun(block: Mapping[str, Any]) -> Reading:
    match block["type"]:
        case "text":
            demand(block == {"type": "text", "text": ""}, block)
            return {"text": ""}
        case "thinking":
            demand(block["thinking"] == "" and "input" not in block, block)
            return {"thinking": ""}
        case "tool_use":
            demand(block["input"] == {} and block["id"], block)
            return {"tool": block["name"], "id": block["id"], "arguments": ""}
    raise Violation(block)


DELTAS: Final = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "input_json_delta": ("tool_use", "arguments", "partial_json"),
}
"""By the type of a delta: the type of block that has it, the member of a reading, and the member of the delta."""


def _add_block_delta(block: Reading, kind: str, delta: Mapping[str, Any]) -> None:
    if delta["type"] == "signature_delta":
        demand(kind == "thinking", delta)
        return
    of_kind, member, source = DELTAS[delta["type"]]
    demand(kind == of_kind, "Content block is not of the delta's type", kind, delta)
    block[member] += delta[source]


def read_response_stream(wire: bytes) -> Reading:
    """Read the events, whose texts must be those of the response at the end."""
    texts: dict[int, str] = {}
    opened: list[str] = []
    closed: list[Reading] = []
    events = [(name, json.loads(data)) for name, data in sse_events(wire)]
    for number, (name, event) in enumerate(events):
        demand(event["type"] == name and event["sequence_number"] == number, name, event)
    names = [name for name, _ in events]
    demand(names[:2] == ["response.created", "response.in_progress"], names[:2])
    for name, event in events[2:-1]:
        if name == "response.output_item.added":
            demand(event["output_index"] == len(opened) == len(closed), "items overlap", event)
            opened.append(event["item"]["id"])
        elif name == "response.output_item.done":
            demand(event["item"]["id"] == opened[-1] and len(closed) == len(opened) - 1, event)
            closed.append(event["item"])
        else:
            demand(event["item_id"] == opened[-1] and event["output_index"] == len(closed), "no open item", event)
            if name.endswith(".delta"):
                demand(isinstance(event["delta"], str), event)
                texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
            elif name.endswith(("text.done", "arguments.done", "input.done")):
                whole = event.get("text", event.get("arguments", event.get("input")))
                demand(whole == texts.get(event["output_index"], ""), "a text differs from its deltas", event)
    last, event = events[-1]
    demand("response" in event, NO_END)
    response = event["response"]
    if last == "response.failed":
        demand(response["status"] == "failed" and response["error"]["message"], response)
        return {"blocks": [], "finish": None, "usage": None, "error": response["error"], "model": response["model"]}
    demand(last == f"response.{response['status']}", last)
    demand(response["output"] == closed, "the output differs from the items")
    reading = _response(response)
    said = [
        block.get("text", block.get("thinking", block.get("arguments", block.get("input"))))
        for block in reading["blocks"]
    ]
    demand([texts.get(index, "") for index in range(len(closed))] == said, texts, said)
    return reading


def read_ollama_stream(wire: bytes) -> Reading:
    demand(not wire or wire.endswith(b"\n"), "the last line is incomplete")
    return _ollama([json.loads(line) for line in wire.splitlines()])


def _ollama(lines: list[Reading]) -> Reading:
    reading: Reading = {"blocks": [], "finish": None, "usage": None}
    demand(lines and (lines[-1].get("done") or "error" in lines[-1]), NO_END)
    if "error" in lines[-1]:
        reading["error"] = lines.pop()["error"]
        demand(isinstance(reading["error"], str), reading)
    for number, line in enumerate(lines):
        demand(line["done"] is (number == len(lines) - 1 and "error" not in reading), "done is not last", line)
        demand(re.match(r"\d{4}-\d\d-\d\dT", line["created_at"]), line)
        reading["model"] = line["model"]
        message = line.get("message", {"role": "assistant", "content": line.get("response")})
        demand(message["role"] == "assistant" and isinstance(message["content"], str), message)
        thoughts = message.get("thinking") or line.get("thinking")
        for kind, text in (("thinking", thoughts), ("text", message["content"])):
            if text:
                _extend(reading["blocks"], (kind, text))
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            demand(isinstance(arguments, dict), call)
            reading["blocks"].append(_tool(call["function"]["name"], call.get("id", ""), _compact(arguments)))
        if line["done"]:
            counts = {name: line.get(name) for name in ("prompt_eval_count", "eval_count")}
            reading |= {"finish": line["done_reason"], "usage": counts}
    return reading


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def checked(reader: Callable[[bytes], Reading]) -> Callable[[bytes], Reading]:
    """Return *reader* with a check that calls are complete, unless the answer was cut off or has failed."""

    def read_and_check(wire: bytes) -> Reading:
        reading = reader(wire)
        is_cut = "error" in reading or reading["finish"] in CUT_OFF
        for block in reading["blocks"]:
            if "tool" in block and not is_cut:
                # Anthropic's libraries read no arguments at all as an empty object.
                is_empty = not block["arguments"] and reader is read_message_stream
                demand(is_empty or isinstance(json.loads(block["arguments"]), dict), block)
        return reading

    return read_and_check


CUT_OFF: Final = {"length", "max_tokens", "max_output_tokens"}

READERS: Final[Mapping[str, tuple[Callable[[bytes], Reading], Callable[[bytes], Reading]]]] = {
    endpoint: (checked(whole), checked(stream))
    for endpoint, whole, stream in (
        ("openai.chat", read_chat, read_chat_stream),
        ("openai.responses", read_response, read_response_stream),
        ("anthropic.messages", read_message, read_message_stream),
        ("ollama.chat", read_ollama, read_ollama_stream),
        ("ollama.generate", read_ollama, read_ollama_stream),
    )
}
"""By endpoint: the readers of whole answers and of streams."""
