"""What the head of a reply says of a translation."""

import json

from nexus.proxy.exchange.translating import MAX_LOST_CHARACTERS, Translation
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert
from nexus.wire.protocols import PROTOCOLS

CHAT = PROTOCOLS["openai"].endpoints[0]


def lines_of(**members):
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [], **members}).encode()
    about = About(model="m", id="1", created=0)
    conversion = convert("anthropic.messages", "openai.chat", body, Target(model="m"), about)
    return Translation("anthropic->openai", CHAT, conversion).lines


def test_it_names_the_dialects_and_what_was_left_out():
    assert lines_of(service_tier="auto", container="c") == (
        b"X-Nexus-Translated: anthropic->openai\r\nX-Nexus-Untranslated: container, service_tier\r\n"
    )


def test_nothing_is_said_of_what_was_left_out_if_there_is_nothing():
    assert lines_of() == b"X-Nexus-Translated: anthropic->openai\r\n"


def test_the_name_of_a_field_can_neither_end_the_line_nor_fill_the_head():
    lines = lines_of(**{"x\r\nSet-Cookie: a=b": 1, "é" * 5000: 1})

    assert lines.count(b"\r\n") == 2
    assert b"x??Set-Cookie: a=b" in lines
    assert len(lines) < MAX_LOST_CHARACTERS + 100
