"""The ids in an answer of things that its backend keeps."""

import pytest

from nexus.wire.kept.made_ids import made_id_in_part, made_ids, made_ids_in_stream


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"id":"resp_1","output":[{"id":"msg_1"}]}', ("resp_1",)),
        (b'{"id":"upload_1","file":{"id":"file-1"}}', ("upload_1", "file-1")),
        (b'{"id":"batch_1","output_file_id":"file-2","error_file_id":null}', ("batch_1", "file-2")),
        (b'{"object":"list","data":[{"id":"file-1"},{"id":"file-2"}]}', ("file-1", "file-2")),
        (b'{"id":null}', ()),
        (b'{"id":5}', ()),
        (b'{"id":"a\\u0000b"}', ()),
        (b'{"id":"a/../b"}', ()),
        (b'{"id":"' + b"x" * 257 + b'"}', ()),
        (b"<html>", ()),
        (b"[]", ()),
    ],
)
def test_a_whole_answer_has_its_own_id_and_those_of_its_parts(body, ids):
    assert made_ids(body) == ids


def test_the_ids_of_a_list_are_bounded():
    rows = b",".join(b'{"id":"file-%d"}' % number for number in range(1000))

    assert len(made_ids(b'{"data":[%b]}' % rows)) <= 200


@pytest.mark.parametrize(
    ("beginning", "ids"),
    [
        (b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n', ("resp_1",)),
        (b': ping\n\ndata: {"id":"chatcmpl-1","choices":[]}\n\ndata: {"id":"x"}\n\n', ("chatcmpl-1",)),
        (b": ping\n\n", ()),
        (b"", ()),
    ],
)
def test_the_id_of_a_stream_is_in_its_first_event(beginning, ids):
    assert made_ids_in_stream(beginning) == ids


def test_a_long_answer_gives_its_first_id():
    assert made_id_in_part(b'{\n  "id": "resp_1", "output": [{"id": "msg_1", "result": "AAAA') == ("resp_1",)
    assert made_id_in_part(b'{"output": "AAAA') == ()
