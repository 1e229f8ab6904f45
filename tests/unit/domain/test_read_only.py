"""A dict that cannot be written."""

import copy
import pickle

import msgspec
import pytest

from nexus.domain.read_only import ReadOnlyDict

SHARED = ReadOnlyDict({"a": 1})


@pytest.mark.parametrize(
    "write",
    [
        lambda d: d.__setitem__("b", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.__ior__({"b": 2}),
        lambda d: d.clear(),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.setdefault("b", 2),
        lambda d: d.update(b=2),
    ],
)
def test_it_cannot_be_written(write):
    with pytest.raises(TypeError, match="read-only"):
        write(SHARED)

    assert SHARED == {"a": 1}


def test_it_is_read_copied_and_encoded_like_any_dict():
    assert (SHARED["a"], SHARED.get("b"), dict(SHARED), SHARED | {"b": 2}) == (1, None, {"a": 1}, {"a": 1, "b": 2})
    assert msgspec.json.encode(SHARED) == b'{"a":1}'
    assert copy.copy(SHARED) is copy.deepcopy(SHARED) is SHARED
    assert pickle.loads(pickle.dumps(SHARED)) == SHARED
