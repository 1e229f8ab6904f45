"""Records what a running engine answers: ``python record.py PLAN BASE_URL FOLDER [HEADER...]``; needs curl."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

MODEL = "tiny"
PROMPT = "the quick brown fox jumps over the lazy dog " * 20
SAY = [{"role": "user", "content": PROMPT}]
CHAT = {"model": MODEL, "messages": SAY, "max_tokens": 8, "temperature": 0}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
SHORT = {**CHAT, "messages": [{"role": "user", "content": "hi"}]}
LONG = {**SHORT, "stream": True, "max_tokens": 1500, "ignore_eos": True}
BEYOND = {**SHORT, "max_tokens": 3000}
TOO_LONG = {**CHAT, "messages": [{"role": "user", "content": PROMPT * 16}]}
TEXT = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}

DETECTION = {
    "api-version": "/api/version",
    "props": "/props",
    "models": "/v1/models",
    "model-info": "/model_info",
    "api-v1-models": "/api/v1/models",
    "api-v0-models": "/api/v0/models",
    "node-id": "/node_id",
}
"""The requests of ``nexus.fleet.probing.detection``, in its order."""

CHATS = {
    "chat": ("/v1/chat/completions", CHAT),
    # The same prompt again: its beginning is in the cache now.
    "chat-cached": ("/v1/chat/completions", CHAT),
    "chat-stream": ("/v1/chat/completions", STREAM),
    "chat-unknown-model": ("/v1/chat/completions", {**SHORT, "model": "nope"}),
    "chat-too-long": ("/v1/chat/completions", TOO_LONG),
    # Prompt and ``max_tokens`` together exceed the context.
    "chat-beyond-context": ("/v1/chat/completions", BEYOND),
    "messages-beyond-context": ("/v1/messages", BEYOND),
    "completion": ("/v1/completions", TEXT),
    "responses": ("/v1/responses", {"model": MODEL, "input": PROMPT, "max_output_tokens": 8, "temperature": 0}),
    "messages": ("/v1/messages", CHAT),
    "messages-stream": ("/v1/messages", {**CHAT, "stream": True}),
    "embeddings": ("/v1/embeddings", {"model": MODEL, "input": "the quick brown fox"}),
}

LLAMACPP = {"health": "/health", "slots": "/slots", "metrics": "/metrics", "all-models": "/models"}
VLLM = {"health": "/health", "version": "/version", "metrics": "/metrics", "load": "/load"}


class Recorder:
    """Sends requests with curl, and writes each request with its response to a file."""

    def __init__(self, base: str, folder: Path, headers: list[str]) -> None:
        self._base = base
        self._folder = folder
        self._headers = [part for header in headers for part in ("-H", header)]
        folder.mkdir(parents=True, exist_ok=True)

    def record(self, name: str, path: str, body: object = None) -> bytes:
        """Record the response to a GET, or to a POST of *body*."""
        sent = "" if body is None else json.dumps(body)
        answer = subprocess.run(self._curl("-si", path, sent), input=sent.encode(), capture_output=True, check=False)
        method = "POST" if sent else "GET"
        stdout = without(answer.stdout, "vllm_env", "system_env")
        # A response ends at the end of the file, so its length is known even where curl has removed the chunks.
        (self._folder / f"{name}.http").write_bytes(f"{method} {path}\n{sent}\n".encode() + stdout)
        return stdout

    def record_each(self, requests: Mapping[str, str | tuple[str, object]]) -> None:
        """Record each of *requests*: a path, or a path and the body to post."""
        for name, request in requests.items():
            path, body = (request, None) if isinstance(request, str) else request
            self.record(name, path, body)

    def start(self, path: str, body: object) -> "subprocess.Popen[bytes]":
        """Start a POST whose response is discarded."""
        request = subprocess.Popen(self._curl("-sN", path, "-"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert request.stdin is not None
        request.stdin.write(json.dumps(body).encode())
        request.stdin.close()
        return request

    def _curl(self, flags: str, path: str, body: str) -> list[str]:
        sent = ["-H", "Content-Type: application/json", "--data-binary", "@-"] if body else []
        return ["curl", flags, "--max-time", "60", *self._headers, *sent, self._base + path]


def without(response: bytes, *members: str) -> bytes:
    """Return *response* without the members of its JSON object that describe the machine."""
    if not any(f'"{member}"'.encode() in response for member in members):
        return response
    head, _, body = response.partition(b"\r\n\r\n")
    kept = {name: value for name, value in json.loads(body).items() if name not in members}
    return head + b"\r\n\r\n" + json.dumps(kept).encode()


def main(plan: str, base: str, folder: str, *headers: str) -> None:
    PLANS[plan](Recorder(base, Path(folder), list(headers)))


def record_llamacpp(recorder: Recorder) -> None:
    """Record a llama-server, started with ``--metrics --parallel 2``."""
    recorder.record_each(DETECTION | LLAMACPP)
    recorder.record_each(CHATS)
    with busy(recorder):
        recorder.record_each({"slots-busy": "/slots", "metrics-busy": "/metrics", "health-busy": "/health"})


def record_vllm(recorder: Recorder) -> None:
    """Record a vLLM, started with ``--max-num-seqs 2`` and ``VLLM_SERVER_DEV_MODE=1``."""
    recorder.record_each(DETECTION | VLLM | {"server-info": "/server_info?config_format=json"})
    recorder.record_each(CHATS)
    with busy(recorder):
        recorder.record_each({"metrics-busy": "/metrics", "load-busy": "/load", "health-busy": "/health"})


def record_closed_llamacpp(recorder: Recorder) -> None:
    """Record a llama-server, started with ``--api-key KEY --no-slots`` and without ``--metrics``."""
    recorder.record_each(DETECTION | LLAMACPP)
    recorder.record("chat", "/v1/chat/completions", SHORT)


def record_closed_vllm(recorder: Recorder) -> None:
    """Record a vLLM, started with ``--api-key KEY --max-num-seqs 2 --max-num-queued-reqs 1``."""
    recorder.record_each(DETECTION | {name: path for name, path in VLLM.items() if name != "metrics"})
    recorder.record("chat", "/v1/chat/completions", SHORT)
    with busy(recorder):
        recorder.record("chat-overloaded", "/v1/chat/completions", {**SHORT, "stream": True})


def record_loading(recorder: Recorder) -> None:
    """Record a llama-server that is started later, with a model that takes a second to load."""
    while not recorder.record("health-loading", "/health"):
        time.sleep(0.002)
    recorder.record_each({"props-loading": "/props", "models-loading": "/v1/models"})
    recorder.record("chat-loading", "/v1/chat/completions", SHORT)


def record_sleeping(recorder: Recorder) -> None:
    """Record a llama-server, started with ``--sleep-idle-seconds 1``: its model has left the memory."""
    recorder.record("chat", "/v1/chat/completions", SHORT)
    time.sleep(3)
    recorder.record_each({"props": "/props", "health": "/health", "models": "/v1/models"})


@contextmanager
def busy(recorder: Recorder) -> Iterator[None]:
    """Have five answers generated, by two slots."""
    with ExitStack() as stack:
        for _ in range(5):
            stack.callback(recorder.start("/v1/chat/completions", LONG).kill)
        time.sleep(0.6)
        yield


def record_router(recorder: Recorder) -> None:
    """Record a router of the models tiny, other and big, started with ``--models-max 2``: none is loaded yet."""
    recorder.record_each(DETECTION | LLAMACPP)
    recorder.record("chat-unknown-model", "/v1/chat/completions", {**SHORT, "model": "nope"})
    recorder.record("metrics-without-autoload", f"/metrics?model={MODEL}&autoload=false")
    recorder.record("chat-that-loads", "/v1/chat/completions", SHORT)
    recorder.record("all-models-loaded", "/models")
    recorder.record("props-of-model", f"/props?model={MODEL}")
    recorder.record("slots-of-model", f"/slots?model={MODEL}")
    recorder.record("metrics-of-model", f"/metrics?model={MODEL}&autoload=false")
    # A GET with the name of a model that is not loaded loads it.
    recorder.record("metrics-that-loads", "/metrics?model=other")
    loading = recorder.start("/v1/chat/completions", {**SHORT, "model": "big"})
    time.sleep(0.3)
    recorder.record("all-models-loading", "/models")
    recorder.record("health-loading", "/health")
    recorder.record("chat-stream-queued", "/v1/chat/completions", {**SHORT, "model": "big", "stream": True})
    loading.wait()
    recorder.record("all-models-evicted", "/models")


PLANS: Mapping[str, Callable[[Recorder], None]] = {
    "llamacpp": record_llamacpp,
    "vllm": record_vllm,
    "closed-llamacpp": record_closed_llamacpp,
    "closed-vllm": record_closed_vllm,
    "loading": record_loading,
    "sleeping": record_sleeping,
    "router": record_router,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
