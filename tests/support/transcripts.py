"""What engines answer: recorded in ``contract/transcripts``, or written from source in ``contract/written``."""

import json
from pathlib import Path
from typing import Any

import msgspec
from multidict import CIMultiDict

from nexus.domain.kinds import BackendKind
from nexus.domain.request import Endpoint, TokenUsage
from nexus.fleet.fetching import FetchResponse
from nexus.fleet.kinds import KINDS
from nexus.wire.protocol import WireProtocol
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.streams.event import Purpose

CONTRACT = Path(__file__).parents[1] / "contract"
RECORDED, WRITTEN = CONTRACT / "transcripts", CONTRACT / "written"


class Transcript(msgspec.Struct, frozen=True):
    """One request, and the response of the engine."""

    name: str
    """Folder and file, such as ``vllm-0.32.0/chat``."""
    method: str
    path: str
    """With its query."""
    sent: bytes
    """The body of the request; empty for a GET."""
    response: FetchResponse

    @property
    def json(self) -> Any:
        return json.loads(self.response.body)


def read(name: str) -> Transcript:
    """Return the transcript with that folder and file name."""
    path = next(path for root in (RECORDED, WRITTEN) if (path := root / f"{name}.http").exists())
    request, sent, response = path.read_bytes().split(b"\n", 2)
    head, _, body = response.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    split = (field.partition(": ") for field in fields)
    headers: CIMultiDict[str] = CIMultiDict((name, value) for name, _, value in split)
    method, target = request.decode().split(" ", 1)
    return Transcript(name, method, target, sent, FetchResponse(int(status.split(" ")[1]), headers, body))


def all_in(folder: str) -> tuple[Transcript, ...]:
    """Return all transcripts of one engine."""
    return tuple(read(f"{folder}/{file.stem}") for file in sorted(CONTRACT.glob(f"*/{folder}/*.http")))


def folders() -> tuple[str, ...]:
    """Return the names of all engines with a folder."""
    return tuple(sorted({file.parent.name for file in CONTRACT.glob("*/*/*.http")}))


def kind_of(name: str) -> BackendKind:
    """Return the kind of the engine with that folder, or with a transcript in it."""
    return KINDS[name.partition("-")[0]]


def wire_of(transcript: Transcript) -> tuple[Endpoint, WireProtocol]:
    """Return the endpoint that was called, and its protocol."""
    endpoint = ENDPOINTS[transcript.path]
    return endpoint, PROTOCOLS[endpoint.protocol]


def usage_in(transcript: Transcript, body: bytes) -> TokenUsage | None:
    """Return the usage in *body*, an answer to the request of *transcript*."""
    endpoint, wire = wire_of(transcript)
    if not transcript.response.headers["Content-Type"].startswith(wire.stream_type):
        return wire.usage_of(body)
    scan = wire.open_stream(endpoint)
    scan.feed(body)
    return scan.usage()


def purposes(transcript: Transcript, body: bytes) -> list[tuple[bytes, Purpose]]:
    """Return the name and the purpose of each event in *body*, a stream as the one of *transcript*."""
    endpoint, wire = wire_of(transcript)
    scan = wire.open_stream(endpoint)
    seen: list[tuple[bytes, Purpose]] = []
    scan.show(lambda event: seen.append((event.name, scan.purpose(event))))
    scan.feed(body)
    return seen


class RecordedServer:
    """Answers each GET as one engine did; a :class:`~nexus.fleet.fetching.Fetcher` for detection."""

    def __init__(self, folder: str, *instead: str) -> None:
        """:param instead: names of transcripts that replace those of the same path."""
        self._of_path: dict[str, Transcript] = {}
        for transcript in all_in(folder):
            # Others were recorded on a busy or loading server.
            if transcript.method == "GET" and not transcript.name.endswith(("-busy", "-loading")):
                self._of_path.setdefault(transcript.path, transcript)
        self._of_path |= {transcript.path: transcript for transcript in map(read, instead)}

    def has(self, path: str) -> bool:
        """Whether a GET of *path* was recorded."""
        return path in self._of_path

    async def get(self, _: object, path: str) -> FetchResponse:
        return self._of_path[path].response
