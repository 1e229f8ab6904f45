"""Each request is checked, and goes to what serves it; a repeated head reuses its checks."""

import asyncio
import json
import re
from types import SimpleNamespace

import pytest
from aiohttp.http import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD

from nexus.config.schema import Config
from nexus.domain.routes import Page, PageRoute
from nexus.errors import RequestError
from nexus.proxy.client.access import AccessRules
from nexus.proxy.client.request_reader import Received
from nexus.proxy.dispatch import handler as dispatching
from nexus.proxy.dispatch.handler import RequestHandler, new_request_id
from nexus.proxy.headers.from_client import HeadMemory

KEY = ("Authorization", "Bearer secret")


class Rules(AccessRules):
    """Counts the checks."""

    def __init__(self, key=None, origins=frozenset()):
        super().__init__(accepts_key=None if key is None else key.__eq__, hosts=None, origins=origins)
        self.checked = 0

    def check(self, message, head, access="client"):
        self.checked += 1
        super().check(message, head, access)


class Client:
    """A client's connection as the handler knows it."""

    def __init__(self):
        self.heads = HeadMemory()
        self.last_request = None
        self.is_surplus = False
        self.writing_paused = False
        self.remote = "192.0.2.1"
        self.written = b""

    def may_follow(self, message):
        return message.version == HttpVersion11

    def write(self, data):
        self.written += data

    @property
    def status(self):
        return int(self.written.split()[1])

    @property
    def body(self):
        return json.loads(self.written.partition(b"\r\n\r\n")[2])


@pytest.fixture
def abandoned():
    """The ids of clients' requests that ended before they began."""
    return []


@pytest.fixture
def exchanges(monkeypatch, abandoned):
    """The requests that became exchanges."""
    begun = []

    class Exchange:
        def __init__(self, plane, settings, client, request, received, record):
            self.request, self.record = request, record

        async def run(self):
            begun.append(self.request)
            return True

        def abandon(self):
            abandoned.append(self.record.client_request_id)

    monkeypatch.setattr(dispatching, "Exchange", Exchange)
    return begun


@pytest.fixture
def plane():
    return SimpleNamespace(settings=SimpleNamespace(access=Rules(), config=Config()), in_flight=0)


@pytest.fixture
def refused():
    return []


@pytest.fixture
def handler(plane, refused):
    page = PageRoute(path="/health", respond=lambda request: Page(200, "text/plain", request.method.encode()))
    return RequestHandler(plane, (page,), on_refused=refused.append)


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def serve(handler, client, make_message):
    async def serve(*headers, **message):
        return await handler.serve(client, Received(make_message(*headers, **message), EMPTY_PAYLOAD, 0))

    return serve


async def test_a_request_for_a_model_becomes_an_exchange(serve, exchanges, client):
    assert await serve(target="/v1/chat/completions?a=1#b")

    assert [(request.endpoint.name, request.target) for request in exchanges] == [
        ("openai.chat", b"/v1/chat/completions?a=1")
    ]
    assert client.written == b""


async def test_a_page_is_no_exchange(serve, exchanges, client):
    assert await serve(target="/health", method="GET")

    assert (exchanges, client.status, client.written.endswith(b"\r\n\r\nGET")) == ([], 200, True)


async def test_the_same_head_is_checked_once(serve, exchanges, plane):
    lengths = ("1", "22", "333")
    for length in lengths:
        await serve(("Content-Length", length))

    assert (len(exchanges), plane.settings.access.checked) == (3, 1)
    assert [dict(request.message.raw_headers)[b"Content-Length"] for request in exchanges] == [
        length.encode() for length in lengths
    ]


async def test_a_head_with_another_trace_is_checked_once_and_has_its_own(serve, exchanges, plane):
    for number in ("1", "2", "3"):
        await serve(("traceparent", f"00-{number}"), ("X-Request-Id", f"id-{number}"))

    assert plane.settings.access.checked == 1
    assert [(request.head.forward, request.head.request_id) for request in exchanges] == [
        ([(b"traceparent", b"traceparent: 00-%d\r\n" % number)], f"id-{number}") for number in (1, 2, 3)
    ]


async def test_a_key_in_another_value_is_withheld(serve, exchanges, plane):
    plane.settings.access = Rules(key=b"secret")
    for value in ("fine", "secret", "Bearer secret"):
        await serve(KEY, ("X-Custom", value), ("X-Request-Id", value.replace(" ", "")))

    assert [request.head.forward for request in exchanges] == [[(b"x-custom", b"X-Custom: fine\r\n")], [], []]
    assert [request.head.request_id for request in exchanges] == ["fine", "", "Bearersecret"]


@pytest.mark.parametrize(
    "change", [{"target": "/v1/completions"}, {"headers": (("X-Custom", "1"),)}, {"host": "other"}]
)
async def test_another_head_is_checked_anew(serve, exchanges, plane, change):
    await serve()
    await serve(*change.pop("headers", ()), **change)

    assert (len(exchanges), plane.settings.access.checked) == (2, 2)


async def test_after_a_reload_the_same_head_is_checked_by_the_new_rules(serve, exchanges, plane, client, refused):
    await serve(KEY)
    plane.settings.access = Rules(key=b"another")
    await serve(KEY)

    assert (len(exchanges), plane.settings.access.checked, client.status) == (1, 1, 401)
    assert refused == ["invalid_api_key"]


async def test_a_refused_head_is_not_reused(serve, exchanges, plane):
    plane.settings.access = Rules(key=b"secret")
    for _ in range(2):
        await serve()

    assert (exchanges, plane.settings.access.checked) == ([], 2)


@pytest.mark.parametrize(
    ("target", "headers", "member"),
    [
        ("/v1/chat/completions", (), "error.code"),
        ("/v1/messages", (), "error.type"),
        ("/api/chat", (), "error"),
        ("/api/nowhere", (), "error"),
        ("/v1/models", (("anthropic-version", "2023-06-01"),), "error.type"),
    ],
)
async def test_a_refusal_is_in_the_protocol_of_the_client(serve, plane, client, target, headers, member):
    plane.settings.access = Rules(key=b"secret")

    assert await serve(*headers, target=target)

    found = client.body
    for name in member.split("."):
        found = found[name]
    assert (client.status, isinstance(found, str)) == (401, True)
    assert (client.body.get("type") == "error") is (member == "error.type")


async def test_a_refusal_names_its_request(serve, plane, client):
    plane.settings.access = Rules(key=b"secret")
    await serve(("X-Request-Id", "mine"))

    assert b"\r\nX-Request-Id: mine\r\nX-Nexus-Request-Id: req-" in client.written


async def test_an_unknown_path_is_not_found_and_another_method_not_allowed(serve, client, refused):
    await serve(target="/nowhere")
    await serve(target="/health", method="DELETE")

    assert refused == ["not_found", "method_not_allowed"]
    assert b"\r\nAllow: GET, HEAD\r\n" in client.written


async def test_a_surplus_connection_is_refused_and_ended(serve, exchanges, client, refused):
    client.is_surplus = True

    assert not await serve()

    assert (exchanges, client.status, refused) == ([], 503, ["overloaded"])
    assert b"\r\nConnection: close\r\n" in client.written


async def test_a_surplus_connection_still_shows_pages(serve, client):
    client.is_surplus = True

    assert await serve(target="/health", method="GET")

    assert client.status == 200


async def test_a_page_of_an_allowed_origin_may_read_even_a_refusal(serve, plane, client):
    plane.settings.access = Rules(key=b"secret", origins=frozenset({b"https://app.example"}))
    await serve(("Origin", "https://app.example"))

    assert client.status == 401
    assert b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in client.written


async def test_a_preflight_of_an_allowed_origin_needs_no_key(serve, plane, client):
    plane.settings.access = Rules(key=b"secret", origins=frozenset({b"https://app.example"}))
    headers = (("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST"))

    assert await serve(*headers, method="OPTIONS")

    assert client.status == 204


async def test_a_request_waits_until_the_client_has_taken_the_replies_before(serve, exchanges, client):
    taken = asyncio.Event()
    client.writing_paused, client.drained = True, taken.wait
    serving = asyncio.ensure_future(serve())
    await asyncio.sleep(0)
    before = len(exchanges)
    taken.set()
    await serving

    assert (before, len(exchanges)) == (0, 1)


async def test_a_client_that_leaves_before_it_has_taken_the_replies_abandons_its_request(
    serve, exchanges, client, abandoned
):
    client.writing_paused, client.drained = True, asyncio.Event().wait
    serving = asyncio.ensure_future(serve(("X-Request-Id", "mine")))
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert (exchanges, abandoned) == ([], ["mine"])


def test_abandoned_requests_to_endpoints_end_as_exchanges_and_refused_ones_are_counted(
    handler, client, plane, make_message, exchanges, abandoned, refused
):
    plane.settings.access = Rules(key=b"secret")
    of_endpoint = make_message(KEY, ("X-Request-Id", "mine"))
    without_key, of_page = make_message(("X-Request-Id", "other")), make_message(KEY, target="/health", method="GET")
    handler.note_abandoned(
        client, tuple(Received(message, EMPTY_PAYLOAD, 0) for message in (of_endpoint, without_key, of_page))
    )

    assert (exchanges, abandoned, refused) == ([], ["mine"], ["invalid_api_key"])


async def test_a_malformed_request_is_refused_and_counted(handler, client, refused):
    reply = handler.refuse_malformed(client, RequestError("bad_request", "not HTTP", close=True), True)

    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.endswith(b"\r\n\r\n")
    assert refused == ["bad_request"]


def test_no_two_request_ids_are_the_same():
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_a_request_id_can_stand_in_any_header():
    assert re.fullmatch(r"req-[0-9a-f]{32}", new_request_id())


def test_a_request_id_says_nothing_of_the_next():
    ids = [new_request_id().removeprefix("req-") for _ in range(100)]

    assert all(len({id_[at] for id_ in ids}) > 3 for at in range(32))
