"""Whom a request is for and what it names: the Host header, the form of the target, the path."""

import hashlib

import pytest

LONGEST = 8190


@pytest.mark.parametrize(
    "host",
    [
        "",
        "Host:",
        "Host: a/b",
        "Host: user@localhost",
        "Host: localhost,evil.example",
        "Host: localhost evil.example",
        "Host: [::1",
        "Host: ::1",
        "Host: localhost:99999",
        "Host: localhost:0",
        "Host: localhost:",
        "Host: localhost:8000:8000",
        "Host: \xc3\xa9",
        "Host: localhost\r\nHost: localhost",
        "Host: localhost\r\nHost: evil.example",
    ],
)
async def test_a_host_that_is_none_is_refused(front, raw, host):
    await front.refuses(raw(host=host), status=400, code="bad_request")


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/v1/history", "/admin/backends"])
async def test_one_slash_too_many_is_overlooked_but_not_the_key(start_front, raw, keyed, key, path):
    front = await start_front(server=keyed)

    with_key = await front.ask(raw(f"Authorization: Bearer {key}", method="GET", target=f"{path}/"))
    without = await front.ask(raw(method="GET", target=f"{path}/"))

    assert with_key.status == 200
    assert without.status == (await front.ask(raw(method="GET", target=path))).status


SPELLINGS = ("{}/", "{}//", "/{}", "//{}//", "/v1{}", "/v1/v1{}", "//v1/{}/")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", ["/admin/backends", "/admin/overview", "/admin/plugins"])
async def test_no_spelling_of_an_administrators_path_does_with_a_clients_key(
    start_front, raw, keyed, key, path, spelling
):
    front = await start_front(server=f'{keyed}\nadmin_keys = ["sha256:{hashlib.sha256(b"root").hexdigest()}"]')

    async def status(shown):
        wire = raw(f"Authorization: Bearer {shown}", method="GET", target=spelling.format(path))
        return (await front.ask(wire)).status

    assert (await status("root"), await status(key)) == (200, 401)


@pytest.mark.parametrize("path", ["/%61dmin/backends", "/admin/%62ackends", "/x/../admin/backends", "/admin;/backends"])
async def test_what_is_no_spelling_of_a_path_is_nothing(start_front, raw, keyed, key, path):
    front = await start_front(server=keyed)

    reply = await front.ask(raw(f"Authorization: Bearer {key}", method="GET", target=path))

    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat///completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("//chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/chat/completions?x=//", "/v1/chat/completions?x=//"),
        ("/embeddings", "/v1/embeddings"),
        ("/rerank", "/v1/rerank"),
        ("/v1/reranking", "/v1/rerank"),
        ("/reranking", "/v1/rerank"),
        ("/v2/rerank", "/v1/rerank"),
        ("/v1/tokenize", "/tokenize"),
        ("/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
    ],
)
async def test_a_backend_is_asked_at_its_own_path_however_a_client_spells_it(front, chat, target, sent):
    wire = chat().replace(b"/v1/chat/completions", target.encode(), 1)

    await front.ask(wire)

    assert [asked.target for asked in front.asked] == [sent]


@pytest.mark.parametrize(
    "host",
    [
        *("attacker.example", "attacker.example:8000", "localhost.attacker.example"),
        *("127.0.0.1.attacker.example", "10.0.0.1.", "2130706433", "0x7f.1", "0.0.0.0", "[::]"),
    ],
)
async def test_a_name_that_was_bound_to_this_machine_from_outside_is_refused(front, raw, host):
    await front.refuses(raw(host=f"Host: {host}"), status=421, code="misdirected_request")


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/v1/models", "/admin/backends"])
async def test_pages_do_not_answer_to_such_a_name_either(front, raw, path):
    wire = raw(host="Host: attacker.example", method="GET", target=path)

    await front.refuses(wire, status=421, code="misdirected_request")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "llm.lan", "LLM.lan:80"])
async def test_the_names_of_this_machine_and_those_allowed_are_served(start_front, host):
    front = await start_front(server='allowed_hosts = ["llm.lan"]')

    reply = await front.ask(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert reply.status == 200


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.5:8000", "[fd00::5]:8000", "[::ffff:10.0.0.1]"])
async def test_an_address_is_served_because_no_name_was_looked_up_for_it(front, host):
    reply = await front.ask(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert reply.status == 200


async def test_behind_a_key_and_on_an_open_address_any_name_is_served(start_front, raw, keyed, key):
    front = await start_front(server=f'host = "0.0.0.0"\n{keyed}')

    reply = await front.ask(
        raw(f"Authorization: Bearer {key}", host="Host: any.example", method="GET", target="/v1/models")
    )

    assert reply.status == 200


@pytest.mark.parametrize("authority", ["http://localhost", "HTTP://localhost", "http://LocalHost", "HTTPS://LOCALHOST"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
async def test_a_target_in_absolute_form_is_taken_for_its_path(front, chat, authority, host):
    wire = chat().replace(b"POST ", f"POST {authority}".encode()).replace(b"Host: localhost", f"Host: {host}".encode())

    reply = await front.ask(wire)

    assert reply.status == 200
    assert [asked.target for asked in front.asked] == ["/v1/chat/completions"]


@pytest.mark.parametrize("target", ["http://localhost", "HTTP://localhost?", "http://localhost/"])
async def test_an_absolute_form_without_a_path_is_taken_for_the_first_page(front, raw, target):
    reply = await front.ask(raw(method="GET", target=target))

    assert (reply.status, reply.body) == (200, b"Ollama is running")


async def test_a_client_may_ask_what_the_server_can_as_a_whole(start_front, raw, keyed):
    front = await start_front(server=keyed)

    reply = await front.ask(raw(method="OPTIONS", target="*"))

    assert (reply.status, reply.body, reply.headers["allow"]) == (200, b"", "DELETE, GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v1/chat/completions",
        "http://localhost@evil.example/v1/chat/completions",
        "http://localhost:80/v1/chat/completions",
        "http:///v1/chat/completions",
        "ftp://localhost/v1/chat/completions",
        "http://\xff/v1/chat/completions",
        "http://[::1/v1/chat/completions",
        "http://localhost:99999/",
        "localhost:8000",
        "v1/chat/completions",
        "*",
        "?model=x",
        "/v1/chat/completions?x=\xc3\xa9",
        "/v1/chat/completions?x=\xff",
        "/v1/chat/completions?\x01",
    ],
)
async def test_a_target_that_is_no_path_here_is_refused(front, raw, target):
    await front.refuses(raw(target=target), status=400, code="bad_request")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin/backends",
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/chat%2fcompletions",
        "//localhost/v1/chat/completions",
        "/v1\\chat\\completions",
        "/v1/files/..",
        "/v1/files/%2e%2e/content",
        "/v1/files/a%2fb",
        "/v1/files/a/../content",
        "/v1/responses/a%20b",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions%00",
        "/v1/chat/completions#fragment",
        "/V1/chat/completions",
        "/%76%31/chat/completions",
        "/api/../api/chat",
        "/api/create",
        "/api/pull",
        "/api/push",
        "/api/copy",
        "/api/blobs/sha256:0",
        "/slots",
        "/sleep",
        "/v1/load_lora_adapter",
        "/collective_rpc",
    ],
)
async def test_only_paths_of_endpoints_reach_a_backend(front, raw, check_refusal, path):
    reply = await front.ask(raw("Content-Length: 2", target=path, body=b"{}"))

    assert (reply.status, reply.code) == (404, "not_found")
    check_refusal(reply, "ollama" if path.startswith("/api/") else "openai")
    assert front.asked == []


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "POST"])
@pytest.mark.parametrize("path", ["/api/delete", "/api/tags", "/health", "/metrics", "/admin/overview"])
async def test_nothing_can_be_changed_or_deleted(front, raw, method, path):
    reply = await front.ask(raw("Content-Length: 2", target=path, method=method, body=b"{}"))

    assert reply.status in (404, 405)
    assert front.asked == []


async def test_a_query_goes_on_as_it_came_and_leads_nowhere_else(front, chat):
    query = "beta=true&x=%2e%2e%2f&y=//evil.example/&api_base=http://evil.example"

    reply = await front.ask(chat().replace(b"completions ", f"completions?{query} ".encode(), 1))

    assert reply.status == 200
    assert [asked.target for asked in front.asked] == [f"/v1/chat/completions?{query}"]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("?", "?"),
        ("?#fragment", "?"),
        ("?a=1#fragment", "?a=1"),
        ("?a=1#frag?b=2#c", "?a=1"),
        ("??", "??"),
        ("?&", "?&"),
    ],
)
async def test_a_query_is_sent_on_whole_and_a_fragment_is_not(front, chat, sent, received):
    reply = await front.ask(chat().replace(b"completions ", f"completions{sent} ".encode(), 1))

    assert reply.status == 200
    assert [asked.target for asked in front.asked] == [f"/v1/chat/completions{received}"]


async def test_a_page_reads_its_query_without_the_fragment(front, get):
    assert (await front.ask(get("/v1/route/decisions?limit=5#x"))).status == 200


@pytest.mark.parametrize(("length", "status"), [(LONGEST, 404), (LONGEST + 1, 414), (2 * LONGEST, 414)])
async def test_a_target_has_a_greatest_length(front, raw, length, status):
    reply = await front.ask(raw(target="/" + "a" * (length - 1)))

    assert reply.status == status


async def test_a_target_without_end_is_cut_short(front, raw):
    await front.refuses(raw(target="/" + "a" * 20_000), status=431, code="headers_too_large")


@pytest.mark.parametrize(
    ("path", "headers", "protocol"),
    [
        ("/v1/messages", (), "anthropic"),
        ("/v1/messages/count_tokens", (), "anthropic"),
        ("/v1/models", ("anthropic-version: 2023-06-01",), "anthropic"),
        ("/api/chat", (), "ollama"),
        ("/api/nothing", (), "ollama"),
        ("/v1/responses", (), "openai"),
        ("/nothing", (), "openai"),
    ],
)
async def test_an_error_has_the_shape_of_the_protocol_that_is_spoken_there(front, raw, path, headers, protocol):
    wire = raw(*headers, host="Host: attacker.example", target=path)

    await front.refuses(wire, status=421, code="misdirected_request", protocol=protocol)
