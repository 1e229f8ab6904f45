"""A request is admitted only as the operator allows, and a refusal says what to do."""

import hmac

import pytest
from aiohttp.http import HttpVersion, HttpVersion10
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.errors import RequestError
from nexus.proxy.client.access import LOOPBACK_NAMES, AccessRules, KeyOwner
from nexus.proxy.client.key_filter import digest_of
from nexus.proxy.headers.from_client import read_head


def accepting(key):
    return None if key is None else lambda shown: hmac.compare_digest(shown, key)


KEY = ("Authorization", "Bearer secret")


@pytest.fixture
def make_rules():
    def make(*, key=None, admin_key=None, hosts=LOOPBACK_NAMES, origins=frozenset()):
        return AccessRules(
            accepts_key=accepting(key),
            accepts_admin_key=accepting(admin_key),
            hosts=hosts,
            origins=origins,
        )

    return make


@pytest.fixture
def rules(make_rules):
    return make_rules()


def refusal_of(rules, message, access="client"):
    """Return the code with which *message* is refused, None when it is admitted."""
    head = read_head(message)
    try:
        rules.check(message, head, access)
    except RequestError as exc:
        return exc.code
    return None


def head_with(make_message, *headers):
    return read_head(make_message(*headers))


def test_without_configured_keys_every_client_sees_everything(rules, make_message):
    head = head_with(make_message, KEY)

    assert (rules.sees_all(head), rules.key_digest_of(head)) == (True, b"")


@pytest.mark.parametrize(
    ("shown", "sees_all"), [("Bearer secret", False), ("Bearer admin", True), ("Bearer wrong", False)]
)
def test_only_an_administrators_key_shows_the_requests_of_others(make_rules, make_message, shown, sees_all):
    rules = make_rules(key=b"secret", admin_key=b"admin")

    assert rules.sees_all(head_with(make_message, ("Authorization", shown))) is sees_all


def test_a_clients_key_shows_its_own_requests_alone_even_where_it_opens_every_page(make_rules, make_message):
    rules = make_rules(key=b"secret")
    head = head_with(make_message, KEY)

    assert (rules.has_key(head, "admin"), rules.sees_all(head)) == (True, False)


def test_a_client_is_the_same_by_either_header(make_rules, make_message):
    rules = make_rules(key=b"secret")
    made_up = ("Authorization", "Bearer made-up")

    clients = {
        rules.key_digest_of(head_with(make_message, KEY)),
        rules.key_digest_of(head_with(make_message, ("x-api-key", "secret"))),
        rules.key_digest_of(head_with(make_message, made_up, ("x-api-key", "secret"))),
    }

    assert len(clients) == 1
    assert clients != {b""}


def test_clients_are_told_apart_by_their_own_keys_where_only_administrators_need_one(make_rules, make_message):
    rules = make_rules(admin_key=b"admin")
    shown = [(), (("Authorization", "Bearer a"),), (("Authorization", "Bearer b"),), (("x-api-key", "a"),)]

    assert rules.key_digest_of(head_with(make_message)) == b""
    assert len({rules.key_digest_of(head_with(make_message, *headers)) for headers in shown}) == len(shown)


def test_a_plain_request_is_admitted(rules, make_message):
    assert refusal_of(rules, make_message()) is None


@pytest.mark.parametrize("version", [HttpVersion(0, 9), HttpVersion(1, 2), HttpVersion(2, 0)])
def test_another_version_of_http_is_refused(rules, make_message, version):
    assert refusal_of(rules, make_message(version=version)) == "http_version"


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "gzip", ""])
def test_any_transfer_coding_but_chunked_is_refused(rules, make_message, coding):
    assert refusal_of(rules, make_message(("Transfer-Encoding", coding))) == "transfer_coding"


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_a_chunked_body_is_admitted(rules, make_message, coding):
    assert refusal_of(rules, make_message(("Transfer-Encoding", coding))) is None


def test_http_1_0_has_no_chunks(rules, make_message):
    assert refusal_of(rules, make_message(("Transfer-Encoding", "chunked"), version=HttpVersion10)) == "bad_request"


@pytest.mark.parametrize("host", [None, "", "a/b", "u@a", "a,b", "a b", "[::1", "a:99999", "a:0", "a:", "::1", "a:1:2"])
def test_a_malformed_host_is_refused(rules, make_message, host):
    assert refusal_of(rules, make_message(host=host)) == "bad_request"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.", "localhost.:8000", "127.0.0.1:1", "[::1]:8000"]
)
def test_loopback_names_are_served(rules, make_message, host):
    assert [refusal_of(rules, make_message(host=host)) for _ in range(2)] == [None, None]


def test_an_http_1_0_client_may_omit_the_host(rules, make_message):
    assert refusal_of(rules, make_message(host=None, version=HttpVersion10)) is None


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example.", "localhost..", "localhost.attacker.example", "0.0.0.0", "127.1"]
)
def test_a_host_that_is_not_served_is_refused(rules, make_message, host):
    assert [refusal_of(rules, make_message(host=host)) for _ in range(2)] == ["misdirected_request"] * 2


@given(st.ip_addresses().filter(lambda address: not address.is_unspecified), st.integers(1, 65535))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_ip_address_is_served_as_dns_cannot_rebind_it(rules, make_message, address, port):
    host = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    assert refusal_of(rules, make_message(host=host)) is None


def test_without_allowed_hosts_any_host_is_served(make_rules, make_message):
    assert refusal_of(make_rules(hosts=None), make_message(host="nexus.example")) is None


def test_the_number_of_remembered_hosts_is_limited(make_rules, make_message):
    rules = make_rules(hosts=None)

    for number in range(1000):
        assert refusal_of(rules, make_message(host=f"host-{number}")) is None

    assert len(rules._good_hosts) == 64


@pytest.mark.parametrize("target", ["http://localhost:8000/v1/models", "http://localhost:8000"])
def test_an_absolute_target_with_the_same_host_is_admitted(rules, make_message, target):
    assert refusal_of(rules, make_message(target=target)) is None


@pytest.mark.parametrize(
    "target", ["http://other:8000/", "http://localhost:8000@evil/", "*", "localhost:8000", "ftp://x/"]
)
def test_any_other_target_that_is_no_path_is_refused(rules, make_message, target):
    assert refusal_of(rules, make_message(target=target)) == "bad_request"


def test_a_target_that_is_too_long_is_refused(rules, make_message):
    assert refusal_of(rules, make_message(target="/" + "a" * 8190)) == "uri_too_long"


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
    assert refusal_of(rules, make_message(*headers)) == "cross_origin"


def test_a_page_without_an_origin_does_not_match_an_empty_host(rules, make_message):
    assert refusal_of(rules, make_message(("Origin", "null"), host=None, version=HttpVersion10)) == "cross_origin"


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://localhost:8000")],
        [("Origin", "https://app.example")],
        [("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "none")],
    ],
)
def test_pages_of_nexus_and_of_allowed_origins_are_admitted(make_rules, make_message, headers):
    rules = make_rules(origins=frozenset({b"https://app.example"}))

    assert refusal_of(rules, make_message(*headers)) is None


@pytest.mark.parametrize("header", [KEY, ("authorization", "bearer   secret "), ("x-api-key", "secret")])
def test_a_valid_key_is_admitted(make_rules, make_message, header):
    assert refusal_of(make_rules(key=b"secret"), make_message(header)) is None


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
def test_without_a_valid_key_a_request_is_refused(make_rules, make_message, headers):
    rules = make_rules(key=b"secret")

    assert refusal_of(rules, make_message(*headers)) == "invalid_api_key"


def test_an_admin_page_needs_an_administrators_key(make_rules, make_message):
    rules = make_rules(key=b"secret", admin_key=b"root")

    assert refusal_of(rules, make_message(KEY), "admin") == "invalid_api_key"
    assert refusal_of(rules, make_message(("x-api-key", "root")), "admin") is None


def test_without_admin_keys_a_clients_key_opens_admin_pages(make_rules, make_message):
    assert refusal_of(make_rules(key=b"secret"), make_message(KEY), "admin") is None
    assert refusal_of(make_rules(key=b"secret"), make_message(), "admin") == "invalid_api_key"


def test_without_client_keys_only_admin_pages_need_a_key(make_rules, make_message):
    rules = make_rules(admin_key=b"root")

    assert refusal_of(rules, make_message()) is None
    assert refusal_of(rules, make_message(), "admin") == "invalid_api_key"


def test_an_open_page_needs_no_key_and_sees_whether_there_is_one(make_rules, make_message):
    rules = make_rules(key=b"secret")

    assert refusal_of(rules, make_message(), "open") is None
    assert [rules.has_key(read_head(make_message(*headers))) for headers in ([], [KEY])] == [False, True]


def test_a_clients_key_is_no_administrators_key(make_rules, make_message):
    rules = make_rules(key=b"secret", admin_key=b"root")

    assert rules.has_key(read_head(make_message(KEY)))
    assert not rules.has_key(read_head(make_message(KEY)), "admin")


def test_both_keys_are_always_compared(make_message):
    shown = []
    rules = AccessRules(accepts_key=lambda key: shown.append(key) or True, hosts=None, origins=frozenset())

    refusal_of(rules, make_message(KEY, ("x-api-key", "other")))

    assert shown == [b"secret", b"other"]


def test_the_key_is_checked_before_the_body_is_read(make_rules, make_message):
    message = make_message(("Content-Length", "101"), ("Expect", "100-continue"))

    assert refusal_of(make_rules(key=b"secret"), message) == "invalid_api_key"


@pytest.mark.parametrize(("hops", "code"), [("2", None), ("3", "loop_detected"), ("99", "loop_detected")])
def test_a_request_that_loops_between_proxies_is_refused(rules, make_message, hops, code):
    assert refusal_of(rules, make_message(("X-Nexus-Hops", hops))) == code


def test_a_client_is_known_by_its_key_or_else_by_its_address(make_rules):
    digest = digest_of(b"secret")
    named = KeyOwner(digest.hex(), "batch", "low")
    rules = AccessRules(accepts_key=accepting(b"secret"), hosts=None, origins=frozenset(), owners={digest: named})

    assert rules.client_of(digest, "::1") is named
    assert rules.client_of(b"\xab" * 32, "::1") == KeyOwner("ab" * 32, "key abababab", "high")
    assert rules.client_of(b"", "::1") == KeyOwner("::1", "::1", "high")
    # Without api_keys, a client could send another placeholder each time.
    assert make_rules(admin_key=b"root").client_of(digest, "::1") == KeyOwner("::1", "::1", "high")
