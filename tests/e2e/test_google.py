"""Anthropic's library on Google's models: two turns with a tool, whose signature Google gets back."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import pytest

from nexus.testing.waiting import until

SIGNATURE = "Cp8CAVSoXO6+/signed=="
TOOLS = [
    {
        "name": "weather",
        "input_schema": {
            "type": "object",
            "$defs": {"city": {"type": "string", "format": "city"}},
            "properties": {"city": {"$ref": "#/$defs/city"}},
            "additionalProperties": False,
        },
    }
]
QUESTION = {"role": "user", "content": "How is the weather in Oslo?"}


class Google(BaseHTTPRequestHandler):
    """Google's API in OpenAI's dialect: calls a tool, and refuses a later request without the signature of the call."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"object": "list", "data": [{"id": "models/gemini-3-flash", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        calls = [call for message in body["messages"] for call in message.get("tool_calls", ())]
        if any(call.get("extra_content") != {"google": {"thought_signature": SIGNATURE}} for call in calls):
            error = {"code": 400, "message": "missing a thought_signature", "status": "INVALID_ARGUMENT"}
            self.answer(400, [{"error": error}])
        elif calls:
            self.stream({"content": "Cold."}, "stop")
        else:
            function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
            signed = {"extra_content": {"google": {"thought_signature": SIGNATURE}}}
            # As Google does, with one index for all calls.
            self.stream({"tool_calls": [{"index": 0, "id": "fc-1", "function": function, **signed}]}, "stop")

    def stream(self, delta, finish):
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 20}
        choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish}
        chunk = json.dumps({"id": "g", "model": "gemini-3-flash", "choices": [choice], "usage": usage})
        self.send(200, "text/event-stream", f"data: {chunk}\n\ndata: [DONE]\n\n".encode())

    def answer(self, status, document):
        self.send(status, "application/json", json.dumps(document).encode())

    def send(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def google():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    server.daemon_threads = True
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


CONFIG = """
[[backends]]
name = "google"
type = "google"
url = "http://127.0.0.1:{port}/v1beta/openai"
api_key = "env:GEMINI_KEY"
"""


@pytest.fixture
def client(google, start_nexus):
    nexus = start_nexus(CONFIG.format(port=google.server_port), environ={"GEMINI_KEY": "g-1"})
    until(lambda: [row["id"] for row in nexus.get_json("/v1/models")["data"]] == ["gemini-3-flash"])
    with anthropic.Anthropic(base_url=nexus.url, api_key="mine", max_retries=0) as client:
        yield client


def test_a_call_goes_back_with_its_signature(google, client):
    def ask(*messages):
        asked = {"model": "gemini-3-flash", "max_tokens": 64, "messages": messages, "tools": TOOLS}
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()

    first = ask(QUESTION)
    (call,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "-5 degrees"}
    second = ask(
        QUESTION,
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [result]},
    )
    # The real one would take the mark that this call gets; its errors come in a list.
    with pytest.raises(anthropic.BadRequestError, match="thought_signature"):
        ask(
            QUESTION,
            {"role": "assistant", "content": [{**call.model_dump(), "id": "toolu_unsigned"}]},
            {"role": "user", "content": [{**result, "tool_use_id": "toolu_unsigned"}]},
        )

    assert (first.stop_reason, call.input) == ("tool_use", {"city": "Oslo"})
    assert first.usage.output_tokens == 11
    assert (second.stop_reason, second.content[0].text) == ("end_turn", "Cold.")
    paths, keys, bodies = zip(*google.seen, strict=True)
    assert set(paths) == {"/v1beta/openai/chat/completions"}
    assert set(keys) == {"Bearer g-1"}
    assert bodies[0]["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
    }
    assert bodies[1]["messages"][1]["tool_calls"][0]["id"] == bodies[1]["messages"][2]["tool_call_id"] == "fc-1"
