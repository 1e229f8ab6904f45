"""A scripted model that writes a file with the tools of a coding agent, behind a server that knows one API only."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, Self

import msgspec

Json = Mapping[str, Any]

THOUGHT: Final = "First the file, then its text."
ADD: Final = "*** Begin Patch\n*** Add File: greeting.txt\n+hello\n*** End Patch\n"
CHANGE: Final = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-hello\n+hello world\n*** End Patch\n"
WANTED: Final = "hello world\n"
BREAK_AFTER_PARTS: Final = 2
"""Within the thoughts: what Claude Code has read to the end, it does not ask for again."""


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: Json


class Turn(msgspec.Struct, frozen=True):
    """What the model says next; without calls, it has finished."""

    text: str
    calls: tuple[Call, ...] = ()


def next_turn(tools: Mapping[str, Json], results: Sequence[str], folder: Path) -> Turn:
    """Return the next step of writing ``greeting.txt`` and changing it.

    :param tools: the schemas of the arguments of the tools that the agent offers, by name.
    :param results: what the agent's tools have answered so far.
    """
    if "Write" in tools:
        steps = _claude_code(folder / "greeting.txt", folder / "seed.txt")
    elif tools:
        steps = _codex(tools)
    else:
        return Turn("Greeting")  # a title, a summary: agents ask for more than their task
    for step in steps:
        if not results:
            return step
        results = results[len(step.calls) :]
    return Turn("The file is written.")


def _claude_code(greeting: Path, seed: Path) -> tuple[Turn, ...]:
    write = Call("Write", {"file_path": str(greeting), "content": "hello\n"})
    edit = Call("Edit", {"file_path": str(greeting), "old_string": "hello", "new_string": "hello world"})
    # Two calls in one turn, and one that fails in the next.
    return (
        Turn("I write it.", (write, Call("Read", {"file_path": str(seed)}))),
        Turn("", (edit, Call("Bash", {"command": "cat not-there", "description": "Look for more"}))),
    )


def _codex(tools: Mapping[str, Json]) -> tuple[Turn, ...]:
    look = tuple(Call("exec_command", {"cmd": command}) for command in ("cat seed.txt",) if "exec_command" in tools)
    return (Turn("I write it.", (_patch(tools, ADD), *look)), Turn("", (_patch(tools, CHANGE),)))


def _patch(tools: Mapping[str, Json], patch: str) -> Call:
    """Apply *patch* with the tool for it, with JavaScript, or in the shell."""
    for name, schema in tools.items():
        if re.search(r"(^|\W|_)apply_patch$", name):
            return Call(name, {_only_argument(schema): patch})
    for name, schema in tools.items():
        if re.search(r"(^|\W|_)exec$", name):
            return Call(name, {_only_argument(schema): f"text(await tools.apply_patch({json.dumps(patch)}));"})
    return Call("exec_command", {"cmd": f"apply_patch <<'EOF'\n{patch}EOF"})


def _only_argument(schema: Json) -> str:
    (name,) = schema["properties"]
    return str(name)


class Request(msgspec.Struct, frozen=True):
    """What the server understood."""

    tools: Mapping[str, Json]
    results: tuple[str, ...]
    is_stream: bool


Read = Callable[[Json], Request]
"""Reads a body as strictly as the strictest servers do; raises ValueError with the field."""
Write = Callable[[Turn, Request, str], Iterator[bytes]]
"""Writes a turn as the parts of a body: many if it is a stream."""


class Api(msgspec.Struct, frozen=True):
    """The one API that a server knows."""

    path: str
    read: Read
    write: Write
    stream_type: str
    pages: Callable[[Sequence[str]], Mapping[str, Json]]
    """Its other pages, by path, for these models."""


class ModelServer:
    """A running server."""

    def __init__(self, api: Api, models: Sequence[str], folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.pages = api.pages(models)
        self.bodies: list[Json] = []
        """The requests for answers, in their order."""
        self.refused: list[str] = []
        """What was wrong with requests."""
        self.breaks = 0
        """How many answers from now on break off after their beginning."""
        self.elsewhere: list[str] = []
        """Paths that it does not know."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def framed(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Return the chunks of a body; the last one is missing if it shall break off."""
        for number, part in enumerate(parts):
            if self.breaks and number == BREAK_AFTER_PARTS:
                self.breaks -= 1
                return
            yield b"%x\r\n%b\r\n" % (len(part), part)
        yield b"0\r\n\r\n"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(api: Api, models: Sequence[str], folder: Path) -> Iterator[ModelServer]:
    """Run a server with *models* whose task is in *folder*."""
    with ModelServer(api, models, folder) as server:
        yield server


def _handler_for(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = server.pages.get(self.path)
            self._answer(404 if page is None else 200, page or {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path in server.pages:
                self._answer(200, server.pages[self.path])
                return
            if self.path != server.api.path:
                server.elsewhere.append(self.path)
                self._answer(404, {"detail": "Not Found"})
                return
            server.bodies.append(body)
            try:
                request = server.api.read(body)
            except (ValueError, KeyError, TypeError) as exc:
                server.refused.append(repr(exc))
                self._answer(400, _error(str(exc)))
                return
            turn = next_turn(request.tools, request.results, server.folder)
            self._send(request, server.api.write(turn, request, str(body["model"])))

        def _send(self, request: Request, parts: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", server.api.stream_type if request.is_stream else "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for frame in server.framed(parts):
                self.wfile.write(frame)

        def _answer(self, status: int, document: Json) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _error(message: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
