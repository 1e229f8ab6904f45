"""An error that names a missing model is told from one that names a missing path."""

import pytest

from nexus.wire.errors.missing_model import names_missing_model


@pytest.mark.parametrize(
    ("status", "body", "names_model"),
    [
        (404, b'{"error":"model \'x\' not found"}', True),
        (404, b'{"error":{"message":"The model `x` does not exist.","code":"model_not_found"}}', True),
        (404, b'{"detail":"Not Found"}', False),
        (404, b"404 page not found", False),
        (404, b"", False),
        (400, b'{"error":{"code":400,"message":"model \'x\' not found","type":"invalid_request_error"}}', True),
        (400, b'{"error":{"message":"the tool \'model\' was not found among the tools"}}', False),
        (422, b'{"error":"model \'x\' not found"}', False),
    ],
)
def test_a_missing_model_is_told_from_a_missing_path(status, body, names_model):
    assert names_missing_model(status, body) is names_model
