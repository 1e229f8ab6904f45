"""The headers of a client become fields, lines for the backend, or a refusal."""

import pytest

from nexus.errors import RequestError
from nexus.proxy.headers.from_client import HeadMemory, read_head
from nexus.proxy.headers.rules import NOT_FOR_BACKENDS, NOT_FOR_BACKENDS_PREFIXES


def forwarded(head):
    return b"".join(line for _, line in head.forward)


def test_end_to_end_headers_pass_unchanged(make_message):
    headers = [("User-Agent", "curl/8"), ("anthropic-version", "2023-06-01"), ("X-Custom", "a"), ("x-CUSTOM", "b")]

    head = read_head(make_message(*headers))

    assert forwarded(head) == b"User-Agent: curl/8\r\nanthropic-version: 2023-06-01\r\nX-Custom: a\r\nx-CUSTOM: b\r\n"


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade"),
        *("Accept-Encoding", "Content-Length", "Cookie", "Expect", "Host", "Origin", "Referer"),
        *("Forwarded", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Access-Token"),
        *("Authorization", "x-api-key", "api-key", "x-goog-api-key", "X-Request-Id"),
        *("X-Nexus-Backend", "X-Nexus-Priority", "X-Nexus-Hops", "X_Nexus_Backend", "X_Forwarded_For"),
        *("X_Api_Key", "X_Request_Id", "Content_Length", "Transfer_Encoding", "Accept_Encoding", "Idempotency_Key"),
    ],
)
@pytest.mark.parametrize("spell", [str, str.upper, str.lower])
def test_hop_by_hop_headers_do_not_pass(make_message, name, spell):
    head = read_head(make_message((spell(name), "1"), host=None))

    assert head.forward == []


@pytest.mark.parametrize("spell", [bytes, lambda name: name.replace(b"-", b"_")])
def test_no_listed_header_passes(make_message, spell):
    # What Connection names would be removed besides.
    names = [name for name in NOT_FOR_BACKENDS if name != b"connection"]
    names += [prefix + b"any" for prefix in NOT_FOR_BACKENDS_PREFIXES]

    head = read_head(make_message(*((spell(name).decode(), "1") for name in names), host=None))

    assert head.forward == []


@pytest.mark.parametrize("name", ["Via", "X_Custom", "X-Under_Score", "X-MiXeD-Case", "traceparent", "_"])
def test_any_other_header_passes_in_the_clients_spelling(make_message, name):
    head = read_head(make_message((name, "1, \xe9")))

    assert forwarded(head) == f"{name}: 1, \xe9\r\n".encode("latin-1")


def test_the_clients_keys_are_kept_apart_in_the_clients_spelling(make_message):
    keys = [("AUTHORIZATION", "Bearer k"), ("X-Api-Key", "k"), ("api-key", "k"), ("X-Goog-Api-Key", "k")]

    head = read_head(make_message(*keys, ("X-Custom", "1")))

    assert [line for _, line in head.credentials] == [f"{name}: {value}\r\n".encode() for name, value in keys]


def test_headers_named_by_connection_do_not_pass(make_message):
    headers = [
        ("Connection", "close, X-One"),
        ("X-One", "1"),
        ("x-two", "2"),
        ("Connection", "X-TWO"),
        ("X-Three", "3"),
    ]

    head = read_head(make_message(*headers))

    assert forwarded(head) == b"X-Three: 3\r\n"


@pytest.mark.parametrize(
    "token",
    [
        "X-Nexus-Zone",
        "authorization",
        "Content-Length",
        "content-type",
        "Host",
        "cookie",
        "x-forwarded-for",
        "X-API-Key",
    ],
)
@pytest.mark.parametrize("others", [[], [("Connection", "close")]])
def test_connection_may_not_name_protected_headers(make_message, token, others):
    with pytest.raises(RequestError) as refused:
        read_head(make_message(("Connection", f"keep-alive,{token}"), *others))

    assert (refused.value.code, refused.value.close) == ("bad_request", True)


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "Host", "Content-Type", "X-Request-Id", "X-Nexus-Privacy", "Idempotency-Key"]
)
def test_headers_that_could_be_understood_in_two_ways_may_come_once(make_message, name):
    with pytest.raises(RequestError, match=name.lower()) as refused:
        read_head(make_message((name, "a"), (name.upper(), "a"), host=None))

    assert (refused.value.code, refused.value.close) == ("duplicate_header", True)


@pytest.mark.parametrize("value", ["a\x00", "a\x7f", "a\x1b[2J"])
@pytest.mark.parametrize("name", ["X-Custom", "X-Nexus-Priority", "Authorization", "Cookie"])
def test_a_value_with_control_characters_is_refused(make_message, name, value):
    others = [(name, "harmless")] if name == "X-Custom" else []

    with pytest.raises(RequestError, match="visible ASCII"):
        read_head(make_message((name, value), *others))


@pytest.mark.parametrize("name", ["X-Nexus-Priority", "Authorization", "Host", "Content-Type", "X-Request-Id"])
def test_a_header_that_nexus_acts_on_must_be_ascii(make_message, name):
    with pytest.raises(RequestError, match=f"'{name.lower()}' holds characters other than visible ASCII"):
        read_head(make_message((name, "caf\xe9"), host=None))


@pytest.mark.parametrize("name", ["Cookie", "Via", "Idempotency-Key", "Accept", "X-Nexus-Unknown", "X_Api_Key"])
def test_any_other_header_may_hold_any_letter(make_message, name):
    read_head(make_message((name, "caf\xe9")))


def test_the_fields_that_nexus_needs_are_read(make_message):
    head = read_head(
        make_message(
            ("Authorization", "Bearer k"),
            ("X-Api-Key", "k2"),
            ("Content-Type", "application/json"),
            ("Content-Length", "12"),
            ("Expect", "100-continue"),
            ("Accept", "text/event-stream"),
            ("Origin", "http://localhost:3000"),
            ("Sec-Fetch-Site", "same-site"),
            ("X-Request-ID", "mine-1"),
            ("X-Nexus-Hops", "2"),
            ("X-Nexus-Priority", "HIGH"),
            ("x-nexus-unknown", "1"),
        )
    )

    assert (head.authorization, head.api_key, head.host) == (b"Bearer k", b"k2", b"localhost:8000")
    assert (head.content_type, head.is_chunked) == (b"application/json", False)
    assert (head.expect, head.accept) == (b"100-continue", b"text/event-stream")
    assert (head.origin, head.fetch_site) == (b"http://localhost:3000", b"same-site")
    assert (head.request_id, head.hops, head.hints) == ("mine-1", 2, {"x-nexus-priority": "HIGH"})


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129])
def test_an_invalid_request_id_is_ignored(make_message, request_id):
    assert read_head(make_message(("X-Request-Id", request_id))).request_id == ""


@pytest.mark.parametrize("hops", ["", "-1", "many", "1000000"])
def test_hops_that_are_no_number_are_ignored(make_message, hops):
    assert read_head(make_message(("X-Nexus-Hops", hops))).hops == 0


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Type", "Accept", "Authorization", "x-api-key", "Origin", "Connection", "Expect", "Cookie"),
        *("Sec-Fetch-Site", "Sec-Fetch-Mode", "Access-Control-Request-Method", "Content-Encoding", "Transfer-Encoding"),
        *("X-Nexus-Privacy", "X-Nexus-Hops", "X-Forwarded-For", "X_Custom"),
    ],
)
def test_another_value_of_a_header_with_a_meaning_needs_all_checks(make_message, name):
    memory = HeadMemory()
    known = memory.read(make_message((name, "1"), host=None))

    assert memory.again(make_message((name, "2"), host=None), known, lambda _: True) is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("X-Custom", "1"), ("x-custom", "3")), id="of two of one name"),
        pytest.param((("X-Custom", "3"), ("Connection", "x-custom")), id="of this hop alone"),
        pytest.param((("X-Custom", "1"), ("X-Request-Id", "not valid")), id="an id that is not valid"),
        pytest.param((("X-Custom", "a\x01b"),), id="with a control character"),
    ],
)
def test_another_value_that_does_not_simply_pass_needs_all_checks(make_message, headers):
    memory = HeadMemory()
    known = memory.read(make_message(*((name, "x-custom" if name == "Connection" else "2") for name, _ in headers)))

    assert memory.again(make_message(*headers), known, lambda _: True) is None


def test_a_head_that_was_not_the_last_needs_all_checks(make_message):
    memory = HeadMemory()
    known = memory.read(make_message(("X-Custom", "1")))
    memory.read(make_message(("X-Other", "1")))

    assert memory.again(make_message(("X-Other", "1")), known, lambda _: True) is None


def test_many_other_values_need_all_checks(make_message):
    memory = HeadMemory()
    known = memory.read(make_message(*((f"X-{number}", "1") for number in range(9))))

    assert memory.again(make_message(*((f"X-{number}", "2") for number in range(9))), known, lambda _: True) is None
