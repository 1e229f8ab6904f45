"""Nobody comes in who may not, and everybody is told what to do about it."""

import hmac

import pytest
from aiohttp.http import HttpVersion, HttpVersion10
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.proxy.client.access import LOOPBACK_NAMES, AccessRules
from nexus.proxy.headers.from_client import read_head


def accepting(key):
    return None if key is None else lambda shown: hmac.compare_digest(shown, key)


KEY = ("Authorization", "Bearer secret")


@pytest.fixture
def make_door():
    def make(*, key=None, admin_key=None, hosts=LOOPBACK_NAMES, origins=frozenset()):
        return AccessRules(
            accepts_key=accepting(key),
            accepts_admin_key=accepting(admin_key),
            hosts=hosts,
            origins=origins,
        )

    return make


@pytest.fixture
def rules(make_door):
    return make_door()


def knock(rules, message, access="client"):
    """Return the code with which *message* is refused, None when it may come in."""
    head = read_head(message)
    try:
        rules.check(message, head, access)
    except RequestError as exc:
        return exc.code
    return None


def head_with(make_message, *headers):
    return read_head(make_message(*headers))


def test_without_keys_everybody_sees_everything(rules, make_message):
    head = head_with(make_message, KEY)

    assert (rules.sees_all(head), rules.key_digest_of(head)) == (True, b"")


@pytest.mark.parametrize(
    ("shown", "sees_all"), [("Bearer secret", False), ("Bearer admin", True), ("Bearer wrong", False)]
)
def test_only_an_administrators_key_shows_what_is_others(make_door, make_message, shown, sees_all):
    rules = make_door(key=b"secret", admin_key=b"admin")

    assert rules.sees_all(head_with(make_message, ("Authorization", shown))) is sees_all


def test_a_clients_key_shows_its_own_requests_alone_even_where_it_opens_every_page(make_door, make_message):
    rules = make_door(key=b"secret")
    head = head_with(make_message, KEY)

    assert (rules.has_key(head, "admin"), rules.sees_all(head)) == (True, False)


def test_a_client_is_the_same_by_either_header(make_door, make_message):
    rules = make_door(key=b"secret")
    made_up = ("Authorization", "Bearer made-up")

    clients = {
        rules.key_digest_of(head_with(make_message, KEY)),
        rules.key_digest_of(head_with(make_message, ("x-api-key", "secret"))),
        rules.key_digest_of(head_with(make_message, made_up, ("x-api-key", "secret"))),
    }

    assert len(clients) == 1
    assert clients != {b""}


def test_clients_with_keys_of_their_own_are_told_apart_where_administrators_have_one(make_door, make_message):
    rules = make_door(admin_key=b"admin")
    shown = [(), (("Authorization", "Bearer a"),), (("Authorization", "Bearer b"),), (("x-api-key", "a"),)]

    assert rules.key_digest_of(head_with(make_message)) == b""
    assert len({rules.key_digest_of(head_with(make_message, *headers)) for headers in shown}) == len(shown)


def test_a_plain_request_comes_in(rules, make_message):
    assert knock(rules, make_message()) is None


@pytest.mark.parametrize("version", [HttpVersion(0, 9), HttpVersion(1, 2), HttpVersion(2, 0)])
def test_another_http_is_not_spoken(rules, make_message, version):
    assert knock(rules, make_message(version=version)) == "http_version"


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "gzip", ""])
def test_no_transfer_coding_but_chunked_is_understood(rules, make_message, coding):
    assert knock(rules, make_message(("Transfer-Encoding", coding))) == "transfer_coding"


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_a_chunked_body_comes_in(rules, make_message, coding):
    assert knock(rules, make_message(("Transfer-Encoding", coding))) is None


def test_http_1_0_has_no_chunks(rules, make_message):
    assert knock(rules, make_message(("Transfer-Encoding", "chunked"), version=HttpVersion10)) == "bad_request"


@pytest.mark.parametrize("host", [None, "", "a/b", "u@a", "a,b", "a b", "[::1", "a:99999", "a:0", "a:", "::1", "a:1:2"])
def test_a_malformed_host_is_refused(rules, make_message, host):
    assert knock(rules, make_message(host=host)) == "bad_request"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.", "localhost.:8000", "127.0.0.1:1", "[::1]:8000"]
)
def test_loopback_names_are_served(rules, make_message, host):
    assert [knock(rules, make_message(host=host)) for _ in range(2)] == [None, None]


def test_a_client_of_http_1_0_may_leave_the_host_out(rules, make_message):
    assert knock(rules, make_message(host=None, version=HttpVersion10)) is None


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example.", "localhost..", "localhost.attacker.example", "0.0.0.0", "127.1"]
)
def test_a_foreign_host_is_sent_away(rules, make_message, host):
    assert [knock(rules, make_message(host=host)) for _ in range(2)] == ["misdirected_request"] * 2


@given(st.ip_addresses().filter(lambda address: not address.is_unspecified), st.integers(1, 65535))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_address_is_never_a_rebound_name(rules, make_message, address, port):
    host = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    assert knock(rules, make_message(host=host)) is None


def test_any_host_is_served_where_it_is_not_checked(make_door, make_message):
    assert knock(make_door(hosts=None), make_message(host="nexus.example")) is None


def test_only_so_many_hosts_are_remembered(make_door, make_message):
    rules = make_door(hosts=None)

    for number in range(1000):
        assert knock(rules, make_message(host=f"host-{number}")) is None

    assert len(rules._good_hosts) == 64


@pytest.mark.parametrize("target", ["http://localhost:8000/v1/models", "http://localhost:8000"])
def test_a_target_that_repeats_the_host_is_understood(rules, make_message, target):
    assert knock(rules, make_message(target=target)) is None


@pytest.mark.parametrize(
    "target", ["http://other:8000/", "http://localhost:8000@evil/", "*", "localhost:8000", "ftp://x/"]
)
def test_a_target_that_is_no_path_is_refused(rules, make_message, target):
    assert knock(rules, make_message(target=target)) == "bad_request"


def test_an_endless_target_is_refused(rules, make_message):
    assert knock(rules, make_message(target="/" + "a" * 8190)) == "uri_too_long"


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://evil.example")],
        [("Origin", "null")],
        [("Origin", "http://localhost:3000")],
        [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "cross-site")],
    ],
)
def test_pages_of_other_origins_are_refused(rules, make_message, headers):
    assert knock(rules, make_message(*headers)) == "cross_origin"


def test_a_page_of_no_origin_is_not_one_of_no_host(rules, make_message):
    assert knock(rules, make_message(("Origin", "null"), host=None, version=HttpVersion10)) == "cross_origin"


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://localhost:8000")],
        [("Origin", "https://app.example")],
        [("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "none")],
    ],
)
def test_our_own_pages_and_those_allowed_are_let_in(make_door, make_message, headers):
    rules = make_door(origins=frozenset({b"https://app.example"}))

    assert knock(rules, make_message(*headers)) is None


@pytest.mark.parametrize("header", [KEY, ("authorization", "bearer   secret "), ("x-api-key", "secret")])
def test_a_key_opens(make_door, make_message, header):
    assert knock(make_door(key=b"secret"), make_message(header)) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Basic secret")],
        [("x-api-key", "")],
        [("Key", "secret")],
    ],
)
def test_without_it_nobody_comes_in(make_door, make_message, headers):
    rules = make_door(key=b"secret")

    assert knock(rules, make_message(*headers)) == "invalid_api_key"


def test_an_administrator_s_page_asks_for_an_administrator_s_key(make_door, make_message):
    rules = make_door(key=b"secret", admin_key=b"root")

    assert knock(rules, make_message(KEY), "admin") == "invalid_api_key"
    assert knock(rules, make_message(("x-api-key", "root")), "admin") is None


def test_without_administrators_a_client_s_key_will_do(make_door, make_message):
    assert knock(make_door(key=b"secret"), make_message(KEY), "admin") is None
    assert knock(make_door(key=b"secret"), make_message(), "admin") == "invalid_api_key"


def test_where_nobody_is_known_only_administrators_show_a_key(make_door, make_message):
    rules = make_door(admin_key=b"root")

    assert knock(rules, make_message()) is None
    assert knock(rules, make_message(), "admin") == "invalid_api_key"


def test_an_open_page_asks_for_none_and_knows_who_shows_one(make_door, make_message):
    rules = make_door(key=b"secret")

    assert knock(rules, make_message(), "open") is None
    assert [rules.has_key(read_head(make_message(*headers))) for headers in ([], [KEY])] == [False, True]


def test_who_is_known_as_a_client_is_no_administrator(make_door, make_message):
    rules = make_door(key=b"secret", admin_key=b"root")

    assert rules.has_key(read_head(make_message(KEY)))
    assert not rules.has_key(read_head(make_message(KEY)), "admin")


def test_both_keys_are_always_compared(make_message):
    shown = []
    rules = AccessRules(accepts_key=lambda key: shown.append(key) or True, hosts=None, origins=frozenset())

    knock(rules, make_message(KEY, ("x-api-key", "other")))

    assert shown == [b"secret", b"other"]


def test_the_key_is_asked_for_before_anything_is_read(make_door, make_message):
    message = make_message(("Content-Length", "101"), ("Expect", "100-continue"))

    assert knock(make_door(key=b"secret"), message) == "invalid_api_key"


@pytest.mark.parametrize(("hops", "code"), [("2", None), ("3", "loop_detected"), ("99", "loop_detected")])
def test_a_request_that_goes_in_circles_is_stopped(rules, make_message, hops, code):
    assert knock(rules, make_message(("X-Nexus-Hops", hops))) == code
