"""The endpoint of an explained request, and the protocol of its errors."""

import pytest

from nexus.errors import RequestError
from nexus.proxy.dispatch.explained_path import explained_endpoint, spoken_path
from nexus.wire.protocols import ENDPOINTS


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_every_endpoint_can_be_named_by_path_and_by_name(endpoint):
    by_path = explained_endpoint(f"endpoint={endpoint.path}", is_anthropic=False)
    by_name = explained_endpoint(f"endpoint={endpoint.name}", is_anthropic=True)

    assert by_path is by_name is endpoint


@pytest.mark.parametrize(("is_anthropic", "path"), [(False, "/v1/chat/completions"), (True, "/v1/messages")])
def test_the_default_is_the_chat_of_the_clients_protocol(is_anthropic, path):
    assert explained_endpoint("other=1", is_anthropic=is_anthropic).path == path


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("endpoint=/v1/chat/completion", "did you mean '/v1/chat/completions'?"),
        ("endpoint=/api/chat&endpoint=/api/chat", "is one path or name"),
        (f"endpoint={'x' * 10_000}", "is one path or name"),
    ],
)
def test_any_other_name_is_refused(query, hint):
    with pytest.raises(RequestError, match="endpoint") as refused:
        explained_endpoint(query, is_anthropic=False)

    assert (refused.value.code, refused.value.param) == ("invalid_value", "endpoint")
    assert hint in refused.value.message


@pytest.mark.parametrize(
    ("path", "query", "spoken"),
    [
        ("/v1/models", "endpoint=/api/chat", "/v1/models"),
        ("/v1/route/explain", "endpoint=/api/chat", "/api/chat"),
        ("/v1/route/explain", "", "/v1/chat/completions"),
        ("/v1/route/explain", "endpoint=nonsense", "/v1/route/explain"),
    ],
)
def test_errors_are_in_the_protocol_of_the_explained_endpoint(path, query, spoken):
    assert spoken_path(path, query, is_anthropic=False) == spoken
