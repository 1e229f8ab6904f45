"""Which answers of a backend are passed on, and which are tried elsewhere."""

from types import SimpleNamespace

import pytest

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.judging import is_presentable, refuse_bad
from nexus.testing.builders import CHAT
from nexus.wire.protocols import PROTOCOLS

EVENTS = (b"Content-Type", b"text/event-stream")


@pytest.fixture
def failover():
    """One that was asked for a chat."""
    request = SimpleNamespace(method=b"POST", endpoint=CHAT, protocol=PROTOCOLS["openai"])
    settings = SimpleNamespace(router=SimpleNamespace(translations={}))
    return SimpleNamespace(request=request, kept=None, requirements=SimpleNamespace(references=()), settings=settings)


@pytest.mark.parametrize(
    ("body", "is_framed", "is_whole"),
    [(b'{"a": 1}', True, True), (b'{"a": 1}', False, True), (b'{"a": ', False, False), (b'{"a": ', True, True)],
)
async def test_a_document_without_framing_must_look_whole(answered, failover, body, is_framed, is_whole):
    attempt = answered(body=body, is_framed=is_framed)

    if is_whole:
        refuse_bad(failover, attempt, attempt.response)
    else:
        with pytest.raises(UpstreamError) as failed:
            refuse_bad(failover, attempt, attempt.response)
        assert failed.value.fault is UpstreamFault.TRUNCATED


async def test_an_error_need_not_look_whole(answered, failover):
    failover.plane = SimpleNamespace(fleet=None)
    attempt = answered(400, body=b"{", is_framed=False)

    refuse_bad(failover, attempt, attempt.response)


@pytest.mark.parametrize(
    ("status", "body", "is_shown"),
    [
        (503, b'{"error": "busy"}', True),
        (503, b"busy", False),
        (503, b"[1]", False),
        (503, b"", False),
        (503, b'{"a": "' + b"x" * 65536 + b'"}', True),
        (503, b'{"a": "' + b"x" * 2**20 + b'"}', False),
        (200, b'{"choices": ["busy"]}', False),
    ],
)
async def test_an_error_of_the_backends_own_is_shown_when_it_can_be_read(answered, status, body, is_shown):
    assert is_presentable(answered(status, body=body)) is is_shown


async def test_nothing_can_be_shown_of_a_backend_that_was_not_asked(make_reserved, make_upstream):
    assert not is_presentable(Attempt(make_reserved(), make_upstream(), started_at=0.0))


async def test_a_stream_that_began_with_an_error_is_shown_as_that_error(answered):
    attempt = answered(200, [EVENTS], b"error 429\n", wants_stream=True)
    attempt.response.ready.exception()

    assert is_presentable(attempt)
