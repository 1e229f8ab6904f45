"""What engines answer: recorded in ``contract/transcripts``, or written from source in ``contract/written``."""

import json
from pathlib import Path
from typing import Any

import msgspec
from multidict import CIMultiDict

from nexus.fleet.fetching import FetchResponse

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
    headers: CIMultiDict[str] = CIMultiDict(field.split(": ", 1) for field in fields)
    method, target = request.decode().split(" ", 1)
    return Transcript(name, method, target, sent, FetchResponse(int(status.split(" ")[1]), headers, body))


def all_in(folder: str) -> tuple[Transcript, ...]:
    """Return all transcripts of one engine."""
    return tuple(read(f"{folder}/{file.stem}") for file in sorted(CONTRACT.glob(f"*/{folder}/*.http")))


def folders() -> tuple[str, ...]:
    """Return the names of all engines with a folder."""
    return tuple(sorted({file.parent.name for file in CONTRACT.glob("*/*/*.http")}))


class RecordedServer:
    """Answers each GET as one engine did; a :class:`~nexus.fleet.fetching.Fetcher` for detection."""

    def __init__(self, folder: str, *instead: str) -> None:
        """:param instead: names of transcripts that replace those of the same path."""
        self._of_path = {}
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
