"""Replacing the model in a JSON body."""

import pytest

from nexus.errors import RequestError
from nexus.wire.requests.model_field import insert_model, replace_model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'{ "x" : [1] ,\r\n"model"\t:  "a" }\n', b'{ "x" : [1] ,\r\n"model"\t:  "new" }\n'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"new"}'),
        (b'{"tools":[{"model":"t"}],"model":"a"}', b'{"tools":[{"model":"t"}],"model":"new"}'),
        (b'{"type":"model","model":"a"}', b'{"type":"model","model":"new"}'),
        (b'{"x":"\\"model\\":\\"t\\"","model":"a"}', b'{"x":"\\"model\\":\\"t\\"","model":"new"}'),
        (b'{"model":"a\\"b\\\\","y":1.10}', b'{"model":"new","y":1.10}'),
        ('{"x":"é","model":"ä"}'.encode(), '{"x":"é","model":"new"}'.encode()),
    ],
)
def test_only_the_top_level_model_is_replaced(body, expected):
    assert replace_model(body, "new") == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"x":1,"x":2,"tools":{"model":"t"},"mod\\u0065l":"a"}', "invalid_json"),
        (b'{"x":1,"x":2,"y":"\\"model\\"","tools":[{"model":"t"}],"model":"a"}', "invalid_json"),
        (b'{"tools":{"model":"t"},"tools":{"model":"u"},"model":"a"}', "invalid_json"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"tools":{"model":"t"},"model":"a"}', "invalid_json"),
        (b"[]", "invalid_json"),
        (b"", "invalid_json"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_body_that_cannot_be_changed_is_refused(body, code):
    with pytest.raises(RequestError) as refused:
        replace_model(body, "new")

    assert (refused.value.code, refused.value.status) == (code, 400)


def test_the_new_name_is_escaped():
    assert replace_model(b'{"model":"a"}', 'q"\n模') == '{"model":"q\\"\\n模"}'.encode()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{}", b'{"model":"m"}'),
        (b' { "a" : 1.50 }\n', b' {"model":"m", "a" : 1.50 }\n'),
        (b'{"a":{"model":"x"},"model" : null}', b'{"a":{"model":"x"},"model" : "m"}'),
        (b'{"mod\\u0065l":"", "b":[]}', b'{"mod\\u0065l":"m", "b":[]}'),
    ],
)
def test_a_missing_model_is_inserted_and_no_other_byte_changes(body, named):
    assert insert_model(body, "m") == named
