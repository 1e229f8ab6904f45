"""No key of Nexus goes to a backend, in whatever header a client sends it; all else passes."""

import base64

import pytest

from nexus.proxy.client import key_filter
from nexus.proxy.client.key_filter import KeyFilter
from nexus.proxy.headers.from_client import read_head

CLIENTS, ADMINS = BOTH = b"clients,key=", b"admins-key"


def in_basic(user, password):
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def keys():
    return KeyFilter(lambda key: key == CLIENTS, lambda key: key == ADMINS)


def left(keys, head):
    keys.withhold(head)
    return b"".join(line for _, line in (*head.forward, *head.credentials))


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key", "X-Custom", "User-Agent"])
@pytest.mark.parametrize(
    "value",
    [
        *(shape.format(key.decode()) for shape in ("{}", "Bearer {}", "bearer  {} ", "a, {}") for key in BOTH),
        *(shape.format(ADMINS.decode()) for shape in ("Token token={}", 'Key "{}"', "key:{}", "a,{},b", "({})")),
    ],
)
def test_a_header_with_a_key_of_nexus_is_withheld(make_message, keys, name, value):
    head = read_head(make_message((name, value), ("X-Other", "kept")))

    assert left(keys, head) == b"X-Other: kept\r\n"


@pytest.mark.parametrize("value", [in_basic("any", ADMINS.decode()), in_basic(ADMINS.decode(), "")])
def test_a_key_is_found_in_a_password(make_message, keys, value):
    assert left(keys, read_head(make_message(("Authorization", value)))) == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer mine"),
        ("Authorization", in_basic("me", "mine")),
        ("Authorization", "Basic not-base64!"),
        ("x-api-key", "mine"),
        ("X-Custom", "admins-key-not"),
        ("X-Custom", ""),
        ("X-Custom", "word " * 1000),
    ],
)
def test_all_other_headers_pass(make_message, keys, name, value):
    assert left(keys, read_head(make_message((name, value)))) == f"{name}: {value}\r\n".encode()


def test_a_request_id_or_a_hint_cannot_carry_a_key(make_message, keys):
    key = ADMINS.decode()
    head = read_head(make_message(("X-Request-Id", key), ("X-Nexus-Priority", key), ("X-Nexus-Explain", "1")))

    assert left(keys, head) == b""
    assert (head.request_id, head.hints) == ("", {"x-nexus-explain": "1"})


def test_lines_prepared_from_a_head_with_a_key_are_dropped(make_message, keys):
    head = read_head(make_message(("X-Custom", ADMINS.decode())))
    head.prepared[1] = (object(), b"", True, b"")

    keys.withhold(head)

    assert head.prepared == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", b""),
        (b"beta=true&x=%2e", b"beta=true&x=%2e"),
        (b"key=admins-key&beta=true", b"beta=true"),
        (b"a=1&api_key=%61dmins-key", b"a=1"),
        (b"admins-key", b""),
        (b"&&a", b"&&a"),
        (b"&".join([b"a"] * 100), b"&".join([b"a"] * 100)),
    ],
)
def test_a_query_loses_the_parameters_that_hold_a_key(keys, query, expected):
    assert keys.without_keys(query) == expected


def test_a_line_without_a_key_is_searched_once(make_message):
    looked_at = []
    keys = KeyFilter(lambda key: looked_at.append(key) or False)
    for _ in range(3):
        keys.withhold(read_head(make_message(("X-Custom", "word"))))

    assert looked_at.count(b"word") == 1


def test_the_number_of_remembered_lines_is_limited(make_message, monkeypatch):
    monkeypatch.setattr(key_filter, "MAX_REMEMBERED", 4)
    keys = KeyFilter(lambda _: False)

    for number in range(20):
        keys.withhold(read_head(make_message(("X-Custom", str(number)), ("X-Long", "a" * 1000 + str(number)))))

    assert len(keys._harmless) <= 4


def test_without_keys_nothing_is_searched(make_message):
    head = read_head(make_message(("Authorization", "Bearer any")))
    forward = head.forward

    KeyFilter().withhold(head)

    assert head.forward is forward
    assert len(head.credentials) == 1
