"""One request and its responses in each protocol, as bytes."""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

MODEL: Final = "llama3:8b"
LAST_CHUNK: Final = b"0\r\n\r\n"


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Sample messages of one endpoint."""

    name: str
    path: str
    question: Mapping[str, Any]
    """The body of the request, without ``model`` and ``stream``."""
    kind: str
    """A kind of :mod:`nexus.simulator` that has the endpoint."""
    stream_type: bytes
    events: tuple[bytes, ...]
    """A complete stream; one of the first three events has content."""
    whole: bytes
    """The body of a response that is not streamed."""
    end: bytes
    """Occurs in every stream that finished."""
    failure: bytes
    """Occurs in every stream that failed."""

    def body(self, *, stream: bool, **more: Any) -> bytes:
        """Return the body of a request."""
        return json.dumps({"model": MODEL, **self.question, "stream": stream, **more}).encode()

    def request(self, body: bytes, *, headers: str = "", version: str = "1.1") -> bytes:
        """Return a complete request; *headers*: further lines, each with its CRLF."""
        head = (
            f"POST {self.path} HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def stream_head(self, framing: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
        """Return the head of a streamed response."""
        return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n" % (self.stream_type, framing)

    @property
    def comment(self) -> bytes:
        """A comment or blank line, which clients ignore."""
        return b"\n" if b"ndjson" in self.stream_type else b": still there\n\n"

    @property
    def good_stream(self) -> bytes:
        """A complete streamed response with its head."""
        return self.stream_head() + chunks(*self.events) + LAST_CHUNK

    @property
    def good_answer(self) -> bytes:
        """A complete response that is not streamed, with its head."""
        return whole_answer(self.whole)


def whole_answer(body: bytes, *, status: int = 200, headers: str = "") -> bytes:
    """Return a response with Content-Length; *headers*: further lines, each with its CRLF."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunks(*events: bytes) -> bytes:
    """Return *events*, each in a chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _sse(*documents: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Frame *documents* as events, named after their ``type`` if they have one."""
    names = [f"event: {document['type']}\n" if "type" in document else "" for document in documents]
    return tuple(f"{name}data: {_json(document)}\n\n".encode() for name, document in zip(names, documents, strict=True))


def _chunk(delta: Mapping[str, str], finish: str | None = None) -> Mapping[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}


def _line(content: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return f"{_json({'model': MODEL, 'message': message, 'done': False, **more})}\n".encode()


_MESSAGES: Final = {"messages": [{"role": "user", "content": "hello"}]}
_SAID: Final = {"role": "assistant", "content": "Hello"}
_RESPONSE: Final = {"id": "r-1", "object": "response"}
_MESSAGE: Final = {"id": "m-1", "type": "message", "role": "assistant"}

CHAT: Final = Dialect(
    name="chat",
    path="/v1/chat/completions",
    question=_MESSAGES,
    kind="vllm",
    stream_type=b"text/event-stream",
    events=(
        *_sse(
            _chunk({"role": "assistant", "content": ""}),
            _chunk({"content": "Hel"}),
            _chunk({"content": "lo"}),
            _chunk({}, "stop"),
        ),
        b"data: [DONE]\n\n",
    ),
    whole=json.dumps(
        {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": _SAID, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    ).encode(),
    end=b"data: [DONE]",
    failure=b'data: {"error":',
)
RESPONSES: Final = Dialect(
    name="responses",
    path="/v1/responses",
    question={"input": "hello"},
    kind="vllm",
    stream_type=b"text/event-stream",
    events=_sse(
        {"type": "response.created", "sequence_number": 0, "response": _RESPONSE},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hel"},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "lo"},
        {"type": "response.completed", "sequence_number": 3, "response": _RESPONSE},
    ),
    whole=json.dumps({**_RESPONSE, "status": "completed", "output": []}).encode(),
    end=b"event: response.completed",
    failure=b"event: error\n",
)
ANTHROPIC: Final = Dialect(
    name="messages",
    path="/v1/messages",
    question={"max_tokens": 16, **_MESSAGES},
    kind="vllm",
    stream_type=b"text/event-stream",
    events=_sse(
        {"type": "message_start", "message": {**_MESSAGE, "content": [], "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ),
    whole=json.dumps({**_MESSAGE, "content": [{"type": "text", "text": "Hello"}]}).encode(),
    end=b"event: message_stop",
    failure=b"event: error\n",
)
OLLAMA: Final = Dialect(
    name="ollama",
    path="/api/chat",
    question=_MESSAGES,
    kind="ollama",
    stream_type=b"application/x-ndjson",
    events=(_line("Hel"), _line("l"), _line("o"), _line("", done=True, done_reason="stop")),
    whole=_line("Hello", done=True)[:-1],
    end=b'"done":true',
    failure=b'{"error":',
)
DIALECTS: Final = (CHAT, RESPONSES, ANTHROPIC, OLLAMA)
