"""The head that is sent to a backend."""

import pytest

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.fleet.kinds import KINDS
from nexus.proxy.headers.from_client import read_head
from nexus.proxy.headers.to_backend import head_template, request_head

CLIENTS_KEYS = (("Authorization", "Bearer client"), ("x-api-key", "client-2"))


def sent(message, *, kind="vllm", key=None, may_pass_credentials=True, base_path="", authority="gpu:8000", **access):
    template = head_template(
        KINDS[kind], f"http://{authority}{base_path}", authority, UpstreamSettings(key=key, **access)
    )
    return request_head(
        template,
        read_head(message),
        b"/v1/chat/completions?a=%2f",
        body_length=12,
        request_id="req-1-2",
        may_pass_credentials=may_pass_credentials,
    )


def test_a_head_holds_the_configured_headers_and_the_clients(make_message):
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


def test_a_configured_header_replaces_the_clients(make_message):
    head = sent(make_message(("X-Org", "client's")), headers={"x-org": "ours"})

    assert b"x-org: ours\r\n" in head
    assert b"client's" not in head


def test_a_backend_with_a_secret_header_is_not_sent_the_clients_key(make_message):
    head = sent(make_message(*CLIENTS_KEYS), headers={"api-key": "azure"}, secrets=("azure",))

    assert b"api-key: azure\r\n" in head
    assert b"client" not in head


def test_a_configured_parameter_replaces_the_clients(make_message):
    head = sent(make_message(), query={"api-version": "2024-10-21", "a": "b c"})

    assert head.startswith(b"POST /v1/chat/completions?api-version=2024-10-21&a=b+c HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("key", "may_pass", "expected"),
    [(None, True, True), (None, False, False), ("own", True, False), ("own", False, False)],
)
def test_a_clients_key_is_sent_only_where_allowed_and_none_is_configured(make_message, key, may_pass, expected):
    head = sent(make_message(*CLIENTS_KEYS), key=key, may_pass_credentials=may_pass)

    assert (b"Bearer client" in head) is expected
    assert (b"client-2" in head) is expected


def test_a_key_is_sent_in_the_header_of_the_kind(make_message):
    head = sent(make_message(), kind="anthropic", key="secret")

    assert b"\r\nx-api-key: secret\r\n" in head


def test_headers_that_change_how_a_kind_works_are_dropped(make_message):
    dropped = sorted(name for kind in KINDS.values() for name in kind.dropped_headers)
    kind = next(kind for kind in KINDS.values() if kind.dropped_headers)
    message = make_message((dropped[0].title(), "1"), (dropped[0].replace("-", "_"), "1"), ("X-Custom", "1"))

    head = sent(message, kind=kind.name)

    assert dropped[0].encode() not in head.lower()
    assert dropped[0].encode() not in head.lower().replace(b"_", b"-")
    assert b"X-Custom: 1\r\n" in head


def test_each_hop_is_counted(make_message):
    assert b"X-Nexus-Hops: 3\r\n" in sent(make_message(("X-Nexus-Hops", "2")))
