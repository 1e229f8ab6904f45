"""The replies of Nexus are well-formed, name the proxy, and repeat nothing of the request."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from nexus import __version__
from nexus.errors import RequestError
from nexus.proxy.client import replies
from nexus.wire.protocols import PROTOCOLS


def parts(reply):
    """Return the status line, the headers and the body."""
    head, _, body = reply.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def test_a_page_is_a_complete_reply():
    status, headers, body = parts(
        replies.page(200, b"text/html", b"<p>", request_id="req-1", lines=b"Cache-Control: no-store\r\n")
    )

    assert (status, body) == ("HTTP/1.1 200 OK", b"<p>")
    assert abs(parsedate_to_datetime(headers.pop("Date")).timestamp() - datetime.now(UTC).timestamp()) < 5
    assert headers == {
        "Content-Type": "text/html",
        "Content-Length": "3",
        "X-Request-Id": "req-1",
        "X-Nexus-Version": __version__,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def test_a_client_that_sent_an_id_gets_it_back():
    _, headers, _ = parts(replies.page(200, b"text/html", b"", request_id="req-1", client_request_id="mine"))

    assert (headers["X-Request-Id"], headers["X-Nexus-Request-Id"]) == ("mine", "req-1")


def test_a_reply_to_a_head_request_has_the_length_alone():
    _, headers, body = parts(replies.page(200, b"text/html", b"<p>", request_id="req-1", is_head=True))

    assert (headers["Content-Length"], body) == ("3", b"")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_error_is_in_the_clients_protocol(name):
    error = RequestError("model_not_found", "nobody has it", param="model")

    status, headers, body = parts(replies.error(PROTOCOLS[name], error, request_id="req-1"))

    assert status == "HTTP/1.1 404 Not Found"
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Length"] == str(len(body))
    assert (headers["X-Nexus-Backend"], headers["X-Nexus-Route-Reason"]) == ("none", "none")
    assert "nobody has it" in str(msgspec.json.decode(body)["error"])
    assert "Connection" not in headers


def test_an_error_says_when_to_retry_and_that_the_connection_closes():
    error = RequestError("queue_full", "no room", retry_after_s=3, close=True, headers={"Allow": "POST"})

    _, headers, _ = parts(
        replies.error(PROTOCOLS["openai"], error, request_id="req-1", lines=b"x-should-retry: false\r\n")
    )

    assert (headers["Retry-After"], headers["Connection"], headers["Allow"]) == ("3", "close", "POST")
    assert headers["x-should-retry"] == "false"


def test_a_rejection_by_policy_is_not_retried():
    error = RequestError("rejected_by_policy", "nobody may", retry_after_s=30)

    once = replies.error(PROTOCOLS["openai"], error, request_id="req-1")
    after_attempts = replies.error(PROTOCOLS["openai"], error, request_id="req-1", lines=b"x-should-retry: false\r\n")

    assert once.count(b"x-should-retry: false\r\n") == 1
    assert after_attempts.count(b"x-should-retry: false\r\n") == 1
