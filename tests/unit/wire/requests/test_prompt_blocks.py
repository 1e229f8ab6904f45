"""Prompts with the same beginning have the same first hashes, and no text can be told from them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.request import PROMPT_BLOCK_BYTES
from nexus.errors import RequestError
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests import prompt_blocks
from nexus.wire.requests.prompt_blocks import MAX_BLOCKS, Marking

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}


def prompt_marks(body, headers, protocol="openai", *, is_wanted_for=lambda _model: True):
    """Return the blocks and the conversation of *body*; none if it is refused.

    :param headers: None: no stage wants them.
    """
    marking = None if headers is None else Marking(headers, is_wanted_for)
    try:
        understood = PROTOCOLS[protocol].understand(ENDPOINTS[PATHS[protocol]], body, marking)
    except RequestError:
        return (), 0
    return understood.prompt_blocks, understood.conversation


MESSAGES = [{"role": "user", "content": f"message {number}: " + "word " * 100} for number in range(12)]


def blocks(*, has_cache_control=False, **members):
    return prompt_marks(
        json.dumps({"model": "m", **members}).encode(), (), "anthropic" if has_cache_control else "openai"
    )[0]


def conversation(body=b"{}", *headers):
    lines = [(name.lower(), b"%b: %b\r\n" % (name, value)) for name, value in headers]
    return prompt_marks(body, lines)[1]


def common(one, other):
    """Return how many first hashes are the same."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def test_a_conversation_that_grows_keeps_its_first_hashes():
    before, after = blocks(messages=MESSAGES[:8]), blocks(messages=MESSAGES)

    assert len(before) == len(json.dumps(MESSAGES[:8])) // PROMPT_BLOCK_BYTES
    assert after[: len(before)] == before


def test_a_change_alters_the_hash_of_its_block_and_all_after_it():
    changed = [*MESSAGES[:6], {"role": "user", "content": "other"}, *MESSAGES[7:]]

    one, other = blocks(messages=MESSAGES), blocks(messages=changed)

    same = common(one, other)
    assert same == len(json.dumps(MESSAGES[:6])) // PROMPT_BLOCK_BYTES
    assert not set(one[same:]) & set(other[same:])


def test_tools_and_system_come_before_messages_in_whichever_order_they_were_sent():
    tools, system = [{"type": "function", "function": {"name": "f" * 900}}], "be kind " * 100

    first = prompt_marks(json.dumps({"tools": tools, "system": system, "messages": MESSAGES}).encode(), ())
    last = prompt_marks(json.dumps({"messages": MESSAGES, "system": system, "tools": tools}).encode(), ())

    assert first == last


@pytest.mark.parametrize("member", ["cache_salt", "lora_path"])
def test_salts_and_adapters_share_nothing(member):
    one, other = blocks(messages=MESSAGES, **{member: "a"}), blocks(messages=MESSAGES, **{member: "b"})

    assert not set(one) & set(other)


@pytest.mark.parametrize("member", [{"model": "a"}, {"temperature": "a"}, {"stream": True}])
def test_what_is_no_part_of_the_prompt_changes_nothing(member):
    assert blocks(messages=MESSAGES, **member) == blocks(messages=MESSAGES)


def test_a_mark_that_moves_to_the_last_message_changes_nothing_before_it():
    def part(number, **mark):
        return {"role": "user", "content": [{"type": "text", "text": MESSAGES[number]["content"], **mark}]}

    mark = {"cache_control": {"type": "ephemeral"}}

    before = blocks(messages=[*map(part, range(7)), part(7, **mark)], has_cache_control=True)
    after = blocks(messages=[*map(part, range(11)), part(11, **mark)], has_cache_control=True)

    assert common(before, after) == len(before)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": ', b'"' + b"x" * 3000 + b'"', b"[" * 100_000])
def test_what_is_no_object_has_no_hashes(body):
    assert prompt_marks(body, ()) == ((), 0)


def test_an_endless_prompt_has_a_bounded_number_of_hashes():
    assert len(blocks(prompt="x " * (MAX_BLOCKS + 2) * PROMPT_BLOCK_BYTES)) == MAX_BLOCKS


def test_a_prompt_shorter_than_a_block_has_none():
    assert blocks(messages=MESSAGES[:1]) == ()


def test_another_process_with_another_key_has_other_hashes(monkeypatch):
    one = blocks(messages=MESSAGES)
    monkeypatch.setattr(prompt_blocks, "_KEY", 1)

    assert not set(one) & set(blocks(messages=MESSAGES))


@given(st.binary(max_size=3000) | st.text(max_size=3000).map(lambda text: json.dumps({"prompt": text}).encode()))
def test_no_body_makes_it_fail(body):
    blocks, _ = prompt_marks(body, ())

    assert len(blocks) <= len(body) // PROMPT_BLOCK_BYTES


HEADERS = [b"X-Claude-Code-Session-Id", b"X-Session-ID", b"session-id"]


@pytest.mark.parametrize("header", HEADERS)
def test_a_conversation_is_recognised_by_a_header(header):
    assert conversation(b"{}", (header, b"one")) == conversation(b"{}", (b"Accept", b"*/*"), (header, b"one"))
    assert conversation(b"{}", (header, b"one")) != conversation(b"{}", (header, b"other"))
    assert conversation(b"{}", (header, b"one")) != 0


@pytest.mark.parametrize("member", ["prompt_cache_key", "session_id"])
def test_a_conversation_is_recognised_by_a_member(member):
    one, other = (json.dumps({member: name}).encode() for name in ("one", "other"))

    assert conversation(one) == conversation(one) != conversation(other)


@pytest.mark.parametrize("body", [b"{}", b'{"session_id": null}', b'{"session_id": 7}', b'{"prompt_cache_key": ""}'])
def test_a_request_without_such_a_name_has_no_conversation(body):
    assert conversation(body, (b"User-Agent", b"x")) == 0


def test_another_file_is_another_prompt_and_its_length_does_not_count():
    def marks(file):
        return blocks(messages=[{"role": "user", "content": [{"image_url": {"url": file}}]}, *MESSAGES])

    one, same, other, long = marks("A" * 9000), marks("A" * 9000), marks("B" * 9000), marks("A" * 90_000)

    assert one == same
    assert common(one, other) == common(one, long) == 0
    assert len(one) == len(other) == len(long)


@pytest.mark.parametrize("protocol", PATHS)
def test_all_protocols_mark_a_prompt_alike(protocol):
    body = json.dumps({"model": "m", "messages": MESSAGES, "session_id": "s"}).encode()

    assert prompt_marks(body, (), protocol) == prompt_marks(body, ())
    assert prompt_marks(body, None, protocol) == ((), 0)


@pytest.mark.parametrize("protocol", PATHS)
def test_only_prompts_for_models_with_a_choice_are_marked(protocol, monkeypatch):
    hashed = []
    monkeypatch.setattr("nexus.wire.requests.body.file_hash", lambda file: hashed.append(file) or b"file:1")
    image = {"role": "user", "content": [{"image_url": {"url": "A" * 9000}}]}

    def marks(model):
        body = json.dumps({"model": model, "messages": [*MESSAGES, image], "session_id": "s"}).encode()
        return prompt_marks(body, (), protocol, is_wanted_for=lambda wanted: wanted == "shared")

    assert marks("alone") == ((), 0)
    assert not hashed
    assert all(marks("shared"))
    assert hashed


def test_a_file_is_one_mark_beside_a_format_for_the_answer():
    image = {"role": "user", "content": [{"image_url": {"url": "A" * 90_000}}]}

    assert len(blocks(messages=[image, *MESSAGES], response_format={"type": "json_object"})) == len(
        blocks(messages=[image, *MESSAGES])
    )


def test_a_model_named_by_a_file_is_refused():
    body = json.dumps({"model": "A" * 9000, "messages": MESSAGES}).encode()

    with pytest.raises(RequestError, match="'model' is longer"):
        PROTOCOLS["openai"].understand(ENDPOINTS["/v1/chat/completions"], body, Marking((), bool))
