"""The top level of a JSON object, found in its bytes."""

import pytest

from nexus.wire.json_members import CrowdedObjectError, members


def test_the_value_of_each_member_is_found():
    body = b' { "a" : [1, {"b": "]"}] ,\n"\\u0062":"x\\"}", "c":-1.5e3,"d":{ } ,"e":null}'

    found = [(member.name, body[member.start : member.end]) for member in members(body)]

    assert found == [("a", b'[1, {"b": "]"}]'), ("b", b'"x\\"}"'), ("c", b"-1.5e3"), ("d", b"{ }"), ("e", b"null")]


def test_an_empty_object_has_no_members():
    assert list(members(b"{ }")) == []


@pytest.mark.parametrize(
    ("body", "name"),
    [(b'{"a":1,"a":1}', "a"), (b'{"a":1,"\\u0061":2}', "a"), (b'{"a":[1],"a":[2]}', None), (b'{"a":{},"a":1}', None)],
)
def test_two_members_of_one_name_are_refused(body, name):
    with pytest.raises(CrowdedObjectError) as refused:
        list(members(body))

    assert refused.value.name == name


def test_too_many_members_are_refused():
    body = b"{" + b",".join(b'"%d":1' % number for number in range(10_001)) + b"}"

    with pytest.raises(CrowdedObjectError):
        list(members(body))
