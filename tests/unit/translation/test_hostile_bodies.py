"""Bodies of clients that no server could read."""

import pytest

from nexus.errors import RequestError
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert, translations

PAIRS = [(client, backend) for client, backends in translations().items() for backend in backends]
BODIES = {
    "empty": b"",
    "no object": b"[]",
    "null": b"null",
    "half": b'{"model":"m",',
    "not a number": b'{"model":NaN}',
    "deep": b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "lone surrogate": rb'{"model":"\ud800","messages":"\ud800","input":"\ud800","prompt":"\ud800"}',
    "invalid utf-8": b'{"model":"m","prompt":"","messages":[],"input":[],"tools":[],"options":{},"format":{"a":"\xff"},'
    b'"metadata":{"a":"\xff"}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_body_that_nothing_could_read_is_refused(client, backend, body):
    with pytest.raises(RequestError) as refusal:
        convert(client, backend, body, Target(model="m"), About(model="m", id="1", created=1))

    assert refusal.value.code in ("invalid_json", "invalid_value")
