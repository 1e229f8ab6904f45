"""What reading costs per request and per streamed event: ``python tests/bench/bench_wire.py``."""

from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter

import msgspec

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests.model_field import replace_model
from nexus.wire.streams.scan import StreamScan

ROUNDS = 15
LONGEST_S = 0.05
"""Of a round, about."""
FLOATS = [0.0123456789] * 1024

CHAT = ENDPOINTS["/v1/chat/completions"]
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."},
    {"role": "user", "content": "Tell me about the history of the proxy pattern, please. " * 10},
]
SMALL = {"model": "llama3", "messages": MESSAGES, "stream": True, "temperature": 0.7, "max_tokens": 256}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"model": {}}}}}
AGENT = {**SMALL, "messages": MESSAGES * 80, "tools": [TOOL] * 20}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 100_000}}
PICTURE = {**SMALL, "messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, IMAGE]}]}

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"llama3","choices":'
    b'[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":" word"}}\n\n'
)
LINE = (
    b'{"model":"llama3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" w"},'
    b'"done":false}\n'
)


def main() -> None:
    for name, body in (("chat", SMALL), ("agent", AGENT), ("picture", PICTURE)):
        encoded = msgspec.json.encode(body)
        size = f"{len(encoded)} bytes"
        measure(f"understand {name}, {size}", partial(PROTOCOLS["openai"].understand, CHAT, encoded))
        measure(f"replace model of {name}, {size}", partial(replace_model, encoded, "other"))
    answer = msgspec.json.encode({"data": [{"embedding": FLOATS}] * 10, "usage": {"prompt_tokens": 10}})
    measure(f"usage of embeddings, {len(answer)} bytes", partial(PROTOCOLS["openai"].usage_of, answer))
    for path, event in (("/v1/chat/completions", CHUNK), ("/v1/messages", DELTA), ("/api/chat", LINE)):
        for count in (1, 20):
            scan, block = opened(path, event), event * count
            measure(f"feed {path}, {count} events of {len(event)} bytes", partial(scan.feed, block))
        scan, half = opened(path, event), len(event) // 2
        measure(f"feed {path}, 1 event in two", partial(feed_each, scan, (event[:half], event[half:])))


def opened(path: str, event: bytes) -> StreamScan:
    endpoint = ENDPOINTS[path]
    scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
    scan.feed(event)
    assert scan.has_content
    return scan


def feed_each(scan: StreamScan, parts: Iterable[bytes]) -> None:
    for part in parts:
        scan.feed(part)


def measure(what: str, call: Callable[[], object]) -> None:
    began = perf_counter()
    call()
    times = max(1, min(20_000, int(LONGEST_S / (perf_counter() - began))))
    best_s = min(seconds(call, times) for _ in range(ROUNDS))
    print(f"{what:60} {best_s / times * 1e6:9.2f} us")  # noqa: T201 - the output


def seconds(call: Callable[[], object], times: int) -> float:
    began = perf_counter()
    for _ in range(times):
        call()
    return perf_counter() - began


if __name__ == "__main__":
    main()
