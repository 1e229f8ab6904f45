"""Streams of Ollama's API."""

import json

import ollama
import pytest

from nexus.domain.request import TokenUsage
from nexus.error_codes import IN_STREAM_CODES

PATH = "/api/chat"


def line(*, done=False, **members):
    return json.dumps({"model": "m", "created_at": "2026-01-01T00:00:00Z", **members, "done": done}).encode() + b"\n"


def said(text, **members):
    return line(message={"role": "assistant", "content": text, **members})


LAST = line(done=True, message={"role": "assistant", "content": ""}, prompt_eval_count=5, eval_count=7)


@pytest.mark.parametrize(
    ("block", "has_content"),
    [
        (said(""), False),
        (b"\n", False),
        (line(response=""), False),
        (said("hi"), True),
        (said("", thinking="hm"), True),
        (said("", tool_calls=[{"function": {"name": "f"}}]), True),
        (line(response="hi"), True),
        (LAST, True),
        (line(done=True, done_reason="load"), True),
        (b'{"status":"pulling"}\n', True),
        (b"not JSON\n", True),
    ],
)
def test_text_is_content(opened, block, has_content):
    assert opened(PATH, said(""), block).has_content is has_content


@pytest.mark.parametrize(
    ("blocks", "is_finished", "closing"),
    [
        ([said("hi"), LAST], True, b""),
        ([said("hi") + LAST[:-1]], True, LAST),
        ([said("hi")], False, b""),
        ([said("hi") + LAST[:-5]], False, b""),
        ([LAST, said("hi")], False, b""),
        ([said('"done":true')], False, b""),
    ],
)
def test_an_answer_is_finished_when_it_is_done(opened, blocks, is_finished, closing):
    scan = opened(PATH, *blocks)

    assert (scan.is_finished(), scan.closing()) == (is_finished, closing)


def test_the_usage_is_in_the_last_line(opened):
    assert opened(PATH, said("hi"), LAST).usage() == TokenUsage(5, 7)


def test_a_cached_prompt_counts_nothing(opened):
    assert opened(PATH, said("hi"), line(done=True, eval_count=7)).usage() == TokenUsage(0, 7)


@pytest.mark.parametrize("lie", [-1, 10**12, "many", 1.5])
def test_an_implausible_usage_is_ignored(opened, lie):
    assert opened(PATH, said("hi"), line(done=True, eval_count=lie)).usage() is None


def test_a_stream_that_begins_with_an_error_is_a_bad_gateway(opened):
    error = b'{"error":"model runner has unexpectedly stopped"}\n'
    scan = opened(PATH, error)

    assert (scan.first_error(), scan.has_error) == ((502, error.strip()), True)


def test_an_error_that_comes_later_is_seen(opened):
    scan = opened(PATH, said("hi"), b'{"error":"broken"}\n')

    assert (scan.has_error, scan.first_error()) == (True, None)


def test_blank_lines_are_no_data(opened):
    assert opened(PATH, b"\n", b"\r\n\n").data_blocks == 0


@pytest.mark.parametrize("code", sorted(IN_STREAM_CODES))
def test_the_library_raises_our_failures(opened, ollama_client, code):
    client = ollama_client(said("hi") + opened(PATH).failure(code, "the backend left"))

    with pytest.raises(ollama.ResponseError, match="the backend left"):
        list(client.chat(model="m", messages=[], stream=True))
