"""Which headers of a client go on, which are its own affair, and which are refused."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.support.dialects import CHAT, MODEL
from tests.support.scripted import ReadRequest, ScriptedBackend, Send, Stall

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


@pytest.mark.parametrize("value", ["a\x01b", "a\x7fb", "a\x1b[31m", "a\x00b", "a\rb", "a\r\n b"], ids=repr)
@pytest.mark.parametrize("name", ["X-Any", "X-Nexus-Priority", "X_Under"])
async def test_a_value_with_control_characters_is_refused(front, raw, name, value):
    await front.refuses(raw(f"{name}: {value}"), status=400, code="bad_request")


@pytest.mark.parametrize("value", ["caf\xc3\xa9", "\xe9"], ids=repr)
@pytest.mark.parametrize("name", ["X-Nexus-Priority", "X-Request-Id", "Authorization"])
async def test_a_header_that_nexus_goes_by_is_ascii(front, raw, name, value):
    await front.refuses(raw(f"{name}: {value}"), status=400, code="bad_request")


@pytest.mark.parametrize(
    "line",
    [
        "X-Any: caf\xc3\xa9",
        "X-Any: \xe9\x80\xff",
        "X_Under_Score: 1",
        "x-LOWER-and-UPPER: 1",
        "Via: 1.1 first, 1.0 second (a comment)",
        "User-Agent: na\xefve/1.0",
        "X-Spaced:  two  words",
        "X-Client-Request-Id: mine",
    ],
    ids=repr,
)
async def test_a_header_that_nexus_does_not_go_by_passes_byte_for_byte(front, raw, chat, line):
    body = chat().partition(b"\r\n\r\n")[2]
    wire = raw(f"Content-Length: {len(body)}", line, body=body)

    reply = await front.ask(wire)

    name, _, value = line.encode("latin-1").partition(b":")
    assert reply.status == 200
    assert (name, value.strip()) in front.asked[0].raw_headers


@pytest.mark.parametrize(
    "name",
    [
        *("X_Nexus_Priority", "X_Nexus_Zone", "X-Nexus_Zone", "X_Forwarded_For", "X_Real_IP", "Transfer_Encoding"),
        *("Content_Length", "X_Request_Id", "Authorization_", "X_Api_Key", "x_goog_api_key", "Accept_Encoding"),
    ],
)
async def test_a_name_that_looks_like_one_that_nexus_goes_by_is_dropped(front, chat, name):
    reply = await front.ask(chat(headers=f"{name}: look-alike\r\n"))

    assert reply.status == 200
    assert ("look-alike" in repr(front.asked[0].raw_headers)) is (name == "Authorization_")


@pytest.mark.parametrize(
    "line",
    [
        "Set-Cookie: a=1",
        'Clear-Site-Data: "*"',
        "Content-Security-Policy: sandbox",
        "Content-Security-Policy-Report-Only: default-src 'none'; report-uri http://evil.example",
        "Refresh: 0; url=http://evil.example",
        "Location: http://evil.example",
        "Link: <http://evil.example/x.css>; rel=preload",
        'NEL: {"report_to":"x","max_age":1}',
        'Report-To: {"group":"x"}',
        'Reporting-Endpoints: x="http://evil.example"',
        "SourceMap: http://evil.example",
        "Service-Worker-Allowed: /",
        "Strict-Transport-Security: max-age=31536000",
        "Access-Control-Allow-Origin: *",
        "Cross-Origin-Opener-Policy: same-origin",
        "Permissions-Policy: microphone=*",
        "X-Frame-Options: ALLOWALL",
        "X-Sendfile: /etc/passwd",
        "X-Accel-Redirect: /internal",
    ],
)
async def test_no_backend_commands_a_browser_or_the_server_before_us(start_front, line):
    answer = CHAT.good_answer.replace(b"\r\n", f"\r\n{line}\r\nX-Kept: 1\r\n".encode(), 1)
    front = await start_front([ReadRequest(), Send(answer)])

    reply = await front.ask()

    assert (reply.status, reply.headers["x-kept"]) == (200, "1")
    assert line.partition(":")[0].lower() not in reply.headers


@pytest.mark.parametrize(
    "lines", [b"Content-Type: image/png\r\n", b"Content-Length: 0\r\n", b"Content-Length: 7\r\n"], ids=repr
)
async def test_an_answer_without_content_says_no_length(start_front, lines):
    steps = [ReadRequest(), Send(b"HTTP/1.1 204 No Content\r\n%b\r\n" % lines), Stall()]
    if b"7" not in lines:
        steps[2:] = [ReadRequest(), Send(CHAT.good_answer)]
    front = await start_front(steps, [ReadRequest(), Send(CHAT.good_answer)])
    client = await front.connect()

    client.send(CHAT)
    head = await client.reader.readuntil(b"\r\n\r\n")
    client.send(CHAT)

    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert (await client.reply()).status == 200


async def test_what_a_client_has_already_is_not_sent_again(start_front, get):
    unchanged = b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 700\r\n\r\n'
    front = await start_front([ReadRequest(), Send(unchanged), Stall()])
    client = await front.connect()

    client.writer.write(get("/v1/responses/resp_1", 'If-None-Match: "1"\r\n'))
    head = await client.reader.readuntil(b"\r\n\r\n")
    client.writer.write(get("/health"))

    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b'\r\nETag: "1"\r\n' in head
    assert b"content-length" not in head.lower()
    assert b'If-None-Match: "1"\r\n' in front.backend.attempts[0].received
    assert (await client.reply()).status == 200


@pytest.mark.parametrize("type_", ["text/html", "image/svg+xml", "application/json"])
async def test_what_a_backend_keeps_is_no_page_of_our_origin(start_front, get, type_):
    page = f"HTTP/1.1 200 OK\r\nContent-Type: {type_}\r\nContent-Security-Policy: none\r\nContent-Length: 2\r\n\r\n{{}}"
    front = await start_front([ReadRequest(), Send(page.encode()), Stall()])

    reply = await front.ask(
        get("/v1/files/file-1/content", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n")
    )

    assert (reply.status, reply.headers["content-type"]) == (200, type_)
    assert reply.headers["content-security-policy"] == "sandbox"


async def test_nothing_that_was_asked_of_a_model_is_unchanged(start_front):
    unchanged = b"HTTP/1.1 304 Not Modified\r\n\r\n"
    front = await start_front([ReadRequest(), Send(unchanged)])

    reply = await front.ask()

    assert (reply.status, reply.code) == (502, "bad_gateway")


async def test_every_answer_says_when_it_was_made(start_front, raw, get):
    dated = CHAT.good_answer.replace(b"\r\n", b"\r\nDATE: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 1)
    front = await start_front([ReadRequest(), Send(CHAT.good_answer), ReadRequest(), Send(dated)])

    undated, dated = [await front.ask() for _ in range(2)]
    own = [await front.ask(wire) for wire in (get("/health"), get("/nothing"), raw("X: \x01"), raw(host="Host: x.y"))]

    dates = [parsedate_to_datetime(reply.headers["date"]) for reply in (undated, *own)]
    assert all(abs(date - datetime.now(UTC)) < timedelta(seconds=60) for date in dates)
    assert dated.headers["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"


OWN_ANSWERS = {
    "a page": ("GET", "/health", ""),
    "the head of a page": ("HEAD", "/health", ""),
    "no such page": ("GET", "/nothing", ""),
    "a wrong method": ("PUT", "/health", ""),
    "no key": ("GET", "/v1/models", "Authorization: none\r\n"),
    "a foreign origin": ("GET", "/health", "Origin: http://evil.example\r\n"),
    "a preflight": ("OPTIONS", CHAT.path, "Access-Control-Request-Method: POST\r\n"),
    "a socket": ("GET", "/ws", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
    "no JSON": ("POST", CHAT.path, "Content-Type: application/json\r\nContent-Length: 0\r\n"),
    "no type": ("POST", CHAT.path, "Content-Type: text/plain\r\nContent-Length: 0\r\n"),
    "an explanation": ("POST", "/v1/route/explain", "Content-Type: application/json\r\nContent-Length: 0\r\n"),
    "a doubled header": ("GET", "/health", "X-Request-Id: mine\r\n"),
    "no hops left": ("GET", "/health", "X-Nexus-Hops: 9\r\n"),
    "HTTP/1.0": ("GET", "/nothing", "Connection: close\r\n"),
}


@pytest.mark.parametrize("case", OWN_ANSWERS)
async def test_every_answer_of_ours_names_its_request_and_says_nothing_twice(start_front, keyed, key, case):
    front = await start_front(server=f'{keyed}\nallowed_origins = ["http://app.example"]')
    method, path, lines = OWN_ANSWERS[case]
    version = "1.0" if case == "HTTP/1.0" else "1.1"
    origin = "" if "Origin" in lines else "Origin: http://app.example\r\n"
    key_line = "" if "Authorization" in lines else f"Authorization: Bearer {key}\r\n"
    client = await front.connect()

    client.writer.write(
        f"{method} {path} HTTP/{version}\r\nHost: localhost\r\nX-Request-Id: mine\r\n"
        f"{origin}{key_line}{lines}\r\n".encode()
    )
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode()

    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:-2]]
    assert len(names) == len(set(names))
    assert {"date", "x-request-id"} <= set(names)
    if case == "a doubled header":
        # Which of the two is meant is not known.
        assert "\r\nX-Request-Id: req-" in head
    else:
        assert "\r\nX-Request-Id: mine\r\nX-Nexus-Request-Id: req-" in head
    assert ("access-control-allow-origin" in names) is bool(origin)


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


async def test_two_requests_of_one_id_are_two_requests(front, chat):
    replies = [await front.ask(chat(headers="X-Request-Id: mine\r\n")) for _ in range(2)]

    ours = [reply.headers["x-nexus-request-id"] for reply in replies]
    assert [reply.headers["x-request-id"] for reply in replies] == ["mine", "mine"]
    assert len(set(ours)) == 2
    assert [request.header("X-Request-Id") for request in front.asked] == ["mine", "mine"]
    lines = front.lines("exchange_finished")
    assert [(line["request_id"], line["client_request_id"]) for line in lines] == [(id_, "mine") for id_ in ours]


async def test_an_id_leads_to_one_decision_and_cannot_be_taken(front, chat, get):
    first = (await front.ask(chat(headers="X-Nexus-Explain: 1\r\n"))).headers["x-nexus-decision-id"]

    await front.ask(chat(headers=f"X-Request-Id: {first}\r\n", model="nobody-has-this"))
    told = json.loads((await front.ask(get(f"/v1/route/decisions/{first}"))).body)

    assert (told["id"], told["client_request_id"]) == (first, None)
    assert told["decision"]["decision"] == "route"


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


# keys of ours, where no client's key is asked for, or one of two kinds

CLIENTS_KEY, ADMINS_KEY = "key-of-a-client", "key-of-an-administrator"
RINGS = {
    f"{name}_keys": f'{name}_keys = ["sha256:{hashlib.sha256(key.encode()).hexdigest()}"]'
    for name, key in (("api", CLIENTS_KEY), ("admin", ADMINS_KEY))
}
USED = {"clients": ("api_keys",), "administrators": ("admin_keys",), "both": ("api_keys", "admin_keys")}
CARRIERS = [
    "Authorization: Bearer {}",
    "authorization: bearer  {}",
    "Authorization: {}",
    "Authorization: Basic {basic}",
    "x-api-key: {}",
    "api-key: {}",
    "x-goog-api-key: {}",
    "Proxy-Authorization: Bearer {}",
    "Cookie: key={}",
    "X-Auth-Token: {}",
    "X-Custom: token={}",
    "X_Api_Key: {}",
    "X-Request-Id: {}",
    "X-Nexus-Priority: {}",
    "Referer: http://localhost/?key={}",
]

PAGES = ["/v1/route/decisions", "/v1/history", "/admin/overview", "/v1/stats", "/metrics"]


def carried(carrier, key):
    return carrier.format(key, basic=base64.b64encode(f"user:{key}".encode()).decode())


def request_with(carrier, key, *, needs_key):
    """Return a request that carries *key* in a header and in its query, and is let in."""
    headers = f"{carried(carrier, key)}\r\nX-Nexus-Explain: 1\r\n"
    if needs_key and "x-api-key" not in carrier:
        free = "x-api-key: {}" if "authorization:" in carrier.lower() else "Authorization: Bearer {}"
        headers += f"{free.format(CLIENTS_KEY)}\r\n"
    target = f"{CHAT.path}?beta=true&key={key}"
    return CHAT.request(CHAT.body(stream=False), headers=headers).replace(CHAT.path.encode(), target.encode(), 1)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("used", USED)
async def test_no_key_of_ours_ever_leaves(start_front, get, used, carrier):
    rings = USED[used]
    keys = [key for name, key in (("api_keys", CLIENTS_KEY), ("admin_keys", ADMINS_KEY)) if name in rings]
    fails = [step for _ in keys for step in (ReadRequest(), Send(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"))]
    answers = [step for _ in keys for step in (ReadRequest(), Send(CHAT.good_answer))]
    async with ScriptedBackend(answers) as second:
        front = await start_front(
            fails,
            server="\n".join(RINGS[name] for name in rings),
            backend="priority = 1",
            others=OTHER + second.url + END,
            max_retries=1,
        )
        replies = [await front.ask(request_with(carrier, key, needs_key="api_keys" in rings)) for key in keys]
        admin = f"Authorization: Bearer {keys[-1]}\r\n"
        pages = [await front.ask(get(page, admin)) for page in PAGES]
        ids = [row["id"] for row in json.loads(pages[0].body)["decisions"]]
        pages += [await front.ask(get(f"/v1/route/decisions/{id_}", admin)) for id_ in ids]
        sent = b"".join(attempt.received for backend in (front.backend, second) for attempt in backend.attempts)

    assert [(reply.status, reply.headers["x-nexus-backend"]) for reply in replies] == [(200, "gpu-2")] * len(keys)
    assert {page.status for page in pages} == {200}
    assert sent.count(b"beta=true") == 2 * len(keys)
    for key in keys:
        for form in (key, base64.b64encode(f"user:{key}".encode()).decode()):
            assert form.encode() not in sent
            assert form not in repr(pages) + repr(front.log)


@pytest.mark.parametrize(
    "line", ["Authorization: Bearer mine", "X-API-Key: mine", "api-key: mine", "X-Goog-Api-Key: mine"]
)
async def test_a_key_that_is_none_of_ours_is_the_backends_business(start_front, chat, line):
    front = await start_front(server=RINGS["admin_keys"])

    reply = await front.ask(chat(headers=f"{line}\r\n"))

    name, _, value = line.encode().partition(b": ")
    assert reply.status == 200
    assert (name, value) in front.asked[0].raw_headers


async def test_a_client_sees_its_own_decisions_and_an_administrator_all(start_front, chat, get, keyed, key):
    other = f'"sha256:{hashlib.sha256(b"other").hexdigest()}"]'
    front = await start_front(server=f"{keyed[:-1]}, {other}\n{RINGS['admin_keys']}")
    reply = await front.ask(chat(headers=f"Authorization: Bearer {key}\r\nX-Nexus-Explain: 1\r\n"))
    path = f"/v1/route/decisions/{reply.headers['x-nexus-decision-id']}"

    async def seen_with(header):
        listing, decision = [await front.ask(get(p, f"{header}\r\n")) for p in ("/v1/route/decisions", path)]
        return len(json.loads(listing.body)["decisions"]), decision.status

    assert await seen_with(f"x-api-key: {key}") == (1, 200)
    assert await seen_with("x-api-key: other") == (0, 404)
    assert await seen_with(f"Authorization: Bearer {ADMINS_KEY}") == (1, 200)
    assert (await front.ask(get("/v1/history", "x-api-key: other\r\n"))).status == 401
