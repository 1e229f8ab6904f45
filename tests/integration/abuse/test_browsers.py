"""What a web page can make a browser send: nothing that its origin was not allowed, and nothing unseen."""

import pytest

from nexus.simulator import Cut
from tests.support.dialects import CHAT, whole_answer
from tests.support.scripted import ReadRequest, Send

OURS = "http://localhost:3000"
FOREIGN = "https://attacker.example"
ALLOWED = f'allowed_origins = ["{OURS}", "app://desk"]'
PREFLIGHT = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, x-evil\r\n"
CORS = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers")


@pytest.fixture
async def listing_front(start_front):
    """Give a proxy that lets pages of :data:`OURS` in."""
    return await start_front(server=ALLOWED)


def preflight(origin, *, path="/v1/chat/completions", headers=""):
    return f"OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{PREFLIGHT}{headers}\r\n".encode()


# origins that nobody listed


@pytest.mark.parametrize(
    "headers",
    [
        f"Origin: {FOREIGN}\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost.attacker.example\r\n",
        "Origin: http://localhost:1\r\n",
        "Origin: localhost\r\n",
        "Origin: \r\nSec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
        f"Origin: {FOREIGN}\r\nSec-Fetch-Site: same-origin\r\n",
    ],
)
async def test_a_page_from_elsewhere_reaches_no_backend(front, chat, check_refusal, headers):
    reply = await front.ask(chat(headers=headers))

    assert (reply.status, reply.code) == (403, "cross_origin")
    check_refusal(reply, "openai")
    assert not any(name.startswith("access-control-") for name in reply.headers)
    assert front.asked == []


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/health", "/metrics", "/admin/backends", "/"])
async def test_a_page_from_elsewhere_reads_nothing_of_ours(listing_front, get, path):
    reply = await listing_front.ask(get(path, f"Origin: {FOREIGN}\r\n"))

    assert reply.status == 403
    assert not any(name.startswith("access-control-") for name in reply.headers)


async def test_a_link_from_elsewhere_leads_to_the_status_page(front, get):
    headers = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n"

    reply = await front.ask(get("/", headers))

    assert reply.status == 200
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
async def test_a_page_from_elsewhere_embeds_nothing_of_ours(front, get, mode):
    reply = await front.ask(get("/v1/models", f"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: {mode}\r\n"))

    assert (reply.status, reply.code) == (403, "cross_origin")


@pytest.mark.parametrize(
    "headers",
    [
        "Origin: http://localhost\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n",
    ],
)
async def test_our_own_pages_and_people_come_in(front, chat, headers):
    assert (await front.ask(chat(headers=headers))).status == 200


# what a page may send without asking


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "", "application/jsonx"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
async def test_a_body_that_does_not_say_it_is_json_is_refused(front, raw, check_refusal, path, content_type):
    body = CHAT.body(stream=False)
    wire = raw(f"Content-Length: {len(body)}", body=body, target=path)

    reply = await front.ask(wire.replace(b"application/json", content_type.encode()))

    assert (reply.status, reply.code) == (415, "unsupported_media_type")
    check_refusal(reply, "anthropic" if path == "/v1/messages" else "openai")
    assert front.asked == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
async def test_a_body_that_says_it_is_json_is_taken(front, chat, content_type):
    assert (await front.ask(chat().replace(b"application/json", content_type.encode()))).status == 200


async def test_ollamas_own_examples_say_no_type_and_work(start_front, raw):
    front = await start_front(kind="ollama")
    body = CHAT.body(stream=False)
    wire = raw(f"Content-Length: {len(body)}", body=body, target="/api/chat")

    from_curl = await front.ask(wire.replace(b"application/json", b"application/x-www-form-urlencoded"))
    from_a_page = await front.ask(wire.replace(b"application/json", b"text/plain\r\nSec-Fetch-Site: same-origin"))

    assert (from_curl.status, from_a_page.status) == (200, 415)
    assert len(front.asked) == 1


# preflights


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/models"])
async def test_a_page_that_is_allowed_is_told_so(listing_front, path):
    client = await listing_front.connect()

    client.writer.write(preflight(OURS, path=path))
    status, headers = await client.head()

    assert status == 204
    assert headers["access-control-allow-origin"] == OURS
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-headers"].startswith("Authorization")
    assert "x-evil" not in headers["access-control-allow-headers"]
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers
    assert "access-control-allow-private-network" not in headers
    assert listing_front.asked == []


async def test_the_connection_of_a_preflight_carries_the_request(listing_front, chat):
    client = await listing_front.connect()

    client.writer.write(preflight(OURS) + chat(headers=f"Origin: {OURS}\r\n"))
    status, _ = await client.head()
    reply = await client.reply()

    assert (status, reply.status) == (204, 200)


async def test_a_preflight_needs_no_key_and_what_follows_does(start_front, chat, keyed, key):
    front = await start_front(server=f"{keyed}\n{ALLOWED}")
    client = await front.connect()

    client.writer.write(preflight(OURS) + chat(headers=f"Origin: {OURS}\r\n"))
    status, _ = await client.head()
    without = await client.reply()
    client.writer.write(chat(headers=f"Origin: {OURS}\r\nAuthorization: Bearer {key}\r\n"))
    with_key = await client.reply()

    assert (status, without.status, with_key.status) == (204, 401, 200)
    assert without.headers["access-control-allow-origin"] == OURS


async def test_an_options_request_that_is_no_preflight_needs_a_key(start_front, get, keyed):
    front = await start_front(server=f"{keyed}\n{ALLOWED}")

    reply = await front.ask(get("/v1/chat/completions", f"Origin: {OURS}\r\n", method="OPTIONS"))

    assert (reply.status, reply.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", OURS.upper(), f"{OURS}/", f"{OURS}.attacker.example", "http://localhost:3001"]
)
@pytest.mark.parametrize("headers", ["", "Access-Control-Request-Private-Network: true\r\n"])
async def test_a_page_that_is_not_allowed_is_told_nothing(listing_front, origin, headers):
    reply = await listing_front.ask(preflight(origin, headers=headers))

    assert (reply.status, reply.code) == (403, "cross_origin")
    assert not any(name.startswith("access-control-") for name in reply.headers)


async def test_a_page_on_the_internet_that_is_allowed_may_reach_this_machine(listing_front):
    client = await listing_front.connect()

    client.writer.write(preflight(OURS, headers="Access-Control-Request-Private-Network: true\r\n"))
    _, headers = await client.head()

    assert headers["access-control-allow-private-network"] == "true"


async def test_a_preflight_under_a_rebound_name_is_refused(listing_front):
    wire = preflight(OURS).replace(b"Host: localhost", b"Host: attacker.example")

    await listing_front.refuses(wire, status=421, code="misdirected_request")


# answers to origins that are allowed


@pytest.mark.parametrize("origin", [OURS, "app://desk"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_page_that_is_allowed_can_read_its_answer(listing_front, origin, stream):
    reply = await listing_front.ask(CHAT.request(CHAT.body(stream=stream), headers=f"Origin: {origin}\r\n"))

    assert (reply.status, reply.is_whole) == (200, True)
    assert reply.headers["access-control-allow-origin"] == origin
    assert reply.headers["access-control-expose-headers"] == "*"
    assert reply.headers["vary"] == "Origin"
    assert listing_front.asked[0].header("Origin") == ""


async def test_it_can_read_a_stream_that_is_cut(listing_front):
    listing_front.backend.faults.set(Cut(after_events=3, times=1))

    reply = await listing_front.ask(CHAT.request(CHAT.body(stream=True), headers=f"Origin: {OURS}\r\n"))

    assert reply.headers["access-control-allow-origin"] == OURS
    assert CHAT.failure in reply.body


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/v1/chat/completions", CHAT.body(stream=False, model="nobody-has-this"), 404),
        ("/v1/chat/completions", b"{", 400),
        ("/v1/nothing", b"{}", 404),
        ("/v1/models", b"{}", 405),
    ],
)
async def test_it_can_read_an_error(listing_front, raw, target, body, status):
    wire = raw(f"Origin: {OURS}", f"Content-Length: {len(body)}", body=body, target=target)

    reply = await listing_front.ask(wire)

    assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, OURS)


async def test_it_can_read_a_page(listing_front, get):
    reply = await listing_front.ask(get("/v1/models", f"Origin: {OURS}\r\n"))

    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, OURS)


async def test_nobody_is_named_to_whom_does_not_ask(listing_front, chat):
    reply = await listing_front.ask(chat())

    assert not {*CORS, "vary"} & set(reply.headers)


async def test_what_a_backend_says_of_origins_is_not_passed_on(start_front, chat):

    lines = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
    front = await start_front([ReadRequest(), Send(whole_answer(CHAT.whole, headers=lines))])

    reply = await front.ask(chat())

    assert reply.status == 200
    assert not any(name.startswith("access-control-") for name in reply.headers)
