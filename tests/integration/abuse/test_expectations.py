"""Clients that ask before they send: they hear no before they hear 100."""

import pytest

from tests.support.dialects import CHAT

BODY = CHAT.body(stream=False)
LENGTH = f"Content-Length: {len(BODY)}"
EXPECT = "Expect: 100-continue"


async def test_a_body_is_asked_for_and_then_carried(front, raw):
    client = await front.connect()

    client.writer.write(raw(EXPECT, LENGTH))
    interim, _ = await client.head()
    client.writer.write(BODY)
    reply = await client.reply()

    client.leave()
    assert (interim, reply.status) == (100, 200)
    assert front.asked[0].header("Expect") == ""


async def test_without_a_key_no_body_is_asked_for(start_front, raw, keyed):
    front = await start_front(server=keyed)

    replies = await front.all_replies(raw(EXPECT, LENGTH, "Connection: close"))

    assert [(reply.status, reply.code) for reply in replies] == [(401, "invalid_api_key")]


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ((EXPECT, "Content-Length: 100000000000"), 413, "too_large"),
        ((EXPECT, LENGTH, "Content-Encoding: br"), 415, "unsupported_content_encoding"),
        (("Expect: a-miracle", LENGTH), 417, "expectation_failed"),
        (("Expect: 100-continue, more", LENGTH), 417, "expectation_failed"),
        ((EXPECT, LENGTH, "Host: evil.example"), 400, "bad_request"),
    ],
    ids=repr,
)
async def test_what_will_be_refused_is_refused_before_it_is_sent(front, raw, lines, status, code):
    await front.refuses(raw(*lines), status=status, code=code)


async def test_at_a_wrong_path_no_body_is_asked_for(front, raw):
    replies = await front.all_replies(raw(EXPECT, LENGTH, "Connection: close", target="/nothing"))

    assert [(reply.status, reply.code) for reply in replies] == [(404, "not_found")]


async def test_an_http_1_0_client_is_never_told_to_go_on(front, chat):
    replies = await front.all_replies(chat(headers=f"{EXPECT}\r\n", version="1.0"))

    assert [reply.status for reply in replies] == [200]
