"""Long messages are measured by what the model reads of them, and files in base64 are cut out of their JSON."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.wire.message_text import FILE_BYTES, measure_messages, without_files
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

FILE = base64.b64encode(bytes(FILE_BYTES)).decode()
TEXT = 'a "quoted" text,\nof \u2013 two lines; ' * 200
SIZE = len(TEXT.encode())
CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": TEXT}}


def encode(document):
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def message(**members):
    return encode([{"role": "user", **members}])


@pytest.mark.parametrize(
    "raw",
    [
        message(content=TEXT),
        message(content=[{"type": "text", "text": TEXT}]),
        message(content=[{"type": "tool_result", "tool_use_id": "t", "content": TEXT}]),
        message(content=[{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": TEXT}]}]),
        message(content=None, tool_calls=[CALL]),
        encode([{"type": "function_call_output", "call_id": "c", "output": TEXT}]),
        encode([{"type": "function_call", "name": "find", "arguments": TEXT}]),
    ],
)
def test_the_text_of_a_message_is_measured_wherever_it_is(raw):
    assert measure_messages(raw) == (pytest.approx(SIZE, rel=0.03), False)


@pytest.mark.parametrize(
    "raw",
    [
        message(content=[{"type": "tool_use", "name": "find", "input": {"text": TEXT}}]),
        message(content=[{"type": "document", "source": {"type": "text", "data": TEXT}}]),
        message(content="", tool_calls=[{"function": {"name": "find", "arguments": {"text": TEXT}}}]),
    ],
)
def test_so_is_what_stays_json_in_a_message(raw):
    assert measure_messages(raw) == (pytest.approx(SIZE, rel=0.1), False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'"a text"',
        b"[1,2]",
        b"[]",
        message(images={"odd": TEXT}),
        b"[" * 5000,
    ],
)
def test_what_cannot_be_read_so_is_not_measured(raw):
    assert measure_messages(raw) is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://localhost/x.png"}},
        {"type": "input_image", "image_url": "x"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url"}}]},
    ],
)
def test_an_image_is_found_in_a_long_message(part):
    assert measure_messages(message(content=[{"type": "text", "text": TEXT}, part])) == (
        pytest.approx(SIZE, rel=0.03),
        True,
    )


def test_images_beside_the_text_are_found():
    assert measure_messages(message(content=TEXT, images=["x"]))[1]


@pytest.mark.parametrize("role", ["user", "role"])
def test_a_file_is_cut_out(role):
    document = {"role": role, FILE: FILE, "text": TEXT, "data": [f"data:image/png;base64,{FILE}", "short"]}

    cut = without_files(encode(document))

    assert json.loads(cut) == {"role": role, "": "", "text": TEXT, "data": ["", "short"]}


def test_a_file_can_be_replaced():
    assert without_files(encode({"a": FILE}), lambda file: b"%d" % len(file)) == b'{"a":"%d"}' % len(FILE)


@pytest.mark.parametrize("text", ["x" * (FILE_BYTES - 1), "word " * 999, "\u2013" * 5000, "\n" * 5000])
def test_what_is_no_file_stays(text):
    raw = encode({"a": text})

    assert without_files(raw) is raw


NUMBERS = "[" + "1," * FILE_BYTES + "1]"
PIECES = st.lists(st.sampled_from(['"', FILE, NUMBERS, *',:{}[]1\\ "', '"a"', '\\"', '"model":"m"']), max_size=12).map(
    "".join
)


@given(PIECES | PIECES.map('{{"a":"{}"}}'.format))
def test_what_is_left_is_valid_only_if_the_whole_is(body):
    is_left_valid = is_valid(without_files(body.encode()))

    assert is_valid(body) or not is_left_valid


def is_valid(body):
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": FILE}]}),
        ("/v1/completions", {"prompt": list(range(5000))}),
        ("/v1/embeddings", {"input": [FILE, TEXT]}),
        (
            "/v1/responses",
            {"input": [{"type": "input_file", "file_id": "f-1"}, {"type": "reasoning", "data": FILE}]},
        ),
    ],
)
def test_a_file_does_not_count_even_beside_what_cannot_be_cut(path, members):
    endpoint, wanted = ENDPOINTS[path], {"model": "m", "stream": True, **members}
    understand = PROTOCOLS[endpoint.protocol].understand

    alone = understand(endpoint, encode(wanted))
    beside_numbers = understand(endpoint, encode({**wanted, "odd": list(range(5000))}))

    assert alone == beside_numbers
    assert (alone.model, alone.is_stream) == ("m", True)
