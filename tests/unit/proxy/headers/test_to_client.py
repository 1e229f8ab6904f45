"""The head of a reply: what passes of a backend's headers, and what Nexus adds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.headers import to_client
from nexus.proxy.headers.to_client import STATUS_LINES, backend_lines, id_lines, passed_lines, retry_after_s
from nexus.testing.builders import make_backend


@pytest.mark.parametrize("zone", ["restricted", "open"])
def test_the_backend_and_its_zone_are_named(zone):
    assert backend_lines(make_backend("cloud-1", kind="openai"))[zone] == (
        b"X-Nexus-Backend: cloud-1\r\nX-Nexus-Backend-Id: cloud-1\r\nX-Nexus-Backend-Type: cloud\r\n"
        b"X-Nexus-Privacy-Zone: %b\r\n" % zone.encode()
    )


@pytest.mark.parametrize(
    ("status", "line"), [(200, b"HTTP/1.1 200 OK\r\n"), (299, b"HTTP/1.1 299 \r\n"), (529, b"HTTP/1.1 529 \r\n")]
)
def test_the_status_line_has_the_standard_reason(status, line):
    assert STATUS_LINES[status] == line


def test_end_to_end_headers_pass_unchanged():
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
def test_headers_for_the_proxy_or_the_browser_do_not_pass(name):
    assert passed_lines([(name.upper().encode(), b"1"), (name.lower().encode(), b"1")], b"req-1") == b""


def test_headers_named_by_connection_do_not_pass():
    headers = [(b"Connection", b"close, X-One"), (b"x-one", b"1"), (b"X-Two", b"2"), (b"connection", b"x-two")]

    assert passed_lines([*headers, (b"X-Three", b"3")], b"req-1") == b"X-Three: 3\r\n"


@pytest.mark.parametrize(("own", "expected"), [(b"req-1", b""), (b"engine-7", b"X-Upstream-Request-Id: engine-7\r\n")])
def test_a_backends_own_request_id_is_kept_apart(own, expected):
    assert passed_lines([(b"X-Request-Id", own)], b"req-1") == expected


@pytest.mark.parametrize("value", [b"a\x01b", b"a\x00", b"a\x7f", b"a\r\nX-Evil: 1", b"a\nb", b"a\r"])
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
def test_retry_after_is_read_and_clamped(value, expected):
    assert retry_after_s(value) == expected


def test_a_date_in_retry_after_is_read():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)

    assert 18 <= retry_after_s(soon.encode()) <= 20


@pytest.mark.parametrize(
    ("value", "line"), [(b"junk", b""), (b"99999", b"Retry-After: 300\r\n"), (b"7", b"Retry-After: 7\r\n")]
)
def test_a_sensible_retry_after_is_passed_on(value, line):
    assert passed_lines([(b"retry-after", value)], b"req-1") == line


def test_the_date_has_the_format_of_http(monkeypatch):
    monkeypatch.setattr(to_client.time, "time", lambda: 784_111_777.9)

    assert to_client.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_the_date_line_is_made_once_a_second(monkeypatch):
    now = 1_000_000_000.0
    monkeypatch.setattr(to_client.time, "time", lambda: now)
    first = to_client.date_line()
    now += 0.9

    assert to_client.date_line() is first
    now += 0.2
    assert to_client.date_line() != first


def test_without_a_client_id_there_is_one_id_line():
    assert id_lines("req-1", "") == b"X-Request-Id: req-1\r\n"


def test_a_clients_id_comes_back_beside_that_of_nexus():
    assert id_lines("req-1", "mine") == b"X-Request-Id: mine\r\nX-Nexus-Request-Id: req-1\r\n"
