"""The kind of a server is detected, even if it is overloaded for a moment."""

import json
from collections import Counter

import pytest

from nexus.fleet.fetching import FetchResponse, Target
from nexus.fleet.probing.detection import Detection, detect

TARGET = Target("http://192.168.1.5:8000")
VLLM = {"/v1/models": {"data": [{"id": "tiny", "owned_by": "vllm"}]}}
OLLAMA = {"/api/version": {"version": "0.9"}, "/v1/models": {"data": [{"id": "tiny", "owned_by": "library"}]}}
GENERIC = {"/v1/models": {"data": [{"id": "tiny", "owned_by": "me"}]}}


class Server:
    """Answers what it has, and fails at the first question for one path."""

    def __init__(self, has, overloaded_at="", status=503):
        self.has = has
        self.overloaded_at = overloaded_at
        self.status = status
        self.asked = Counter()

    async def get(self, _, path):
        self.asked[path] += 1
        if path == self.overloaded_at and self.asked[path] == 1:
            return FetchResponse(self.status, {}, b"")
        return (
            FetchResponse(200, {}, json.dumps(self.has[path]).encode())
            if path in self.has
            else FetchResponse(404, {}, b"")
        )


@pytest.mark.parametrize(("has", "kind"), [(VLLM, "vllm"), (OLLAMA, "ollama"), (GENERIC, "generic")])
async def test_a_server_shows_its_kind_for_certain(has, kind):
    assert await detect(Server(has), TARGET) == Detection(kind, 200)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://api.openai.com", "openai"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("https://me.openai.azure.com/openai/v1", "azure"),
    ],
)
async def test_a_cloud_is_known_by_its_name(url, kind):
    server = Server({})

    assert (await detect(server, Target(url))).kind == kind
    assert not server.asked


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_list_that_fails_once_still_shows_the_owner_of_the_models(status):
    shown = await detect(Server(VLLM, "/v1/models", status), TARGET)

    assert shown.kind == "vllm"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_kind_that_is_detected_after_an_overload_is_not_certain(status):
    shown = await detect(Server(OLLAMA, "/api/version", status), TARGET)

    assert shown == Detection("generic", 200, is_certain=False)
