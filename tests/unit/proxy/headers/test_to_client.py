"""The head that goes to a backend, and the head that goes to a client."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.fleet.kinds import KINDS
from nexus.proxy.headers.from_client import read_head
from nexus.proxy.headers.to_client import (
    backend_lines,
    passed_lines,
    refuse_bad_head,
    request_head,
    retry_after_s,
    stamp_of,
    status_line,
)
from nexus.testing.builders import make_backend

CLIENTS_KEYS = (("Authorization", "Bearer client"), ("x-api-key", "client-2"))


def sent(message, *, kind="vllm", key=None, may_pass_credentials=True, base_path="", authority="gpu:8000", **access):
    stamp = stamp_of(KINDS[kind], f"http://{authority}{base_path}", authority, UpstreamSettings(key=key, **access))
    return request_head(
        stamp,
        read_head(message),
        b"/v1/chat/completions?a=%2f",
        body_length=12,
        request_id="req-1-2",
        may_pass_credentials=may_pass_credentials,
    )


def test_a_backend_is_told_what_is_its_own_and_what_is_the_clients(make_message):
    message = make_message(("Content-Type", "application/json"), ("X-Request-Id", "mine"), ("Content-Length", "999"))

    assert sent(message, key="secret", base_path="/base") == (
        b"POST /base/v1/chat/completions?a=%2f HTTP/1.1\r\n"
        b"Host: gpu:8000\r\n"
        b"authorization: Bearer secret\r\n"
        b"Content-Type: application/json\r\n"
        b"X-Request-Id: req-1-2\r\n"
        b"X-Nexus-Hops: 1\r\n"
        b"Content-Length: 12\r\n\r\n"
    )


def test_a_configured_header_takes_the_place_of_the_clients(make_message):
    head = sent(make_message(("X-Org", "client's")), headers={"x-org": "ours"})

    assert b"x-org: ours\r\n" in head
    assert b"client's" not in head


def test_a_backend_with_a_secret_header_is_not_sent_the_clients_key(make_message):
    head = sent(make_message(*CLIENTS_KEYS), headers={"api-key": "azure"}, secrets=("azure",))

    assert b"api-key: azure\r\n" in head
    assert b"client" not in head


def test_a_configured_query_takes_the_place_of_the_clients(make_message):
    head = sent(make_message(), query={"api-version": "2024-10-21", "a": "b c"})

    assert head.startswith(b"POST /v1/chat/completions?api-version=2024-10-21&a=b+c HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("key", "may_pass", "expected"),
    [(None, True, True), (None, False, False), ("own", True, False), ("own", False, False)],
)
def test_a_clients_key_goes_only_where_it_may_and_none_is_configured(make_message, key, may_pass, expected):
    head = sent(make_message(*CLIENTS_KEYS), key=key, may_pass_credentials=may_pass)

    assert (b"Bearer client" in head) is expected
    assert (b"client-2" in head) is expected


def test_a_key_is_shown_as_the_kind_wants_it(make_message):
    head = sent(make_message(), kind="anthropic", key="secret")

    assert b"\r\nx-api-key: secret\r\n" in head


def test_what_changes_how_a_kind_works_is_left_out(make_message):
    dropped = sorted(name for kind in KINDS.values() for name in kind.dropped_headers)
    kind = next(kind for kind in KINDS.values() if kind.dropped_headers)
    message = make_message((dropped[0].title(), "1"), (dropped[0].replace("-", "_"), "1"), ("X-Custom", "1"))

    head = sent(message, kind=kind.name)

    assert dropped[0].encode() not in head.lower()
    assert dropped[0].encode() not in head.lower().replace(b"_", b"-")
    assert b"X-Custom: 1\r\n" in head


def test_each_hop_is_counted(make_message):
    assert b"X-Nexus-Hops: 3\r\n" in sent(make_message(("X-Nexus-Hops", "2")))


@pytest.mark.parametrize("zone", ["restricted", "open"])
def test_a_client_is_told_who_answered_and_where_its_data_went(zone):
    assert backend_lines(make_backend("cloud-1", kind="openai"))[zone] == (
        b"X-Nexus-Backend: cloud-1\r\nX-Nexus-Backend-Id: cloud-1\r\nX-Nexus-Backend-Type: cloud\r\n"
        b"X-Nexus-Privacy-Zone: %b\r\n" % zone.encode()
    )


@pytest.mark.parametrize(
    ("status", "line"), [(200, b"HTTP/1.1 200 OK\r\n"), (299, b"HTTP/1.1 299 \r\n"), (529, b"HTTP/1.1 529 \r\n")]
)
def test_the_status_is_said_in_our_own_words(status, line):
    assert status_line(status) == line


def test_what_a_backend_says_passes_as_it_was_written():
    headers = [(b"Content-Type", b"text/event-stream"), (b"x-ratelimit-limit", b"1"), (b"Openai-Version", b"\xe9")]

    assert passed_lines(headers, b"req-1") == (
        b"Content-Type: text/event-stream\r\nx-ratelimit-limit: 1\r\nOpenai-Version: \xe9\r\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding"),
        *("Upgrade", "Content-Length", "Server", "Set-Cookie", "Alt-Svc", "WWW-Authenticate", "X-Powered-By"),
        *("X-Nexus-Backend", "Access-Control-Allow-Origin", "X-Accel-Redirect", "X-Sendfile", "Clear-Site-Data"),
        *("Content-Security-Policy", "Content-Security-Policy-Report-Only", "Refresh", "Location", "Link", "NEL"),
        *("Report-To", "Reporting-Endpoints", "SourceMap", "Service-Worker-Allowed", "Strict-Transport-Security"),
        *("Permissions-Policy", "Cross-Origin-Opener-Policy", "Sec-Session-Registration", "Speculation-Rules"),
    ],
)
def test_what_is_between_backend_and_proxy_does_not_pass(name):
    assert passed_lines([(name.upper().encode(), b"1"), (name.lower().encode(), b"1")], b"req-1") == b""


def test_headers_that_a_backend_names_for_this_hop_do_not_pass():
    headers = [(b"Connection", b"close, X-One"), (b"x-one", b"1"), (b"X-Two", b"2"), (b"connection", b"x-two")]

    assert passed_lines([*headers, (b"X-Three", b"3")], b"req-1") == b"X-Three: 3\r\n"


@pytest.mark.parametrize(("own", "expected"), [(b"req-1", b""), (b"engine-7", b"X-Upstream-Request-Id: engine-7\r\n")])
def test_a_backends_own_request_id_is_kept_apart(own, expected):
    assert passed_lines([(b"X-Request-Id", own)], b"req-1") == expected


@pytest.mark.parametrize("value", [b"a\x01b", b"a\x00", b"a\x7f", b"a\r\nX-Evil: 1\x00"])
def test_control_characters_do_not_pass(value):
    with pytest.raises(UpstreamError) as failed:
        passed_lines([(b"X-Custom", value)], b"req-1")

    assert failed.value.fault is UpstreamFault.PROTOCOL


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"7", 7),
        (b" 7 ", 7),
        (b"0", 0),
        (b"99999999", 300),
        (b"9" * 5000, 300),
        (b"-1", None),
        (b"nan", None),
        (b"1.5", None),
        (b"", None),
        ("²".encode("latin-1"), None),
        (b"Fri, 31 Dec 2099 23:59:59 GMT", 300),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", 0),
        (b"Fri, 31 Dec 1999 23:59:59 -0000", 0),
        (b"Fri, 99 Dec 1999", None),
    ],
)
def test_any_time_to_wait_is_read_and_clamped(value, expected):
    assert retry_after_s(value) == expected


def test_a_date_to_wait_for_is_read():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)

    assert 18 <= retry_after_s(soon.encode()) <= 20


@pytest.mark.parametrize(
    ("value", "line"), [(b"junk", b""), (b"99999", b"Retry-After: 300\r\n"), (b"7", b"Retry-After: 7\r\n")]
)
def test_a_client_is_told_a_sensible_time_to_wait(value, line):
    assert passed_lines([(b"retry-after", value)], b"req-1") == line


@pytest.mark.parametrize("status", [0, 50, 101, 199, 301, 302, 304, 600, 999])
def test_a_status_that_cannot_be_passed_on_is_none(status):
    with pytest.raises(UpstreamError) as failed:
        refuse_bad_head(status, [])

    assert (failed.value.fault, failed.value.status) == (UpstreamFault.PROTOCOL, status)


@pytest.mark.parametrize("codings", [[b"gzip, chunked"], [b"gzip"], [b"chunked", b"chunked"], [b""]])
def test_an_unknown_transfer_coding_is_refused(codings):
    with pytest.raises(UpstreamError, match="transfer coding"):
        refuse_bad_head(200, [(b"Transfer-Encoding", coding) for coding in codings])


@pytest.mark.parametrize("status", [200, 204, 299, 400, 429, 503, 599])
def test_any_other_head_is_understood(status):
    refuse_bad_head(status, [(b"transfer-encoding", b"Chunked"), (b"X", b"gzip")])
