"""What the head of a response declares."""

import pytest

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.upstream.response_parser import ResponseHead

HEADERS = [(b"Content-Type", b"application/json"), (b"Content-Length", b"5"), (b"X-Custom", b"1")]


def test_a_head_that_may_not_be_passed_on_is_refused_each_time():
    head = ResponseHead(200, [(b"Transfer-Encoding", b"gzip, chunked")])

    for _ in range(2):
        with pytest.raises(UpstreamError, match="transfer coding"):
            _ = head.label


@pytest.mark.parametrize(
    ("headers", "label"),
    [
        (HEADERS, "json"),
        ([], "none"),
        ([(b"content-type", b"Application/Problem+JSON; charset=utf-8")], "json"),
        ([(b"Content-Type", b"text/event-stream;charset=utf-8")], "events"),
        ([(b"Content-Type", b"application/x-ndjson")], "lines"),
        ([(b"Content-Type", b"text/html")], "page"),
        ([(b"Content-Type", b"text/vtt")], "text"),
        ([(b"Content-Type", b"application/octet-stream")], "unknown"),
        ([(b"Content-Type", b"audio/mpeg")], "opaque"),
        ([*HEADERS, (b"Content-Encoding", b"gzip")], "opaque"),
        ([*HEADERS, (b"Content-Encoding", b"identity")], "json"),
    ],
)
def test_the_label_is_read_once(headers, label):
    head = ResponseHead(200, headers)

    assert (head.label, head.label) == (label, label)


def test_a_wrong_type_can_be_replaced():
    head = ResponseHead(200, HEADERS).typed(b"text/event-stream")

    assert head.label == "events"
    assert head.headers == [*HEADERS[1:], (b"Content-Type", b"text/event-stream")]


@pytest.mark.parametrize("status", [0, 50, 101, 199, 301, 302, 600, 999])
def test_a_status_that_cannot_be_passed_on_is_refused(status):
    with pytest.raises(UpstreamError) as failed:
        _ = ResponseHead(status, []).label

    assert (failed.value.fault, failed.value.status) == (UpstreamFault.PROTOCOL, status)


@pytest.mark.parametrize("codings", [[b"gzip, chunked"], [b"gzip"], [b"chunked", b"chunked"], [b""]])
def test_an_unknown_transfer_coding_is_refused(codings):
    with pytest.raises(UpstreamError, match="transfer coding"):
        _ = ResponseHead(200, [(b"Transfer-Encoding", coding) for coding in codings]).label


@pytest.mark.parametrize("status", [200, 204, 299, 304, 400, 429, 503, 599])
def test_any_other_head_is_accepted(status):
    assert ResponseHead(status, [(b"transfer-encoding", b"Chunked"), (b"X", b"gzip")]).label == "none"
