"""Which headers of a client go on, which are its own affair, and which are refused."""

import pytest

from nexus.testing.dialects import CHAT, MODEL
from nexus.testing.scripted import ReadRequest, ScriptedBackend, Send

BACKENDS_KEY = "the-backends-own"
OTHER = f"""
[[backends]]
name = "gpu-2"
type = "generic"
protocols = ["openai"]
models = {{ "{MODEL}" = {{}} }}
url = \""""
END = '"\n'


@pytest.mark.parametrize(
    "name",
    ["Authorization", "x-api-key", "X-Request-Id", "Idempotency-Key", "Origin", "X-Nexus-Priority", "Content-Encoding"],
)
async def test_two_headers_of_which_only_one_can_be_meant_are_refused(front, raw, name):
    wire = raw(f"{name}: a", f"{name.upper()}: b")

    await front.refuses(wire, status=400, code="duplicate_header")


@pytest.mark.parametrize("name", ["Host", "Content-Type", "User-Agent"])
async def test_the_parser_refuses_further_ones(front, raw, name):
    await front.refuses(raw(f"{name}: localhost", f"{name}: localhost"), status=400, code="bad_request")


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: X-Nexus-Priority",),
        ("Connection: close, authorization",),
        ("Connection: Content-Length",),
        ("Connection: Content-Type",),
        ("Connection: Host",),
        ("Connection: Cookie",),
        ("Connection: X-Forwarded-For",),
        ("Connection: x-api-key",),
        ("Connection: Transfer-Encoding",),
        ("Connection: X-Nexus-Strict", "Connection: keep-alive"),
        ("Connection: keep-alive", "Connection: Authorization"),
    ],
    ids=repr,
)
async def test_a_client_cannot_have_headers_removed_that_matter(front, raw, lines):
    await front.refuses(raw(*lines), status=400, code="bad_request")


async def test_headers_that_belong_to_the_connection_stay_on_it(front, chat):
    headers = (
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X-T\r\n"
        "Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nX-Kept: 1\r\n"
    )

    reply = await front.ask(chat(headers=headers))

    assert reply.status == 200
    [asked] = front.asked
    names = {name.lower() for name, _ in asked.raw_headers}
    assert b"x-kept" in names
    assert not names & {
        b"connection",
        b"x-mine",
        b"keep-alive",
        b"te",
        b"trailer",
        b"proxy-authorization",
        b"proxy-connection",
    }


@pytest.mark.parametrize(
    "header",
    [
        "X-Nexus-Backend: gpu-9",
        "X-Nexus-Zone: open",
        "X_Nexus_Backend: gpu-9",
        "X_Api_Key: k",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2",
        "X-Forwarded-Prefix: /x",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Via: 1.1 evil",
        "Cookie: session=1",
        "Referer: http://localhost/private",
        "Accept-Encoding: gzip",
    ],
)
async def test_what_a_client_says_of_its_way_and_its_routing_goes_no_further(front, chat, header):
    reply = await front.ask(chat(headers=f"{header}\r\n"))

    assert reply.status == 200
    assert reply.headers["x-nexus-backend"] == "gpu-1"
    [asked] = front.asked
    assert asked.header(header.partition(":")[0]) == ""


async def test_where_a_request_came_from_is_not_what_it_says(front, raw):
    await front.all_replies(raw("X-Forwarded-For: 10.9.8.7", "X-Real-IP: 10.9.8.7", host="Host: evil.example"))

    [line] = front.lines("request_refused")
    assert line["remote"] == "127.0.0.1"


@pytest.mark.parametrize(
    "value", ["caf\xc3\xa9", "\xe9", "a\x01b", "a\x7fb", "a\x1b[31m", "a\x00b", "a\rb", "a\r\n b"], ids=repr
)
@pytest.mark.parametrize("name", ["X-Any", "X-Nexus-Priority", "X_Dropped"])
async def test_a_value_that_is_not_visible_ascii_is_refused(front, raw, name, value):
    await front.refuses(raw(f"{name}: {value}"), status=400, code="bad_request")


@pytest.mark.parametrize("name", ["X Any", "X-\xe9", "X-(a)", "", "X-\x01"])
async def test_a_name_that_is_no_token_is_refused(front, raw, name):
    await front.refuses(raw(f"{name}: 1"), status=400, code="bad_request")


async def test_a_hundred_headers_are_taken(front, chat):
    reply = await front.ask(chat(headers="".join(f"X-{number}: 1\r\n" for number in range(97))))

    assert reply.status == 200


@pytest.mark.parametrize(("count", "status", "code"), [(140, 431, "headers_too_large"), (300, 400, "bad_request")])
async def test_more_headers_are_refused(front, raw, count, status, code):
    await front.refuses(raw(*(f"X-{number}: 1" for number in range(count))), status=status, code=code)


@pytest.mark.parametrize("length", [8191, 9 * 1024, 100_000])
async def test_a_long_header_is_refused(front, raw, length):
    await front.refuses(raw(f"X-Long: {'a' * length}"), status=431, code="headers_too_large")


async def test_a_header_of_nearly_the_greatest_length_is_taken(front, chat):
    reply = await front.ask(chat(headers=f"X-Codex-Turn-Metadata: {'a' * 8160}\r\n"))

    assert reply.status == 200
    assert len(front.asked[0].header("X-Codex-Turn-Metadata")) == 8160


@pytest.mark.parametrize("value", ["with space", "a" * 129])
async def test_a_request_id_that_cannot_be_used_is_replaced(front, chat, value):
    reply = await front.ask(chat(headers=f"X-Request-Id: {value}\r\n"))

    assert reply.status == 200
    assert reply.headers["x-request-id"] not in ("", value)
    assert front.asked[0].header("X-Request-Id") == reply.headers["x-request-id"]


# keys


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Authorization: Bearer wrong",
        "Authorization: Basic {key}",
        "Authorization: {key}",
        "Authorization: Bearer {key}x",
        "x-api-key: wrong",
        "x_api_key: {key}",
        "X-Forwarded-Authorization: Bearer {key}",
        "Authorization: Bearer " + "a" * 8000,
        "Authorization: Bearer ' OR 1=1 --",
    ],
)
async def test_without_a_key_nobody_comes_in(start_front, raw, check_refusal, keyed, key, header):
    front = await start_front(server=keyed)

    reply = await front.ask(raw(header.format(key=key), "Content-Length: 2", body=b"{}"))

    assert (reply.status, reply.code) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    check_refusal(reply, "openai")
    assert front.asked == []


@pytest.mark.parametrize("header", ["Authorization: Bearer {key}", "authorization: bearer {key}", "x-api-key: {key}"])
async def test_with_the_key_it_goes_no_further_than_the_proxy(start_front, chat, keyed, key, header):
    front = await start_front(server=keyed)

    reply = await front.ask(chat(headers=f"{header.format(key=key)}\r\n"))

    assert reply.status == 200
    assert key not in repr(front.asked[0].raw_headers)


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer mine", "x-api-key: mine", "api-key: mine", "x-goog-api-key: mine"]
)
async def test_a_backend_with_a_key_of_its_own_sees_no_other(start_front, chat, tmp_path, header):
    file = tmp_path / "key"
    file.write_text(BACKENDS_KEY)
    file.chmod(0o600)
    front = await start_front(backend=f'api_key = "file:{file}"', api_key=BACKENDS_KEY)

    reply = await front.ask(chat(headers=f"{header}\r\n"))

    assert reply.status == 200
    [asked] = front.asked
    assert asked.header("Authorization") == f"Bearer {BACKENDS_KEY}"
    assert "mine" not in repr(asked.raw_headers)


@pytest.mark.parametrize("header", ["Authorization: Bearer mine", "x-api-key: mine"])
async def test_a_clients_key_is_shown_to_one_backend_only(start_front, chat, header):
    busy = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedBackend([ReadRequest(), Send(CHAT.good_answer)]) as second:
        front = await start_front(
            [ReadRequest(), Send(busy)], backend="priority = 1", others=OTHER + second.url + END, max_retries=1
        )

        reply = await front.ask(chat(headers=f"{header}\r\n"))

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, "gpu-2")
    assert b"mine" in front.backend.attempts[0].received
    assert b"mine" not in second.attempts[-1].received


async def test_a_backend_without_a_key_sees_the_clients(front, chat):
    await front.ask(chat(headers="Authorization: Bearer mine\r\n"))

    assert front.asked[0].header("Authorization") == "Bearer mine"
