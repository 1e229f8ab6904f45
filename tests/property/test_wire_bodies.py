"""Every request body is understood or refused, and only its model is ever changed."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.domain.request import Requirements
from nexus.errors import RequestError
from nexus.wire.composing import with_model
from nexus.wire.json_members import members
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests import multipart
from nexus.wire.requests.model_field import replace_model
from nexus.wire.requests.prompt_start import prompt_start

JSON_ENDPOINTS = sorted((e for e in ENDPOINTS.values() if e.body == "json"), key=lambda e: e.name)
CHAT = ENDPOINTS["/v1/chat/completions"]
FORM = ENDPOINTS["/v1/audio/transcriptions"]
FORM_TYPE = b"multipart/form-data; boundary=frontier"

NAMES = st.sampled_from(
    [
        "model",
        "stream",
        "max_tokens",
        "messages",
        "tools",
        "input",
        "prompt",
        "options",
        "images",
        "n",
        "api_key",
        "Model",
    ]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["model", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(NAMES | TEXTS, VALUES, max_size=6)


@given(st.sampled_from(JSON_ENDPOINTS), st.binary() | OBJECTS.map(lambda o: json.dumps(o).encode()))
@settings(max_examples=300)
def test_any_bytes_are_understood_or_refused(endpoint, body):
    result = understood_or_refused(PROTOCOLS[endpoint.protocol].understand, endpoint, body)

    if isinstance(result, Requirements):
        assert (json.loads(body).get("model") or "") == result.model
    else:
        assert result.code in {"invalid_json", "invalid_value", "unsupported_parameter"}


def understood_or_refused(understand, *asked):
    try:
        return understand(*asked)
    except RequestError as refusal:
        return refusal


@st.composite
def json_texts(draw, value) -> str:
    """Any way to write *value*: with spaces and escapes anywhere."""
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))
    if isinstance(value, Mapping):
        pairs = [f"{draw(json_texts(k))}{space}:{space}{draw(json_texts(v))}" for k, v in value.items()]
        return f"{{{space}{f'{space},{space}'.join(pairs)}{space}}}"
    if isinstance(value, list):
        return f"[{space}{f'{space},'.join(draw(json_texts(v)) for v in value)}{space}]"
    if isinstance(value, str) and value.isascii() and value.isalnum() and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return f'"{value[:at]}\\u{ord(value[at]):04x}{value[at + 1 :]}"'
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def bodies(draw) -> str:
    others = draw(st.dictionaries(TEXTS.filter(lambda n: n.casefold() != "model"), VALUES, max_size=4))
    entries = list({**others, "model": draw(TEXTS.filter(bool))}.items())
    return draw(json_texts(dict(draw(st.permutations(entries))))) + draw(st.sampled_from(["", " \n"]))


@given(bodies(), TEXTS)
@settings(max_examples=300)
@example('{"a": "\\"model\\": 1", "mod\\u0065l" : "x", "b": {"model": "y"}}', "new")
@example('{"tools": [{"model": "y"}], "model":"x\\"}\\\\"}', 'a"b')
def test_a_replaced_model_changes_no_other_byte(text, model):
    body = text.encode()
    start, end = next((m.start, m.end) for m in members(body) if m.name == "model")

    replaced = replace_model(body, model)

    assert json.loads(replaced) == {**json.loads(body), "model": model}
    assert replaced.startswith(body[:start])
    assert replaced.endswith(body[end:])


@st.composite
def crowded_bodies(draw) -> bytes:
    """Draw objects with any members, including duplicate names, each written in any way."""
    names = NAMES | st.sampled_from(["x", "\\ud800", "model"])
    members = draw(st.lists(st.tuples(names, VALUES | st.just({"model": "y"})), max_size=6))
    members.insert(draw(st.integers(0, len(members))), ("model", "alias"))
    texts = (f"{draw(json_texts(name))}:{draw(json_texts(value))}" for name, value in members)
    return f"{{{','.join(texts)}}}".replace("\\\\ud800", "\\ud800").encode("utf-8", "surrogatepass")


@given(st.sampled_from(JSON_ENDPOINTS), crowded_bodies())
@settings(max_examples=500)
@example(CHAT, b'{"temperature":1,"temperature":2,"x":{"model":"y"},"model":"alias"}')
@example(CHAT, b'{"\\ud800":1,"messages":[{"model":"y"}],"model":"alias"}')
def test_any_body_that_is_understood_can_be_renamed_and_shown_or_is_refused(endpoint, body):
    understand = PROTOCOLS[endpoint.protocol].understand
    if isinstance(understood_or_refused(understand, endpoint, body), RequestError):
        return

    prompt_start(body, 100)
    renamed = understood_or_refused(replace_model, body, "other")
    with_other = with_model(endpoint, b"application/json", body, "other")

    # A body that cannot be decoded is returned unchanged, to be refused later.
    assert understand(endpoint, with_other).model == ("alias" if with_other is body else "other")
    if isinstance(renamed, RequestError):
        assert renamed.status == 400
    else:
        assert understand(endpoint, renamed).model == "other"


@given(bodies())
def test_members_are_what_a_decoder_finds(text):
    body = text.encode()

    found = {m.name: json.loads(body[m.start : m.end]) for m in members(body)}

    assert found == json.loads(body)


@pytest.mark.parametrize("name", ["model", "stream", "max_tokens"])
@given(
    spelling=st.lists(st.sampled_from(["plain", "upper", "escaped"]), min_size=10, max_size=10),
    is_first=st.booleans(),
    messages=VALUES,
)
def test_no_spelling_gets_a_second_member_past_routing(name, spelling, is_first, messages):
    ways = {"plain": str, "upper": str.upper, "escaped": lambda c: f"\\u{ord(c):04x}"}
    second = f'"{"".join(ways[how](c) for c, how in zip(name, spelling * 2, strict=False))}"'
    values = {"model": '"a"', "stream": "true", "max_tokens": "5"}
    entries = [f'"messages":{json.dumps(messages)}', *(f'"{key}":{value}' for key, value in values.items())]
    entries.insert(0 if is_first else len(entries), f"{second}:{values[name]}")

    with pytest.raises(RequestError) as refused:
        PROTOCOLS["openai"].understand(CHAT, f"{{{','.join(entries)}}}".encode())

    assert refused.value.status == 400
    assert refused.value.param == name


FILES = (
    st.binary(max_size=60) | st.sampled_from([b'\r\n\r\nname="model"', b"\r\n--frontie", b" --frontier--"])
).filter(
    lambda file: b"\r\n--frontier" not in b"\r\n" + file  # a sender chooses a boundary that is not in its files
)


def part(disposition, value):
    return b"--frontier\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (disposition, value)


@given(
    before=st.lists(FILES, max_size=2),
    after=st.lists(FILES, max_size=2),
    model=st.text("abc:/-é", min_size=1, max_size=20),
)
def test_a_form_s_model_is_found_and_replaced_among_any_files(before, after, model):
    files = [[part(b'name="file"; filename="a.wav"', file) for file in some] for some in (before, after)]
    head, tail = b"".join(files[0]), b"".join(files[1]) + b"--frontier--\r\n"
    body = head + part(b'name="model"', model.encode()) + tail

    understood = multipart.understand(FORM, body, FORM_TYPE)
    replaced = multipart.replace_model(body, FORM_TYPE, "other")

    assert understood.model == model
    assert replaced == head + part(b'name="model"', b"other") + tail


@given(
    st.binary()
    | st.lists(
        st.sampled_from([b"--frontier", b"\r\n", b"--", b'name="model"', b"Content-Disposition: form-data; ", b"x"])
    ).map(b"".join)
)
def test_any_form_is_understood_or_refused(body):
    result = understood_or_refused(multipart.understand, FORM, body, FORM_TYPE)

    assert isinstance(result, Requirements) or result.status == 400
