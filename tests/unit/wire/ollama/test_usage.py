"""What the last line of an answer of Ollama says about the load of the model."""

import pytest

from nexus.wire.ollama.usage import load_s_of


@pytest.mark.parametrize(
    ("body", "load_s"),
    [
        (b'{"done":true,"load_duration":6338219291,"eval_count":3}', 6.338219291),
        (b'{"done":true,"load_duration":0}', 0.0),
        (b'{"done":true,"eval_count":3}', None),
        (b'{"load_duration":"long"}', None),
        (b'{"load_duration":true}', None),
        (b'{"load_duration":', None),
        (b"[]", None),
    ],
)
def test_the_load_is_told_in_nanoseconds(body, load_s):
    assert load_s_of(body) == load_s
